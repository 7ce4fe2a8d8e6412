"""Doors into the ledger beside files: a Redis Stream, a Celery task, and the guard at the broker's lists."""

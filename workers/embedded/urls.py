"""One broker URL for two clients: redis-py says `unix://`, kombu says `redis+socket://`.

Knows the two spellings only. Other URLs (redis://, rediss://) mean the same to both and pass unchanged.
"""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode, urlsplit


def kombu_url(broker: str) -> str:
    """The broker URL as kombu and Celery take it; `broker` as redis-py takes it."""
    parts = urlsplit(broker)
    if parts.scheme != "unix":
        return broker
    query = dict(parse_qsl(parts.query))
    query["virtual_host"] = query.pop("db", "0")
    return f"redis+socket://{parts.netloc}{parts.path}?{urlencode(query)}"

"""Verbs of the demonstration."""

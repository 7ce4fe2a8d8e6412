"""Merging: which items' features have the same shape, and what comes of letting them share an extractor."""

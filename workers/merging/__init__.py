"""Merging by night and by day: clouds, distances, groups, proposals; then shadow, approval, the way back."""

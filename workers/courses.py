"""How far the training of several items has come, told as one sum; knows no process and no database."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Courses:
    """Epochs done and epochs at most of each item."""

    def __init__(
        self, item_ids: Iterable[str], max_epochs: int, progress: Callable[[int, int], None]
    ) -> None:
        """Expect so many epochs of each item, until it says otherwise.

        Args:
            item_ids: the items that will be trained
            max_epochs: as configured; an item of few answers passes over them more often
            progress: told (epochs done, epochs at most) over all items
        """
        self._progress = progress
        self._done = dict.fromkeys(item_ids, 0)
        self._at_most = dict.fromkeys(self._done, max_epochs)

    def told(self, item_id: str, num_done: int, at_most: int) -> None:
        """An item has passed over its answers so many times."""
        self._done[item_id] = max(num_done, self._done[item_id])
        self._at_most[item_id] = at_most
        self._progress(sum(self._done.values()), sum(self._at_most.values()))

    def ended(self, item_id: str) -> None:
        """An item is settled; one that stopped early counts in full."""
        self.told(item_id, self._at_most[item_id], self._at_most[item_id])

"""A message of submissions is the only copy of its events: whatever goes wrong, it is never acknowledged."""

import pytest
from celery.exceptions import Reject

from scoring.errors import DatabaseUnavailableError
from workers import consumer
from workers.writer import SchemaMismatchError


@pytest.mark.parametrize("error", [DatabaseUnavailableError("away"), MemoryError(), ValueError("a bug")])
def test_it_goes_back_to_its_list(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer, "_PAUSE_S", 0.0)
    with pytest.raises(Reject) as refused, consumer._the_only_copy():
        raise error
    assert refused.value.requeue is True


def test_a_process_that_cannot_go_on_ends_with_the_message_unacknowledged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def ended(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr("os._exit", ended)
    with pytest.raises(SystemExit) as exit_, consumer._the_only_copy():
        raise SchemaMismatchError("no such table")
    assert exit_.value.code == SchemaMismatchError.exit_code

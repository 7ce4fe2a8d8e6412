"""What `scorefold train` shows at its end."""

from scoring.types import BaselineReport, ItemId
from workers.cli.training import _show
from workers.training import TrainedItem


def report(*, num_test):
    return BaselineReport(
        item_id=ItemId("ice"),
        backbone="minilm",
        backbone_revision="r",
        num_bytes=1,
        num_train=40,
        num_validation=5,
        num_test=num_test,
        num_epochs=1,
        seed=0,
        seconds=1.0,
        metrics=(),
        warnings=(),
    )


def test_an_item_without_test_answers_has_a_row_and_a_word(capsys):
    trained = TrainedItem("ice", report(num_test=0), 7, is_champion=True, error=None)

    _show([trained], as_json=False)

    out, err = capsys.readouterr()
    assert out.splitlines()[1].split()[:3] == ["ice", "40", "0"]
    assert err.startswith("ice: no answer is left to test it by")

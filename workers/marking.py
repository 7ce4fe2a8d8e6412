"""From a claim to the rows of its scores: condition codes by rule, all else by the engine.

What stands in a scorer's way stays with that scorer: where its artifact cannot be read any more (it had to
leave a small bank, and its bytes changed or the store went away since), its answers wait and all others are
scored.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scoring.errors import (
    CorruptArtifactError,
    DeviceOutOfMemoryError,
    IncompatibleArtifactError,
    StoreUnavailableError,
)
from scoring.text import condition_code
from scoring.types import Requests, ScorerKey
from workers.telemetry import get_logger
from workers.writer import ScoreSheet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from db.ledger import Claim
    from db.registry import Serving
    from scoring.types import Scores
    from workers.batcher import Batcher
    from workers.roster import Roster

log = get_logger("marking")

#: What keeps a scorer from being read, and says nothing about the others.
_UNREADABLE = (CorruptArtifactError, IncompatibleArtifactError, StoreUnavailableError)


@dataclass(frozen=True, slots=True)
class Marked:
    """What is to be committed for a claim: finished submissions with their rows; those that must wait."""

    finished: list[int]
    unserved: list[int]
    sheet: ScoreSheet


@dataclass(slots=True)
class _Questions:
    """What the engine is asked, column by column; a shadow's answer stands beside its champion's."""

    owners: list[int] = field(default_factory=list)
    servers: list[Serving] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)


def mark(claimed: Claim, roster: Roster, batcher: Batcher) -> Marked:
    """Score a claim by one roster, so that a promotion never tears it."""
    marked, questions = Marked([], [], ScoreSheet(batcher.engine_name)), _Questions()
    for row in zip(claimed.submission_ids, claimed.item_ids, claimed.texts, strict=True):
        _sort_in(*row, roster, marked, questions)
    if not questions.texts:
        return marked
    requests = Requests([ScorerKey(one.scorer_key) for one in questions.servers], questions.texts)
    engines = [batcher.label(scorer) for scorer in requests.scorers]
    parts, broken = _scored(requests, batcher)
    waiting = {
        owner
        for owner, one in zip(questions.owners, questions.servers, strict=True)
        if one.role == "champion" and one.scorer_key in broken
    }
    for places, scores in parts:
        marked.sheet.add_scores(
            [questions.owners[place] for place in places],
            [questions.servers[place] for place in places],
            scores,
            [engines[place] for place in places],
            without=waiting,
        )
    finished = [one for one in marked.finished if one not in waiting]
    return Marked(finished, [*marked.unserved, *sorted(waiting)], marked.sheet)


def _sort_in(
    submission_id: int, item_id: str, text: str, roster: Roster, marked: Marked, questions: _Questions
) -> None:
    serving = roster.serving.get(item_id)
    if not serving:
        marked.unserved.append(submission_id)
        return
    marked.finished.append(submission_id)
    item = roster.items[item_id]
    code = condition_code(text, prompt=item.prompt, language=item.language)
    for one in serving:
        if code is not None:
            marked.sheet.add_condition(submission_id, one, item, code)
        else:
            questions.owners.append(submission_id)
            questions.servers.append(one)
            questions.texts.append(text)


def _scored(
    requests: Requests, batcher: Batcher
) -> tuple[list[tuple[Sequence[int], Scores]], set[ScorerKey]]:
    """Scores by part, each with its places in the requests; and the scorers that cannot be read."""
    try:
        return _in_parts(requests, range(len(requests)), batcher), set()
    except _UNREADABLE:
        parts: list[tuple[Sequence[int], Scores]] = []
        broken: set[ScorerKey] = set()
        for scorer in dict.fromkeys(requests.scorers):
            places = [place for place, one in enumerate(requests.scorers) if one == scorer]
            try:
                parts += _in_parts(requests, places, batcher)
            except _UNREADABLE as error:
                log.error(  # noqa: TRY400 (the reason says it all; a trace adds nothing)
                    "scorer_unreadable", scorer=scorer[:12], num_answers=len(places), reason=str(error)
                )
                broken.add(scorer)
        return parts, broken


def _in_parts(
    requests: Requests, places: Sequence[int], batcher: Batcher
) -> list[tuple[Sequence[int], Scores]]:
    """The scores at these places; halved until they fit the device."""
    try:
        return [(places, batcher.score(requests.take(places)))]
    except DeviceOutOfMemoryError:
        half = len(places) // 2
        if half == 0:
            raise
        log.warning("batch_halved", num_answers=len(places))
        return _in_parts(requests, places[:half], batcher) + _in_parts(requests, places[half:], batcher)

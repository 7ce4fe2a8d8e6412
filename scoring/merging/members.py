"""The items of a merge group, as far as merging needs them: what scores them now, and what answers say.

Artifacts and answers come in; tables that every way of merging needs go out, computed once an item.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scoring.merging.extraction import SharedReader, joined, num_lower_layers, thinned
from scoring.merging.refit import Head
from scoring.merging.updates import updates_of
from scoring.training.evaluation import calibrated

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from scoring.artifacts import ExtractorArtifact, ScorerArtifact
    from scoring.backbone import Backbone
    from scoring.merging.updates import Updates
    from scoring.training.network import Inputs
    from scoring.types import ItemSpec, LabelledAnswer


#: Answers that second moments are taken of: a few hundred are what RegMean takes.
MAX_MOMENT_ANSWERS = 250


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """One item as it is served now, and its answers.

    Attributes:
        scorer: its head and calibration
        extractor: what the head stands on
        train: human-scored answers to learn from
        validation: human-scored answers that decide when to stop, and calibrate
        unread: texts of other answers, which only the item's own model has an opinion on
    """

    scorer: ScorerArtifact
    extractor: ExtractorArtifact
    train: Sequence[LabelledAnswer]
    validation: Sequence[LabelledAnswer]
    unread: Sequence[str] = ()

    @property
    def item(self) -> ItemSpec:
        """The item."""
        return self.scorer.item

    @property
    def head(self) -> Head:
        """The head as it is now."""
        weight, bias = self.scorer.head_weight, self.scorer.head_bias
        return Head(weight.double().numpy(), bias.double().numpy())


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Answers of one member: lower states, human levels, and what its own model says of them.

    Attributes:
        inputs: as far as the lower layers bring them [num_answers]
        levels: human levels [num_answers, num_traits]; None where nobody read them
        taught: the item's own calibrated logits, divided by the temperature [num_answers, num_logits]
    """

    inputs: Inputs
    levels: NDArray[np.int64] | None
    taught: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.inputs.token_ids)


@dataclass(frozen=True, slots=True, eq=False)
class Pupil:
    """A member with its tables.

    Attributes:
        updates: what its own extractor adds to the backbone
        moments: second moments of what enters each adapted layer, under its own extractor [in, in]
    """

    member: Member
    updates: Updates
    moments: Mapping[str, Tensor]
    train: Table
    validation: Table
    unread: Table


def reader_for(members: Sequence[Member], backbone: Backbone) -> SharedReader:
    """A reader under whose cut all members' adapters stand.

    Raises:
        IncompatibleArtifactError: an adapter is no adapter of this encoder's layers.
    """
    modules = [module for member in members for module in member.extractor.modules()]
    first = members[0].scorer
    return SharedReader(
        backbone,
        num_lower=num_lower_layers(modules, backbone),
        pooling=first.pooling,
        max_tokens=first.max_tokens,
    )


def prepare(member: Member, reader: SharedReader) -> Pupil:
    """Read a member's answers and ask its own model about each."""
    updates = updates_of(member.extractor)

    def table(texts: Sequence[str], answers: Sequence[LabelledAnswer] | None) -> Table:
        inputs = reader.read(texts)
        logits = member.head.logits(reader.features(inputs, updates))
        levels = None if answers is None else levels_of(member.item, answers)
        return Table(inputs, levels, calibrated(member.item, logits, member.scorer.decisions))

    train, unread = table([one.text for one in member.train], member.train), table(member.unread, None)
    sample = thinned(joined([train.inputs, unread.inputs]), MAX_MOMENT_ANSWERS)
    return Pupil(
        member=member,
        updates=updates,
        moments=reader.second_moments(sample, updates) if len(sample.token_ids) else {},
        train=train,
        validation=table([one.text for one in member.validation], member.validation),
        unread=unread,
    )


def levels_of(item: ItemSpec, answers: Sequence[LabelledAnswer]) -> NDArray[np.int64]:
    """Human levels, traits in the item's order [num_answers, num_traits]."""
    rows = [[answer.levels[trait.name] for trait in item.traits] for answer in answers]
    return np.array(rows, dtype=np.int64).reshape(len(answers), len(item.traits))

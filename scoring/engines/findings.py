"""What is known about an item in int8, as it stands in a scorer's lineage, and what it admits.

Knows artifacts; knows neither how int8 is computed nor where the finding was made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scoring.artifacts import ScorerArtifact

#: The arithmetic that a finding is about; another one needs findings of its own.
SCHEME = "row-smooth-3"
#: Under which name a finding stands in a scorer's lineage.
LINEAGE_KEY = "int8"
MIN_AGREEMENT = 0.98
MAX_QWK_DROP = 0.005


@dataclass(frozen=True, slots=True)
class Int8Finding:
    """What int8 changed on an item's validation answers.

    Attributes:
        scheme: the arithmetic that was tried
        num_answers: how many answers were compared
        agreement: share of equal levels, the worst trait's
        qwk_change: agreement with people in int8 less that in fp32, the worst trait's
        max_change: greatest change of a logit
    """

    scheme: str
    num_answers: int
    agreement: float
    qwk_change: float
    max_change: float

    @property
    def admits(self) -> bool:
        """Whether nothing that can be seen is lost."""
        return (
            self.scheme == SCHEME
            and self.num_answers > 0
            and self.agreement >= MIN_AGREEMENT
            and self.qwk_change >= -MAX_QWK_DROP
        )


def is_admitted(artifact: ScorerArtifact) -> bool:
    """Whether a scorer brings a finding that admits it; one without a finding stays in fp32."""
    told = artifact.lineage.get(LINEAGE_KEY)
    try:
        return told is not None and Int8Finding(**told).admits
    except TypeError:  # written by another version
        return False

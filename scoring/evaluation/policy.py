"""The policy: thresholds that a person wrote down before looking at a scorer, read from TOML.

The border between a file and the gates: names and ranges are checked here, nothing is judged here.
"""

from __future__ import annotations

import tomllib
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from scoring.errors import InvalidInputError
from scoring.evaluation.resampling import Bootstrap

if TYPE_CHECKING:
    from pathlib import Path

CheckName = Literal["qwk", "qwk_below_human", "smd", "dsm"]

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EvidencePolicy(_Section):
    """How many answers a verdict needs, and how intervals are made."""

    min_answers: Count
    min_double_reads: Count
    min_group_answers: Count
    num_resamples: Annotated[int, Field(ge=100, le=100_000)]
    coverage: Annotated[float, Field(ge=0.5, lt=1)]
    seed: Annotated[int, Field(ge=0)]

    def bootstrap(self) -> Bootstrap:
        """The bootstrap that this policy asks for."""
        return Bootstrap(self.num_resamples, self.coverage, self.seed)


class AgreementPolicy(_Section):
    """What agreement with people is good enough."""

    min_qwk: Annotated[float, Field(ge=-1, le=1)]
    max_qwk_below_human: Share
    max_abs_smd: Annotated[float, Field(ge=0)]
    max_abs_dsm: Annotated[float, Field(ge=0)]
    required: tuple[CheckName, ...]


class ComparisonPolicy(_Section):
    """What a challenger may lose against the champion."""

    max_qwk_loss: Share


class RetrainingPolicy(_Section):
    """When an item is trained again, and what becomes of the challenger."""

    automatic: bool
    min_new_reads: Count
    min_new_reads_if_worse: Count
    window_days: Count
    max_psi: Annotated[float, Field(gt=0)]
    max_qwk_drop: Share
    on_pass: Literal["champion", "shadow", "registered"]
    on_inconclusive: Literal["shadow", "registered"]


class MergingPolicy(_Section):
    """Which items may share an extractor, what that may cost, and who has to say so."""

    automatic: bool
    criterion: Literal["gw", "cosine", "cka", "subspace", "gradient", "prompt"]
    num_answers: Annotated[int, Field(ge=2, le=10_000)]
    min_answers: Annotated[int, Field(ge=2)]
    refresh_share: Share
    share_saved: Annotated[float, Field(ge=0, lt=1)]
    max_distance: Annotated[float, Field(gt=0)]
    min_margin: Annotated[float, Field(ge=0)]
    max_group_size: Annotated[int, Field(ge=2, le=8)]
    max_qwk_loss: Share
    max_mean_qwk_loss: Share
    starts_shadow: bool
    min_shadow_answers: Annotated[int, Field(ge=0)]
    max_share_changed: Share
    approves_itself: bool


class Policy(_Section):
    """All thresholds; `items` may set other values of `agreement` for an item by its id."""

    evidence: EvidencePolicy
    agreement: AgreementPolicy
    comparison: ComparisonPolicy
    retraining: RetrainingPolicy
    merging: MergingPolicy
    items: dict[str, dict[str, object]] = Field(default_factory=dict)

    def agreement_of(self, item_id: str) -> AgreementPolicy:
        """The thresholds of one item."""
        return AgreementPolicy.model_validate({**self.agreement.model_dump(), **self.items.get(item_id, {})})


def read_policy(path: Path | None = None) -> Policy:
    """Read a policy file, or the one that comes with the package.

    Raises:
        InvalidInputError: it cannot be read, is no TOML, or a name or a value has no meaning; names it.
    """
    where = str(path) if path is not None else "policy.toml"
    try:
        if path is not None:
            content = path.read_text(encoding="utf-8")
        else:
            content = files("scoring.evaluation").joinpath("policy.toml").read_text(encoding="utf-8")
        policy = Policy.model_validate(tomllib.loads(content))
        for item_id in policy.items:
            policy.agreement_of(item_id)
    except OSError as error:
        raise InvalidInputError(f"{where}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in fault["loc"])
        raise InvalidInputError(f"{where}: {name}: {fault['msg']}; see docs/policy.md") from error
    except ValueError as error:
        raise InvalidInputError(f"{where}: not TOML in UTF-8: {error}") from error
    return policy

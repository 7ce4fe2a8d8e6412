"""Fitting what a merge leaves open: the shared updates by least squares, and each item's head by a solver.

Second moments, features and targets come in as tables; where answers and teachers come from is not known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from scoring.merging.updates import Update

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from scoring.merging.updates import Updates

    Floats = NDArray[np.float64]

#: What is left of the moments' off-diagonal entries: RegMean's remedy against trusting a sample too much.
SHRINKAGE = 0.9
#: Candidates for the weight of ||W||^2 / 2 in a head's loss, the mean cross-entropy; the first one is taken
#: where no answer decides.
PENALTIES = (1e-2, 1e-3, 1e-1, 1e-4)
_MAX_ITERATIONS = 300
#: Added to the moments' diagonal, as a share of its largest entry.
_TRACE = 1e-9


def least_squares_updates(
    updates: Sequence[Updates],
    moments: Sequence[Mapping[str, Tensor]],
    *,
    rank: int | None = None,
    shrinkage: float = SHRINKAGE,
) -> Updates:
    """The update that does best, layer by layer, what each item's own update does to that item's answers.

    Minimises `sum_i E |D x_i - D_i x_i|^2` over D (RegMean, Jin et al., 2023): `D = (sum_i D_i G_i) (sum_i
    G_i)^-1` with G_i the second moment of item i's inputs. The backbone's weight is common to all and drops
    out. At a given rank it is still the least-squares solution (reduced-rank regression): the SVD is taken of
    `D R` rather than of D, with `R R^T = sum G` (Cholesky).

    Args:
        updates: of each item, on the same layers.
        moments: of each item, by layer [in, in]
        rank: of the result; None gives as much as the items' ranks together.
        shrinkage: factor on the moments' off-diagonal entries, 0..1.
    """
    merged = {}
    for module in updates[0]:
        grams = [_shrunk(each[module], shrinkage) for each in moments]
        root = torch.linalg.cholesky(torch.stack(grams).sum(0))
        wanted = torch.stack(
            [each[module].dense() @ gram for each, gram in zip(updates, grams, strict=True)]
        ).sum(0)
        # D R = (sum_i D_i G_i) R^-T
        weighted = torch.linalg.solve_triangular(root, wanted.t(), upper=False).t()
        u, s, vt = torch.linalg.svd(weighted, full_matrices=False)
        kept = min(rank or sum(each[module].rank for each in updates), len(s))
        half = s[:kept].sqrt()
        a = torch.linalg.solve_triangular(root, half[:, None] * vt[:kept], upper=False, left=False)
        merged[module] = Update(u[:, :kept] * half, a)
    return merged


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """A linear head: weight [num_logits, hidden], bias [num_logits]."""

    weight: Floats
    bias: Floats

    def logits(self, features: NDArray[np.floating]) -> NDArray[np.float32]:
        """Logits [num_answers, num_logits] of features [num_answers, hidden]."""
        return (features @ self.weight.T + self.bias).astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class HeadData:
    """What a head is fitted on: features [num_answers, hidden] and targets [num_answers, num_logits].

    Targets are distributions over each trait's levels, so that a person's level, a teacher's probabilities
    and any mixture of both are the same kind of thing.
    """

    features: NDArray[np.floating]
    targets: Floats


def mixed_targets(
    levels: NDArray[np.int64] | None,
    teacher: NDArray[np.floating] | None,
    *,
    num_levels: Sequence[int],
    teacher_weight: float,
) -> Floats:
    """Targets [num_answers, num_logits]: people's levels, softened by a teacher's probabilities.

    Args:
        levels: human levels [num_answers, num_traits]; None where nobody read
        teacher: the teacher's calibrated logits [num_answers, num_logits]; None without a teacher
        num_levels: of each trait [num_traits]
        teacher_weight: 0 for people alone, 1 for the teacher alone.
    """
    if levels is None and teacher is None:
        raise ValueError("a target needs a person's level or a teacher")
    parts: list[Floats] = []
    for column, part in enumerate(_parts(num_levels)):
        taught = None if teacher is None else softmax(teacher[:, part].astype(np.float64), axis=1)
        read = None if levels is None else np.eye(num_levels[column])[levels[:, column]]
        if taught is not None and read is not None:
            parts.append((1 - teacher_weight) * read + teacher_weight * taught)
        elif (only := read if taught is None else taught) is not None:
            parts.append(only)
    return np.hstack(parts)


def fit_head(data: HeadData, *, num_levels: Sequence[int], penalty: float) -> Head:
    """The head with the least `mean cross-entropy + penalty |W|^2 / 2`, trait by trait, by L-BFGS.

    The problem is convex: there is one answer, and the solver finds it, unlike ten epochs at a small rate.
    """
    fitted = [
        _fit_trait(data.features.astype(np.float64), data.targets[:, part], penalty)
        for part in _parts(num_levels)
    ]
    return Head(np.vstack([one.weight for one in fitted]), np.concatenate([one.bias for one in fitted]))


def choose_head(
    train: HeadData,
    validation: HeadData,
    *,
    num_levels: Sequence[int],
    penalties: Sequence[float] = PENALTIES,
    others: Sequence[Head] = (),
) -> Head:
    """The head with the least loss on the validation answers: fitted with one of the penalties, or another.

    Args:
        train: what heads are fitted on.
        validation: what decides between them.
        num_levels: of each trait [num_traits]
        penalties: one head each.
        others: heads from elsewhere, such as those of a joint training.
    """
    fitted = [fit_head(train, num_levels=num_levels, penalty=penalty) for penalty in penalties]
    return min((*fitted, *others), key=lambda head: head_loss(head, validation, num_levels=num_levels))


def head_loss(head: Head, data: HeadData, *, num_levels: Sequence[int]) -> float:
    """Mean cross-entropy per answer against the targets, in nats, summed over traits; 0 without answers."""
    if not len(data.features):
        return 0.0
    logits = head.logits(data.features).astype(np.float64)
    losses = [
        -(data.targets[:, part] * log_softmax(logits[:, part], axis=1)).sum(axis=1)
        for part in _parts(num_levels)
    ]
    return float(np.sum(losses, axis=0).mean())


def _fit_trait(features: Floats, targets: Floats, penalty: float) -> Head:
    num_answers, hidden = features.shape
    num_levels = targets.shape[1]
    # About its mean and at unit scale the problem is far better conditioned, and the penalty means the same
    # for every extractor.
    centre = features.mean(axis=0)
    scale = float(np.sqrt(((features - centre) ** 2).mean())) or 1.0
    rows = (features - centre) / scale

    def loss(flat: Floats) -> tuple[float, Floats]:
        weight, bias = flat[:-num_levels].reshape(num_levels, hidden), flat[-num_levels:]
        logs = log_softmax(rows @ weight.T + bias, axis=1)
        slope = (np.exp(logs) * targets.sum(axis=1, keepdims=True) - targets) / num_answers
        value = -(targets * logs).sum() / num_answers + penalty * (weight**2).sum() / 2
        return float(value), np.concatenate([(slope.T @ rows + penalty * weight).ravel(), slope.sum(axis=0)])

    start = np.zeros(num_levels * (hidden + 1))
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": _MAX_ITERATIONS})
    weight = found.x[:-num_levels].reshape(num_levels, hidden) / scale
    return Head(weight, found.x[-num_levels:] - weight @ centre)


def _shrunk(moment: Tensor, shrinkage: float) -> Tensor:
    """Off-diagonal entries times `shrinkage`; inputs that never vary get a trace of variance."""
    diagonal = torch.diag(moment)
    trace = _TRACE * float(diagonal.max())
    return shrinkage * moment + torch.diag((1 - shrinkage) * diagonal + trace)


def _parts(num_levels: Sequence[int]) -> list[slice]:
    """The columns of each trait's logits."""
    ends = np.cumsum(num_levels).tolist()
    return [slice(end - width, end) for end, width in zip(ends, num_levels, strict=True)]

"""A training recipe with changes as a person writes them: `adapter_lr=1e-3`, `lora.rank=16`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from scoring.config import TrainingConfig
from scoring.errors import InvalidInputError
from workers.telemetry import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_AT_LEAST_ONE = ("lora.rank", "max_epochs", "batch_size", "max_tokens", "num_adapted_layers")
#: Strictly between 0 and 1; from 0 to below 1.
_SHARES = ("review_risk", "review_certainty")
_PARTS = ("lora.dropout", "head_dropout", "warmup_share")

#: Where a run that was limited for once keeps the recipe that the next one goes by.
RECIPE = "recipe"

log = get_logger("recipes")


def changed(config: TrainingConfig, changes: Sequence[str]) -> TrainingConfig:
    """A recipe with some of its parts replaced.

    Args:
        config: the recipe to start from
        changes: `name=value`; parts of the adapter's shape are `lora.rank` and so on, several names of target
            modules stand with commas between them, and "none" is none

    Raises:
        InvalidInputError: no `=`, an unknown name, or a value that its part cannot have.
    """
    values = asdict(config)
    for change in changes:
        name, equals, value = (part.strip() for part in change.partition("="))
        group, _, key = name.rpartition(".")
        parts = values.get(group) if group else values
        if not equals or not isinstance(parts, dict) or key not in parts or isinstance(parts[key], dict):
            raise InvalidInputError(
                f"--set {change}: write name=value, with one of the names {', '.join(_names(values))}"
            )
        parts[key] = value.split(",") if isinstance(parts[key], tuple) else None if value == "none" else value
    try:
        made = TypeAdapter(TrainingConfig).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidInputError(f"--set {where}={first['input']}: {first['msg']}") from error
    _check_ranges(asdict(made))
    return made


def _names(values: dict[str, Any], group: str = "") -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _names(value, f"{name}.")
        else:
            yield f"{group}{name}"


def _check_ranges(values: dict[str, Any], group: str = "") -> None:
    for name, value in values.items():
        if isinstance(value, dict):
            _check_ranges(value, f"{name}.")
        elif isinstance(value, int | float):
            _check_range(f"{group}{name}", value)


def _check_range(name: str, value: float) -> None:
    least = 1 if name in _AT_LEAST_ONE else 0
    if not least <= value < float("inf"):
        raise InvalidInputError(f"--set {name}={value}: has to be at least {least}")
    if name in _SHARES and not 0 < value < 1:
        raise InvalidInputError(f"--set {name}={value}: has to lie between 0 and 1")
    if name in _PARTS and value >= 1:
        raise InvalidInputError(f"--set {name}={value}: has to be below 1")


def recorded(told: Mapping[str, Any] | None) -> TrainingConfig | None:
    """The recipe that a run wrote down, as far as this version knows its parts; None where it tells none."""
    told = (told or {}).get(RECIPE, told)
    if not told or "lora" not in told:
        return None
    try:
        made = TypeAdapter(TrainingConfig).validate_python(_known(asdict(TrainingConfig()), told))
        _check_ranges(asdict(made))
    except (ValidationError, InvalidInputError) as error:
        log.warning("recipe_unreadable", reason=str(error).splitlines()[0])
        return None
    return made


def _known(defaults: dict[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _known(value, told.get(name) or {}) if isinstance(value, dict) else told.get(name, value)
        for name, value in defaults.items()
    }

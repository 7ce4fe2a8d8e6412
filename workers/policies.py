"""Which policy holds: the file that was named, else `policy.toml` in the home folder, else the package's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scoring.evaluation.policy import read_policy

if TYPE_CHECKING:
    from pathlib import Path

    from scoring.evaluation.policy import Policy
    from workers.settings import Settings


def find_policy(settings: Settings, path: Path | None = None) -> Policy:
    """Read the policy that holds.

    Raises:
        InvalidInputError: it cannot be read or has no meaning.
    """
    at_home = settings.home.path / "policy.toml"
    return read_policy(path or (at_home if at_home.is_file() else None))

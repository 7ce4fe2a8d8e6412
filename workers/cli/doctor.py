"""The verb that says what this machine is and can do: doctor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from workers.cli.main import app
from workers.cli.printing import print_json, print_table, say

if TYPE_CHECKING:
    from workers.doctor import Checkup


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="print JSON instead of tables")] = False,
) -> None:
    """Show versions, cores, backbone, servers and store, and time each engine; exit code 0 if all is well.

    Answers per second are by CPU time of one thread on sample sentences without adapters: compare engines by
    them, and expect other figures on real answers.
    """
    from workers.doctor import examine
    from workers.settings import load_settings

    found = examine(load_settings())
    if as_json:
        print_json(found)
    else:
        _show(found)
    raise typer.Exit(1 if found.faults else 0)


def _show(found: Checkup) -> None:
    rows: list[tuple[str, object]] = [
        (name, told or "not installed") for name, told in found.versions.items()
    ]
    rows += [("machine", found.machine), ("cores", found.num_cores), ("device", found.device)]
    rows += [(f"backbone {name}", told) for name, told in (found.backbone or {}).items()]
    quicker = "exact and quicker" if found.int8_pays else "exact, but no quicker"
    rows += [
        ("fp32 product", found.fp32_kernel),
        ("int8", quicker if found.int8_works else "not exact here"),
        ("precision asked for", found.precision),
    ]
    print_table(("what", "found"), rows)
    say()
    trials = [(trial.name, trial.answers_per_s, trial.reason or "") for trial in found.engines]
    print_table(("engine", "answers/s", "remark"), trials)
    say()
    say("servers and artifact store answer, the schema fits" if not found.faults else "\n".join(found.faults))

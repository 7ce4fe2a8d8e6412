"""One night in a few minutes: a seeded adversary breaks everything, and the ledger must not notice.

    python -m tests.chaos.adversary --seed 7 --duration 180 [--mutant no_fence]

Real worker processes, real Postgres and Redis. Ends with one line of JSON; exit code 1 if the promise of
"nothing lost, nothing twice" did not hold.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import redis
from sqlalchemy.exc import DBAPIError

from tests.chaos.fleet import LEASE_S, SLOW_S, Fleet
from tests.chaos.mutants import MUTANTS
from tests.chaos.perils import SLOW
from tests.chaos.senders import Senders
from tests.chaos.verdict import Verdict, judge, missing
from tests.deployment import ITEMS
from workers.cli.printing import print_json

if TYPE_CHECKING:
    from collections.abc import Callable

#: All work that is left must be settled so soon after the last fault.
MAX_DRAIN_S = 30.0
MAX_WASTED_SHARE = 0.05
#: How many answers a second of the run.
_RATE = 120
_UNSETTLED = "SELECT count(*) FROM ingest.work WHERE state IN ('ready', 'leased')"


class Adversary:
    """Breaks one thing after the other; what, when and whom is the seed's choice."""

    def __init__(self, fleet: Fleet, senders: Senders, *, seed: int) -> None:
        self._fleet = fleet
        self._senders = senders
        self._client = redis.Redis.from_url(fleet.broker_url, socket_timeout=5.0)
        self._dice = random.Random(f"adversary {seed}")
        self._promoted: set[str] = set()
        self.done: Counter[str] = Counter()
        faults: dict[Callable[[], None], int] = {
            self.kill: 16,
            self.kill_in_the_gap: 8,
            self.restart_redis: 2,
            self.flush: 2,
            self.restart_postgres: 2,
            self.freeze: 1,
            self.stop_softly: 3,
            self.promote: 4,
        }
        self._faults, self._weights = list(faults), list(faults.values())

    def rage(self, duration_s: float) -> None:
        """Break things until the time is over; every kind of fault at least once where there is time."""
        deadline = time.monotonic() + duration_s
        first = self._dice.sample(self._faults, len(self._faults))
        while time.monotonic() < deadline:
            fault = first.pop() if first else self._dice.choices(self._faults, self._weights)[0]
            # Postgres may be away just now, or the victim gone by itself: then this fault waits for its turn.
            with contextlib.suppress(DBAPIError, redis.RedisError, ProcessLookupError):
                fault()
            time.sleep(self._dice.uniform(0.2, 2.0))

    def kill(self) -> None:
        """SIGKILL in the middle of whatever it does, most likely between reading and committing."""
        self._senders.burst(40)
        time.sleep(self._dice.uniform(0.0, 0.1))
        self._fleet.kill(self._victim())
        self.done["kills"] += 1

    def kill_in_the_gap(self) -> None:
        """Freeze, publish, kill: the reply to BRPOP dies in the socket, as stock Celery loses messages."""
        victim = self._victim()
        with self._fleet.frozen(victim):
            self._senders.publish("in the gap")
            time.sleep(0.7)
            self._fleet.kill(victim)
        self.done["kills"] += 1

    def restart_redis(self) -> None:
        """SIGKILL of Redis: what its log had not yet on disk is gone."""
        self._excuse_then(lambda: self._fleet.kill_server("redis", signal.SIGKILL))
        self.done["redis_restarts"] += 1

    def flush(self) -> None:
        """FLUSHALL: queues, stream, group, unacknowledged messages, all gone."""
        self._excuse_then(self._client.flushall)
        self.done["flushes"] += 1

    def restart_postgres(self) -> None:
        """Immediate shutdown: no checkpoint, connections cut, recovery from the log."""
        self._fleet.kill_server("postgres", signal.SIGQUIT)
        self.done["postgres_restarts"] += 1

    def freeze(self) -> None:
        """Freeze a worker with a slow answer in hand past its lease; promote meanwhile; wake it."""
        item = self._dice.choice(list(ITEMS))
        response_id = self._senders.publish(SLOW, item=item)
        holder = self._wait(lambda: self._fleet.holder(response_id), timeout_s=8.0)
        if holder is None or holder not in self._fleet.pick():
            return
        done = (
            "SELECT count(*) FROM ingest.work w JOIN ingest.submission s USING (submission_id)"
            f" WHERE s.response_id = '{response_id}' AND w.state = 'done'"
        )
        with self._fleet.frozen(holder):
            self._move_champion(item)
            self._wait(lambda: self._fleet.town.count(done), timeout_s=LEASE_S + 3 * SLOW_S)
        time.sleep(SLOW_S)
        self.done["freezes"] += 1

    def stop_softly(self) -> None:
        """SIGTERM: finish what is in hand, give back the rest, leave."""
        self._fleet.kill(self._victim(), signal.SIGTERM)
        self.done["soft_stops"] += 1

    def promote(self) -> None:
        """A promotion, or a roll-back: the aliases move while answers are in hand."""
        self._move_champion(self._dice.choice(list(ITEMS)))

    def _move_champion(self, item: str) -> None:
        if item in self._promoted:
            self._fleet.roll_back(item)
        else:
            self._fleet.promote(item)
        self._promoted ^= {item}
        self.done["promotions"] += 1

    def _excuse_then(self, strike: Callable[[], object]) -> None:
        """Take Redis' memory; only what stood in the stream just then has an excuse to be missing."""
        with self._senders.lock:
            standing = self._senders.in_stream()
            strike()
            self._senders.sent.excused |= standing

    def _victim(self) -> int:
        return self._wait(
            lambda: (living := self._fleet.pick()) and self._dice.choice(living), timeout_s=60.0
        )

    def _wait(self, look: Callable[[], int | None], *, timeout_s: float) -> int | None:
        deadline = time.monotonic() + timeout_s
        while not (found := look()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return found


def run(folder: Path, *, seed: int, duration_s: float, mutant: str | None = None) -> Verdict:
    """One run from an empty database to its verdict."""
    fleet = Fleet(folder, num_workers=3, mutant=mutant)
    try:
        senders = Senders(
            folder,
            fleet.town.database,
            fleet.broker_url,
            seed=seed,
            num_answers=int(_RATE * duration_s),
            duration_s=duration_s,
        )
        fleet.start()
        fleet.wait_until_ready()
        senders.start()
        adversary = Adversary(fleet, senders, seed=seed)
        adversary.rage(duration_s)
        last_fault_at = time.monotonic()
        senders.join()
        never_taken, num_again = _reconcile(fleet, senders)
        drained_s = _drain(fleet, senders, last_fault_at)
        with fleet.town.database.connect() as connection:
            verdict = judge(connection, senders.sent, fleet.tally, never_taken=never_taken)
        _complete(verdict, fleet, adversary, drained_s=drained_s, num_crashing=len(senders.sent.crashing))
        verdict.figures |= {"sent_again": num_again, "seed": seed, "duration_s": duration_s, "mutant": mutant}
        return verdict
    finally:
        fleet.close()


def _reconcile(fleet: Fleet, senders: Senders) -> tuple[set[str], int]:
    """Let the readers finish, ask the ledger what is missing, and send it again, as a sender would.

    Returns:
        What was missing without an excuse, and how many answers were sent again. A message of the task door
        is covered from its commit only; what Redis lost before a reader had it was never accepted.
    """
    deadline = time.monotonic() + MAX_DRAIN_S
    sent = senders.sent
    while True:
        # Looked at before the ledger: what leaves the stream in between is in the ledger by then.
        standing = _standing(senders)
        with contextlib.suppress(DBAPIError), fleet.town.database.connect() as connection:
            lacking = missing(connection, sent)
            if not (lacking and time.monotonic() < deadline and standing):
                break
        time.sleep(0.5)
    # A message of the task door whose worker died goes back to its list after the visibility timeout.
    excused = sent.excused | {one for one in lacking if sent.door[one] == "task"}
    senders.send_again(lacking)
    return lacking - excused, len(lacking)


def _standing(senders: Senders) -> bool:
    with contextlib.suppress(redis.RedisError):
        return bool(senders.in_stream() or senders.num_task_messages())
    return True


def _drain(fleet: Fleet, senders: Senders, last_fault_at: float) -> float:
    """Seconds from the last fault until nothing waits; given up after three times what is allowed."""
    time.sleep(1.0)
    while time.monotonic() - last_fault_at < 3 * MAX_DRAIN_S:
        if fleet.patiently(_UNSETTLED) == 0 and not _standing(senders):
            break
        time.sleep(0.25)
    return time.monotonic() - last_fault_at


def _complete(
    verdict: Verdict, fleet: Fleet, adversary: Adversary, *, drained_s: float, num_crashing: int
) -> None:
    names = ("kills", "redis_restarts", "flushes", "postgres_restarts", "freezes", "soft_stops", "promotions")
    crashes = [code for code in fleet.ended if code == -signal.SIGSEGV]
    surprises = [code for code in fleet.ended if code != -signal.SIGSEGV]
    verdict.figures |= {name: adversary.done[name] for name in names}
    verdict.figures |= {"crashes": len(crashes), "exits": len(surprises), "drained_s": round(drained_s, 1)}
    if surprises:
        verdict.wrongs.append(f"workers ended by themselves: exit codes {surprises[:10]}")
    if drained_s > MAX_DRAIN_S:
        verdict.wrongs.append(f"drained after {drained_s:.0f} s, allowed are {MAX_DRAIN_S:.0f}")
    share = verdict.figures["wasted_share"]
    if float(str(share)) >= MAX_WASTED_SHARE:
        verdict.wrongs.append(f"wasted_share: {share}")
    if not num_crashing:
        verdict.wrongs.append("no crashing answer was sent: nothing was tried")


def main() -> None:
    """Run one seed from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--duration", type=float, default=180.0, help="seconds of faults")
    parser.add_argument("--mutant", choices=sorted(MUTANTS), help="take one guard away; the run must fail")
    parser.add_argument("--keep", type=Path, help="work in this folder and leave it")
    wanted = parser.parse_args()
    # A run that is told to end takes its servers and workers with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with contextlib.ExitStack() as stack:
        folder = wanted.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        folder.mkdir(parents=True, exist_ok=True)
        verdict = run(folder, seed=wanted.seed, duration_s=wanted.duration, mutant=wanted.mutant)
    sys.stderr.writelines(f"wrong: {wrong}\n" for wrong in verdict.wrongs)
    print_json(verdict.figures)
    sys.exit(1 if verdict.wrongs else 0)


if __name__ == "__main__":
    main()

"""What a worker tells Prometheus, read from its parts whenever somebody asks; nothing here slows scoring.

Counts and times only: no item's name, no answer, no student.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from workers.telemetry import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric

    from workers.batcher import Batcher
    from workers.pipeline import Pipeline
    from workers.roster import RosterKeeper

log = get_logger("metrics")

#: Workers of one machine that are given the same port take the next free ones.
_NUM_PORTS = 64


class WorkerCollector(Collector):
    """One worker's figures."""

    def __init__(self, batcher: Batcher, pipeline: Pipeline, keeper: RosterKeeper) -> None:
        self._batcher = batcher
        self._pipeline = pipeline
        self._keeper = keeper

    def collect(self) -> Iterator[Metric]:
        """All families, as they stand now."""
        yield from self._work()
        yield from self._engine()
        yield from self._bank()

    def _work(self) -> Iterator[Metric]:
        done = self._pipeline.tally
        yield _counter("submissions_finished", "submissions scored and committed", done.num_finished)
        yield _counter("submissions_given_back", "submissions put back uncounted", done.num_given_back)
        yield _counter("submissions_failed", "attempts that failed and were counted", done.num_failed)
        yield _counter("leases_lost", "submissions whose lease had ended before the commit", done.num_lost)
        yield _gauge("submissions_held", "submissions in hand", self._pipeline.num_held())
        yield _gauge("items_served", "items with a working scorer", len(self._keeper.current.serving))
        yield _gauge("items_refused", "items whose scorer was refused", len(self._keeper.current.refused))

    def _engine(self) -> Iterator[Metric]:
        asked, recent = self._batcher.tally, self._batcher.recent
        yield _counter("answers_computed", "answers that went through the engine", asked.num_answers)
        yield _counter("engine_calls", "calls of the engine", asked.num_calls)
        yield _counter("engine_busy_seconds", "time spent in the engine", asked.busy_s)
        yield _gauge("engine_stalled_seconds", "age of the present call", self._batcher.stalled_s())
        yield _counter("answers_known", "answers whose scores were known", recent.num_known if recent else 0)

    def _bank(self) -> Iterator[Metric]:
        bank = self._batcher.bank()
        yield _gauge("bank_extractors", "extractors in the bank", bank.num_resident)
        yield _gauge("bank_bytes", "memory of the bank", bank.num_bytes)
        yield _counter("bank_brought", "extractors read into the bank", bank.num_brought)
        yield _counter("bank_evicted", "extractors that left for others", bank.num_evicted)
        yield _counter("bank_overflows", "calls that wanted more than the bank holds", bank.num_overflows)


@contextmanager
def served(address: str | None, collector: WorkerCollector) -> Iterator[None]:
    """Offer the figures at `host:port` for as long as this lasts; a port in use never stops a worker.

    Args:
        address: as in the settings; None: offer nothing
        collector: what to tell
    """
    if address is None:
        yield
        return
    registry = CollectorRegistry()
    registry.register(collector)
    ProcessCollector(registry=registry)
    host, _, first = address.rpartition(":")
    for port in range(int(first), min(int(first) + _NUM_PORTS, 65536)):
        try:
            server, thread = start_http_server(port, host, registry)
        except OSError:
            continue
        log.info("metrics_served", url=f"http://{host}:{server.server_port}/metrics")
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
        return
    log.warning("metrics_not_served", address=address, reason="this port and the next ones are taken")
    yield


def _counter(name: str, meaning: str, value: float) -> Metric:
    return CounterMetricFamily(f"scorefold_{name}", meaning, value)


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(f"scorefold_{name}", meaning, value)

"""Metrics for Prometheus, read from the ledger at each scrape: they survive restarts, and no process keeps any.

Counters come from the running totals that a follower keeps, so pruning takes nothing away from them. A table or index is
never a label; neither is a file of a fleet. `FAMILIES` is the list of all there is, which the docs print.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Sequence

from fastapi import APIRouter, Request, Response
from msgspec import Struct
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from typing_extensions import override

import dbupkeep
from dbupkeep.app import App
from dbupkeep.config import Config
from dbupkeep.health import judge
from dbupkeep.outbox import State
from dbupkeep.totals import NAME, Totals
from dbupkeep.views.condition import look, read
from dbupkeep.views.web.desk import AtDesk
from dbupkeep.views.web.roles import Viewer

router = APIRouter(tags=["metrics"])

Samples = Iterable[tuple[Sequence[str], float]]
Kind = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily


class Family(Struct, frozen=True, kw_only=True):
    """One metric: its name without the suffix that its kind adds, what it says, and its labels."""

    name: str
    kind: type[Kind]
    help: str
    labels: tuple[str, ...] = ()
    of: Callable[[Scrape], Samples] | None = None
    histogram: str = ""  # of the totals

    @property
    def written(self) -> str:
        """Its name as queries use it."""
        return f"{self.name}_total" if self.kind is CounterMetricFamily else self.name


class Scrape:
    """The ledger at one moment."""

    def __init__(self, app: App, config: Config) -> None:
        """Read what all families are made of. Raises `LedgerError`."""
        readings = read(app, config)
        self.followers, self.backlog, self.workers = readings.followers, readings.backlog, readings.workers
        self.sight = look(app, config, readings)
        self.now = self.sight.now
        totals = self.followers.get(NAME)
        self.totals = Totals(totals.memory if totals else {})
        self.newest = app.reader.newest()


def _counts(family: str) -> Callable[[Scrape], Samples]:
    return lambda scrape: scrape.totals.counts(family)


def _count(family: str) -> Callable[[Scrape], Samples]:
    """One without labels, which is there from the first scrape on."""
    return lambda scrape: [((), sum(value for _, value in scrape.totals.counts(family)))]


def _states(family: str) -> Callable[[Scrape], Samples]:
    return lambda scrape: scrape.totals.states(family)


def _oldest(scrape: Scrape) -> Samples:
    since = scrape.backlog.oldest_pending_at
    yield (), max(0.0, (scrape.now - since).total_seconds()) if since else 0.0


def _workers(scrape: Scrape) -> Samples:
    alive = [worker for worker in scrape.workers if worker.alive]
    busy = sum(bool(worker.busy) for worker in alive)
    yield ("busy",), busy
    yield ("idle",), len(alive) - busy


def _scheduler(scrape: Scrape) -> Samples:
    seen = scrape.sight.scheduler_at
    return [((), seen.timestamp())] if seen else ()


def _overdue(scrape: Scrape) -> Samples:
    for job in scrape.sight.jobs:
        yield (job.name,), (scrape.now - job.due_since).total_seconds() if job.due_since else 0.0


def _job_success(scrape: Scrape) -> Samples:
    for job in scrape.sight.jobs:
        if job.good_at is not None:
            yield (job.name,), job.good_at.timestamp()


def _healthy(scrape: Scrape) -> Samples:
    worst: dict[str, int] = {}
    for check in judge(scrape.sight).checks:
        worst[check.name] = max(worst.get(check.name, 0), int(check.level))
    return (((name,), level) for name, level in sorted(worst.items()))


def _of_followers(value: Callable[[Scrape, State], float]) -> Callable[[Scrape], Samples]:
    return lambda scrape: (((name,), value(scrape, state)) for name, state in sorted(scrape.followers.items()))


def _failing(scrape: Scrape, state: State) -> float:
    return (scrape.now - state.failing_since).total_seconds() if state.failing_since else 0.0


_KIND = ("engine", "operation")

FAMILIES: tuple[Family, ...] = (
    Family(name="dbupkeep_build_info", kind=GaugeMetricFamily, labels=("version", "python"),
           help="1, for the version that answers.",
           of=lambda _: [((dbupkeep.__version__, platform.python_version()), 1)]),
    Family(name="dbupkeep_runs", kind=CounterMetricFamily, labels=("outcome",), of=_counts("runs"),
           help="Endings of runs, by outcome; a run that is retried ends, and counts, again."),
    Family(name="dbupkeep_operations", kind=CounterMetricFamily, labels=(*_KIND, "outcome"), of=_counts("operations"),
           help="Operations that ended, by outcome: completed, failed, skipped, deferred, cancelled."),
    Family(name="dbupkeep_operation_duration_seconds", kind=HistogramMetricFamily, labels=_KIND, histogram="durations",
           help="How long operations took, of those that ran."),
    Family(name="dbupkeep_reclaimed_bytes", kind=CounterMetricFamily, labels=_KIND, of=_counts("reclaimed"),
           help="Bytes given back, by the sizes measured before and after."),
    Family(name="dbupkeep_ineffective_operations", kind=CounterMetricFamily, labels=_KIND, of=_counts("ineffective"),
           help="Operations that completed without their effect."),
    Family(name="dbupkeep_repeated_deferrals", kind=CounterMetricFamily, labels=_KIND, of=_counts("deferred_often"),
           help="Deferrals of operations that were put off three runs in a row or more."),
    Family(name="dbupkeep_lock_wait_seconds", kind=HistogramMetricFamily, labels=("engine",), histogram="lock_waits",
           help="How long operations waited for locks, where their engine can say."),
    Family(name="dbupkeep_blocking_seconds", kind=CounterMetricFamily, labels=("engine",), of=_counts("blocking"),
           help="For how long others had to wait for operations, where their engine looks at that."),
    Family(name="dbupkeep_window_overrun_seconds", kind=CounterMetricFamily, of=_count("overrun"),
           help="For how long operations that could not be interrupted went on after their window had closed."),
    Family(name="dbupkeep_lost_attempts", kind=CounterMetricFamily, of=_count("attempts_lost"),
           help="Attempts whose worker process went away."),
    Family(name="dbupkeep_last_success_timestamp_seconds", kind=GaugeMetricFamily, labels=("target", "job"),
           of=_states("last_success"),
           help="When the last good run of a target ended; a fleet is one target. The job is empty for runs by hand."),
    Family(name="dbupkeep_job_last_success_timestamp_seconds", kind=GaugeMetricFamily, labels=("job",), of=_job_success,
           help="When the last good run of a job with a schedule ended."),
    Family(name="dbupkeep_job_overdue_seconds", kind=GaugeMetricFamily, labels=("job",), of=_overdue,
           help="For how long a run has been due that did not start; 0: none is."),
    Family(name="dbupkeep_database_bytes", kind=GaugeMetricFamily, labels=("target",), of=_states("database_bytes"),
           help="Size of a database at its last survey; files of a fleet are left out."),
    Family(name="dbupkeep_wraparound_transactions_left", kind=GaugeMetricFamily, labels=("target",),
           of=_states("wraparound"),
           help="Transactions until PostgreSQL takes no more, at the last survey."),
    Family(name="dbupkeep_oldest_pending_seconds", kind=GaugeMetricFamily, of=_oldest,
           help="Age of the oldest operation that waits; 0: none does."),
    Family(name="dbupkeep_pending_operations", kind=GaugeMetricFamily,
           of=lambda scrape: [((), scrape.backlog.pending)], help="Operations that wait, for whatever reason."),
    Family(name="dbupkeep_queue_depth", kind=GaugeMetricFamily, of=lambda scrape: [((), scrape.backlog.deliverable)],
           help="Operations that only wait for a worker."),
    Family(name="dbupkeep_running_operations", kind=GaugeMetricFamily,
           of=lambda scrape: [((), scrape.backlog.running)], help="Operations at work."),
    Family(name="dbupkeep_workers", kind=GaugeMetricFamily, labels=("state",), of=_workers,
           help="Worker processes that are alive, busy and idle."),
    Family(name="dbupkeep_scheduler_last_seen_timestamp_seconds", kind=GaugeMetricFamily, of=_scheduler,
           help="When the scheduler last gave a sign of life; absent when none runs."),
    Family(name="dbupkeep_configuration_valid", kind=GaugeMetricFamily,
           of=lambda scrape: [((), 0 if scrape.sight.old_in_force else 1)],
           help="1; 0: the file on disk is faulty, and the service goes by the one before."),
    Family(name="dbupkeep_health", kind=GaugeMetricFamily, labels=("check",), of=_healthy,
           help="Worst result of each check of `dbupkeep health`: 0 ok, 1 warning, 2 critical."),
    Family(name="dbupkeep_follower_failing_seconds", kind=GaugeMetricFamily, labels=("follower",),
           of=_of_followers(_failing),
           help="For how long a follower (pings, webhooks, ...) has not got through; 0: it does."),
    Family(name="dbupkeep_follower_pending_messages", kind=GaugeMetricFamily, labels=("follower",),
           of=_of_followers(lambda _, state: len(state.outbox)), help="Messages that are still to be delivered."),
    Family(name="dbupkeep_follower_lag_events", kind=GaugeMetricFamily, labels=("follower",),
           of=_of_followers(lambda scrape, state: max(0, scrape.newest - state.after)),
           help="Events that a follower has yet to take in, up to those of the last seconds."),
    Family(name="dbupkeep_follower_deliveries", kind=CounterMetricFamily, labels=("follower", "result"),
           of=lambda scrape: (((name, result), getattr(state, result)) for name, state in sorted(scrape.followers.items())
                              for result in ("delivered", "failures", "given_up")),
           help="Deliveries: delivered, failed tries, and messages given up."),
)  # fmt: skip
"""Every metric there is."""


class Collected(Collector):
    """A collector of one app."""

    def __init__(self, app: App, config: Config) -> None:
        self._app = app
        self._config = config

    @override
    def collect(self) -> Iterator[Metric]:
        scrape = Scrape(self._app, self._config)
        for family in FAMILIES:
            yield _metric(family, scrape)


def exposition(app: App, config: Config, accept: str = "") -> tuple[bytes, str]:
    """All metrics in the format that the header asks for, and its content type. Raises `LedgerError`."""
    encode, content_type = choose_encoder(accept)
    return encode(Collected(app, config)), content_type


@router.get("/metrics", include_in_schema=False)  # its format is Prometheus' own
def metrics(request: Request, desk: AtDesk, _caller: Viewer) -> Response:
    """Metrics for Prometheus: as text, or as OpenMetrics where the scraper accepts that."""
    body, content_type = exposition(desk.app, desk.config(), request.headers.get("accept", ""))
    return Response(body, media_type=content_type)


def _metric(family: Family, scrape: Scrape) -> Kind:
    metric = family.kind(family.name, family.help, labels=family.labels)
    if isinstance(metric, HistogramMetricFamily):
        for of, buckets, total in scrape.totals.histograms(family.histogram):
            metric.add_metric(of, buckets, total)
    elif family.of is not None:
        for labels, value in family.of(scrape):
            metric.add_metric(labels, value)
    return metric

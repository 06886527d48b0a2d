"""What a person defines: targets, windows, policies, steps and jobs. Values only; reading TOML is config's."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum

from msgspec import Struct, field

from dbupkeep.operations import Operation, parse

Setting = bool | int | float | str | None
"""One threshold: fractions are 0 to 1, sizes are bytes, durations are seconds."""

DATABASE_MAINTENANCE = "database_maintenance"
"""The action of a step that maintains databases."""


class OnError(StrEnum):
    """What a step does when one of its jobs fails."""

    CONTINUE = "continue"  # siblings and later steps go on
    FAIL = "fail"  # nothing more is started
    STOP = "stop"  # nothing more is started once `stop_after` jobs failed


class ErrorPolicy(Struct, frozen=True, kw_only=True):
    """How failures of children are taken by their parent."""

    on_error: OnError = OnError.CONTINUE
    stop_after: int | None = None  # with STOP: how many failures end the start of new children
    tolerance: int = 0  # up to so many failed children the outcome is `partial`, not `failed`

    def stops_at(self, failed: int) -> bool:
        """Say whether so many failures mean that nothing more is started."""
        if self.on_error is OnError.FAIL:
            return failed > 0
        return self.on_error is OnError.STOP and failed >= (self.stop_after or 1)


class Target(Struct, frozen=True, kw_only=True):
    """One database, or a place where databases are found."""

    name: str  # what people call it
    url: str  # `sqlite:///srv/app.db`, `postgresql://db1/shop`; never with a password in it
    pattern: str = ""  # with a folder as url: which files, as a glob
    recursive: bool = False
    exclude: tuple[str, ...] = ()
    parallel: int = 1  # how many operations may run on it at a time
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def engine(self) -> str:
        """The product, as the scheme of the url names it."""
        return self.url.partition(":")[0].lower()

    @property
    def is_fleet(self) -> bool:
        """Whether it is a place to search rather than one database."""
        return bool(self.pattern)


class Policy(Struct, frozen=True, kw_only=True):
    """When an operation is due and what it may cost; an engine fills what is not set with its own defaults."""

    name: str = "default"
    thresholds: Mapping[str, Mapping[str, Setting]] = field(default_factory=dict)  # by operation, then by setting
    force: bool = False  # run what was asked for whether due or not
    cool_off: timedelta = timedelta(days=10)  # after a run that gained less than predicted
    max_stall: timedelta = timedelta(seconds=5)  # how long other writers may have to wait
    blocking_budget: timedelta = timedelta(minutes=1)  # how long others may have to wait for a run on a server, in all
    backup_first: bool = False
    consents: frozenset[str] = frozenset()  # effects the user agreed to, by the name the plan prints
    space_factor: float = 1.2  # free space wanted, as a multiple of the need
    max_attempts: int = 3

    def setting(self, operation: str, name: str, default: Setting) -> Setting:
        """The threshold set for an operation, or the engine's default."""
        return self.thresholds.get(operation, {}).get(name, default)


class Window(Struct, frozen=True, kw_only=True):
    """When work may start: it opens by a cron expression and lasts for a while."""

    name: str
    open: str  # cron, five fields, in the time zone of the job
    lasts: timedelta
    soft_stop: timedelta = timedelta()  # nothing is started that would end later than this before closing
    timezone: str = "UTC"  # of the cron expression


class Overlap(StrEnum):
    """What becomes of a run that is due while the one before has not ended; another job's run is always waited for."""

    SKIP = "skip"  # it is left out, and the reason is kept
    QUEUE = "queue"  # it starts once that has ended; what becomes due meanwhile is the same one


class Schedule(Struct, frozen=True, kw_only=True):
    """When a job starts by itself, by one of the first three; with none it is started by a person."""

    cron: str = ""  # five fields
    every: timedelta | None = None  # since the last success
    when_due: timedelta | None = None  # between two looks whether anything of it is due
    timezone: str = "UTC"  # of the cron expression
    catch_up: bool = True  # of the cron times that nobody was there for, run once for the last one
    overlap: Overlap = Overlap.SKIP


class Hooks(Struct, frozen=True, kw_only=True):
    """Programs that are called around a run and its operations: each a list of arguments, never a line for a shell."""

    pause_application: tuple[str, ...] = ()  # before the first operation of a run
    before_run: tuple[str, ...] = ()  # after that
    before_operation: tuple[str, ...] = ()
    after_operation: tuple[str, ...] = ()
    after_run: tuple[str, ...] = ()
    resume_application: tuple[str, ...] = ()  # owed from the moment that the application may have been paused
    timeout: timedelta = timedelta(minutes=1)  # of each call
    environment: tuple[str, ...] = ()  # variables that are passed on, beside a few that every program needs

    @property
    def around_run(self) -> bool:
        """Whether a run has anything of its own to call."""
        return bool(self.pause_application or self.before_run or self.after_run or self.resume_application)


class Step(Struct, frozen=True, kw_only=True):
    """One step of a definition: an action on targets."""

    name: str
    action: str = DATABASE_MAINTENANCE
    targets: tuple[Target, ...] = ()
    operations: tuple[Operation, ...] = field(default_factory=lambda: parse(None))
    policy: Policy = field(default_factory=Policy)
    errors: ErrorPolicy = field(default_factory=ErrorPolicy)
    config: Mapping[str, Setting] = field(default_factory=dict)


class JobDefinition(Struct, frozen=True, kw_only=True):
    """A named job: steps, one after another."""

    name: str
    steps: tuple[Step, ...]
    lane: str = "default"  # which worker processes can reach the targets
    errors: ErrorPolicy = field(default_factory=ErrorPolicy)  # of the run as a whole: its children are databases
    requested_by: str = ""
    schedule: Schedule = field(default_factory=Schedule)
    window: Window | None = None
    hooks: Hooks | None = None
    follows: str = ""  # the run before this one: what that put off goes first

"""The shape of a configuration file, for pydantic: what may be written where, and the JSON Schema that editors use.

Imported only when a file is really read: pydantic costs more than the rest of a short command.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import timedelta
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
    create_model,
    model_validator,
)

from dbupkeep.config import ServerSettings, units
from dbupkeep.config.names import LONGEST_NAME, RETENTION
from dbupkeep.definitions import DATABASE_MAINTENANCE, Hooks, OnError, Overlap, Policy, Setting
from dbupkeep.followers.notifications import USUAL
from dbupkeep.operations import Operation
from dbupkeep.secret import Secret

Names = dict[str, Collection[str] | None]
"""The validation context: for each kind of name (`target`, `operation`) those there are; None or absent: any."""


class Unknown(ValueError):
    """A name that is none of those there are; its near miss is looked for only once the fault is shown."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(name)
        self.kind = kind
        self.name = name


def _name_of(kind: str) -> AfterValidator:
    def check(name: str, info: ValidationInfo) -> str:
        names = (info.context or {}).get(kind)
        if names is not None and name not in names:
            raise Unknown(kind, name)
        return name

    return AfterValidator(check)


def _plain(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise ValueError("must be a text without control characters, and not empty")
    return text


def _label(value: object) -> object:
    return str(value) if isinstance(value, (int, float)) else value


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, LookupError):  # no such zone, or a name that is no path of one
        raise Unknown("time zone", name) from None
    return name


def _url(url: str, info: ValidationInfo) -> str:
    scheme, found, _ = url.partition("://")
    if not found or not scheme:
        raise ValueError("must be a url such as sqlite:///srv/app.db or postgresql://db1/shop")
    engines = (info.context or {}).get("engine")
    if engines is not None and scheme.lower() not in engines:
        raise Unknown("engine", scheme)
    return url


def _host(name: str) -> str:
    if re.fullmatch(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9][A-Za-z0-9._-]*)(?::[0-9]{1,5})?", name) is None:
        raise ValueError("must be a host name, with a port where only that one counts: db.example.org")
    return name


def _root_path(path: str) -> str:
    if re.fullmatch(r"(?:/[A-Za-z0-9._~-]+)*", path) is None:
        raise ValueError("must be a path such as /dbupkeep, without a slash at its end")
    return path


def _positive(value: timedelta) -> timedelta:
    if not value:
        raise ValueError("must be longer than 0")
    return value


def _scalar(value: object) -> Setting:
    if isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError("must be true, false, a number, or a text")


def _reference(text: str) -> str:
    if not Secret(text).is_reference:
        raise ValueError("is a secret, which is not written here: env:NAME or file:PATH says where it is")
    return text


def _outward(text: str) -> str:
    if not Secret(text).is_reference and not text.startswith(("https://", "http://")):
        raise ValueError(
            "must be a url such as https://hooks.example.org/x, or say where one is: env:NAME or file:PATH"
        )
    return text


Text = Annotated[str, Field(max_length=4096), AfterValidator(_plain)]
Reference = Annotated[Text, AfterValidator(_reference)]
Outward = Annotated[Text, AfterValidator(_outward)]
Name = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME), AfterValidator(_plain)]
Label = Annotated[Text, BeforeValidator(_label)]
Url = Annotated[Text, AfterValidator(_url)]
Zone = Annotated[Name, AfterValidator(_zone)]
Cron = Annotated[str, Field(max_length=256), AfterValidator(units.read_cron)]
Duration = Annotated[
    timedelta,
    BeforeValidator(units.read_duration),
    WithJsonSchema(
        {"anyOf": [{"type": "string", "pattern": units.DURATION_PATTERN}, {"type": "number", "minimum": 0}]}
    ),
]
Span = Annotated[Duration, AfterValidator(_positive)]
Share = Annotated[
    float,
    BeforeValidator(units.read_share),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": units.SHARE_PATTERN}, {"type": "number", "minimum": 0}]}),
]
# Any: `read_setting` has judged the value, and a union here would add its members to the place of a fault.
Threshold = Annotated[
    Any, BeforeValidator(units.read_setting), WithJsonSchema({"type": ["boolean", "number", "string"]})
]
Scalar = Annotated[Any, AfterValidator(_scalar), WithJsonSchema({"type": ["boolean", "number", "string"]})]
OperationName = Annotated[
    str, _name_of("operation"), WithJsonSchema({"type": "string", "enum": [operation.value for operation in Operation]})
]
Reaction = Annotated[
    str, _name_of("reaction"), WithJsonSchema({"type": "string", "enum": [reaction.value for reaction in OnError]})
]
Command = Annotated[list[Text], Field(max_length=100)]
OverlapName = Annotated[
    str, _name_of("overlap"), WithJsonSchema({"type": "string", "enum": [overlap.value for overlap in Overlap]})
]
HostName = Annotated[str, Field(max_length=260), AfterValidator(_host)]
RootPath = Annotated[str, Field(max_length=256), AfterValidator(_root_path)]
_FILE_SCHEMES = ("sqlite:", "file:")


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class TargetTable(_Table):
    """`[targets.NAME]`: one database by its `url`, several of its server with `pattern`, or a folder (`dir`) of files."""

    url: Url | None = Field(default=None, description="One database; never with a password in it.")
    dir: Text | None = Field(default=None, description="A folder of SQLite files, searched anew at each run.")
    pattern: Text | None = Field(
        default=None,
        description="Which files of the folder, as a glob, *.db when left out; with a server's url: which of its databases.",
    )
    recursive: bool = Field(default=False, description="Search the folders below it too.")
    exclude: list[Text] = Field(default=[], description="Objects, or files of the folder, to leave alone; globs.")
    parallel: int = Field(default=1, ge=1, le=1024, description="Operations at a time on one database.")
    labels: dict[Name, Label] = Field(default={}, description="Names and values of your own.")

    @model_validator(mode="after")
    def _one_place(self) -> TargetTable:
        if (self.url is None) == (self.dir is None):
            raise ValueError('needs either "url" or "dir"')
        is_file = self.url is not None and self.url.lower().startswith(_FILE_SCHEMES)
        if self.dir is None and (self.recursive or (self.pattern is not None and is_file)):
            raise ValueError('"pattern" and "recursive" are for a target with "dir"')
        return self


class WindowTable(_Table):
    """`[windows.NAME]`: when work may start."""

    open: Cron = Field(description="When it opens: minute, hour, day of the month, month, day of the week.")
    lasts: Span = Field(description="How long it stays open.")
    soft_stop: Duration = Field(
        default=timedelta(), description="Nothing is started that would end later than this before closing."
    )

    @model_validator(mode="after")
    def _stops_within(self) -> WindowTable:
        if self.soft_stop >= self.lasts:
            raise ValueError('"soft_stop" must be shorter than "lasts"')
        return self


class _PolicyTable(_Table):
    """`[policies.NAME]`: when an operation is due, with one table of thresholds each, and what it may cost."""

    force: bool = Field(default=False, description="Run what is asked for whether it is due or not.")
    cool_off: Duration = Field(
        default=Policy().cool_off,
        description="How long it is not tried again after a gain below half of the predicted one.",
    )
    max_stall: Duration = Field(default=Policy().max_stall, description="How long others may have to wait for a lock.")
    blocking_budget: Duration = Field(
        default=Policy().blocking_budget,
        description="How long others may have to wait for a run on a database of a server, in all.",
    )
    backup_first: bool = Field(default=False, description="Keep a copy until the result has passed a check.")
    consents: list[Name] = Field(default=[], description="Effects that you agree to, by the names the plan prints.")
    space_factor: Share = Field(
        default=Policy().space_factor, description="Free space wanted, as a multiple of the need."
    )
    max_attempts: int = Field(
        default=Policy().max_attempts,
        ge=1,
        le=100,
        description="Lost attempts after which an operation, or the look for databases, is given up.",
    )


def _setting_of(operation: Operation) -> Any:  # noqa: ANN401 - a type made here
    return dict[Annotated[Name, _name_of(f"{operation.value} setting")], Threshold]


PolicyTable = create_model(  # type: ignore[call-overload] # the fields are the catalogue's
    "PolicyTable",
    __base__=_PolicyTable,
    __doc__=_PolicyTable.__doc__,
    **{
        operation.value: (_setting_of(operation), Field(default={}, description=f"Thresholds of {operation.value}."))
        for operation in Operation
    },
)


class _Failing(_Table):
    on_error: Reaction | None = Field(
        default=None, description="What a failure means for the rest; continue when left out."
    )
    stop_after: int | None = Field(
        default=None, ge=1, le=1_000_000, description="Failures after which nothing more is started."
    )
    error_tolerance: int | None = Field(
        default=None, ge=0, le=1_000_000, description="Up to so many failures the outcome is partial; 0 when left out."
    )

    @model_validator(mode="after")
    def _agree(self) -> _Failing:
        if self.stop_after is not None and self.on_error not in (None, OnError.STOP):
            raise ValueError('"stop_after" is for on_error = "stop"')
        return self


class StepTable(_Failing):
    """`[[jobs.NAME.steps]]`: one action on targets."""

    name: Name | None = Field(default=None, description="step 1, step 2, ... when left out.")
    action: Annotated[Name, _name_of("action")] = Field(default=DATABASE_MAINTENANCE, description="What it does.")
    targets: list[Annotated[str, _name_of("target")]] = Field(default=[], description="Names of targets.")
    operations: list[OperationName] | None = Field(
        default=None, min_length=1, description="vacuum, analyze, reindex when left out."
    )
    policy: Annotated[str, _name_of("policy")] | None = Field(default=None, description="Instead of the job's.")
    config: dict[Name, Scalar] = Field(default={}, description="Settings of the action and the engine.")

    @model_validator(mode="after")
    def _has_work(self) -> StepTable:
        if self.action == DATABASE_MAINTENANCE and not self.targets:
            raise ValueError('"targets" is missing or empty: name at least one of [targets]')
        return self


class HooksTable(_Table):
    """`[jobs.NAME.hooks]`: programs to call around a run and its operations, each as a list of arguments; no shell."""

    pause_application: Command = Field(
        default=[], description="Before the first operation of a run; wants its opposite."
    )
    before_run: Command = Field(default=[], description="Before the first operation too, after that.")
    before_operation: Command = Field(default=[], description="Before each operation; a failure puts it off.")
    after_operation: Command = Field(default=[], description="After each operation, however it ended.")
    after_run: Command = Field(default=[], description="After a run of which an operation had started.")
    resume_application: Command = Field(
        default=[], description="After it was paused, on every exit; repeated until it succeeds."
    )
    timeout: Span = Field(default=Hooks().timeout, description="Of each call.")
    environment: list[Name] = Field(
        default=[], description="Variables that they may see, beside PATH, HOME, LANG and TZ."
    )

    @model_validator(mode="after")
    def _comes_back(self) -> HooksTable:
        if bool(self.pause_application) != bool(self.resume_application):
            raise ValueError('"pause_application" and "resume_application" belong together')
        return self


class NotifyTable(_Table):
    """`[notify.NAME]`: who is told of jobs that name it among their `notifications`."""

    webhook: Outward | None = Field(
        default=None, description="A url that takes signed messages; or where it is: env:NAME, file:PATH."
    )
    secret: Reference | None = Field(
        default=None, description="Of a webhook: where its key is, whsec_ and 24 to 64 bytes in base64."
    )
    apprise: Reference | None = Field(
        default=None, description="Where urls of Apprise are, which have secrets in them; for its hundred services."
    )
    on: list[Annotated[str, _name_of("notification")]] = Field(
        default=[told.value for told in USUAL], min_length=1, description="What is told."
    )
    private: bool = Field(
        default=False, description="The webhook may be at a private or loopback address, there also without TLS."
    )

    @model_validator(mode="after")
    def _one_way(self) -> NotifyTable:
        if (self.webhook is None) == (self.apprise is None):
            raise ValueError('needs either "webhook" or "apprise"')
        if (self.webhook is None) != (self.secret is None):
            raise ValueError('"secret" is needed for a webhook, which is signed with it')
        _check_reach(self.webhook, private=self.private)
        return self


def _check_reach(url: str | None, *, private: bool) -> None:
    if url and url.startswith("http://") and not private:
        raise ValueError("a url without TLS is only for a private network: private = true")


class JobTable(_Failing):
    """`[jobs.NAME]`: steps, one after another, and when they start by themselves."""

    schedule: Cron | None = Field(default=None, description="When it starts by itself, as cron.")
    every: Span | None = Field(default=None, description="How long after its last success it starts by itself.")
    when_due: Span | None = Field(
        default=None,
        description="How often it is looked whether anything is due; it starts by itself when something is.",
    )
    timezone: Zone | None = Field(default=None, description="Of its schedule and window; the file's when left out.")
    catch_up: bool = Field(default=True, description="Run once for what was due while no service ran.")
    overlap: OverlapName = Field(
        default="skip", description="What becomes of a due run while the one before goes on: skip, or queue one."
    )
    window: Annotated[str, _name_of("window")] | None = Field(default=None, description="When its work may start.")
    policy: Annotated[str, _name_of("policy")] | None = Field(default=None, description="default when left out.")
    lane: Name = Field(default="default", description="Which worker processes can reach its targets.")
    hooks: HooksTable | None = Field(default=None, description="What is called around its runs.")
    notifications: list[Annotated[str, _name_of("receiver")]] = Field(
        default=[], description="Who is told of its runs: names of [notify]."
    )
    healthcheck: Outward | None = Field(
        default=None,
        description="A url that is pinged when a run begins and ends, as of Healthchecks; or where it is: env:NAME, file:PATH.",
    )
    healthcheck_private: bool = Field(
        default=False, description="That url may be at a private or loopback address, there also without TLS."
    )
    steps: list[StepTable] = Field(min_length=1, max_length=1000, description="What is done, one after another.")

    @model_validator(mode="after")
    def _one_schedule(self) -> JobTable:
        kinds = [kind for kind in ("schedule", "every", "when_due") if getattr(self, kind) is not None]
        if len(kinds) > 1:
            said = " and ".join(f'"{kind}"' for kind in kinds)
            raise ValueError(f"{said} exclude each other")
        if self.when_due and any(step.action != DATABASE_MAINTENANCE for step in self.steps):
            raise ValueError(
                f'"when_due" is for steps of the action {DATABASE_MAINTENANCE}: others cannot say what is due'
            )
        names = [step.name for step in self.steps if step.name is not None]
        if len(set(names)) < len(names):
            raise ValueError("two steps have the same name")
        _check_reach(self.healthcheck, private=self.healthcheck_private)
        return self


class ServerTable(_Table):
    """`[server]`: where `serve` has its API and page, and who may reach it."""

    host: Name = Field(
        default=ServerSettings().host,
        description="Address to listen on; one that others reach needs one of both below.",
    )
    port: int = Field(default=ServerSettings().port, ge=0, le=65535, description="Port to listen on; 0: any free one.")
    allowed_hosts: list[HostName] = Field(
        default=[], max_length=100, description="Names that it is called by, beside those of this machine itself."
    )
    root_path: RootPath = Field(default="", description="What a proxy puts before its paths, and takes away again.")
    tls_proxy: bool = Field(
        default=False, description="A proxy that speaks TLS is before it, and says who calls in X-Forwarded-For."
    )
    plain_http: bool = Field(
        default=False, description="Others may reach it without TLS: tokens can be read on the network."
    )


class ConfigFile(_Table):
    """A configuration file of dbupkeep."""

    version: Literal[1] = Field(description="Of this format.")
    timezone: Zone = Field(default="UTC", description="For jobs that name none.")
    retention: Duration = Field(
        default=RETENTION, description="How long runs that ended are kept; 0 keeps them for ever."
    )
    server: ServerTable = Field(default=ServerTable(), description="Of the service's API and page.")
    targets: dict[Name, TargetTable] = Field(default={}, description="What is maintained, by name.")
    windows: dict[Name, WindowTable] = Field(default={}, description="When work may start, by name.")
    policies: dict[Name, PolicyTable] = Field(  # type: ignore[valid-type] # made above, at run time
        default={}, description="When an operation is due and what it may cost, by name."
    )
    notify: dict[Name, NotifyTable] = Field(default={}, description="Who is told of it, by name.")
    notify_hosts: list[Text] = Field(
        default=[],
        description="Hosts that pings and webhooks may go to, as globs; those that are configured when left out.",
    )
    jobs: dict[Name, JobTable] = Field(default={}, description="What is done, by name.")


def keys_at(key: tuple[str | int, ...]) -> Collection[str]:
    """The keys that the table at this place may have; none where any is allowed."""
    if key == ("server",):
        return ServerTable.model_fields
    shape = tuple(part for number, part in enumerate(key) if number % 2 == 0)  # every other part is a name or a number
    table: type[BaseModel] | None = _TABLES.get(shape) if len(key) == 2 * len(shape) else None
    return table.model_fields if table else ()


_TABLES: dict[tuple[str | int, ...], type[BaseModel]] = {
    (): ConfigFile,
    ("targets",): TargetTable,
    ("windows",): WindowTable,
    ("policies",): PolicyTable,
    ("notify",): NotifyTable,
    ("jobs",): JobTable,
    ("jobs", "hooks"): HooksTable,
    ("jobs", "steps"): StepTable,
}

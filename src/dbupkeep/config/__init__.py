"""The configuration: one TOML file with targets, windows, policies and jobs, and the environment over it.

Nothing heavy is imported before a file is really read, so that commands which need none stay fast.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from msgspec import Struct, field

from dbupkeep.config.names import RETENTION, Known, near_miss, overrides
from dbupkeep.config.receivers import Ping, Receiver
from dbupkeep.definitions import JobDefinition, Policy, Target, Window
from dbupkeep.errors import UnknownName, UsageError
from dbupkeep.logs import printable

__all__ = [
    "FILE_NAME",
    "RETENTION",
    "SYSTEM_FOLDER",
    "Config",
    "Known",
    "ServerSettings",
    "Value",
    "find",
    "json_schema",
    "load",
]

T = TypeVar("T")

FILE_NAME = "config.toml"
SYSTEM_FOLDER = Path("/etc/dbupkeep")


class Value(Struct, frozen=True, kw_only=True):
    """One value in force, and where it came from."""

    key: str  # `policies.gentle.cool_off`
    value: object  # durations are seconds, sizes bytes, shares fractions
    origin: str = ""  # `file:line`, `environment NAME` or `default`; empty when not asked for


class ServerSettings(Struct, frozen=True, kw_only=True):
    """Where a service has its API and page, and who may reach it."""

    host: str = "127.0.0.1"
    port: int = 8390
    allowed_hosts: tuple[str, ...] = ()  # beside those of the machine itself
    root_path: str = ""
    tls_proxy: bool = False
    plain_http: bool = False


class Config(Struct, frozen=True, kw_only=True):
    """What a configuration defines, by name."""

    file: str = ""  # empty: none was found
    retention: timedelta = RETENTION  # of runs that ended; 0: for ever
    server: ServerSettings = field(default_factory=ServerSettings)
    targets: Mapping[str, Target] = field(default_factory=dict)
    windows: Mapping[str, Window] = field(default_factory=dict)
    policies: Mapping[str, Policy] = field(default_factory=lambda: {"default": Policy()})
    jobs: Mapping[str, JobDefinition] = field(default_factory=dict)
    receivers: Mapping[str, Receiver] = field(default_factory=dict)
    pings: Mapping[str, Ping] = field(default_factory=dict)  # by job
    values: tuple[Value, ...] = ()

    def show(self, *, origin: bool = False) -> tuple[Value, ...]:
        """Every value in force; with `origin`, each says where it came from."""
        return self.values if origin else tuple(Value(key=each.key, value=each.value) for each in self.values)

    def target(self, name: str) -> Target:
        """A target by name. Raises `UnknownName`."""
        return _named("target", name, self.targets)

    def policy(self, name: str = "default") -> Policy:
        """A policy by name. Raises `UnknownName`."""
        return _named("policy", name, self.policies)

    def job(self, name: str) -> JobDefinition:
        """A job by name. Raises `UnknownName`."""
        return _named("job", name, self.jobs)


def find(explicit: Path | None = None, environ: Mapping[str, str] | None = None) -> Path | None:
    """The file to read: the one named, else `DBUPKEEP_CONFIG`, the user's own, the system's; None when there is none.

    Raises `UsageError` when a file that was named is not there.
    """
    environ = os.environ if environ is None else environ
    named = explicit or (Path(environ["DBUPKEEP_CONFIG"]).expanduser() if environ.get("DBUPKEEP_CONFIG") else None)
    if named is not None:
        if not named.exists():
            asked = "--config" if explicit else "DBUPKEEP_CONFIG"
            raise UsageError(f"there is no configuration file {printable(str(named))}", hint=f"check {asked}")
        return named
    from platformdirs import user_config_path

    places = (user_config_path("dbupkeep") / FILE_NAME, SYSTEM_FOLDER / FILE_NAME)
    return next((place for place in places if place.exists()), None)


def load(path: Path | None, *, environ: Mapping[str, str] | None = None, known: Known | None = None) -> Config:
    """Read a file (None: there is none) with the environment's overrides, `DBUPKEEP_SECTION__KEY`.

    `known` says what this program can do. Raises `DefinitionError` with all faults at once, each as
    `file:line: jobs.nightly.steps[0].operations[1]: unknown operation "vaccum" (did you mean "vacuum"?)`,
    and `UsageError` when the file cannot be read.
    """
    environ = os.environ if environ is None else environ
    if path is None and not overrides(environ):
        return Config()
    from dbupkeep.config import build
    from dbupkeep.config.document import read

    document = read(path, environ)
    if path is None:
        document.data.setdefault("version", 1)
    table = build.judge(document, known or Known())
    targets, windows = build.targets(table, document.folder), build.windows(table)
    policies = build.policies(table)
    return Config(
        file=document.file,
        retention=table.retention,
        server=ServerSettings(**{**table.server.model_dump(), "allowed_hosts": tuple(table.server.allowed_hosts)}),
        targets=targets,
        windows=windows,
        policies=policies,
        jobs=build.jobs(table, targets, windows, policies),
        receivers=build.receivers(table),
        pings=build.pings(table),
        values=tuple(
            Value(key=key, value=value, origin=origin) for key, value, origin in build.values(table, document)
        ),
    )


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a configuration file, for editors (`#:schema ./dbupkeep.schema.json`)."""
    from dbupkeep.config.models import ConfigFile

    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **ConfigFile.model_json_schema(),
        "title": "dbupkeep configuration",
    }


def _named(kind: str, name: str, things: Mapping[str, T]) -> T:
    if name not in things:
        raise UnknownName(
            f"unknown {kind}: {name}{near_miss(name, list(things))}",
            hint="`dbupkeep config show` lists what the configuration defines",
        )
    return things[name]

"""A connection that is fit for maintenance: made, set up, and introduced to the server and it to us."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from dbupkeep import logs, pooling
from dbupkeep.engines.postgresql import pooler
from dbupkeep.engines.postgresql.faults import DENIED, WRONG_VALUE, refusal_of, told
from dbupkeep.engines.postgresql.queries import query
from dbupkeep.engines.postgresql.urls import key_of
from dbupkeep.engines.postgresql.versions import OLDEST, Version
from dbupkeep.errors import Kind, Lost, Refused, UpkeepError

if TYPE_CHECKING:
    import psycopg

_IDENTIFIER = "(SELECT system_identifier::text FROM pg_control_system())"

_OFTEN = 2
"""A query that was asked so often in a session is planned once for all: that is most of what one on the catalogs takes."""

_TIMED_OUT = ("57014", "55P03", "25P03", "25P04", "57P05")
"""What limits of time say that a role or database has been given."""


class Identity(Struct, frozen=True, kw_only=True):
    """What the server says of itself and of us."""

    version: Version
    pid: int
    database: str
    database_oid: int
    role: str
    superuser: bool
    standby: bool
    system: str  # the system identifier: of a server and its standbys alone; empty where it is kept from us
    block_size: int
    key: str  # the target's key in the ledger


def opened(parameters: Mapping[str, str], name: str, *, read_only: bool) -> tuple[psycopg.Connection[Any], Identity]:
    """Connect under a name, set up and introduced. Raises a `TargetError`, which tells no secret.

    Limits of time that are over before the introduction could lift them are lifted by the connection itself, the next
    time: not the first, because a pooler in session mode may not let that through.
    """
    try:
        return _greeted(parameters, name, read_only=read_only)
    except _TimedOut as timed_out:
        error, options = timed_out.error, timed_out.options
    try:
        return _greeted({**parameters, "options": options}, name, read_only=read_only)
    except (UpkeepError, _TimedOut) as again:
        if isinstance(error, Lost):  # not for a limit that is known: the server may just be ending
            raise (again.error if isinstance(again, _TimedOut) else again) from error.__cause__
        raise Refused(
            f"a session at {_place(parameters)} is ended before it can be set up",
            why=error.why,
            hint="lift them for the role: ALTER ROLE ... SET statement_timeout = 0; or connect to the server itself, not to a pool",
            kind=Kind.CAPABILITY,
        ) from error.__cause__


def introduced(
    connection: psycopg.Connection[Any], parameters: Mapping[str, str], name: str, *, read_only: bool
) -> Identity:
    """Set a session up, and learn who is there. Raises `Refused` for who does not serve, and as `told`."""
    from dbupkeep.engines.postgresql import bytewise

    version = Version(connection.info.server_version)
    if version < OLDEST:
        raise Refused(
            f"PostgreSQL {version} is not supported",
            why="this version knows PostgreSQL 13 to 19",
            kind=Kind.CAPABILITY,
        )
    settings = {**version.session_settings, "application_name": name}
    if read_only:
        settings["default_transaction_read_only"] = "on"
    if bytewise.is_bytewise(connection):
        settings["client_encoding"] = bytewise.WIRE
        bytewise.adapt(connection)
    with told("setting up the session failed"):
        found = _set_up(connection, version, settings, connection.info.backend_pid)
    key = _key(connection, found["database"])
    if pooling.is_between(connection, found["pid"]):
        pooler.refuse_if_transactions_are_pooled(connection, parameters, key)
        with told("setting up the session failed"):
            _set_up(connection, version, settings, found["pid"])
    return Identity(version=version, key=key, **{**found, "system": str(found["system"])})


class _TimedOut(Exception):
    """A limit of time was over; `options` are those of the connection, and none of its limits."""

    def __init__(self, error: UpkeepError, options: str) -> None:
        super().__init__()
        self.error, self.options = error, options


def _greeted(parameters: Mapping[str, str], name: str, *, read_only: bool) -> tuple[psycopg.Connection[Any], Identity]:
    connection = _connected(parameters, name)
    options = _without_limits(connection)  # now: a connection that was ended has forgotten what it was
    try:
        return connection, introduced(connection, parameters, name, read_only=read_only)
    except BaseException as error:
        connection.close()
        if isinstance(error, UpkeepError) and _was_timed_out(error):
            raise _TimedOut(error, options) from error
        raise


def _connected(parameters: Mapping[str, str], name: str) -> psycopg.Connection[Any]:
    import psycopg

    named = {**parameters, "application_name": name}
    try:
        return psycopg.connect(**named, autocommit=True, prepare_threshold=_OFTEN)  # type: ignore[arg-type] # all are libpq's
    except psycopg.Error as raised:
        error = str(raised)
    except UnicodeError:
        error = "not sendable"
    raise refusal_of(named, error, _place(parameters))  # outside of the handler: libpq's text may repeat a secret


def _was_timed_out(error: UpkeepError) -> bool:
    """Whether a limit of time ended a statement, or the session: of the latter the driver may not have heard why."""
    import psycopg

    cause = error.__cause__
    return isinstance(cause, psycopg.Error) and cause.sqlstate in (None, *_TIMED_OUT)


def _without_limits(connection: psycopg.Connection[Any]) -> str:
    """The options of a connection, wherever they come from, and our own limits of time; of two the later one counts."""
    settings = Version(connection.info.server_version).session_settings
    ours = [f"-c {name}={value}" for name, value in settings.items() if name.endswith("_timeout")]
    return " ".join(filter(None, [connection.info.options, *ours]))


def _set_up(
    connection: psycopg.Connection[Any], version: Version, wanted: Mapping[str, str], greeted: int
) -> Mapping[str, Any]:
    """Settings and introduction in one round trip; a platform may lack the check for dead clients.

    Nothing is set for longer than the statement where another process answers than the one that `greeted` us.
    """
    import psycopg
    from psycopg.rows import dict_row

    settings, text = dict(wanted), query("introduction", version)
    while True:
        try:
            with connection.cursor(row_factory=dict_row) as cursor:
                found = cursor.execute(
                    text, {"names": list(settings), "values": list(settings.values()), "greeted": greeted}
                ).fetchone()
        except psycopg.Error as error:
            if error.sqlstate == WRONG_VALUE and "client_connection_check_interval" in settings:
                del settings["client_connection_check_interval"]
            elif error.sqlstate == DENIED and _IDENTIFIER in text:
                # Some hosts of servers keep it to themselves; then the database's own number has to do.
                text = text.replace(_IDENTIFIER, "''")
            else:
                raise
        else:
            assert found is not None  # noqa: S101 - it selects one row
            return found


def _place(given: Mapping[str, str]) -> str:
    if service := given.get("service"):
        return f"service {service}"
    host = given.get("host") or given.get("hostaddr") or os.environ.get("PGHOST") or "the local socket"
    port = given.get("port") or os.environ.get("PGPORT") or "5432"
    name = given.get("dbname") or os.environ.get("PGDATABASE") or ""
    return logs.printable(f"{host}:{port}" + (f"/{name}" if name else ""))


def _key(connection: psycopg.Connection[Any], database: str) -> str:
    """By where it is; of several hosts that were named, by all of them."""
    asked = connection.info.get_parameters()
    if "," in asked.get("host", ""):
        return key_of(asked["host"], asked.get("port", ""), database)
    return key_of(connection.info.host, connection.info.port, database)

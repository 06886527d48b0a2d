"""From PostgreSQL's errors to ours. The SQLSTATE decides, in any language of the server; the text is only shown."""

from __future__ import annotations

import os
import re
import select
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING

from dbupkeep.errors import (
    Busy,
    Damaged,
    Gone,
    Interrupted,
    Kind,
    Lost,
    Missing,
    NotPermitted,
    OperationError,
    Refused,
    Unreachable,
    UpkeepError,
)
from dbupkeep.logs import printable

if TYPE_CHECKING:
    import psycopg

Make = Callable[[str], UpkeepError]

LOCK_NOT_AVAILABLE = "55P03"
UNDEFINED_TABLE = "42P01"
PLAIN_WARNING = "01000"
CANCELLED = "57014"
DENIED = "42501"
WRONG_VALUE = "22023"

_PATIENCE = 5.0
"""Seconds that finding out why a connection was refused may take."""


@contextmanager
def told(what: str = "") -> Iterator[None]:
    """Turn what PostgreSQL raises inside into one of our errors, with PostgreSQL's own as its cause."""
    import psycopg

    try:
        yield
    except psycopg.Error as error:
        raise error_of(error, what) from error


def error_of(error: psycopg.Error, what: str = "") -> UpkeepError:
    """The error that a person should see for one of PostgreSQL's, while a connection is open."""
    code = error.sqlstate or ""
    text = printable(error.diag.message_primary or "")
    if not code:
        return _lost(text or "the server closed the connection, or the network did")
    if error.diag.context and code[:2] in _OF_NAMES:
        return _inside(text, printable(error.diag.context))
    make = _BY_STATE.get(code) or _BY_CLASS.get(code[:2])
    if make:
        return make(text)
    return OperationError(
        what or "PostgreSQL refused the statement",
        why=f"{text} (SQLSTATE {code})",
        hint=printable(error.diag.message_hint or "") or "the server's log says more",
    )


def refusal_of(parameters: Mapping[str, str], message: str, place: str) -> UpkeepError:
    """Why a connection could not be made. Nothing of libpq's own text is kept: it repeats what it was given."""
    code = "28P01" if "password authentication failed" in message else _refused_with(parameters)
    make = _AT_CONNECT.get(code)
    if make:
        return make(place)
    if code.startswith("28"):
        return _AT_CONNECT["28P01"](place)
    if code:
        return Unreachable(f"the server at {place} refuses connections", why=f"SQLSTATE {code}", hint="see its log")
    if "no password supplied" in message:
        return _AT_CONNECT["28P01"](place)
    if "server closed the connection" in message or "invalid response" in message or "received invalid" in message:
        return Unreachable(
            f"what answers at {place} is no PostgreSQL server, or one that is just ending",
            hint="check host and port",
        )
    return Unreachable(
        f"no PostgreSQL server answers at {place}",
        why=_network_reason(message),
        hint="check host, port and firewall, and that the server runs",
    )


def _network_reason(message: str) -> str:
    """Libpq's reasons that are only about the network; fixed texts, so that nothing else comes along."""
    known = {
        "Connection refused": "connection refused",
        "No such file or directory": "no socket is there",
        "timeout expired": "no answer in time",
        "Name or service not known": "the host name is not known",
        "failed to resolve": "the host name is not known",
        "could not translate host name": "the host name is not known",
        "No route to host": "no route to the host",
        "Network is unreachable": "the network is unreachable",
        "does not support SSL": "it does not speak TLS, which is asked for",
        "certificate verify failed": "its certificate is not trusted",
        "definition of service": "the service is not defined",
    }
    return next((reason for text, reason in known.items() if text in message), "")


def _refused_with(parameters: Mapping[str, str]) -> str:
    """The SQLSTATE with which a server refuses a connection; empty when none answers.

    libpq keeps it to itself, and its text is in the server's language, so the protocol is looked at: in memory only.
    """
    if not hasattr(os, "memfd_create"):
        return ""
    from psycopg import pq
    from psycopg.conninfo import make_conninfo

    trace = os.memfd_create("dbupkeep-trace")
    try:
        connection = pq.PGconn.connect_start(make_conninfo("", **parameters).encode())
        if connection.status != pq.ConnStatus.BAD:
            connection.trace(trace)
            _poll(connection)
            connection.untrace()  # writes what it has kept
            connection.finish()
        os.lseek(trace, 0, os.SEEK_SET)
        text = os.read(trace, 1 << 16).decode("utf-8", "replace")
    finally:
        os.close(trace)
    found = re.search(r'ErrorResponse\b.*?\bC "([0-9A-Z]{5})"', text)
    return found[1] if found else ""


def _poll(connection: psycopg.pq.abc.PGconn) -> None:
    from psycopg import pq

    end = perf_counter() + _PATIENCE
    while (left := end - perf_counter()) > 0:
        step = connection.connect_poll()
        if step in (pq.PollingStatus.FAILED, pq.PollingStatus.OK):
            return
        wanted = ([connection.socket], []) if step == pq.PollingStatus.READING else ([], [connection.socket])
        select.select(*wanted, [], left)


def _lost(text: str) -> Lost:
    return Lost(
        "the connection to the server was lost",
        why=text,
        hint="the next attempt looks up what became of the work, then goes on",
    )


def _busy(text: str) -> Busy:
    return Busy("a lock could not be had in time", why=text, hint="it comes back with the next run")


def _in_recoverys_way(text: str) -> Busy:
    return Busy(
        "the standby cancelled it, to go on with what its primary did",
        why=text,
        hint="it comes back with the next run; max_standby_streaming_delay says for how long a standby waits",
    )


def _interrupted(text: str) -> Interrupted:
    return Interrupted("the work was stopped", why=text or "it was asked to stop", hint="run it again to go on")


def _denied(text: str) -> NotPermitted:
    return NotPermitted(
        "the role may not do this",
        why=text,
        hint="from PostgreSQL 17 on: GRANT MAINTAIN ON the table, or pg_maintain; before: own the table; and USAGE on its"
        " schema (`dbupkeep doctor` checks)",
    )


def _full(text: str) -> OperationError:
    return OperationError(
        "a disk of the server is full",
        why=text,
        hint="free space there and run CHECKPOINT before anything else, then retry: recovery may need the same space",
        kind=Kind.SPACE,
    )


def _inside(text: str, where: str) -> OperationError:
    """Of a name that a function could not resolve: nothing that was to be worked on is gone, or not ours to work on."""
    return OperationError(
        "a function that the server had to call failed",
        why=f"{text}; {where.splitlines()[0]}",
        hint="an index or a statistics object calls it; maintenance looks for names in pg_catalog alone: give it its own,"
        " ALTER FUNCTION ... SET search_path = public",
    )


def _gone(text: str) -> Gone:
    return Gone("the object is gone", why=text, hint="plan again; nothing was changed")


def _damaged(text: str) -> Damaged:
    return Damaged(
        "the server found damaged data",
        why=text,
        hint="stop rewriting it, keep a copy of the data folder, and check the disk; REINDEX mends an index alone",
    )


def _read_only(text: str) -> Refused:
    return Refused(
        "the server takes no changes", why=text, hint="it is a standby, or set read-only", kind=Kind.READ_ONLY
    )


def _lacking(text: str) -> OperationError:
    return OperationError(
        "this server cannot do that", why=text, hint="`dbupkeep plan` says what it can", kind=Kind.CAPABILITY
    )


def _exhausted(text: str) -> OperationError:
    return OperationError("the server ran out of a resource", why=text, hint="see its memory and connection settings")


_BY_STATE: Mapping[str, Make] = {
    LOCK_NOT_AVAILABLE: _busy,
    "40001": _in_recoverys_way,
    "40P01": _busy,
    "55006": _busy,
    CANCELLED: _interrupted,
    DENIED: _denied,
    "42P01": _gone,
    "42704": _gone,
    "3F000": _gone,
    "53100": _full,
    "25006": _read_only,
    "0A000": _lacking,
    "57P01": _lost,
    "57P02": _lost,
    "57P05": _lost,
    "XX001": _damaged,
    "XX002": _damaged,
}

_OF_NAMES = ("42", "3F")
"""Classes of codes that say something of what a statement names: the one that was sent, or one inside a function."""

_BY_CLASS: Mapping[str, Make] = {"08": _lost, "53": _exhausted, "58": _damaged}

_AT_CONNECT: Mapping[str, Make] = {
    "28P01": lambda place: NotPermitted(
        f"the server at {place} does not accept the credentials",
        why="wrong or missing password, or no rule of pg_hba.conf lets this role in",
        hint="the password comes from .pgpass, PGPASSWORD or the service; the role from the URL or PGUSER",
    ),
    "3D000": lambda place: Missing(
        f"there is no such database at {place}", hint="check the name in the URL; nothing was created"
    ),
    "53300": lambda place: Unreachable(
        f"the server at {place} has no connection left",
        why="max_connections is reached, or the limit of its role or database",
        hint="try again later",
    ),
    "55000": lambda place: Unreachable(
        f"the database at {place} takes no connections", why="datallowconn is off, or it is being dropped", hint=""
    ),
    "57P03": lambda place: Unreachable(f"the server at {place} is starting or ending", hint="try again in a moment"),
    "42501": lambda place: NotPermitted(
        f"the role may not connect at {place}", why="it lacks CONNECT", hint="GRANT CONNECT ON DATABASE ... TO role"
    ),
    "08P01": lambda place: Refused(
        f"what answers at {place} does not take the parameters of a session",
        why="it seems to be a connection pooler; maintenance needs a session of its own",
        hint="connect to the server itself, or to a pool in session mode",
        kind=Kind.CAPABILITY,
    ),
}

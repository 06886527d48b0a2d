"""The one place where errors and outcomes become exit codes."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

from dbupkeep.errors import Kind, UpkeepError, UsageError
from dbupkeep.jobs import Outcome


class Exit(IntEnum):
    """What the command says to the shell; scripts rely on these numbers."""

    DONE = 0  # done, or nothing to do
    FAILED = 1  # an operation failed
    USAGE = 2
    PARTIAL = 3  # cancelled, stopped, paused, or failures within the tolerance
    DEFERRED = 4
    DUE = 5  # only `plan --exit-code`: something is due
    UNREACHABLE = 10
    NOT_PERMITTED = 12
    REFUSED = 13  # before anything was changed
    INTERRUPTED = 130
    BROKEN_PIPE = 141


_UNREACHABLE = {Kind.MISSING, Kind.UNREACHABLE}
_NOT_PERMITTED = {Kind.PERMISSION}
_REFUSED = {
    Kind.NOT_A_DATABASE, Kind.ENCRYPTED, Kind.READ_ONLY, Kind.HARD_LINKED, Kind.REPLACED, Kind.CAPABILITY, Kind.CONSENT,
    Kind.SPACE, Kind.DRIFT,
}  # fmt: skip
_USAGE = {Kind.USAGE, Kind.UNKNOWN_NAME, Kind.RETIRED, Kind.ILLEGAL}
_DEFERRED = {Kind.BUSY, Kind.STALL}

_OUTCOMES = {
    Outcome.DONE: Exit.DONE,
    Outcome.NOTHING_TO_DO: Exit.DONE,
    Outcome.PARTIAL: Exit.PARTIAL,
    Outcome.CANCELLED: Exit.PARTIAL,
    Outcome.STOPPED: Exit.PARTIAL,
    Outcome.DEFERRED: Exit.DEFERRED,
}


def of_error(error: UpkeepError) -> Exit:
    """The code of an error that ended a command."""
    return Exit.USAGE if isinstance(error, UsageError) else of_kind(error.kind)


def of_kind(kind: Kind) -> Exit:
    """The code of a kind of error."""
    for kinds, code in (
        (_UNREACHABLE, Exit.UNREACHABLE),
        (_NOT_PERMITTED, Exit.NOT_PERMITTED),
        (_REFUSED, Exit.REFUSED),
        (_USAGE, Exit.USAGE),
        (_DEFERRED, Exit.DEFERRED),
    ):
        if kind in kinds:
            return code
    return Exit.INTERRUPTED if kind is Kind.INTERRUPTED else Exit.FAILED


def of_outcome(outcome: str, kinds: Iterable[str] = (), *, worked: bool = False) -> Exit:
    """The code of a run that ended; `kinds` are those of its failed operations, `worked` that others did their work.

    A run whose operations failed for one and the same class of reason (none was permitted) says so; that all were refused
    before start it only says when nothing worked.
    """
    if outcome in _OUTCOMES:
        return _OUTCOMES[Outcome(outcome)]
    codes = {of_kind(Kind(kind)) for kind in kinds if kind in set(Kind)}
    only = codes.pop() if len(codes) == 1 else Exit.FAILED
    if only is Exit.REFUSED:
        return Exit.FAILED if worked else only
    return only if only in (Exit.UNREACHABLE, Exit.NOT_PERMITTED) else Exit.FAILED

"""What can go wrong, as one tree; each error knows what happened, why, and what to do next.

UpkeepError
├── UsageError            the request itself is wrong (exit 2)
│   ├── DefinitionError   a definition or configuration file, all faults at once
│   ├── UnknownName       no operation, action, type, engine or job of that name
│   └── RetiredJobType    a job type of the past, with its replacement
├── TargetError           the database cannot be worked on
│   ├── Missing           nothing is there (exit 10)
│   │   └── Unmatched     nothing in it is of the names that were chosen
│   ├── Unreachable       something is there and does not answer (exit 10)
│   ├── NotPermitted      credentials or privileges are lacking (exit 12)
│   └── Refused           wrong file, no space, drifted plan: refused before start (exit 13)
├── OperationError        one operation failed while it ran (exit 1)
│   ├── Busy              a lock or a blocker: the work comes back next time (deferred)
│   ├── Gone              what it was to work on is not there any more (skipped)
│   ├── Damaged           the database is corrupt
│   ├── Interrupted       stopped on request
│   └── Lost              the connection or the worker went away; the outcome is unknown
├── LedgerError           the record of jobs cannot be used
└── IllegalTransition     a job was asked for a change that its status does not allow
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any

from msgspec import Struct
from msgspec.structs import replace


class Kind(StrEnum):
    """The class of an error, for programs; stored with a failed job."""

    USAGE = "usage"
    UNKNOWN_NAME = "unknown_name"
    RETIRED = "retired"
    MISSING = "missing"
    UNREACHABLE = "unreachable"
    PERMISSION = "permission"
    NOT_A_DATABASE = "not_a_database"
    ENCRYPTED = "encrypted"
    READ_ONLY = "read_only"
    HARD_LINKED = "hard_linked"
    REPLACED = "replaced"
    CORRUPT = "corrupt"
    CAPABILITY = "capability"
    CONSENT = "consent"
    SPACE = "space"
    DRIFT = "drift"
    BUSY = "busy"
    STALL = "stall"
    INTERRUPTED = "interrupted"
    LOST = "lost"
    POISONED = "poisoned"
    ENGINE = "engine"
    LEDGER = "ledger"
    ILLEGAL = "illegal"
    BUG = "bug"


class Where(Struct, frozen=True, kw_only=True):
    """Where an error happened; filled in on the way up, innermost first."""

    operation: str = ""
    object: str = ""
    target: str = ""
    stage: str = ""

    def __str__(self) -> str:  # type: ignore[explicit-override] # of 3.12, and the domain has no third-party imports
        """Say it as one phrase, empty when nothing is known."""
        work = " of ".join(part for part in (self.operation, self.object) if part)
        place = f"on {self.target}" if self.target else ""
        stage = f"while {self.stage}" if self.stage else ""
        return ", ".join(part for part in (" ".join(part for part in (work, place) if part), stage) if part)


class UpkeepError(Exception):
    """The base: `what` happened, `why`, and `hint`: what to do next."""

    kind: Kind = Kind.BUG

    def __init__(self, what: str, *, why: str = "", hint: str = "", kind: Kind | None = None) -> None:
        """Keep the three sentences apart, so that every face can lay them out in its own way."""
        super().__init__(what)
        self.what = what
        self.why = why
        self.hint = hint
        self.where = Where()
        if kind is not None:
            self.kind = kind

    def at(self, *, operation: str = "", object: str = "", target: str = "", stage: str = "") -> UpkeepError:
        """Add where it happened; what an inner layer said already is kept. Returns itself, to be raised."""
        known = self.where
        self.where = replace(
            known,
            operation=known.operation or operation,
            object=known.object or object,
            target=known.target or target,
            stage=known.stage or stage,
        )
        return self

    def document(self) -> dict[str, str]:
        """The error as a job keeps it: kind, message, hint, and where; empty parts are left out."""
        parts = {"kind": self.kind.value, "message": self.message, "hint": self.hint, "where": str(self.where)}
        parts["cause"] = f"{type(self.__cause__).__name__}: {self.__cause__}" if self.__cause__ else ""
        return {name: part for name, part in parts.items() if part}

    @property
    def message(self) -> str:
        """What and why, in one line."""
        return f"{self.what}: {self.why}" if self.why else self.what


class UsageError(UpkeepError):
    """The request itself is wrong; nothing was read or written."""

    kind = Kind.USAGE


class DefinitionError(UsageError):
    """A definition is wrong; `faults` lists every fault with its place."""

    def __init__(self, what: str, *, faults: tuple[str, ...], hint: str = "") -> None:
        """Keep all faults: a person mends them in one go."""
        super().__init__(what, why="; ".join(faults), hint=hint)
        self.faults = faults


class UnknownName(UsageError):
    """Nothing is registered or recorded under that name."""

    kind = Kind.UNKNOWN_NAME


class RetiredJobType(UsageError):
    """A job type of the past."""

    kind = Kind.RETIRED


class TargetError(UpkeepError):
    """The database cannot be worked on."""

    kind = Kind.ENGINE


class Missing(TargetError):
    """There is no database at that place."""

    kind = Kind.MISSING


class Unmatched(Missing):
    """Nothing in the database is of the names that were chosen; among many databases, another one may have it."""

    @classmethod
    def anywhere(cls, databases: int) -> Unmatched:
        """The same of all databases of a server."""
        return cls(
            f"what was chosen is in none of {databases} databases",
            hint="names are schema.name, with * and ?; capitals and strange characters in double quotes",
        )


class Unreachable(TargetError):
    """The database does not answer."""

    kind = Kind.UNREACHABLE


class NotPermitted(TargetError):
    """Credentials or privileges are lacking."""

    kind = Kind.PERMISSION


class Refused(TargetError):
    """Refused before anything was changed: wrong file, no space, drift, no consent. The kind says which."""

    kind = Kind.NOT_A_DATABASE


class OperationError(UpkeepError):
    """One operation failed while it ran."""

    kind = Kind.ENGINE


class Busy(OperationError):
    """A lock or a blocker is in the way; the operation is deferred, not failed."""

    kind = Kind.BUSY
    waited: float | None = None
    """Seconds for which locks were waited for in vain; None where nobody measured them."""


class Gone(OperationError):
    """The object was dropped, renamed or made anew since the plan; the operation is skipped, not failed."""

    kind = Kind.MISSING


class Damaged(OperationError):
    """The database is corrupt; no rewrite may follow. `objects` names the damaged indexes or tables, where known."""

    kind = Kind.CORRUPT
    objects: tuple[str, ...] = ()

    def __init__(self, what: str, *, why: str = "", hint: str = "", objects: tuple[str, ...] = ()) -> None:
        """Keep the names: the next plan repairs exactly those."""
        super().__init__(what, why=why, hint=hint)
        self.objects = objects


class Interrupted(OperationError):
    """The operation was stopped on request."""

    kind = Kind.INTERRUPTED


class Lost(OperationError):
    """The connection or the worker went away; what became of the work must be looked up."""

    kind = Kind.LOST


class LedgerError(UpkeepError):
    """The record of jobs cannot be used."""

    kind = Kind.LEDGER


class IllegalTransition(UpkeepError):
    """The status of the job does not allow that change."""

    kind = Kind.ILLEGAL


def preserved(error: UpkeepError) -> dict[str, Any]:
    """What `revive` wants to know of an error in another process of ours."""
    said = {"class": type(error).__name__, "what": error.what, "why": error.why}
    measured = {"objects": list(getattr(error, "objects", ())), "waited": getattr(error, "waited", None)}
    return error.document() | said | measured


def revive(document: Mapping[str, Any]) -> UpkeepError:
    """Make an error of what another process of ours said of it: `class`, `kind`, `what`, `why`, `hint`, `objects`, `waited`."""
    classes = {cls.__name__: cls for cls in _family(UpkeepError)}
    cls = classes.get(document["class"], UpkeepError)
    error = UpkeepError.__new__(cls)
    UpkeepError.__init__(
        error,
        document["what"],
        why=document["why"],
        hint=document.get("hint", ""),
        kind=Kind(document["kind"]),
    )
    if isinstance(error, Damaged):
        error.objects = tuple(document.get("objects", ()))
    if isinstance(error, Busy):
        error.waited = document.get("waited")
    return error


def _family(cls: type[UpkeepError]) -> Iterator[type[UpkeepError]]:
    yield cls
    for child in cls.__subclasses__():
        yield from _family(child)

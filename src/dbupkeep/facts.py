"""What a survey can say of a database and its objects: plain values that a plan can keep and compare later."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct, field

Value = bool | int | float | str | None


class Notice(Struct, frozen=True, kw_only=True):
    """Something a person should know before or after the work."""

    code: str  # stable, for programs: `rowids_renumbered`, `long_reader`
    message: str
    hint: str = ""
    severity: str = "warning"  # or `info`


class ObjectFacts(Struct, frozen=True, kw_only=True):
    """One table or index."""

    name: str
    kind: str  # `table`, `index`
    table: str = ""  # of an index: what it belongs to
    bytes: int | None = None
    values: Mapping[str, Value] = field(default_factory=dict)


class DatabaseFacts(Struct, frozen=True, kw_only=True):
    """One database at one moment, as seen by its engine without changing it."""

    target: str  # the target's key
    engine: str
    version: str  # of the product, as it says itself
    surveyed_at: datetime
    bytes: int
    identity: Mapping[str, Value] = field(default_factory=dict)  # what makes it this database and no other
    values: Mapping[str, Value] = field(default_factory=dict)
    objects: tuple[ObjectFacts, ...] = ()
    notices: tuple[Notice, ...] = ()

    def number(self, name: str) -> float:
        """A numeric value by name, 0 when the survey has none."""
        value = self.values.get(name)
        return float(value) if isinstance(value, (int, float)) else 0.0

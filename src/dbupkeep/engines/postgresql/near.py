"""Which tables are near a threshold: found in one pass over all of them, so that only those few are read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct

if TYPE_CHECKING:
    from dbupkeep.engines.postgresql.handle import Handle, Row

COUNTS = ("pages", "tables", "partitioned_tables", "oldest")

_NONE = "{}"


class Near(Struct, frozen=True, kw_only=True):
    """What the pass found. Lists of OIDs are kept as the server writes them, for they only go back to it."""

    counts: Mapping[str, Any]  # of all tables, by the names of `COUNTS`
    tables: str
    toast: str  # TOAST tables that put the tables near to which they belong
    lacking: str  # tables that may lack statistics of a column
    expressions: str  # indexes that may lack those of an expression
    extended: bool  # whether extended statistics may be missing

    @property
    def may_lack(self) -> bool:
        """Whether any statistics may be missing."""
        return self.extended or {self.lacking, self.expressions} != {_NONE}

    @property
    def some(self) -> bool:
        """Whether any table is near."""
        return {self.tables, self.toast} != {_NONE}


def look(handle: Handle, server: Mapping[str, Any], floor: float, *, everything: bool, analyze: bool) -> Near:
    """Pass over all tables; `floor` is the part of each threshold that is near.

    With `everything` nearness is not asked for; `analyze` is whether what lacks statistics is near as well, as far as the role
    may know.
    """
    sees = bool(server["sees_statistics"])
    asked = {
        **server,
        **_least(server, floor),
        "floor": floor,
        "everything": everything,
        "blind": analyze and not sees,
    }
    found = handle.row("near_and_lacking" if analyze and sees else "near", asked)
    return Near(
        counts={name: found[name] for name in COUNTS},
        tables=found["near"] or _NONE,
        toast=found["near_toast"] or _NONE,
        lacking=found.get("lacking") or _NONE,
        expressions=found.get("expressions") or _NONE,
        extended=found.get("extended", False),
    )


def tables(handle: Handle, near: Near, also: Iterable[int], *, everything: bool) -> list[Row]:
    """The tables that are near, and those of `also`; or all."""
    others = _written(also)
    if not everything and not near.some and others == _NONE:
        return []
    return handle.rows(
        "tables", {"everything": everything, "also": others, "near": near.tables, "near_toast": near.toast}
    )


def _written(oids: Iterable[int]) -> str:
    """As the server writes a list; of very many the driver takes longer."""
    return f"{{{','.join(map(str, oids))}}}"


def _least(server: Mapping[str, Any], floor: float) -> dict[str, Any]:
    """The least that a counter must be, of a table of any size; no threshold at all is None. Of ages, whether any can be."""
    most = None if server["vacuum_max"] is None or server["vacuum_max"] < 0 else server["vacuum_max"]
    insert_base = server["insert_base"]
    return {
        "vacuum_max": most,
        "dead_from": _whole(floor * min(server["vacuum_base"], math.inf if most is None else most)),
        "inserted_from": _whole(floor * insert_base) if insert_base >= 0 else None,
        "modified_from": _whole(floor * server["analyze_base"]),
        "aged": server["database_age"] >= floor * server["freeze_max_age"]
        or server["database_multixact_age"] >= floor * server["multixact_freeze_max_age"],
    }


def _whole(rows: float) -> int:
    return max(1, math.ceil(rows))

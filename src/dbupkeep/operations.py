"""The catalogue of operations: one literal each; what an operation does to a product is said by its engine."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from msgspec import Struct

from dbupkeep.errors import UnknownName, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Operation(StrEnum):
    """One kind of upkeep; the value is what configs, ledgers and commands say."""

    VACUUM = "vacuum"
    ANALYZE = "analyze"
    REINDEX = "reindex"
    OPTIMIZE = "optimize"
    CHECK = "check"


class Trait(Struct, frozen=True, kw_only=True):
    """What holds of an operation in every product."""

    summary: str
    rank: int  # order on one object; lower goes first
    writes: bool
    gate: bool = False  # when it fails, nothing after it on the same object may start


CATALOGUE: Mapping[Operation, Trait] = {
    Operation.CHECK: Trait(summary="verify that the database is sound", rank=0, writes=False, gate=True),
    Operation.VACUUM: Trait(summary="give back the space of deleted rows", rank=1, writes=True),
    Operation.REINDEX: Trait(summary="rebuild indexes that are damaged, outdated or bloated", rank=2, writes=True),
    Operation.OPTIMIZE: Trait(summary="the product's own tune-up", rank=3, writes=True),
    Operation.ANALYZE: Trait(summary="refresh the statistics that the query planner reads", rank=4, writes=True),
}

DEFAULT = (Operation.VACUUM, Operation.ANALYZE, Operation.REINDEX)


def parse(names: Iterable[str] | None) -> tuple[Operation, ...]:
    """Read operation names; duplicates are one, the order is the order of work.

    `None` means the default. Raises `UsageError` for an empty list and `UnknownName` for a name that is not one.
    """
    if names is None:
        return in_order(DEFAULT)
    wanted = [name.strip().lower() for name in names]
    if not wanted or not all(wanted):
        raise UsageError(
            "no operation was asked for",
            why="the list of operations is empty or has an empty name in it",
            hint=f"choose from {', '.join(Operation)}, or leave the list out for {', '.join(DEFAULT)}",
        )
    unknown = [name for name in wanted if name not in set(Operation)]
    if unknown:
        raise UnknownName(f"unknown operation: {', '.join(unknown)}", hint=f"choose from {', '.join(Operation)}")
    return in_order(Operation(name) for name in wanted)


def in_order(operations: Iterable[Operation]) -> tuple[Operation, ...]:
    """Each operation once, in the order in which they work on one object."""
    return tuple(sorted(set(operations), key=lambda operation: CATALOGUE[operation].rank))

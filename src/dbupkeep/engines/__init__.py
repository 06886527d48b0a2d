"""Engines, found by name: the file name is the URL scheme, then comes the entry point group `dbupkeep.engines`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, cast

from dbupkeep.engine import Engine
from dbupkeep.entrypoints import brought
from dbupkeep.errors import UnknownName

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "dbupkeep.engines"

ALIASES: Mapping[str, str] = {"file": "sqlite", "postgres": "postgresql", "mysql": "mariadb"}
"""Other schemes that people write for the same product."""


def load(scheme: str) -> Engine:
    """Find the engine of a URL scheme. Raises `UnknownName`, which lists the known ones.

    The scheme comes from what a user wrote, so nothing is imported that is not on the list of modules present.
    """
    name = ALIASES.get(scheme.lower(), scheme.lower())
    if name in _present():
        return cast("Engine", import_module(f"{__name__}.{name}"))
    foreign = _foreign()
    if name in foreign:
        return cast("Engine", foreign[name].load())
    raise UnknownName(
        f"no engine for {scheme!r}",
        why="a target's URL starts with the name of a database product",
        hint=f"known: {', '.join(known())}; a file may also be named by its path alone",
    )


def known() -> tuple[str, ...]:
    """All schemes that `load` takes, aliases aside."""
    return tuple(sorted({*_present(), *_foreign()}))


@cache
def _present() -> frozenset[str]:
    return frozenset(module.name for module in iter_modules(__path__))


@cache
def _foreign() -> Mapping[str, EntryPoint]:
    return {point.name: point for point in brought(GROUP)}

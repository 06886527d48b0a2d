"""The user's own collations and functions: called with each connection before anything else is done with it."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from importlib import import_module

import apsw

from dbupkeep.entrypoints import brought
from dbupkeep.errors import DefinitionError

VARIABLE = "DBUPKEEP_SQLITE_HOOK"
GROUP = "dbupkeep.sqlite_hooks"

Hook = Callable[[apsw.Connection], object]


def apply(connection: apsw.Connection) -> None:
    """Let every hook register what it has. Raises `DefinitionError` when the variable names none."""
    for hook in (*_installed(), *_named(os.environ.get(VARIABLE, ""))):
        hook(connection)


@cache
def _installed() -> tuple[Hook, ...]:
    return tuple(point.load() for point in brought(GROUP))


@cache
def _named(text: str) -> tuple[Hook, ...]:
    if not text:
        return ()
    module, _, function = text.partition(":")
    try:
        return (getattr(import_module(module), function),)
    except (ImportError, AttributeError, ValueError) as error:
        raise DefinitionError(
            f"{VARIABLE} names no function",
            faults=(f"{text!r}: {error}",),
            hint="write it as module:function, with the module on PYTHONPATH",
        ) from error

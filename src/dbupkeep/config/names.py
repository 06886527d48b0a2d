"""The names that a configuration may use, and the near miss of one that it may not."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import timedelta

from msgspec import Struct, field

from dbupkeep.definitions import DATABASE_MAINTENANCE
from dbupkeep.operations import Operation

LONGEST_NAME = 64  # characters

RETENTION = timedelta(days=90)
"""How long runs that ended are kept when nobody says."""

PREFIX = "DBUPKEEP_"
SEPARATOR = "__"
"""`DBUPKEEP_POLICIES__GENTLE__COOL_OFF` sets `policies.gentle.cool_off`; a variable without `__` is none of these."""

_COMPARED = 500  # names; a longer list makes the search for a near miss slow, and nobody reads it anyway


class Known(Struct, frozen=True, kw_only=True):
    """What the program that reads the configuration can do."""

    actions: Collection[str] = (DATABASE_MAINTENANCE,)
    engines: Collection[str] | None = None  # schemes of urls; None: any
    settings: Mapping[Operation, Collection[str]] = field(default_factory=dict)  # thresholds; none for one: any


def overrides(environ: Mapping[str, str]) -> list[str]:
    """The variables of the environment that set values, in order."""
    return sorted(name for name in environ if name.startswith(PREFIX) and SEPARATOR in name.removeprefix(PREFIX))


def near_miss(word: str, names: Collection[str]) -> str:
    """`(did you mean "vacuum"?)`, or the names there are when they are few, or nothing."""
    if len(word) <= LONGEST_NAME and len(names) <= _COMPARED:
        import difflib  # only who mistypes waits for it

        by_case = {name.lower(): name for name in names}
        found = difflib.get_close_matches(word.lower(), list(by_case), n=1)
        if found:
            return f' (did you mean "{by_case[found[0]]}"?)'
    if 0 < len(names) <= len(Operation) + 3:
        return f" (there is {', '.join(names)})"
    return ""

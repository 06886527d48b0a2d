"""From what pydantic found to sentences a person can act on, each with its place; never with a value that may be secret."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct
from pydantic import ValidationError

from dbupkeep.config.document import Document, dotted, shown
from dbupkeep.config.locate import Path as Key
from dbupkeep.config.models import Names, Unknown, keys_at
from dbupkeep.config.names import near_miss
from dbupkeep.config.units import BIGGEST
from dbupkeep.errors import UpkeepError
from dbupkeep.jobs import JobType
from dbupkeep.logs import carries_password, mask, printable
from dbupkeep.operations import DEFAULT


class Fault(Struct, frozen=True):
    """A sentence, where to look, and what it speaks of (for a key that should not be there: the table it is in)."""

    place: Key
    subject: Key
    said: str


MOST_SHOWN = 100
"""Faults shown; a file with more of them is no configuration."""

KEPT_ELSEWHERE = (
    "a password may not be written here; leave it out and keep it in ~/.pgpass or ~/.my.cnf,"
    " in a file that PGPASSFILE names, or in the environment (PGPASSWORD)"
)

_SAID: Mapping[str, str] = {
    "literal_error": "must be {expected}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "too_short": "must have at least {min_length} in it",
    "too_long": "must have at most {max_length} in it",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "value_error": "{error}",
    "string_type": "must be a text in quotes",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "list_type": "must be a list: [ … ]",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
}


def of_content(document: Document) -> Iterator[Fault]:
    """Faults that no field knows: a password anywhere, a number that no ledger can store."""
    for key, value in _leaves(document.data, ()):
        if isinstance(value, str) and carries_password(value):
            yield Fault(key, key, KEPT_ELSEWHERE)
        elif isinstance(value, int) and abs(value) > BIGGEST:
            yield Fault(key, key, f"must be between -{BIGGEST} and {BIGGEST}")


def of_validation(error: ValidationError, names: Names) -> Iterator[Fault]:
    """What pydantic found, at most so much as is shown."""
    for found in error.errors(include_url=False)[:MOST_SHOWN]:
        key = tuple(part for part in found["loc"] if part != "[key]")
        yield _fault(key, found["type"], found.get("ctx", {}), found["input"], names)


def written(document: Document, faults: list[Fault]) -> tuple[str, ...]:
    """The faults as lines, in the order of the file, each once."""

    def order(fault: Fault) -> tuple[int, str]:
        place = document.place(fault.place)
        return (document.lines.get(fault.place, 0), place) if place.startswith(document.file) else (0, place)

    ordered = sorted(dict.fromkeys(faults), key=order)
    lines = [
        ": ".join(part for part in (printable(document.place(fault.place)), dotted(fault.subject), fault.said) if part)
        for fault in ordered
    ]
    shown = lines[:MOST_SHOWN]
    return (*shown, f"{document.file}: and more faults than are shown") if len(lines) > len(shown) else tuple(shown)


def _fault(key: Key, kind: str, context: Mapping[str, Any], value: object, names: Names) -> Fault:
    error = context.get("error")
    if isinstance(error, Unknown):
        near = near_miss(error.name, names.get(error.kind) or ())
        return Fault(key, key, f'unknown {error.kind} "{shown(error.name)}"{near}')
    if kind == "extra_forbidden":
        return Fault(key, key[:-1], _unknown_key(key, value))
    if kind == "missing":
        return Fault(key[:-1], key[:-1], f'"{key[-1]}" is missing')
    if kind == "too_short" and key[-1:] == ("operations",):
        return Fault(key, key, f"the list is empty; leave it out for {', '.join(DEFAULT)}")
    return Fault(key, key, _SAID.get(kind, "has a value that cannot be used").format(**context))


def _unknown_key(key: Key, value: object) -> str:
    """A key that is not there, or the job type of a program that this one replaces."""
    name = str(key[-1])
    if name == "type" and key[0] == "jobs" and isinstance(value, str):
        try:
            JobType.parse(value)
        except UpkeepError as error:
            return f'{printable(mask(error.message))}; {error.hint}; a step says what it does by its "action"'
        return 'a step has no job type; it says what it does by its "action"'
    return f'unknown key "{shown(name)}"{near_miss(name, keys_at(key[:-1]))}'


def _leaves(value: object, key: Key) -> Iterator[tuple[Key, object]]:
    """Every value that is no table and no list; as deep as the document may be."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _leaves(item, (*key, name))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _leaves(item, (*key, number))
    else:
        yield key, value

"""Records (frozen structs) to JSON values and back, by their annotations; never by pickling.

What can be said: None, bool, int, float, str, `StrEnum`, aware `datetime` (RFC 3339, UTC), `timedelta` (seconds),
tuples, mappings, unions with None and other records. Unknown keys are ignored, so that an older program
can read what a newer one wrote; a missing key takes the field's default.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cache, partial
from typing import Any, TypeVar, Union, get_args, get_origin

from msgspec import Struct

T = TypeVar("T")
Json = dict[str, Any]
Read = Callable[[Any], Any]


def to_json(value: Any) -> Any:  # noqa: ANN401 - any value of the kinds above
    """Turn a value into what `json.dumps` takes."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, Struct):
        return {name: to_json(getattr(value, name)) for name in value.__struct_fields__}
    for kind, write in _SCALARS.items():
        if isinstance(value, kind):
            return write(value)
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (tuple, list, set, frozenset)):
        items = sorted(value) if isinstance(value, (set, frozenset)) else value
        return [to_json(item) for item in items]
    return value


def rfc3339(moment: datetime) -> str:
    """Write a moment in UTC with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


_PLAIN = frozenset({str, int, float, bool, type(None)})

_SCALARS: Mapping[type, Callable[[Any], Any]] = {
    StrEnum: lambda value: value.value,
    datetime: rfc3339,
    timedelta: timedelta.total_seconds,
}


def from_json(cls: type[T], value: Mapping[str, Any]) -> T:
    """Make a record from a JSON object. Raises `TypeError` when a field without default is missing."""
    kind: Any = cls
    return cls(**{name: read(value[name]) for name, read in _fields(kind) if name in value})


@cache
def _fields(cls: Any) -> tuple[tuple[str, Read], ...]:  # noqa: ANN401 - a class of records
    """The fields of a class, each with what reads it: annotations are looked at once, not for each value."""
    hints = typing.get_type_hints(cls)
    return tuple((name, _reader(hints[name])) for name in cls.__struct_fields__)


def _reader(hint: Any) -> Read:  # noqa: ANN401 - driven by the annotation
    read = _container_reader(hint) if get_origin(hint) is not None else _plain_reader(hint)
    return (lambda value: None if value is None else read(value)) if read else _as_it_is


def _container_reader(hint: Any) -> Read | None:  # noqa: ANN401 - as above
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        options = [option for option in arguments if option is not type(None)]
        return _reader(options[0]) if len(options) == 1 else None
    if origin in (tuple, frozenset):
        read_item = _reader(arguments[0])
        return lambda value: origin(map(read_item, value))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        read_key, read_item = (_reader(argument) for argument in arguments)
        return lambda value: {read_key(key): read_item(item) for key, item in value.items()}
    return None


def _plain_reader(hint: Any) -> Read | None:  # noqa: ANN401 - as above
    if not isinstance(hint, type):
        return None
    if issubclass(hint, Struct):
        return partial(from_json, hint)
    if issubclass(hint, StrEnum):
        return hint
    readers: dict[type, Read] = {datetime: datetime.fromisoformat, timedelta: _seconds}
    return readers.get(hint)


def _seconds(value: float) -> timedelta:
    return timedelta(seconds=value)


def _as_it_is(value: Any) -> Any:  # noqa: ANN401 - as above
    return value

"""Frozen dataclasses to JSON values and back, by their annotations; never by pickling.

What can be said: None, bool, int, float, str, `StrEnum`, aware `datetime` (RFC 3339, UTC), `timedelta` (seconds),
tuples, mappings, unions with None and other frozen dataclasses. Unknown keys are ignored, so that an older program
can read what a newer one wrote; a missing key takes the field's default.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin

T = TypeVar("T")
Json = dict[str, Any]


def to_json(value: Any) -> Any:  # noqa: ANN401 - any value of the kinds above
    """Turn a value into what `json.dumps` takes."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
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


_SCALARS: Mapping[type, Callable[[Any], Any]] = {
    StrEnum: lambda value: value.value,
    datetime: rfc3339,
    timedelta: timedelta.total_seconds,
}


def from_json(cls: type[T], value: Mapping[str, Any]) -> T:
    """Make a dataclass from a JSON object. Raises `TypeError` when a field without default is missing."""
    hints = _hints(cls)
    return cls(**{name: _read(hints[name], value[name]) for name in hints if name in value})


@cache
def _hints(cls: type) -> dict[str, Any]:
    names = {field.name for field in dataclasses.fields(cls)}
    return {name: hint for name, hint in typing.get_type_hints(cls).items() if name in names}


def _read(hint: Any, value: Any) -> Any:  # noqa: ANN401 - driven by the annotation
    if value is None:
        return None
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        options = [option for option in get_args(hint) if option is not type(None)]
        return _read(options[0], value) if len(options) == 1 else value
    if origin is not None:
        return _read_container(origin, get_args(hint), value)
    return _read_plain(hint, value)


def _read_container(origin: Any, arguments: tuple[Any, ...], value: Any) -> Any:  # noqa: ANN401 - as above
    if origin is tuple:
        return tuple(_read(arguments[0], item) for item in value)
    if origin is frozenset:
        return frozenset(_read(arguments[0], item) for item in value)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {_read(arguments[0], key): _read(arguments[1], item) for key, item in value.items()}
    return value


def _read_plain(hint: Any, value: Any) -> Any:  # noqa: ANN401 - as above
    if not isinstance(hint, type):
        return value
    if dataclasses.is_dataclass(hint):
        return from_json(hint, value)
    if issubclass(hint, StrEnum):
        return hint(value)
    if hint is datetime:
        return datetime.fromisoformat(value)
    if hint is timedelta:
        return timedelta(seconds=value)
    return value

"""Any record, by its annotations: what the properties of codec and documents are tried on."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Union, get_args, get_origin

from hypothesis import strategies as st
from msgspec import Struct

MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)).map(  # noqa: DTZ001 - made aware right here
    lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000, tzinfo=UTC)
)
TEXT = st.text(max_size=5)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=32)
PLAIN = st.none() | st.booleans() | st.integers(-(1 << 53), 1 << 53) | NUMBERS | TEXT
JSON = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2))
SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    str: TEXT, int: st.integers(0, 1 << 53), float: NUMBERS, bool: st.booleans(), datetime: MOMENTS, Any: JSON,
    timedelta: st.integers(0, 10**9).map(lambda n: timedelta(milliseconds=n)),
}  # fmt: skip
COLLECTIONS: dict[Any, Callable[..., st.SearchStrategy[Any]]] = {
    tuple: lambda item: st.lists(item, max_size=2).map(tuple),
    frozenset: lambda item: st.frozensets(item, max_size=3),
    Mapping: lambda key, value: st.dictionaries(key, value, max_size=2),
}


def anything(hint: Any) -> st.SearchStrategy[Any]:
    """Values of an annotation."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint in SCALARS:
        return SCALARS[hint]
    if origin in (Union, types.UnionType):
        options = [anything(option) for option in arguments if option is not type(None)]
        return st.none() | (options[0] if len(options) == 1 else PLAIN)
    if origin in COLLECTIONS:
        return COLLECTIONS[origin](*(anything(argument) for argument in arguments if argument is not ...))
    if issubclass(hint, StrEnum):
        return st.sampled_from(hint)
    return made(hint)


def made(cls: type[Struct]) -> st.SearchStrategy[Any]:
    """Records of a class."""
    hints = typing.get_type_hints(cls)
    return st.builds(cls, **{name: anything(hints[name]) for name in cls.__struct_fields__})

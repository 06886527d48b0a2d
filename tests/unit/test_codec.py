"""Everything that the ledger keeps comes back as it was."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Union, get_args, get_origin

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dbupkeep.codec import from_json, rfc3339, to_json
from dbupkeep.definitions import JobDefinition
from dbupkeep.estimates import Measurement
from dbupkeep.events import EVENTS, Event, read
from dbupkeep.plans import Plan, RunPlan

MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)).map(  # noqa: DTZ001 - made aware right here
    lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000, tzinfo=UTC)
)
TEXT = st.text(max_size=5)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=32)
PLAIN = st.none() | st.booleans() | st.integers(-(1 << 53), 1 << 53) | NUMBERS | TEXT
SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    str: TEXT, int: st.integers(0, 1 << 53), float: NUMBERS, bool: st.booleans(), datetime: MOMENTS, Any: PLAIN,
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


def made(cls: type) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(cls)
    return st.builds(cls, **{field.name: anything(hints[field.name]) for field in dataclasses.fields(cls)})


KEPT = [Plan, RunPlan, JobDefinition, Measurement]


@pytest.mark.parametrize("cls", KEPT, ids=lambda cls: cls.__name__)
@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_what_is_kept_comes_back(cls: type, data: st.DataObject) -> None:
    value = data.draw(made(cls))
    assert from_json(cls, json.loads(json.dumps(to_json(value)))) == value


@pytest.mark.parametrize("cls", EVENTS.values(), ids=lambda cls: cls.name)
@given(data=st.data())
def test_events_come_back(cls: type[Event], data: st.DataObject) -> None:
    event = data.draw(made(cls))
    assert read(cls.name, json.loads(json.dumps(event.data()))) == event


def test_names_of_events_are_their_own() -> None:
    assert {cls.__name__ for cls in EVENTS.values()} == {cls.__name__ for cls in Event.__subclasses__()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Older:
    name: str
    size: int = 3


def test_an_older_program_reads_what_a_newer_one_wrote_and_the_other_way_round() -> None:
    assert from_json(Older, {"name": "n", "colour": "red"}) == Older(name="n")
    with pytest.raises(TypeError):
        from_json(Older, {"size": 4})


def test_moments_are_written_in_utc() -> None:
    east = datetime.fromisoformat("2026-01-01T02:00:00.123456+02:00")
    assert rfc3339(east) == "2026-01-01T00:00:00.123Z"

"""Everything that the ledger keeps comes back as it was."""

from __future__ import annotations

import json
from datetime import datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Struct

from dbupkeep.codec import from_json, rfc3339, to_json
from dbupkeep.definitions import JobDefinition
from dbupkeep.estimates import Measurement
from dbupkeep.events import EVENTS, Event, read
from dbupkeep.jobs import Job
from dbupkeep.plans import Plan, RunPlan
from tests.unit.records import made

KEPT = [Plan, RunPlan, JobDefinition, Measurement, Job]


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


class Older(Struct, frozen=True, kw_only=True):
    name: str
    size: int = 3


def test_an_older_program_reads_what_a_newer_one_wrote_and_the_other_way_round() -> None:
    assert from_json(Older, {"name": "n", "colour": "red"}) == Older(name="n")
    with pytest.raises(TypeError):
        from_json(Older, {"size": 4})


def test_moments_are_written_in_utc() -> None:
    east = datetime.fromisoformat("2026-01-01T02:00:00.123456+02:00")
    assert rfc3339(east) == "2026-01-01T00:00:00.123Z"

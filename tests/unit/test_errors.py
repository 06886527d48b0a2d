from __future__ import annotations

import inspect
from collections.abc import Iterator

import pytest

from dbupkeep import errors
from dbupkeep.errors import Busy, DefinitionError, Kind, OperationError, Refused, UpkeepError, revive


def family(cls: type[UpkeepError] = UpkeepError) -> Iterator[type[UpkeepError]]:
    for child in cls.__subclasses__():
        if child.__module__ == errors.__name__:
            yield child
            yield from family(child)


@pytest.mark.parametrize("cls", [*family()], ids=lambda cls: cls.__name__)
def test_every_error_has_a_kind_and_is_in_the_drawn_tree(cls: type[UpkeepError]) -> None:
    assert cls.kind in Kind
    assert cls.kind is not Kind.BUG
    assert f" {cls.__name__} " in (errors.__doc__ or "")
    assert inspect.getdoc(cls)


def test_an_error_keeps_its_three_sentences_apart() -> None:
    error = Refused("no space", why="4 GB are needed", hint="free some", kind=Kind.SPACE)
    assert (error.message, error.hint, error.kind) == ("no space: 4 GB are needed", "free some", Kind.SPACE)
    assert Refused.kind is not Kind.SPACE
    assert Busy("locked").message == "locked"


def test_what_the_innermost_layer_said_of_the_place_is_kept() -> None:
    error = OperationError("it failed").at(object="orders_pkey", stage="sorting")
    assert error.at(operation="reindex", object="orders", target="shop", stage="working") is error
    assert str(error.where) == "reindex of orders_pkey on shop, while sorting"


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ({}, ""),
        ({"operation": "vacuum"}, "vacuum"),
        ({"target": "shop"}, "on shop"),
        ({"stage": "connecting"}, "while connecting"),
        ({"operation": "vacuum", "target": "shop"}, "vacuum on shop"),
    ],
)
def test_a_place_is_said_as_far_as_it_is_known(place: dict[str, str], words: str) -> None:
    assert str(OperationError("it failed").at(**place).where) == words


def test_the_document_has_what_there_is() -> None:
    error = Busy("locked", hint="wait").at(target="shop")
    error.__cause__ = ValueError("database is locked")
    assert error.document() == {
        "kind": "busy", "message": "locked", "hint": "wait", "where": "on shop", "cause": "ValueError: database is locked",
    }  # fmt: skip
    assert Busy("locked").document() == {"kind": "busy", "message": "locked"}


def test_a_definition_error_has_all_faults() -> None:
    error = DefinitionError("two faults", faults=("a.toml:1: x", "a.toml:2: y"))
    assert error.message == "two faults: a.toml:1: x; a.toml:2: y"


@pytest.mark.parametrize("cls", [*family()], ids=lambda cls: cls.__name__)
def test_an_error_of_another_process_is_made_again(cls: type[UpkeepError]) -> None:
    made = revive({"class": cls.__name__, "kind": "space", "what": "w", "why": "y", "hint": "h"})
    assert (type(made), made.kind, made.message, made.hint) == (cls, Kind.SPACE, "w: y", "h")

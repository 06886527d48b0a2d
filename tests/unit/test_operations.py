from __future__ import annotations

import pytest

from dbupkeep.errors import UnknownName, UsageError
from dbupkeep.operations import CATALOGUE, DEFAULT, Operation, in_order, parse

V, A, R, O, C = (Operation(name) for name in "vacuum analyze reindex optimize check".split())  # noqa: E741 - five letters


@pytest.mark.parametrize(
    ("names", "read"),
    [
        (None, (V, R, A)),
        (["analyze", "vacuum", "analyze"], (V, A)),
        ([" Vacuum ", "CHECK"], (C, V)),
        (["optimize"], (O,)),
        ([*Operation], (C, V, R, O, A)),
        (iter(["analyze"]), (A,)),
    ],
)
def test_names_are_read_once_and_in_the_order_of_work(names: list[str] | None, read: tuple[Operation, ...]) -> None:
    assert parse(names) == read


@pytest.mark.parametrize("names", [[], [""], ["vacuum", "  "], ()])
def test_an_empty_operation_is_refused_with_the_choices(names: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        parse(names)
    assert all(operation in caught.value.hint for operation in Operation)


def test_unknown_operations_are_all_named() -> None:
    with pytest.raises(UnknownName, match="defrag, compact") as caught:
        parse(["vacuum", "defrag", "compact"])
    assert all(operation in caught.value.hint for operation in Operation)


def test_every_operation_has_its_place() -> None:
    assert set(CATALOGUE) == set(Operation)
    assert len({trait.rank for trait in CATALOGUE.values()}) == len(CATALOGUE)
    assert {operation for operation, trait in CATALOGUE.items() if trait.gate} == {C}
    assert {operation for operation, trait in CATALOGUE.items() if not trait.writes} == {C}
    assert in_order(DEFAULT) == (V, R, A)

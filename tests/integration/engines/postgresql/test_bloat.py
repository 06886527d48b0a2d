"""A zoo of bloated indexes: what a rebuild gives back is predicted within 15 points, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from psycopg import sql

from dbupkeep.definitions import Policy
from dbupkeep.engine import Scope
from dbupkeep.engines.postgresql.due_indexes import predicted
from dbupkeep.engines.postgresql.inquiry import Inquiry
from dbupkeep.estimates import History
from dbupkeep.operations import Operation
from tests.plugins.postgresql import Server
from tests.plugins.postgresql_bench import Workbench

pytestmark = pytest.mark.engine("postgresql")

REINDEX = Operation.REINDEX
ROWS = 80_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Animal:
    """A column filled and indexed in one way, and bloated in another."""

    column: str
    value: str
    index: str = "(v)"
    after: tuple[str, ...] = ()
    type: str = ""
    may_be_unknown: bool = False


SCATTERED = "DELETE FROM {t} WHERE random() < 0.6"
AT_ONE_END = "DELETE FROM {t} WHERE id <= 60000"
SHUFFLED = "ORDER BY random()"

ZOO = {
    "fresh": Animal(column="int", value="n"),
    "scattered": Animal(column="int", value="n", after=(SCATTERED,)),
    "emptied pages": Animal(column="int", value="n", after=(AT_ONE_END,)),
    "emptied and filled again": Animal(
        column="int", value="n", after=(AT_ONE_END, "VACUUM {t}", "INSERT INTO {t} SELECT n, n FROM generate_series(80001, 90000) n"),
    ),
    "uuid at random": Animal(column="uuid", value="gen_random_uuid()"),
    "uuid thinned": Animal(column="uuid", value="gen_random_uuid()", after=(SCATTERED,)),
    "text at random": Animal(column="text", value="md5(n::text)", after=("DELETE FROM {t} WHERE random() < 0.3",)),
    "text of many lengths": Animal(column="text", value="repeat(md5(n::text), 1 + n % 8)", after=(SCATTERED,)),
    "fillfactor 50": Animal(column="int", value="n", index="(v) WITH (fillfactor = 50)", after=(SCATTERED,)),
    "never deduplicated": Animal(
        column="int", value="n % 100", index="(v) WITH (deduplicate_items = off)", after=("ALTER INDEX {i} RESET (deduplicate_items)",),
    ),
    "few of each": Animal(
        column="int", value="n / 3", index="(v) WITH (deduplicate_items = off)", after=("ALTER INDEX {i} RESET (deduplicate_items)",),
    ),
    "two of each at random": Animal(
        column="int", value="(random() * 40000)::int", index="(v) WITH (deduplicate_items = off)",
        after=("ALTER INDEX {i} RESET (deduplicate_items)",),
    ),
    "skewed": Animal(
        column="int", value="(power(random(), 4) * 5000)::int", index="(v) WITH (deduplicate_items = off)",
        after=("ALTER INDEX {i} RESET (deduplicate_items)",),
    ),
    "deduplicated and thinned": Animal(column="text", value="md5((n % 500)::text)", after=(SCATTERED,)),
    "half of it null": Animal(column="int", value="CASE WHEN n % 2 = 0 THEN n END", after=(SCATTERED,)),
    "two columns": Animal(column="text", value="md5(n::text)", index="(v, id)", after=(SCATTERED,)),
    "two columns that go together": Animal(
        column="int", value="n % 200", index="(v, (v + 1)) WITH (deduplicate_items = off)",
        after=("ALTER INDEX {i} RESET (deduplicate_items)",), may_be_unknown=True,
    ),
    "included column": Animal(column="text", value="left(md5(n::text), 1 + n % 20)", index="(id) INCLUDE (v)", after=(SCATTERED,)),
    "expression": Animal(column="text", value="md5(n::text)", index="(upper(v))", after=(SCATTERED,)),
    "partial": Animal(column="int", value="n", index="(v) WHERE id % 2 = 0", after=(SCATTERED,)),
    "updated often": Animal(column="int", value="n", after=("UPDATE {t} SET v = v + 7", "VACUUM {t}", "UPDATE {t} SET v = v + 7")),
    "dead rows still there": Animal(column="int", value="n", after=(SCATTERED, "no vacuum"), may_be_unknown=True),
    "numeric": Animal(column="numeric", value="n * 1.5", after=(SCATTERED,)),
    "timestamps": Animal(column="timestamptz", value="now() + n * interval '1 s'", index="(v DESC)", after=(AT_ONE_END,)),
    "name": Animal(column="name", value="('x' || n)::name", after=(SCATTERED,), may_be_unknown=True),
    "hash": Animal(column="int", value="n", index="USING hash (v)", type="hash", after=(SCATTERED,), may_be_unknown=True),
}  # fmt: skip


def settle(bench: Workbench) -> dict[str, str]:
    """Make them all; the name of each index by the name of its animal."""
    names = {}
    for number, (name, animal) in enumerate(ZOO.items()):
        table, index = f"t{number}", f"i{number}"
        names[name] = f"public.{index}"
        bench.database.execute(
            f"CREATE TABLE {table} (id int, v {animal.column})",
            f"CREATE INDEX {index} ON {table} {animal.index}",
            f"INSERT INTO {table} SELECT n, {animal.value} FROM generate_series(1, {ROWS}) n",
            *[statement.format(t=table, i=index) for statement in animal.after if statement != "no vacuum"],
            f"{'ANALYZE' if 'no vacuum' in animal.after else 'VACUUM ANALYZE'} {table}",
        )
    return names


def rebuilt(bench: Workbench, name: str) -> float:
    """The share that a rebuild really gives back."""
    index = name.removeprefix("public.")
    with bench.database.connect() as connection:
        size = sql.SQL("SELECT pg_relation_size({})").format(sql.Literal(index))
        before = connection.execute(size).fetchone()
        connection.execute(sql.SQL("REINDEX INDEX {}").format(sql.Identifier(index)))
        after = connection.execute(size).fetchone()
    assert before
    assert after
    return float(1 - after[0] / before[0])


@pytest.mark.slow
@pytest.mark.parametrize("version", [15, 18], ids=["pages are read", "statistics alone"])
def test_the_gain_is_predicted_or_unknown(version: int, postgresql: Callable[[int], Server]) -> None:
    bench = Workbench(database=postgresql(version).create())
    if version == 15:
        bench.database.execute("CREATE EXTENSION pgstattuple")
    names = settle(bench)
    facts = bench.facts(REINDEX)
    scope = Scope(operations=(REINDEX,), now=datetime.now(UTC))
    q = Inquiry(operation=REINDEX, facts=facts, policy=Policy(), history=History(), scope=scope)
    found = {index.name: index for index in facts.objects if index.kind == "index"}
    wrong, unknown = [], []
    for animal, name in names.items():
        index = found[name]
        guess = predicted(q, index)
        gain = guess.gain(index.bytes or 0)
        real = rebuilt(bench, name)
        shown = "unknown" if gain is None else f"{gain:.2f}"
        print(f"{animal:30} {index.bytes or 0:10,} predicted {shown:8} real {real:.2f}  {guess.how}")
        if gain is None:
            unknown.append(animal)
        elif abs(gain - max(0.0, real)) > 0.15:
            wrong.append(f"{animal}: {gain:.2f} instead of {real:.2f} ({guess.how})")
    bench.database.drop()
    assert wrong == []
    assert [animal for animal in unknown if not ZOO[animal].may_be_unknown] == []

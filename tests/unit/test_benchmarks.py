"""A benchmark that did other work than it says must stop, and its ratios are taken inside a round."""

from __future__ import annotations

import sys
from pathlib import Path

import apsw
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks import databases
from benchmarks.harness import Comparison, Cost, Variant, compare


def nothing() -> None:
    pass


def variant(name: str, code: str, check: object = nothing) -> Variant:
    return Variant(name=name, command=[sys.executable, "-c", code], prepare=nothing, check=check)  # type: ignore[arg-type]


def test_a_variant_that_did_not_do_its_work_stops_the_benchmark(tmp_path: Path) -> None:
    done = tmp_path / "done"

    def check() -> None:
        assert done.exists(), "nothing was done"

    with pytest.raises(SystemExit, match="idle did other work than it says: nothing was done"):
        compare("x", [variant("idle", "pass", check)], rounds=1)
    with pytest.raises(SystemExit, match="broken ended with 1"):
        compare("x", [variant("broken", "1 / 0")], rounds=1)
    code = f"open({str(done)!r}, 'w').close()"
    assert compare("x", [variant("busy", code, check)], rounds=1).ratios("busy") == [1.0]


def test_each_ratio_is_of_one_round_and_their_median_is_given() -> None:
    def costs(peer: float, other: float) -> dict[str, Cost]:
        return {"a | b": Cost(wall=peer, cpu=peer), "ours": Cost(wall=other, cpu=other)}

    compared = Comparison(title="x", rounds=[costs(1, 2), costs(10, 10), costs(100, 50)])
    assert compared.ratios("ours") == [2.0, 1.0, 0.5]
    lines = compared.lines()
    assert "| ours | 1.000 (0.500-2.000) |" in lines[-2]
    assert r"| a \| b |" in lines[-3]


def test_effects_are_seen(tmp_path: Path) -> None:
    path = tmp_path / "big.db"
    databases.make_big(path, 2_000_000)
    size = path.stat().st_size
    databases.plant(path)
    for check in (databases.check_reindexed, databases.check_analyzed):
        with pytest.raises(AssertionError if check is databases.check_reindexed else apsw.SQLError):
            check(path)
    with pytest.raises(AssertionError, match="has free pages"):
        databases.check_vacuumed(path, size)
    connection = apsw.Connection(str(path))
    for statement in ("REINDEX", "VACUUM", "ANALYZE"):
        connection.execute(statement)
    connection.close()
    databases.check_reindexed(path)
    databases.check_analyzed(path)
    databases.check_vacuumed(path, size)

"""The parts of the command line that need no process: exit codes, globs, what a row says, how a run is watched."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from dbupkeep.errors import DefinitionError, Kind, Missing, UnknownName, UpkeepError
from dbupkeep.jobs import Job, JobStatus, JobType, Outcome, Phase, count
from dbupkeep.views import words
from dbupkeep.views.cli.exits import Exit, of_error, of_kind, of_outcome
from dbupkeep.views.cli.inquiring import file_system_of
from dbupkeep.views.cli.job_text import report
from dbupkeep.views.cli.requests import split_glob
from dbupkeep.views.terminal import Terminal

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def test_every_kind_of_error_has_a_code() -> None:
    assert {kind: of_kind(kind) for kind in Kind} == {
        Kind.USAGE: 2, Kind.UNKNOWN_NAME: 2, Kind.RETIRED: 2, Kind.ILLEGAL: 2,
        Kind.MISSING: 10, Kind.UNREACHABLE: 10, Kind.PERMISSION: 12,
        Kind.NOT_A_DATABASE: 13, Kind.ENCRYPTED: 13, Kind.READ_ONLY: 13, Kind.HARD_LINKED: 13, Kind.REPLACED: 13,
        Kind.CAPABILITY: 13, Kind.CONSENT: 13, Kind.SPACE: 13, Kind.DRIFT: 13,
        Kind.BUSY: 4, Kind.STALL: 4, Kind.INTERRUPTED: 130,
        Kind.CORRUPT: 1, Kind.LOST: 1, Kind.POISONED: 1, Kind.ENGINE: 1, Kind.LEDGER: 1, Kind.BUG: 1,
    }  # fmt: skip


def test_a_request_that_is_wrong_is_2_whatever_its_kind() -> None:
    assert of_error(DefinitionError("wrong", faults=("line 3",))) == Exit.USAGE
    assert of_error(UnknownName("who?")) == Exit.USAGE
    assert of_error(Missing("gone")) == Exit.UNREACHABLE
    assert of_error(UpkeepError("oops")) == Exit.FAILED


@pytest.mark.parametrize(
    ("outcome", "kinds", "code"),
    [
        (Outcome.DONE, [], 0),
        (Outcome.NOTHING_TO_DO, [], 0),
        (Outcome.PARTIAL, ["engine"], 3),
        (Outcome.CANCELLED, [], 3),
        (Outcome.DEFERRED, [], 4),
        (Outcome.FAILED, [], 1),
        (Outcome.FAILED, ["engine", "space"], 1),
        (Outcome.FAILED, ["space", "read_only"], 13),
        (Outcome.FAILED, ["permission"], 12),
        (Outcome.FAILED, ["missing"], 10),
        (Outcome.FAILED, ["missing", "permission"], 1),
        (Outcome.FAILED, ["corrupt"], 1),
        (Outcome.FAILED, ["a kind of a newer version"], 1),
    ],
)
def test_an_outcome_has_a_code(outcome: Outcome, kinds: list[str], code: int) -> None:
    assert of_outcome(outcome, kinds) == code


def test_a_run_that_did_some_work_was_not_refused() -> None:
    assert of_outcome("failed", ["space"]) == Exit.REFUSED
    assert of_outcome("failed", ["space"], worked=True) == Exit.FAILED
    assert of_outcome("failed", ["missing"], worked=True) == Exit.UNREACHABLE


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("*.db", (".", "*.db", False)),
        ("srv/*.db", ("srv", "*.db", False)),
        ("/srv/a/t?.db", ("/srv/a", "t?.db", False)),
        ("/*.db", ("/", "*.db", False)),
        ("srv/**/*.db", ("srv", "*.db", True)),
        ("srv/*/app.db", ("srv", "*/app.db", False)),
        ("[ab]/x.db", (".", "[ab]/x.db", False)),
    ],
)
def test_a_pattern_is_a_folder_and_the_rest(text: str, parts: tuple[str, str, bool]) -> None:
    assert split_glob(text) == parts


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.2, "just now"),
        (5, "5 s ago"),
        (100, "1 min ago"),
        (7300, "2 h ago"),
        (3 * 86400, "3 d ago"),
        (30 * 86400, "2026-10-25"),
    ],
)
def test_how_long_ago(seconds: float, said: str) -> None:
    assert words.ago(NOW - timedelta(seconds=seconds), NOW) == said


def test_sizes_that_read_the_same_are_said_once() -> None:
    mib = 1024 * 1024
    assert words.gain(10 * mib, 3 * mib) == "10.0 MiB → 3.0 MiB"
    assert words.gain(10 * mib, 10 * mib - 8) == "10.0 MiB"
    assert words.gain(None, 3) == ""


def test_a_command_line_can_be_copied() -> None:
    assert words.shell(["run", "my file.db"]) == "run 'my file.db'"
    assert words.shell(["evil\x1b'\udcff"]) == r"$'evil\x1b\x27\xff'"


def test_counting() -> None:
    assert [words.counted(n, "job") for n in (0, 1, 2000)] == ["0 jobs", "1 job", "2,000 jobs"]
    assert words.counted(2, "process", "processes") == "2 processes"


def test_the_file_system_of_a_path_is_found() -> None:
    assert file_system_of(Path("/proc/self")) == "proc"
    assert file_system_of(Path("/")) != ""


def test_groups_of_the_help_name_a_command_once() -> None:
    from dbupkeep.views.cli.entry import COMMANDS

    names = [name for group in COMMANDS.values() for name in group]
    assert all(one != other for one, other in pairwise(sorted(names)))


def job(place: int, status: JobStatus, **values: Any) -> Job:
    return Job(
        id=f"job-{place:04}", parent_id="root", correlation_id="root", type=JobType.DATABASE_MAINTENANCE_OPERATION,
        phase=Phase.EXECUTION, name=f"reindex i{place}", created_at=NOW, status=status, place=place,
        config={"operation": "reindex", "object": f"i{place}"}, **values,
    )  # fmt: skip


def test_of_many_operations_those_in_trouble_are_always_shown() -> None:
    children = [job(place, JobStatus.SKIPPED, reason="not bloated") for place in range(300)]
    children[250] = job(250, JobStatus.FAILED, error={"kind": "engine", "message": "no luck", "hint": "again"})
    stats = count(children)
    root = Job(
        id="root", parent_id="root", correlation_id="root", type=JobType.DATABASE_MAINTENANCE_PARENT,
        phase=Phase.ORCHESTRATION, name="big", created_at=NOW, status=JobStatus.FAILED, outcome="failed", stats=stats,
    )  # fmt: skip
    terminal = Terminal(io.StringIO(), environ={})
    asked: list[str] = []

    def children_of(parent_id: str) -> list[Job]:
        asked.append(parent_id)
        return children

    lines = list(report(root, children_of, terminal))
    assert any("reindex i250" in line for line in lines)
    assert any("no luck" in line for line in lines)
    assert any("hint: again" in line for line in lines)
    assert any("259 more operations" in line for line in lines)
    assert "299 skipped" in lines[-1]
    assert asked == ["root"]
    assert len([line for line in report(root, children_of, terminal, everything=True) if "reindex i" in line]) == 300

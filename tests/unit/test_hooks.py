"""Programs around runs and operations: their order, what a failure of each means, and what is owed."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from dbupkeep import hooks as module
from dbupkeep.app import App
from dbupkeep.config import load
from dbupkeep.definitions import Hooks, JobDefinition, Step, Target
from dbupkeep.documents import job_document
from dbupkeep.engine import Report
from dbupkeep.errors import DefinitionError
from dbupkeep.hooks import DEBTS, call
from dbupkeep.jobs import Delivery, Job, JobStatus
from dbupkeep.ledger import JobQuery
from dbupkeep.operations import parse
from dbupkeep.plans import PlanItem
from dbupkeep.testing.scripted import ScriptedEngine, ScriptedSession

NAMES = "pause_application before_run before_operation after_operation after_run resume_application".split()


class ToldClock:
    def __init__(self) -> None:
        self.at = datetime(2026, 6, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.at.timestamp()


class Bench:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = ToldClock()
        self.engine = ScriptedEngine()
        self.app = self.open()
        self.definition = JobDefinition(
            name="nightly",
            steps=(
                Step(
                    name="tidy",
                    targets=(Target(name="a", url="scripted:///a"),),
                    operations=parse(["vacuum", "analyze"]),
                ),
            ),
            hooks=Hooks(**{name: self.says(name) for name in NAMES}),  # type: ignore[arg-type]
        )

    def open(self) -> App:
        return App(str(self.folder / "ledger.db"), clock=self.clock, load_engine=lambda _: self.engine, isolate=False)

    def says(self, name: str) -> tuple[str, ...]:
        """A program that writes its name down, and fails as long as a file of that name is there."""
        told = (
            'echo "$0 $DBUPKEEP_OPERATION $DBUPKEEP_STATUS" >> calls; if [ -e "fail-$0" ]; then echo oh no; exit 3; fi'
        )
        return ("sh", "-c", f"cd {self.folder}; {told}", name)

    def failing(self, name: str) -> Path:
        path = self.folder / f"fail-{name}"
        path.touch()
        return path

    @property
    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return [line.strip() for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def owed(self) -> dict[str, Any]:
        return dict((self.app.reader.get(*DEBTS) or {}).get("runs", {}))

    def run(self, **changed: Any) -> Job:
        run_id = self.app.runs.create_run(replace(self.definition, **changed))
        self.app.drain()
        found = self.app.reader.job(run_id)
        assert found is not None
        return found

    def operations(self) -> Sequence[Job]:
        return self.app.reader.jobs(JobQuery(types=("database_maintenance_operation",), newest_first=False)).jobs


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.app.close()


def test_the_order_in_which_all_are_called(bench: Bench) -> None:
    assert bench.run().outcome == "done"
    assert bench.calls == [
        "pause_application vacuum",
        "before_run vacuum",
        "before_operation vacuum",
        "after_operation vacuum completed",
        "before_operation analyze",
        "after_operation analyze completed",
        "after_run  done",
        "resume_application  done",
    ]
    assert bench.owed == {}


def test_a_run_without_work_pauses_nothing(bench: Bench) -> None:
    bench.engine._proposals = lambda facts, scope: []
    bench.run()
    assert bench.calls == []


@pytest.mark.parametrize("name", ["pause_application", "before_run"])
def test_a_run_whose_first_hook_fails_starts_nothing_and_still_resumes_the_application(bench: Bench, name: str) -> None:
    bench.failing(name)
    run = bench.run()
    assert run.outcome == "deferred"
    assert {job.reason for job in bench.operations()} == {f"the hook {name} ended with exit code 3: oh no"}
    assert bench.engine.effects == []
    assert bench.calls.count(f"{name} vacuum") == 1  # once, not for each operation
    assert bench.calls[-1] == "resume_application  deferred"


def test_an_operation_whose_hook_fails_is_put_off(bench: Bench) -> None:
    bench.failing("before_operation")
    assert bench.run().outcome == "deferred"
    assert bench.engine.effects == []


def test_what_comes_after_an_operation_changes_nothing_of_it(bench: Bench) -> None:
    bench.failing("after_operation")
    bench.failing("after_run")
    assert bench.run().outcome == "done"
    assert bench.calls[-1] == "resume_application  done"


def test_an_application_that_cannot_be_resumed_is_tried_again(bench: Bench) -> None:
    mended = bench.failing("resume_application")
    bench.run()
    assert len(bench.owed) == 1
    bench.app.hooks.settle()
    assert bench.calls.count("resume_application  done") == 1  # not at once
    mended.unlink()
    bench.clock.at += timedelta(minutes=2)
    assert bench.app.hooks.settle() == 1
    assert bench.calls.count("resume_application  done") == 2
    assert bench.calls.count("after_run  done") == 1
    assert bench.owed == {}


def test_a_run_that_was_cancelled_while_its_process_was_gone_resumes_the_application_as_it_ends(bench: Bench) -> None:
    run_id = bench.app.runs.create_run(bench.definition)
    bench.app.processor.handle(delivery_of(bench, "database_discovery"), "here")
    lost = delivery_of(bench, "database_maintenance_operation")
    begun = bench.app.lifecycle.begin(lost, "killed")
    assert begun is not None
    assert not bench.app.hooks.before(begun, lambda: False)
    bench.app.lifecycle.cancel(run_id)
    bench.app.processor.handle(lost, "the next start")
    run = bench.app.reader.job(run_id)
    assert run is not None
    assert run.status is JobStatus.CANCELLED
    assert bench.calls[-1].startswith("resume_application")
    assert bench.owed == {}


def delivery_of(bench: Bench, kind: str) -> Delivery:
    job = bench.app.reader.jobs(JobQuery(types=(kind,), newest_first=False)).jobs[0]
    return Delivery(job_id=job.id, attempt=max(1, job.attempt), lane=job.lane)


@pytest.mark.parametrize("end", ["cancel", "fail"])
def test_an_application_is_resumed_however_the_run_ends(bench: Bench, end: str) -> None:
    def act(session: ScriptedSession, item: PlanItem, report: Report) -> None:
        if end == "fail":
            raise ValueError("oh")
        (run,) = bench.app.reader.jobs(JobQuery(roots=True)).jobs
        bench.app.lifecycle.cancel(run.id)

    bench.engine.act = act
    run = bench.run()
    assert run.status.ended
    assert bench.calls[-1].startswith("resume_application")
    assert bench.owed == {}


def test_an_application_is_resumed_when_the_last_process_leaves_and_paused_again_by_the_next(bench: Bench) -> None:
    stop = threading.Event()

    def act(session: ScriptedSession, item: PlanItem, report: Report) -> None:
        stop.set()

    bench.engine.act = act
    run_id = bench.app.runs.create_run(bench.definition)
    bench.app.processor.serve(slots=1, stop=stop)
    run = bench.app.reader.job(run_id)
    assert run is not None
    assert run.status is JobStatus.RUNNING
    assert bench.calls[-1].startswith("resume_application")
    assert not any(each.startswith("after_run") for each in bench.calls)
    bench.app.drain()
    assert [each.split()[0] for each in bench.calls].count("pause_application") == 2
    assert bench.calls[-2:] == ["after_run  done", "resume_application  done"]


def test_of_many_operations_at_once_one_calls_the_first_hooks(bench: Bench) -> None:
    targets = tuple(Target(name=f"t{number}", url=f"scripted:///{number}") for number in range(6))
    steps = (replace(bench.definition.steps[0], targets=targets),)
    run_id = bench.app.runs.create_run(replace(bench.definition, steps=steps))
    bench.app.drain(slots=6)
    run = bench.app.reader.job(run_id)
    assert run is not None
    assert run.outcome == "done"
    named = [each.split()[0] for each in bench.calls]
    assert [named.count(name) for name in NAMES] == [1, 1, 12, 12, 1, 1]


def test_a_hook_sees_few_variables_and_those_it_was_given(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "secret")
    monkeypatch.setenv("MINE", "yes")
    wrote = bench.folder / "environ"
    hooks = Hooks(before_operation=("sh", "-c", f"env > {wrote}"), environment=("MINE",))
    bench.run(hooks=hooks)
    seen = dict(line.partition("=")[::2] for line in wrote.read_text().splitlines())
    assert "PGPASSWORD" not in seen
    assert seen["MINE"] == "yes"
    assert seen["DBUPKEEP_TARGET"] == "scripted:///a"
    assert {name for name in seen if not name.startswith("DBUPKEEP_")} <= {
        *module.ALWAYS,
        "MINE",
        "PWD",
        "SHLVL",
        "_",
        "OLDPWD",
    }


def test_no_shell_reads_the_arguments(tmp_path: Path) -> None:
    code = "import sys; assert sys.argv[1] == '$(touch oops); *'"
    assert call((sys.executable, "-c", code, "$(touch oops); *"), {}, timedelta(seconds=30)) == ""


def test_a_program_that_is_not_there_and_one_that_does_not_end(tmp_path: Path) -> None:
    assert "could not be started" in call(("/nowhere/at/all",), {}, timedelta(seconds=1))
    pid = tmp_path / "pid"
    hanging = ("/bin/sh", "-c", f"sleep 100 & echo $! > {pid}; wait")
    assert "did not end within 0.5 s" in call(hanging, {"PATH": os.environ["PATH"]}, timedelta(seconds=0.5))
    stat = Path(f"/proc/{pid.read_text().strip()}/stat")
    assert not stat.exists() or ") Z " in stat.read_text()


def test_pausing_an_application_without_resuming_it_is_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(
        'version = 1\n[targets.a]\nurl = "sqlite:///a"\n[jobs.n]\n[[jobs.n.steps]]\ntargets = ["a"]\n'
        '[jobs.n.hooks]\npause_application = ["systemctl", "stop", "app"]\n'
    )
    with pytest.raises(DefinitionError) as caught:
        load(path, environ={})
    assert '"pause_application" and "resume_application" belong together' in caught.value.faults[0]
    path.write_text(f'{path.read_text()}resume_application = ["systemctl", "start", "app"]\ntimeout = "5s"\n')
    hooks = load(path, environ={}).jobs["n"].hooks
    assert hooks is not None
    assert hooks.resume_application == ("systemctl", "start", "app")
    assert hooks.timeout == timedelta(seconds=5)


def test_a_document_names_the_programs_and_never_their_arguments(bench: Bench) -> None:
    run = bench.run(hooks=Hooks(before_run=("true", "--token", "s3cret"), environment=("A", "B")))
    shown = job_document(run)["config"]["hooks"]
    assert shown["before_run"] == ["true"]
    assert "s3cret" not in json.dumps(job_document(run))
    assert shown["environment"] == ["A", "B"]

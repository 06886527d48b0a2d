"""Rebuilds of PostgreSQL indexes are stopped, cancelled, ended and killed in every phase: nothing of ours is left."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from dbupkeep.codec import to_json
from dbupkeep.definitions import Policy
from dbupkeep.errors import UpkeepError
from dbupkeep.jobs import Effective
from dbupkeep.operations import Operation
from dbupkeep.plans import PlanItem
from dbupkeep.testing.engine_suite import Recorder, item_of
from tests.plugins.postgresql_bench import Running, Workbench, in_thread
from tests.plugins.postgresql_phases import PHASES, SETUP, Held, held, invalid, strangers

pytestmark = [pytest.mark.engine("postgresql"), pytest.mark.fault, pytest.mark.slow, pytest.mark.timeout(1200)]

REINDEX = Operation.REINDEX
MODES = ("stop", "cancel", "terminate", "kill")
ALONE, GROUP = 1000, 2
"""From how many small indexes on they share a job."""

WORKER = """
import json, os, sys
from dbupkeep.codec import from_json
from dbupkeep.engines import load
from dbupkeep.engines.postgresql.urls import target_of
from dbupkeep.plans import PlanItem

class Report:
    def note(self, text):
        with open(sys.argv[4], "a") as file:
            file.write(text + "\\n")
            file.flush()
            os.fsync(file.fileno())
    def stage(self, name, message=""): pass
    def progress(self, progress): pass
    def blocking(self, seconds): return seconds
    def follow(self, sample): pass

session = load("postgresql").connect(target_of(sys.argv[1]), tag=sys.argv[2])
session.run(from_json(PlanItem, json.loads(sys.argv[3])), Report())
"""


@dataclass(slots=True, kw_only=True)
class Round:
    """One rebuild that is cut off."""

    bench: Workbench
    item: PlanItem
    tag: str
    notes: Path

    def cut_off(self, mode: str, phase: Held, *, release_first: bool) -> None:
        with self._killed(phase) if mode == "kill" else self._struck(mode, phase):
            if release_first:
                phase.release()

    @contextmanager
    def _killed(self, phase: Held) -> Iterator[None]:
        item = json.dumps(to_json(self.item))
        command = [sys.executable, "-c", WORKER, self.bench.database.url, self.tag, item, str(self.notes)]
        with subprocess.Popen(command) as process:
            phase.arrive()
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        yield

    @contextmanager
    def _struck(self, mode: str, phase: Held) -> Iterator[None]:
        recorder = Recorder()
        with self.bench.session(tag=self.tag) as session:
            running: Running = in_thread(lambda: session.run(self.item, recorder))
            phase.arrive()
            if mode == "stop":
                session.interrupt()
            else:
                function = {"cancel": "pg_cancel_backend", "terminate": "pg_terminate_backend"}[mode]
                self.bench.database.execute(f"SELECT {function}(pid) FROM pg_stat_progress_create_index")
            yield
            try:
                running.outcome()
            except UpkeepError as error:
                print(f"  {type(error).__name__}: {error.message}")
        self.notes.write_text("\n".join(recorder.notes))

    def recover(self) -> None:
        notes = self.notes.read_text().splitlines() if self.notes.exists() else []
        with self.bench.session(tag=f"{self.tag}:next") as session:
            session.recover(self.item, self.tag, notes)
            session.recover(self.item, self.tag, notes)


def planned(bench: Workbench, group_from: int) -> PlanItem:
    """The rebuild of `t_k`, alone or with the other index of its table after it."""
    settings = {"cleanup_wait": 0.3, "group_from": group_from, "max_wait": 1.0}
    policy = Policy(force=True, thresholds={"reindex": settings})
    found = [item_of(each) for each in bench.due(REINDEX, policy=policy)]
    return next(item for item in found if "public.t_k" in (item.members or (item.object,))[:1])


def next_run(bench: Workbench) -> None:
    """What the next scheduled run does without any force: it drops what was marked as ours."""
    for each in bench.due(REINDEX):
        _, evidence = bench.perform(item_of(each))
        assert evidence.effective is Effective.YES


@pytest.mark.parametrize("group_from", [ALONE, GROUP])
def test_a_hundred_rebuilds_cut_off_leave_nothing_of_ours_and_all_of_others(
    kills: int, newest: Workbench, tmp_path: Path, group_from: int
) -> None:
    rounds = max(len(PHASES) * len(MODES), kills // 10)
    seed = random.randrange(1 << 32)
    print(f"seed {seed}, {rounds} rounds")
    dice, done = random.Random(seed), Counter[str]()
    newest.database.execute(*SETUP)
    theirs = strangers(newest.database, "t_k_ccnew", "t_k_ccnew3", "t_k_ccold", "t_pkey_ccnew")
    for number in count(1):
        if number > rounds:
            break
        phase, mode = PHASES[number % len(PHASES)], MODES[number % len(MODES)]
        print(f"{number}: {mode} while {phase}")
        item = planned(newest, group_from)
        assert len(item.members) == (2 if group_from == GROUP else 0)
        attempt = Round(bench=newest, item=item, tag=f"dbupkeep:round:{number}", notes=tmp_path / f"{number}.notes")
        with held(newest.database, phase) as hold:
            attempt.cut_off(mode, hold, release_first=dice.random() < 0.5)
            hold.release()
        if mode in ("terminate", "kill"):
            attempt.recover()
        done[mode] += 1
        next_run(newest)
        assert invalid(newest.database) == theirs, f"after round {number}, {mode} while {phase}"
        both = "SELECT bool_and(indisvalid) FROM pg_index WHERE indexrelid IN ('t_k'::regclass, 't_pkey'::regclass)"
        assert newest.database.value(both)
        newest.database.execute("DELETE FROM t WHERE id > 2000")
    print(dict(done))
    assert set(done) == set(MODES)

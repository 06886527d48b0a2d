"""`serve` with real processes: what is due runs by itself, whatever is killed, and a stop lets what runs come to its end."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dbupkeep.app import App
from dbupkeep.clock import SystemClock
from dbupkeep.codec import to_json
from dbupkeep.config.units import read_duration
from dbupkeep.jobs import Job
from dbupkeep.ledger import JobQuery
from dbupkeep.schedules import Standing
from dbupkeep.testing.pair_kit import eventually
from dbupkeep.views.cli.working import GRACE

pytestmark = pytest.mark.slow

NIGHTLY = """
version = 1
[targets.a]
url = "scripted:///a"
[jobs.nightly]
{when}
[[jobs.nightly.steps]]
targets = ["a"]
operations = ["vacuum"]
"""


class Service:
    """A configuration, a ledger, and the services that were started on them."""

    def __init__(self, cli: Any, script: Any, folder: Path) -> None:
        self.cli, self.script, self.folder = cli, script, folder
        self.config = folder / "config.toml"
        cli.environ.update(DBUPKEEP_LEDGER=str(folder / "ledger.db"), DBUPKEEP_CONFIG=str(self.config))
        self.app = App(str(folder / "ledger.db"))

    def write(self, when: str = 'every = "1h"', text: str = NIGHTLY) -> None:
        draft = self.folder / "draft.toml"
        draft.write_text(text.format(when=when))
        draft.rename(self.config)

    def serve(self, *arguments: str, **environ: str) -> Any:
        return self.cli.start("serve", "--port", "0", "--lease", "1", *arguments, **environ)

    def runs(self) -> list[Job]:
        return list(self.app.reader.jobs(JobQuery(roots=True)).jobs)

    def operation(self, status: str) -> Job | None:
        page = self.app.reader.jobs(JobQuery(types=("database_maintenance_operation",)))
        return next((job for job in page.jobs if job.status == status), None)

    def await_operation(self, status: str) -> Job:
        found = eventually(f"an operation is {status}", lambda: self.operation(status))
        assert found is not None
        return found

    def workers(self, service: Any) -> list[int]:
        path = Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]


@pytest.fixture
def served(cli: Any, script: Any, tmp_path: Path) -> Iterator[Service]:
    made = Service(cli, script, tmp_path)
    yield made
    script.let("vacuum")  # so that workers whose service is killed with the test come to their end
    made.app.close()


def await_line(service: Any, text: str) -> str:
    """Read messages until one has this text."""
    seen = []
    for line in service.process.stderr:
        seen.append(line)
        if text in line:
            return str(line)
    raise AssertionError(f"ended without {text!r}: {seen}")


def gone(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_what_is_due_runs_by_itself_and_is_told_in_a_line(served: Service) -> None:
    served.script.let("vacuum")
    served.write()
    service = served.serve()
    assert "1 job by schedule" in await_line(service, "Serving")
    assert "started, due" in await_line(service, "nightly: started")
    assert "1 completed" in await_line(service, "nightly: done")
    told = served.cli("schedule", "--json").json
    assert told["service"]["running"] is True
    assert told["jobs"][0]["last"]["outcome"] == "done"
    service.signal(signal.SIGTERM)
    assert service.end().code == 0
    assert served.cli("schedule", "--json").json["service"]["running"] is False


def test_a_stop_lets_what_runs_come_to_its_end(served: Service) -> None:
    served.write()
    service = served.serve()
    served.await_operation("running")
    (worker,) = served.workers(service)
    service.signal(signal.SIGTERM)
    await_line(service, "Ending after what runs now")
    assert not gone(worker)
    served.script.let("vacuum")
    assert service.end().code == 0
    assert gone(worker)
    assert served.await_operation("completed").attempt == 1


def test_what_outlasts_the_grace_of_a_stop_is_stopped_and_made_again_at_the_next_start(served: Service) -> None:
    served.write()
    service = served.serve("--grace", "300ms")
    served.await_operation("running")
    service.signal(signal.SIGTERM)
    assert service.end().code == 0
    returned = served.operation("pending")
    assert returned is not None
    assert (returned.attempt, returned.max_attempts) == (1, 4), "it counts as an attempt of the job's own"
    served.script.let("vacuum")
    second = served.serve()
    assert served.await_operation("completed").attempt == 2
    second.signal(signal.SIGTERM)
    assert second.end().code == 0
    assert len(served.runs()) == 1


def test_a_second_signal_ends_it_at_once(served: Service) -> None:
    served.write()
    service = served.serve()
    served.await_operation("running")
    (worker,) = served.workers(service)
    service.signal(signal.SIGTERM)
    await_line(service, "Ending after what runs now")
    service.signal(signal.SIGTERM)
    assert service.end().code == 128 + signal.SIGTERM
    eventually("the worker is gone", lambda: gone(worker))


def test_after_kill_9_of_everything_the_next_start_goes_on(served: Service) -> None:
    served.write()
    first = served.serve()
    served.await_operation("running")
    (worker,) = served.workers(first)
    os.kill(first.process.pid, signal.SIGKILL)
    os.kill(worker, signal.SIGKILL)
    first.end()
    served.script.let("vacuum")
    second = served.serve()
    assert served.await_operation("completed").attempt == 2
    eventually("the run has ended", lambda: served.runs()[0].outcome == "done")
    assert len(served.runs()) == 1
    second.signal(signal.SIGTERM)
    assert second.end().code == 0


def test_workers_whose_service_was_killed_end_after_what_runs(served: Service) -> None:
    served.write()
    service = served.serve()
    served.await_operation("running")
    (worker,) = served.workers(service)
    os.kill(service.process.pid, signal.SIGKILL)
    assert not gone(worker)
    served.script.let("vacuum")
    eventually("the worker has ended", lambda: gone(worker))
    assert served.await_operation("completed").attempt == 1


def test_a_worker_process_that_dies_is_started_again(served: Service) -> None:
    served.write()
    service = served.serve("--workers", "2")
    served.await_operation("running")
    before = served.workers(service)
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    assert "SIGKILL" in await_line(service, "A worker process was ended")
    served.script.let("vacuum")
    assert served.await_operation("completed").attempt == 2
    assert set(served.workers(service)) != set(before)


def test_without_workers_of_its_own_others_do_what_it_starts(served: Service) -> None:
    served.write()
    service = served.serve("--workers", "0")
    run = eventually("a run was started", lambda: next(iter(served.runs()), None))
    assert run is not None
    assert not served.workers(service)
    served.script.let("vacuum")
    assert served.cli("worker", "--drain").code == 0
    served.await_operation("completed")
    service.signal(signal.SIGTERM)
    assert service.end().code == 0


def test_a_time_that_passed_while_nothing_ran_is_caught_up_on_once(served: Service) -> None:
    served.script.let("vacuum")
    served.write('schedule = "0 0 1 * *"')
    since = SystemClock().now() - timedelta(days=100)
    rule = "0 0 1 * * UTC"
    served.app.lifecycle.keep("schedule", "nightly", to_json(Standing(rule=rule, since=since)))
    service = served.serve()
    assert "caught up on" in await_line(service, "nightly: started")
    await_line(service, "nightly: done")
    service.signal(signal.SIGTERM)
    service.end()
    again = served.serve()
    await_line(again, "Serving")
    again.signal(signal.SIGTERM)
    assert "started" not in again.end().err
    assert len(served.runs()) == 1


@pytest.mark.parametrize("how", ["file", "signal"])
def test_a_new_configuration_is_taken_while_it_runs_and_a_faulty_one_is_not(served: Service, how: str) -> None:
    served.script.let("vacuum")
    served.write("# no schedule")
    service = served.serve()
    await_line(service, "Serving 0 jobs")

    def change(when: str) -> None:
        if how == "file":
            served.write(when)
            return
        before = served.config.stat()  # a change that the file does not show: as long, as old
        served.config.write_text(NIGHTLY.format(when=when))
        os.utime(served.config, ns=(before.st_atime_ns, before.st_mtime_ns))
        service.signal(signal.SIGHUP)

    change('every = "bad"')
    assert "The old one stays in force" in await_line(service, "not taken")
    assert service.process.poll() is None
    eventually("health says so", lambda: "the old one stays in force" in served.cli("health").out)
    change('every = "30m"')
    await_line(service, "Serving 1 job")
    eventually("health is content", lambda: "the configuration is sound" in served.cli("health").out)
    await_line(service, "nightly: done")


def test_systemd_is_told_of_start_life_and_stop(served: Service, tmp_path: Path) -> None:
    served.write("# no schedule")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind(str(tmp_path / "notify"))
        line.settimeout(30)
        service = served.serve(NOTIFY_SOCKET=str(tmp_path / "notify"))
        told = [line.recv(100).decode() for _ in range(3)]
        assert told[0] == "READY=1"
        assert set(told[1:]) == {"WATCHDOG=1"}
        service.signal(signal.SIGTERM)
        while told[-1] != "STOPPING=1":
            told.append(line.recv(100).decode())
    assert service.end().code == 0


def test_a_service_with_a_faulty_configuration_does_not_start(served: Service) -> None:
    served.write('schedule = "bad"')
    done = served.cli("serve")
    assert done.code == 2
    assert "five fields" in done.err


def test_a_port_that_is_taken_is_told_and_nothing_starts(served: Service) -> None:
    served.write("")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        done = served.cli("serve", "--port", port)
    assert done.code == 2
    assert f"cannot listen on 127.0.0.1 port {port}" in done.err
    assert "--port 0" in done.err


def test_the_unit_that_systemd_reads(served: Service) -> None:
    text = served.cli("install", "systemd", "--user", "app", "--config", "my.toml").out
    assert "Type=notify" in text
    assert "SuccessExitStatus=3 4" in text
    assert f"serve --config {served.folder}/my.toml" in text
    assert "User=app" in text
    assert {"NoNewPrivileges=yes", "ProtectSystem=full", "UMask=0077"} <= set(text.splitlines())
    limit = re.search(r"^TimeoutStopSec=(\d+min)$", text, re.MULTILINE)
    assert limit
    assert read_duration(GRACE) < read_duration(limit[1]), "it would be killed while it still waits for what runs"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not here")
def test_systemd_finds_no_fault_in_the_unit(served: Service) -> None:
    unit = served.folder / "dbupkeep.service"
    unit.write_text(served.cli("install", "systemd", "--user", "root").out)
    checked = subprocess.run(["systemd-analyze", "verify", str(unit)], check=False, capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_a_schedule_in_plain_words(served: Service) -> None:
    served.write('schedule = "15 1 * * MON-FRI"')
    told = served.cli("schedule").out
    assert "nightly · at 01:15 on Monday through Friday (UTC)" in told
    assert "it never ran" in told
    silent = served.cli("schedule").err
    assert "no service runs on this ledger" in silent
    (job,) = served.cli("schedule", "nightly", "--json").json["jobs"]
    assert len(job["next"]) == 3


def test_the_next_times_are_told_in_the_zone_of_the_job(served: Service) -> None:
    window = '[windows.dawn]\nopen = "15 1 * * *"\nlasts = "1h"\n[jobs.nightly]'
    when = 'schedule = "15 1 * * *"\ntimezone = "Asia/Kolkata"\nwindow = "dawn"'
    served.write(when, NIGHTLY.replace("[jobs.nightly]", window))
    told = served.cli("schedule").out
    assert re.search(r"next .* 01:15:00 IST, .* 01:15:00 IST", told), told
    assert re.search(r"window .*0[12]:15:00 IST", told), told


def test_a_job_keeps_to_its_window_also_when_a_person_starts_it(served: Service) -> None:
    served.script.let("vacuum")
    window = '[windows.new_year]\nopen = "0 0 1 1 *"\nlasts = "1s"\n[jobs.nightly]\nwindow = "new_year"'
    served.write("", NIGHTLY.replace("[jobs.nightly]", window))
    done = served.cli("run", "nightly")
    assert done.code == 4
    assert "the window new_year is closed; it opens at 00:00:00 UTC" in done.out
    assert served.cli("run", "nightly", "--any-time").code == 0


def test_an_application_is_resumed_by_the_next_start_after_kill_9_of_everything(served: Service) -> None:
    calls = served.folder / "calls"

    def says(word: str) -> str:
        return f'["sh", "-c", "echo {word} >> {calls}"]'

    hooks = f"[jobs.nightly.hooks]\npause_application = {says('paused')}\nresume_application = {says('resumed')}\n"
    served.write(text=f"{NIGHTLY}{hooks}")
    first = served.serve()
    served.await_operation("running")
    eventually("the application is paused", lambda: calls.exists() and "paused" in calls.read_text())
    (worker,) = served.workers(first)
    os.kill(first.process.pid, signal.SIGKILL)
    os.kill(worker, signal.SIGKILL)
    first.end()
    assert calls.read_text().split() == ["paused"]
    served.script.let("vacuum")
    served.serve()
    eventually("the run has ended", lambda: served.runs()[0].outcome == "done")
    eventually("nothing is owed", lambda: (served.app.reader.get("hook_debts", "open") or {})["runs"] == {})
    assert calls.read_text().split()[-1] == "resumed"


def test_what_a_killed_run_owes_is_paid_by_the_next_start_of_any_process(served: Service) -> None:
    calls = served.folder / "calls"
    command = '["sh", "-c", "echo $DBUPKEEP_HOOK >> {calls}"]'.replace("{calls}", str(calls))
    hooks = f"[jobs.nightly.hooks]\npause_application = {command}\nresume_application = {command}\n"
    served.write("# by hand", text=f"{NIGHTLY}{hooks}")
    run = served.cli.start("run", "nightly", "--lease", "1")
    eventually("the application is paused", lambda: calls.exists() and "pause_application" in calls.read_text())
    os.kill(run.process.pid, signal.SIGKILL)
    run.end()
    eventually("its lease has run out", lambda: not any(each.alive for each in served.app.queue.workers()))
    # One that cannot go on with the run, for which the application would rightly be paused again.
    worker = served.cli.start("worker", "--lane", "elsewhere", "--lease", "1")
    eventually("the application is resumed", lambda: calls.read_text().split()[-1] == "resume_application")
    assert not served.runs()[0].status.ended
    worker.signal(signal.SIGTERM)
    assert worker.end().code == 0

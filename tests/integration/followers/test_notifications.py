"""What people are told: changes, not repeats; and what is told of each receiver and ping, on real sockets."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import os
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dbupkeep.codec import to_json
from dbupkeep.config import Config, load
from dbupkeep.definitions import Window
from dbupkeep.errors import DefinitionError
from dbupkeep.follower import Message, Undelivered
from dbupkeep.followers.apprise import AppriseFollower
from dbupkeep.followers.notifications import Notifier, Told
from dbupkeep.followers.outbound import Reach
from dbupkeep.followers.ping import PingFollower, ping_url
from dbupkeep.followers.webhook import WebhookFollower, keys_of
from dbupkeep.outbox import Post, state_of
from dbupkeep.schedules import Missed, Standing
from dbupkeep.secret import Secret, Unreadable

HERE = Reach(private=True)

KEY = b"k" * 32
SECRET = "whsec_" + base64.b64encode(KEY).decode()

EVERYTHING = tuple(Told)


class Teller:
    """A notifier with its memory, its place, and what it said."""

    def __init__(self, bench: Any, *, on: Sequence[str] = EVERYTHING, jobs: Sequence[str] = ("nightly",)) -> None:
        self.bench = bench
        self.notifier = Notifier(bench.app.reader, jobs, on)
        self.memory: dict[str, Any] = {}
        self.after = bench.app.reader.newest()

    def listen(self) -> list[Message]:
        events = self.bench.app.reader.events(self.after)
        self.after = events[-1].seq if events else self.after
        told = list(self.notifier.fold(self.memory, events, self.bench.clock.now()))
        self.memory = json.loads(json.dumps(self.memory))  # as it comes back from the ledger
        return told

    def kinds(self) -> list[str]:
        return [message.kind for message in self.listen()]


def changes(on: Sequence[str] = ("failed", "recovered")) -> dict[str, Any]:
    return {"on": on}


def outcome(bench: Any, word: str) -> None:
    bench.says = {"vacuum": {"bad": "it broke", "good": "", "busy": "busy"}[word]}
    bench.run()


def test_a_failure_is_told_once_and_so_is_the_recovery(bench: Any) -> None:
    teller = Teller(bench, **changes())
    told = []
    for word in ("good", "good", "bad", "bad", "bad", "good", "good"):
        outcome(bench, word)
        told.append(teller.kinds())
    assert told == [[], [], ["failed"], [], [], ["recovered"], []]


def test_a_deferred_run_says_nothing_about_the_state(bench: Any) -> None:
    teller = Teller(bench, **changes())
    told = []
    for word in ("bad", "busy", "bad", "busy", "good"):
        outcome(bench, word)
        told += teller.kinds()
    assert told == ["failed", "recovered"]


def test_a_job_that_fails_and_recovers_in_turn_is_told_once_until_it_settles(bench: Any) -> None:
    teller = Teller(bench, **changes())
    told = []
    for word in ("bad", "good", "bad", "good", "bad", "good", "bad", "good", "bad"):
        outcome(bench, word)
        told += teller.kinds()
    assert told == ["failed", "recovered", "failed", "flapping"]
    for word in ("bad", "bad"):
        outcome(bench, word)
        told += teller.kinds()
    assert told[4:] == []  # it has settled on what was told last: failed
    for word in ("good", "good", "good"):
        outcome(bench, word)
        told += teller.kinds()
    assert told[4:] == ["recovered"]


def test_what_a_message_says(bench: Any) -> None:
    teller = Teller(bench, on=["failed"])
    bench.says = {"vacuum": "password=canary\x1b[31m broke"}
    run = bench.run("nightly", "scripted:///a", operations=("vacuum", "analyze"))
    (message,) = teller.listen()
    assert message.title == "nightly failed"
    assert "vacuum of a: password=***" in message.text
    assert "1 completed, 1 failed" in message.text
    assert f"dbupkeep show {run.id[:13]}" in message.text
    assert "\x1b" not in message.text
    assert "canary" not in json.dumps(to_json(message))
    assert message.data["operations"] == {"completed": 1, "failed": 1}
    assert message.data["run_id"] == run.id


def test_databases_that_could_not_be_found_are_told(bench: Any) -> None:
    from dbupkeep.definitions import JobDefinition, Step, Target
    from dbupkeep.errors import Missing

    def gone(_: object) -> Any:
        raise Missing("the folder is gone", hint="mount it")

    teller = Teller(bench, on=["failed"])
    bench.engine._found = gone
    place = Target(name="tenants", url="scripted:///srv/tenants", pattern="*.db")
    bench.app.runs.create_run(JobDefinition(name="nightly", steps=(Step(name="1", targets=(place,)),)))
    bench.app.drain()
    (message,) = teller.listen()
    assert message.text.splitlines()[0] == "find databases in tenants: the folder is gone"


def test_only_runs_of_the_jobs_that_name_it_are_told(bench: Any) -> None:
    teller = Teller(bench, jobs=("other",))
    outcome(bench, "bad")
    assert teller.kinds() == []


def test_the_third_deferral_in_a_row_is_told_and_the_fourth_is_not(bench: Any) -> None:
    teller = Teller(bench, on=["deferred"])
    told = []
    for word in ("busy", "busy", "busy", "busy", "good", "busy", "busy", "busy"):
        outcome(bench, word)
        told.append(teller.listen())
    assert [len(each) for each in told] == [0, 0, 1, 0, 0, 0, 0, 1]
    assert "somebody holds a lock" in told[2][0].text


def test_a_window_that_was_missed_is_told_once_until_the_job_has_run_again(bench: Any) -> None:
    def miss(hours: float) -> None:
        at = bench.clock.now() - timedelta(hours=hours)
        standing = Standing(rule="r", since=at, missed=Missed(due=at, at=at, reason="its last run has not ended"))
        bench.app.lifecycle.keep("schedule", "nightly", to_json(standing))

    teller = Teller(bench, on=["window_missed"])
    miss(100)
    assert teller.kinds() == []  # long ago, before anybody asked
    miss(3)
    (message,) = teller.listen()
    assert "its last run has not ended" in message.text
    assert teller.kinds() == []
    miss(2)
    assert teller.kinds() == []  # again, without a run in between
    bench.run()
    teller.listen()
    miss(1)
    assert teller.kinds() == ["window_missed"]


def test_work_after_the_window_has_closed_is_told(bench: Any) -> None:
    """The engine cannot interrupt it: the clock goes on while it works."""
    from msgspec import structs

    from dbupkeep.definitions import JobDefinition, Step, Target
    from dbupkeep.operations import parse

    teller = Teller(bench, on=["window_overrun"])
    window = Window(name="night", open="* * * * *", lasts=timedelta(seconds=50))

    def slow(*_: object) -> None:
        bench.clock.wait(minutes=2)

    bench.engine.act = slow
    step = Step(name="1", targets=(Target(name="a", url="scripted:///a"),), operations=parse(["vacuum"]))
    job = JobDefinition(name="nightly", steps=(step,), window=window)
    if bench.clock.now().second > 30:  # so that it starts well before closing
        bench.clock.wait(seconds=60 - bench.clock.now().second)
    bench.app.runs.create_run(structs.replace(job))
    bench.app.drain()
    (message,) = teller.listen()
    assert message.data["overrun_seconds"] > 1
    assert "after its end" in message.text


def test_a_week_is_summed_up_on_monday(bench: Any) -> None:
    teller = Teller(bench, on=["weekly_digest"])
    assert teller.kinds() == []
    for _ in range(3):
        bench.run()
    outcome(bench, "bad")
    assert teller.kinds() == []
    bench.clock.wait(days=7)
    (message,) = teller.listen()
    assert message.kind == "weekly_digest"
    assert message.data["runs"] == 4
    assert message.data["failed_runs"] == 1
    assert message.data["given_back_bytes"] == 3
    bench.clock.wait(days=7)
    assert teller.kinds() == []  # nothing ran


def test_the_same_events_give_the_same_ids(bench: Any) -> None:
    one, other = Teller(bench), Teller(bench)
    outcome(bench, "bad")
    ids = [message.id for message in one.listen()]
    assert ids == [message.id for message in other.listen()]
    assert len(set(ids)) == len(ids) == 2
    assert all("." not in each for each in ids)  # what is signed is id.time.body


# --- Receivers ----------------------------------------------------------------------------------------------------------


def webhook(bench: Any, receiver: Any, **changes: Any) -> WebhookFollower:
    given: dict[str, Any] = {
        "url": Secret(f"{receiver.url}/hook"), "secret": Secret(SECRET), "reach": HERE, "clock": bench.clock,
        "notifier": Notifier(bench.app.reader, ["nightly"], EVERYTHING), **changes,
    }  # fmt: skip
    return WebhookFollower("ops", **given)


def deliver(bench: Any, *followers: Any) -> None:
    for follower in followers:
        at = Post(follower, **bench.parts())
        while at.step(bench.app.reader.newest(), lambda: True):
            pass


def test_a_webhook_is_a_signed_cloud_event(bench: Any, receiver: Any) -> None:
    follower = webhook(bench, receiver, secret=Secret(f"{SECRET} whsec_{base64.b64encode(b'n' * 24).decode()}"))
    deliver(bench, follower)
    outcome(bench, "bad")
    deliver(bench, follower)
    ended, failed = receiver.received
    head = failed.headers
    assert (failed.method, failed.path) == ("POST", "/hook")
    assert head["content-type"] == "application/cloudevents+json"
    assert abs(int(head["webhook-timestamp"]) - bench.clock.now().timestamp()) < 60
    signed = f"{head['webhook-id']}.{head['webhook-timestamp']}.".encode() + failed.body
    wanted = [base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode() for key in (KEY, b"n" * 24)]
    assert head["webhook-signature"] == " ".join(f"v1,{each}" for each in wanted)
    event = json.loads(failed.body)
    assert event["specversion"] == "1.0"
    assert event["id"] == head["webhook-id"]
    assert (event["type"], event["source"]) == ("dbupkeep.failed", "/dbupkeep/jobs/nightly")
    assert event["data"]["outcome"] == "failed"
    assert json.loads(ended.body)["type"] == "dbupkeep.ended"


@pytest.mark.parametrize(
    ("status", "refused", "why"),
    [(500, False, "500"), (429, False, "429"), (400, True, "400"), (302, False, "redirects are not followed")],
)
def test_an_answer_that_is_no_success_is_no_delivery(
    bench: Any, receiver: Any, status: int, refused: bool, why: str
) -> None:
    receiver.status, receiver.location = status, f"{receiver.url}/elsewhere"
    with pytest.raises(Undelivered, match=why) as caught:
        webhook(bench, receiver).deliver(Message(id="m", kind="failed", at=bench.clock.now()))
    assert caught.value.refused is refused
    assert receiver.paths == ["/hook"]


def test_a_webhook_in_a_private_network_must_be_allowed_to_be_there(bench: Any, receiver: Any) -> None:
    follower = webhook(bench, receiver, url=Secret(receiver.url.replace("http:", "https:")), reach=Reach())
    with pytest.raises(Undelivered, match="private"):
        follower.deliver(Message(id="m", kind="failed", at=bench.clock.now()))
    assert receiver.received == []


@pytest.mark.parametrize(("mode", "refused"), [(0o644, True), (0o660, True), (0o640, os.getuid() != 0), (0o600, False)])
def test_a_secret_that_others_can_read_is_refused(tmp_path: Path, mode: int, refused: bool) -> None:
    file = tmp_path / "key"
    file.write_text("of us alone")
    file.chmod(mode)
    if not refused:
        assert Secret(f"file:{file}").read() == "of us alone"
        return
    with pytest.raises(Unreadable, match=f"can be read by others: chmod 600 {file}"):
        Secret(f"file:{file}").read()


def test_a_secret_is_read_when_it_is_needed_and_never_shows(
    bench: Any, receiver: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    canary = base64.b64encode(b"canary" * 5).decode()
    file = tmp_path / "key"
    monkeypatch.setenv("HOOK_URL", f"{receiver.url}/canary-path")
    follower = webhook(bench, receiver, url=Secret("env:HOOK_URL"), secret=Secret(f"file:{file}"))
    deliver(bench, follower)
    outcome(bench, "bad")
    deliver(bench, follower)
    state = state_of(bench.app.reader, "notify:ops")
    assert state is not None
    assert "cannot be read: no such file" in state.reason
    file.write_text(f"whsec_{canary}\n")
    file.chmod(0o600)
    bench.clock.wait(minutes=1)
    receiver.status = 500
    deliver(bench, follower)
    bench.clock.wait(minutes=1)
    receiver.status = 200
    deliver(bench, follower)
    assert receiver.paths[-1] == "/canary-path"
    state = state_of(bench.app.reader, "notify:ops")
    assert state is not None
    assert state.outbox == []
    kept = bench.path.read_bytes() + Path(f"{bench.path}-wal").read_bytes()
    seen = caplog.text + repr(follower.__dict__)
    for told in ("canary-path", canary):
        assert told not in seen
        assert told.encode() not in kept


@pytest.mark.parametrize("text", ["whsec_???", "whsec_" + base64.b64encode(b"short").decode(), "x" * 200])
def test_a_secret_that_is_none_is_said_without_it(text: str) -> None:
    with pytest.raises(ValueError, match="secret") as caught:
        keys_of(text)
    assert text not in str(caught.value)


def test_pings_say_that_a_run_began_and_how_it_ended(bench: Any, receiver: Any) -> None:
    follower = PingFollower(
        "nightly", url=Secret(f"{receiver.url}/ping/uuid?create=1"), reach=HERE, reader=bench.app.reader
    )
    deliver(bench, follower)
    runs = []
    for word in ("good", "bad", "busy"):
        outcome(bench, word)
        runs.append(bench.app.reader.get("latest_run", "nightly")["job_id"])
    bench.run("another")
    deliver(bench, follower)
    good, bad, busy = runs
    assert receiver.paths == [
        f"/ping/uuid/start?create=1&rid={good}", f"/ping/uuid?create=1&rid={good}",
        f"/ping/uuid/start?create=1&rid={bad}", f"/ping/uuid/fail?create=1&rid={bad}",
        f"/ping/uuid/start?create=1&rid={busy}", f"/ping/uuid/log?create=1&rid={busy}",
    ]  # fmt: skip
    assert b"nightly ended: failed" in receiver.received[3].body
    assert b"1 failed" in receiver.received[3].body


def test_the_url_of_a_ping() -> None:
    assert ping_url("https://hc.example.org/ping/x/", "success", "r") == "https://hc.example.org/ping/x?rid=r"
    assert ping_url("https://hc.example.org/x", "fail", "r") == "https://hc.example.org/x/fail?rid=r"


@pytest.mark.filterwarnings("ignore:.imghdr. is deprecated")
def test_apprise_delivers_to_all_of_its_urls(bench: Any, receiver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("apprise")
    place = receiver.url.removeprefix("http://")
    monkeypatch.setenv("CHAT", f"json://user:canary@{place}/chat\njson://{place}/other")
    follower = AppriseFollower(
        "chat", urls=Secret("env:CHAT"), notifier=Notifier(bench.app.reader, ["nightly"], ["failed", "recovered"])
    )
    deliver(bench, follower)
    outcome(bench, "bad")
    outcome(bench, "good")
    deliver(bench, follower)
    assert receiver.paths == ["/chat", "/other", "/chat", "/other"]
    first, last = json.loads(receiver.received[0].body), json.loads(receiver.received[-1].body)
    assert (first["title"], first["type"]) == ("nightly failed", "failure")
    assert (last["title"], last["type"]) == ("nightly is well again", "success")


@pytest.mark.filterwarnings("ignore:.imghdr. is deprecated")
def test_what_apprise_cannot_deliver_stays_and_shows_no_url(
    bench: Any, receiver: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: Any
) -> None:
    pytest.importorskip("apprise")
    receiver.status = 500
    monkeypatch.setenv("CHAT", f"json://user:canary@{receiver.url.removeprefix('http://')}/chat")
    follower = AppriseFollower("chat", urls=Secret("env:CHAT"), notifier=Notifier(bench.app.reader, [], []))
    message = Message(id="m", kind="failed", at=bench.clock.now(), title="t", text="x")
    with pytest.raises(Undelivered, match="could not deliver") as caught:
        follower.deliver(message)
    monkeypatch.setenv("CHAT", "nonsense-canary://")
    with pytest.raises(Undelivered, match="does not know 1 of 1"):
        follower.deliver(message)
    assert "canary" not in caplog.text + str(caught.value) + capfd.readouterr().err


# --- Configuration --------------------------------------------------------------------------------------------------------

FILE = """
version = 1
notify_hosts = ["*.example.org"]
[targets.a]
url = "sqlite:///a.db"
[notify.ops]
webhook = "https://hooks.example.org/canary"
secret = "env:OPS"
on = ["failed", "recovered"]
[notify.chat]
apprise = "file:/run/secrets/chat"
[jobs.nightly]
notifications = ["ops", "chat"]
healthcheck = "https://hc.example.org/ping/canary"
[[jobs.nightly.steps]]
targets = ["a"]
"""


def read(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return load(path, environ={})


def test_receivers_of_a_configuration_and_what_is_shown_of_them(bench: Any, tmp_path: Path) -> None:
    config = read(tmp_path, FILE)
    names = [follower.name for follower in bench.app.followers(config)]
    assert names == ["totals", "ping:nightly", "notify:ops", "notify:chat"]
    ops = config.receivers["ops"]
    assert (ops.jobs, ops.on, ops.hosts) == (("nightly",), ("failed", "recovered"), ("*.example.org",))
    shown = {value.key: value.value for value in config.show()}
    assert shown["notify.ops.webhook"] == "https://hooks.example.org/***"
    assert shown["jobs.nightly.healthcheck"] == "https://hc.example.org/***"
    assert shown["notify.ops.secret"] == "env:OPS"
    assert "canary" not in repr(config)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('secret = "env:OPS"', 'secret = "whsec_canary"', "is a secret, which is not written here"),
        ('secret = "env:OPS"', "", '"secret" is needed'),
        ("https://hooks.example.org", "http://hooks.example.org", "without TLS"),
        ("https://hc.example.org", "http://hc.example.org", "without TLS"),
        ('"ops", "chat"', '"opps"', 'did you mean "ops"'),
        ('on = ["failed"', 'on = ["fialed"', 'did you mean "failed"'),
        ("file:/run/secrets/chat", "ntfy://canary", "is a secret"),
        ("https://hooks.example.org/canary", "gopher://canary", "must be a url such as https"),
        ('apprise = "file:/run/secrets/chat"', "", "needs either"),
        ("[notify.chat]", "[notify.chat]\nsecrt = 1", 'did you mean "secret"'),
    ],
)
def test_a_fault_is_said_without_the_secret(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in FILE
    with pytest.raises(DefinitionError) as caught:
        read(tmp_path, FILE.replace(old, new))
    assert said in str(caught.value.why)
    assert "canary" not in caught.value.message

"""C9: tokens and sessions, from their making to their end; no secret is where it does not belong."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dbupkeep.access import MOST_SESSIONS, SESSION_LASTS, Access, Role, Roll, Token, digest
from dbupkeep.app import App
from dbupkeep.errors import UnknownName, UsageError
from dbupkeep.views.web.gate import COOKIE, Gate
from dbupkeep.views.web.roles import Caller
from dbupkeep.views.web.tokens import first_gate, place_of
from tests.integration.http.security.conftest import Browser, Client, Serve, ShiftedClock

READ = "/api/v1/jobs/none"
"""Tells who is known (404) from who is not (401)."""


def everything(folder: Path) -> bytes:
    """All bytes of all files beside the ledger but the file of the first token."""
    return b"".join(path.read_bytes() for path in folder.iterdir() if path.is_file() and path.suffix != ".token")


def test_a_token_is_256_bits_and_only_its_hash_is_kept(access: Access, tmp_path: Path) -> None:
    texts = {access.create(f"t{number}", Role.VIEWER, by="test") for number in range(20)}
    assert len(texts) == 20
    assert all(len(text) >= 43 for text in texts)
    kept = everything(tmp_path)
    assert not [text for text in texts if text.encode() in kept]
    assert all(digest(text).encode() in kept for text in texts)


def test_what_is_no_token_opens_nothing(client: Client) -> None:
    good = client.tokens["admin"]
    for text in ("", " ", good[:-1], good + "x", good.upper(), digest(good), "null", "\u00e9", "x" * 5000):
        assert client.get(READ, ("Authorization", f"Bearer {text}")).status == 401, text
    for header in (f"bearer {good}", f"BEARER {good}"):
        assert client.get(READ, ("Authorization", header)).status == 404


@pytest.mark.parametrize("place", ["?token={}", "?access_token={}", "?authorization=Bearer%20{}", "#{}"])
def test_a_token_in_the_address_opens_nothing(client: Client, place: str) -> None:
    assert client.get(READ + place.format(client.tokens["admin"])).status == 401


def test_a_revoked_token_and_its_sessions_end_within_a_second(
    client: Client, access: Access, clock: ShiftedClock
) -> None:
    browser = client.log_in("operator")
    assert client.get(READ, role="operator").status == client.get(READ, browser.cookie).status == 404
    access.revoke("operator", by="test")
    clock.later += timedelta(seconds=1)
    assert client.get(READ, role="operator").status == client.get(READ, browser.cookie).status == 401
    assert client.get(READ, role="viewer").status == 404


@pytest.mark.parametrize("how", ["token", "session"])
def test_an_event_stream_ends_with_its_token(
    client: Client, access: Access, app: App, clock: ShiftedClock, run: str, how: str
) -> None:
    header = (
        client.log_in("viewer").cookie if how == "session" else ("Authorization", f"Bearer {client.tokens['viewer']}")
    )
    with closing(socket.create_connection(("127.0.0.1", client.port), timeout=30)) as stream:
        lines = ["GET /api/v1/events/stream HTTP/1.1", "Host: localhost", ": ".join(header), "", ""]
        stream.sendall("\r\n".join(lines).encode())
        seen = b""
        while b"\r\n\r\n" not in seen:
            seen += stream.recv(65536)
        app.lifecycle.pause(run)
        while b"run_paused" not in seen:
            seen += stream.recv(65536)
        access.revoke("viewer", by="test")
        clock.later += timedelta(seconds=2)
        app.lifecycle.resume(run)
        while part := stream.recv(65536):
            seen += part
            if seen.endswith(b"0\r\n\r\n") or b"run_resumed" in seen:
                break
    assert b"run_resumed" not in seen


def test_a_token_and_its_sessions_end_when_it_expires(serve: Serve, access: Access, clock: ShiftedClock) -> None:
    client = serve()
    client.tokens["short"] = access.create("short", Role.VIEWER, by="test", lasts=timedelta(hours=1))
    browser = client.log_in("short")
    assert client.get(READ, browser.cookie).status == 404
    clock.later += timedelta(hours=1)
    assert client.get(READ, browser.cookie).status == client.get(READ, role="short").status == 401


def test_a_session_ends_after_its_time_whatever_it_does(client: Client, clock: ShiftedClock) -> None:
    browser = client.log_in()
    clock.later += SESSION_LASTS - timedelta(minutes=1)
    assert client.get(READ, browser.cookie).status == 404
    clock.later += timedelta(minutes=1)
    assert client.get(READ, browser.cookie).status == 401


def test_who_logs_out_is_out_with_that_browser_alone(client: Client) -> None:
    one, two = client.log_in(), client.log_in()
    answer = client.post("/logout", one.cookie, ("Origin", client.origin), csrf_token=one.csrf)
    assert (answer.status, answer.header("location")) == (303, "/login")
    assert "Max-Age=0" in answer.header("set-cookie")
    assert client.get(READ, one.cookie).status == 401
    assert client.get(READ, two.cookie).status == 404


def test_sessions_survive_a_restart_and_are_kept_as_hashes(serve: Serve, tmp_path: Path) -> None:
    client = serve()
    browser = client.log_in()
    again = Client(port=serve_again(serve, client).port)
    assert again.get(READ, browser.cookie).status == 404
    assert browser.session.encode() not in everything(tmp_path)


def serve_again(serve: Serve, client: Client) -> Client:
    """Another server on the same ledger, with the same tokens."""
    return serve(tokens=client.tokens)


def test_a_token_has_only_so_many_sessions_and_the_oldest_give_way(client: Client, clock: ShiftedClock) -> None:
    browsers: list[Browser] = []
    for _ in range(MOST_SESSIONS + 1):
        clock.later += timedelta(seconds=1)
        browsers.append(client.log_in())
    clock.later += timedelta(seconds=1)
    assert client.get(READ, browsers[0].cookie).status == 401
    assert client.get(READ, browsers[1].cookie).status == client.get(READ, browsers[-1].cookie).status == 404


def test_the_cookie_is_not_for_scripts_nor_for_other_sites(client: Client) -> None:
    answer = client.post("/login", ("Origin", client.origin), token=client.tokens["viewer"])
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(answer.header("set-cookie").split("; "))
    assert "Domain" not in answer.header("set-cookie")


@pytest.mark.parametrize(
    "there",
    ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "/\tx", "", "/login", "x"],
)
def test_who_logs_in_stays_on_this_site(client: Client, there: str) -> None:
    answer = client.post("/login", ("Origin", client.origin), token=client.tokens["viewer"], next=there)
    assert (answer.status, answer.header("location")) == (303, "/")


def test_who_logs_in_goes_where_they_wanted_to(client: Client) -> None:
    answer = client.post("/login", ("Origin", client.origin), token=client.tokens["viewer"], next="/runs/1?x=2")
    assert answer.header("location") == "/runs/1?x=2"


def test_a_wrong_token_is_told_and_not_said_again(client: Client) -> None:
    answer = client.post("/login", ("Origin", client.origin), token="s3cret-guess")  # noqa: S106 - no secret
    assert answer.status == 401
    assert not answer.header("set-cookie")
    assert b"s3cret-guess" not in answer.body


def test_the_last_use_is_kept_to_the_minute(
    client: Client, access: Access, clock: ShiftedClock, eventually: Callable[[Callable[[], bool]], None]
) -> None:
    assert access.roll().tokens["viewer"].used_at is None
    before = clock.now()
    client.get(READ, role="viewer")
    eventually(lambda: access.roll().tokens["viewer"].used_at is not None)
    first = access.roll().tokens["viewer"].used_at
    assert first is not None
    assert before - timedelta(seconds=1) <= first <= clock.now()
    clock.later += timedelta(minutes=2)
    client.get(READ, role="viewer")
    eventually(lambda: access.roll().tokens["viewer"].used_at != first)
    assert access.roll().tokens["operator"].used_at is None


def test_a_name_that_is_in_use_is_not_given_twice(access: Access, clock: ShiftedClock) -> None:
    access.create("ci", Role.VIEWER, by="test")
    with pytest.raises(UsageError, match="there is a token ci already"):
        access.create("ci", Role.ADMIN, by="test")
    access.revoke("ci", by="test")
    access.create("ci", Role.ADMIN, by="test")
    with pytest.raises(UnknownName):
        access.revoke("nobody", by="test")


def test_of_too_many_tokens_the_oldest_that_has_ended_gives_way(
    access: Access, clock: ShiftedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dbupkeep.access.MOST_TOKENS", 3)
    for name in ("z", "m", "a"):
        access.create(name, Role.VIEWER, by="test")
        clock.later += timedelta(seconds=1)
    with pytest.raises(UsageError, match="there are 3 tokens already"):
        access.create("new", Role.VIEWER, by="test")
    access.revoke("a", by="test")
    access.revoke("z", by="test")
    access.create("new", Role.VIEWER, by="test")
    assert sorted(access.roll().tokens) == ["a", "m", "new"]


def test_who_logs_in_is_known_at_once_whatever_was_read_meanwhile(
    access: Access, clock: ShiftedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read of the ledger that began before the session was there, and ends after it, is of no use."""
    text = access.create("maria", Role.VIEWER, by="test")
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> Roll:
        roll = Access.roll(access)
        begun.set()
        assert go_on.wait(30)
        return roll

    async def main() -> Caller | None:
        gate = Gate(access, clock)
        await gate.caller({"authorization": f"Bearer {text}"})
        opened = access.open_session

        def meanwhile(token: Token) -> str:
            clock.later += timedelta(seconds=2)  # so that others read anew
            asyncio.run_coroutine_threadsafe(read(), loop)
            assert begun.wait(30)
            return opened(token)

        async def read() -> None:
            await gate.caller({"authorization": f"Bearer {text}"})
            done.set()

        loop, done = asyncio.get_running_loop(), asyncio.Event()
        monkeypatch.setattr(access, "roll", slow)
        monkeypatch.setattr(access, "open_session", meanwhile)
        secret = await gate.log_in(text)
        go_on.set()
        await done.wait()
        return await gate.caller({"cookie": f"{COOKIE}={secret}"})

    caller = asyncio.run(main())
    assert caller is not None
    assert caller.name == "token maria"


@pytest.mark.parametrize("name", ["", " x", "x\n", "\x1b[31m", "x" * 65, "\u202ex"])
def test_a_name_is_one_that_can_be_shown(access: Access, name: str) -> None:
    with pytest.raises(UsageError, match="no name for a token"):
        access.create(name, Role.VIEWER, by="test")


GARBAGE: list[dict[str, Any]] = [
    {"x": 5}, {"x": None}, {"x": {"name": "x"}}, {"x": {"name": "x", "role": "admin", "hash": "h", "created_at": "yesterday"}},
]  # fmt: skip


@pytest.mark.parametrize("garbage", GARBAGE)
def test_a_ledger_whose_tokens_cannot_be_read_lets_nobody_in(
    client: Client, app: App, clock: ShiftedClock, garbage: dict[str, Any]
) -> None:
    app.lifecycle.keep("access", "tokens", garbage)
    clock.later += timedelta(seconds=2)
    answer = client.get(READ, role="admin")
    assert (answer.status, answer.json["detail"][:10]) == (503, "the tokens")
    assert client.get("/healthz").status == 200


@pytest.mark.parametrize("role", ["root", "", "ADMIN", "admin "])
def test_a_role_that_nobody_knows_is_the_smallest(
    client: Client, app: App, clock: ShiftedClock, access: Access, role: str
) -> None:
    kept = dict(app.reader.get("access", "tokens") or {})
    kept["admin"] = {**kept["admin"], "role": role}
    app.lifecycle.keep("access", "tokens", kept)
    clock.later += timedelta(seconds=2)
    assert client.get(READ, role="admin").status == 404
    assert client.get("/api/v1/audit", role="admin").status == 403


class TestFirstToken:
    """What a service starts with."""

    def test_it_is_told_once_and_kept_for_its_owner_whatever_the_umask(self, app: App) -> None:
        said: list[str] = []
        before = os.umask(0)
        try:
            first_gate(app, said.append, {})
        finally:
            os.umask(before)
        path = place_of(app.location)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        text = path.read_text().strip()
        assert len(said) == 1
        assert text in said[0]
        first_gate(app, said.append, {})
        assert len(said) == 1
        assert access_of(app).roll().token(text, app.clock.now())

    def test_a_file_that_others_can_read_is_refused(self, app: App) -> None:
        first_gate(app, lambda _: None, {})
        place_of(app.location).chmod(0o640)
        with pytest.raises(UsageError, match="can be read by others"):
            first_gate(app, lambda _: None, {})

    def test_a_link_in_its_place_is_not_followed(self, app: App, tmp_path: Path) -> None:
        victim = tmp_path / "victim"
        place_of(app.location).symlink_to(victim)
        with pytest.raises(UsageError, match="cannot be read"):
            first_gate(app, lambda _: None, {})
        assert not victim.exists()

    def test_one_whose_file_was_never_made_is_not_a_riddle(self, app: App) -> None:
        first_gate(app, lambda _: None, {})
        place_of(app.location).unlink()
        said: list[str] = []
        first_gate(app, said.append, {})
        assert "dbupkeep token create NAME --role admin" in said[0]
        access_of(app).revoke("first", by="test")
        first_gate(app, said.append, {})
        assert len(said) == 1
        assert not place_of(app.location).exists()

    def test_revoked_it_stays_revoked(self, app: App) -> None:
        first_gate(app, lambda _: None, {})
        access_of(app).revoke("first", by="test")
        first_gate(app, lambda _: None, {})
        text = place_of(app.location).read_text().strip()
        assert access_of(app).roll().token(text, app.clock.now()) is None

    def test_that_of_the_environment_is_not_kept_anywhere(self, app: App, tmp_path: Path) -> None:
        first_gate(app, pytest.fail, {"DBUPKEEP_TOKEN": "canary-of-the-environment"})
        assert not place_of(app.location).exists()
        kept = everything(tmp_path)
        assert b"canary-of-the-environment" not in kept
        assert digest("canary-of-the-environment").encode() not in kept


class TestTokenOfTheEnvironment:
    """It is the service's alone, and so are its sessions."""

    TEXT = "of-the-environment-0123456789"

    def gate(self, app: App, text: str) -> Gate:
        return first_gate(app, lambda _: None, {"DBUPKEEP_TOKEN": text})

    def test_it_opens_and_so_does_its_session_after_a_restart(self, app: App, serve: Serve) -> None:
        client = serve(gate=self.gate(app, self.TEXT))
        client.tokens["given"] = self.TEXT
        assert client.get("/api/v1/audit", role="given").status == 200
        browser = client.log_in("given")
        again = serve(gate=self.gate(app, self.TEXT), tokens=client.tokens)
        assert again.get("/api/v1/audit", browser.cookie).status == 200

    def test_its_sessions_end_when_it_changes(self, app: App, serve: Serve) -> None:
        client = serve(gate=self.gate(app, self.TEXT))
        client.tokens["given"] = self.TEXT
        browser = client.log_in("given")
        changed = serve(gate=self.gate(app, self.TEXT + "!"), tokens=client.tokens)
        assert changed.get(READ, browser.cookie).status == 401
        without = serve(tokens=client.tokens)
        assert without.get(READ, browser.cookie).status == without.get(READ, role="given").status == 401


def access_of(app: App) -> Access:
    return Access(reader=app.reader, lifecycle=app.lifecycle, clock=app.clock)

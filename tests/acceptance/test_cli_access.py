"""Tokens, the audit trail, and how far a service may be reached, by the real command."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sqlite3
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from dbupkeep.testing.pair_kit import eventually

USAGE = 2


@pytest.fixture
def ledger(cli: Any, tmp_path: Path) -> Path:
    cli.environ["DBUPKEEP_LEDGER"] = str(tmp_path / "ledger.db")
    cli.environ["DBUPKEEP_CONFIG"] = str(tmp_path / "config.toml")
    (tmp_path / "config.toml").write_text("version = 1\n")
    return tmp_path / "ledger.db"


class Served:
    """A service that runs, and where."""

    def __init__(self, cli: Any, *arguments: str, **environ: str) -> None:
        self.started = cli.start("serve", "--port", "0", "--workers", "0", *arguments, **environ)
        self.lines: list[str] = []
        for line in self.started.process.stderr:
            self.lines.append(line)
            if found := re.search(r"http://\S+:(\d+)", line):
                self.port = int(found[1])
                return
        raise AssertionError(f"it did not start: {self.lines}")

    def status(self, path: str, *, token: str = "", host: str = "localhost", **more: str) -> int:
        headers = {"Host": host, **({"Authorization": f"Bearer {token}"} if token else {}), **more}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310 - of this test
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    def end(self) -> str:
        """Everything that it said."""
        self.started.signal(signal.SIGTERM)
        done = self.started.end()
        assert done.code == 0, done
        return "".join(self.lines) + str(done.out) + str(done.err)


def test_a_token_is_made_shown_once_listed_and_revoked(cli: Any, ledger: Path) -> None:
    made = cli("token", "create", "grafana", "--days", "30")
    text = made.out.strip()
    assert re.fullmatch(r"[\w-]{43}", text)
    assert "shown this once" in made.err
    other = cli("token", "create", "ci", "--role", "operator", "--json").json
    assert (other["name"], other["role"], other["state"], other["expires_at"]) == ("ci", "operator", "valid", None)
    listed = cli("token", "list")
    assert text not in listed.out
    assert re.search(r"grafana\s+viewer\s+valid", listed.out)
    assert cli("token", "revoke", "ci").out == "Revoked ci.\n"
    states = {each["name"]: each["state"] for each in cli("token", "list", "--json").json["tokens"]}
    assert states == {"grafana": "valid", "ci": "revoked"}
    assert cli("token", "revoke", "nobody").code == USAGE
    assert cli("token", "create", "grafana").code == USAGE


def test_a_running_service_takes_new_tokens_and_refuses_revoked_ones(cli: Any, ledger: Path) -> None:
    service = Served(cli)
    text = cli("token", "create", "ci").out.strip()
    eventually("the new token opens", lambda: service.status("/api/v1/jobs", token=text) == 200)
    cli("token", "revoke", "ci")
    eventually("the revoked token opens nothing", lambda: service.status("/api/v1/jobs", token=text) == 401)
    service.end()


def test_the_trail_is_listed_and_found_whole_or_broken(cli: Any, ledger: Path, bloated: Path) -> None:
    assert cli("run", bloated).code == 0
    cli("token", "create", "ci")
    acts = cli("audit", "list", "--json").json["acts"]
    account = acts[0]["who"]
    assert [(each["what"], each["who"]) for each in acts] == [("token_create", account), ("run", account)]
    assert str(bloated) in acts[1]["target"]
    runs = cli("jobs", "--json").json["jobs"]
    assert acts[1]["on"] == runs[0]["id"]
    assert [each["what"] for each in cli("audit", "list", "--what", "run", "--json").json["acts"]] == ["run"]
    whole = cli("audit", "verify")
    assert whole.code == 0
    assert "is whole: 2 entries" in whole.out
    seal = whole.out.split()[-1]
    assert cli("audit", "verify", "--seal", seal).code == 0
    connection = sqlite3.connect(ledger)
    connection.executescript("drop trigger audit_unchanged; update audit set who = 'nobody' where seq = 1")
    connection.close()
    broken = cli("audit", "verify", "--json")
    assert broken.code == 1
    assert broken.json["faults"] == ["entry 1 was changed"]
    assert cli("audit", "verify", "--seal", "nonsense").code == USAGE


def test_starts_reloads_and_schedules_are_told(cli: Any, ledger: Path, tmp_path: Path) -> None:
    service = Served(cli)
    (tmp_path / "config.toml").write_text('version = 1\ntimezone = "Europe/Berlin"\n')
    service.started.signal(signal.SIGHUP)

    def verbs() -> list[str]:
        return [each["what"] for each in cli("audit", "list", "--json").json["acts"]]

    eventually("the new configuration is told", lambda: "configuration_reload" in verbs())
    service.end()
    reload = cli("audit", "list", "--what", "configuration_reload", "--json").json["acts"][0]
    assert reload["on"] == str(tmp_path / "config.toml")
    assert len(reload["detail"]["sha256"]) == 64
    assert verbs()[-1:] == ["token_create"]
    assert "serve" in verbs()


LOCAL = ["127.0.0.1", "localhost", "127.0.0.2"]
WIDE = ["0.0.0.0"]  # noqa: S104 - only asked for


@pytest.mark.parametrize("host", LOCAL)
def test_a_service_listens_on_its_own_machine(cli: Any, ledger: Path, host: str) -> None:
    service = Served(cli, "--host", host)
    if host != "127.0.0.2":
        assert service.status("/healthz") == 200
    service.end()


@pytest.mark.parametrize("how", ["option", "file", "environment"])
def test_a_place_that_others_reach_is_refused(cli: Any, ledger: Path, tmp_path: Path, how: str) -> None:
    if how == "file":
        (tmp_path / "config.toml").write_text('version = 1\n[server]\nhost = "0.0.0.0"\n')
    environ = {"DBUPKEEP_SERVER__HOST": "0.0.0.0"} if how == "environment" else {}  # noqa: S104 - only asked for
    done = cli("serve", "--port", "0", *(["--host", *WIDE] if how == "option" else []), **environ)
    assert done.code == USAGE
    assert "refusing to listen on 0.0.0.0, which other machines can reach" in done.err
    assert "tls_proxy = true" in done.err
    assert not list(tmp_path.glob("*.token"))


def test_behind_a_proxy_or_when_asked_by_name_it_is_not(cli: Any, ledger: Path) -> None:
    proxied = Served(cli, "--host", *WIDE, DBUPKEEP_SERVER__TLS_PROXY="true")
    assert proxied.status("/healthz") == 200
    assert "without TLS" not in proxied.end()
    plain = Served(cli, "--host", *WIDE, DBUPKEEP_SERVER__PLAIN_HTTP="true", DBUPKEEP_TOKEN="x" * 32)
    assert plain.status("/api/v1/jobs") == 401
    assert plain.status("/api/v1/jobs", token="x" * 32) == 200
    assert "without TLS" in plain.end()


def test_a_token_that_can_be_guessed_is_refused_where_others_reach(cli: Any, ledger: Path) -> None:
    short = {"DBUPKEEP_TOKEN": "letmein"}
    done = cli("serve", "--port", "0", "--host", *WIDE, DBUPKEEP_SERVER__TLS_PROXY="true", **short)
    assert done.code == USAGE
    assert "with so short a token" in done.err
    assert "letmein" not in done.err + done.out
    service = Served(cli, **short)
    assert service.status("/api/v1/jobs", token="letmein") == 200  # noqa: S106 - of this test
    service.end()


def test_another_name_is_answered_to_once_it_is_configured(cli: Any, ledger: Path) -> None:
    service = Served(cli)
    assert service.status("/healthz", host="db.example.org") == 421
    service.end()
    service = Served(cli, DBUPKEEP_SERVER__ALLOWED_HOSTS='["db.example.org"]')
    assert service.status("/healthz", host="db.example.org") == 200
    service.end()


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_secret_of_the_service_is_anywhere_but_where_it_belongs(
    cli: Any, ledger: Path, tmp_path: Path, log_format: str
) -> None:
    service = Served(cli, "-vv", "--log-format", log_format)
    first = (tmp_path / "ledger.db.token").read_text().strip()
    made = cli("token", "create", "ci").out.strip()
    wrong = "wrong-token-canary-0123456789"
    eventually("the new token opens", lambda: service.status("/api/v1/jobs", token=made) == 200)
    for token in (first, made, wrong):
        for path in ("/api/v1/jobs", f"/api/v1/jobs?token={token}", f"/{token}", f"/api/v1/jobs/{token}", "/nowhere"):
            service.status(path, token=token)
            service.status(path, token=token, host="evil.example")
            service.status(path, Cookie=f"dbupkeep_session={token}")
    junk = socket.create_connection(("127.0.0.1", service.port), timeout=20)
    junk.sendall(f"JUNK {first} \0\r\n\r\n".encode())
    junk.recv(1024)
    junk.close()
    command = Path(f"/proc/{service.started.process.pid}/cmdline").read_bytes()
    said = service.end()
    told = next(line for line in service.lines if "First token" in line)
    assert (first in told) == (log_format == "text"), "a log that is kept says where it is, not what it is"
    logs = said.replace(told, "", 1).encode() + command
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file() and path.suffix != ".token")
    for secret in (first, made, wrong):
        assert secret.encode() not in logs
    for secret in (first, made):  # a path that was refused may be told, so the wrong one may be there
        assert secret.encode() not in kept.replace(b"/" + secret.encode(), b"")
    if log_format == "json":
        assert all(json.loads(line) for line in said.splitlines())


def test_the_journal_of_the_system_does_not_get_the_token(cli: Any, ledger: Path, tmp_path: Path) -> None:
    said = Served(cli, JOURNAL_STREAM="8:12345").end()
    assert (tmp_path / "ledger.db.token").read_text().strip() not in said
    assert f"First token, kept in {tmp_path / 'ledger.db.token'}" in said


def test_what_the_service_keeps_is_for_its_owner_whatever_the_umask(cli: Any, ledger: Path, tmp_path: Path) -> None:
    place = tmp_path / "new" / "ledger.db"
    before = os.umask(0)
    try:
        service = Served(cli, "--ledger", str(place))
        service.status("/healthz")
        modes = {path.name: path.stat().st_mode & 0o777 for path in place.parent.iterdir()}
        service.end()
    finally:
        os.umask(before)
    assert {"ledger.db", "ledger.db.token"} <= set(modes)
    assert {mode & 0o077 for mode in modes.values()} == {0}, modes
    assert place.parent.stat().st_mode & 0o777 == 0o700

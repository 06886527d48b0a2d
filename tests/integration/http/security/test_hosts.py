"""C7: a name that leads to this machine without being ours reads nothing, whatever the route."""

from __future__ import annotations

import pytest

from dbupkeep.views.web.hosts import Hosts
from tests.integration.http.security.conftest import Client, Serve

FOREIGN = [
    "",
    "evil.example",
    "evil.example:8390",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "evil-localhost",
    "localhost.",
    "127.1",
    "0x7f.0.0.1",
    "2130706433",
    "0.0.0.0",  # noqa: S104 - said, not bound to
    "[::ffff:127.0.0.1]",
    "[::1].evil.example",
    "[0:0:0:0:0:0:0:1]",
    "localhost@evil.example",
    "evil.example@localhost",
    "localhost:80@evil.example",
    "localhost:",
    "localhost:port",
    "localhost/evil.example",
    "localhost#evil.example",
    "localhost,evil.example",
    "LOCALHOST.EVIL.EXAMPLE",
    "l\u00f6calhost",
]
OURS = [
    "localhost",
    "LocalHost",
    "localhost:1234",
    "127.0.0.1",
    "127.0.0.1:80",
    "[::1]",
    "[::1]:8390",
    "dbupkeep.localhost",
]
PATHS = ["/", "/api/v1/jobs", "/api/v1/events/stream", "/metrics", "/static/page.css", "/login", "/healthz", "/nowhere"]


@pytest.mark.parametrize("path", PATHS)
def test_a_foreign_name_reads_nothing(client: Client, path: str) -> None:
    for host in FOREIGN:
        answer = client.get(path, host=host, role="admin")
        assert answer.status in (400, 421), (host, answer)
        assert answer.status == 421 or not host.isascii(), (host, answer)


def test_no_name_and_two_names_read_nothing(client: Client) -> None:
    token = client.tokens["admin"]
    for lines in ("", "Host: localhost\r\nHost: evil.example\r\n", "Host: evil.example\r\nHost: localhost\r\n"):
        answer = client.raw(f"GET /login HTTP/1.1\r\n{lines}Authorization: Bearer {token}\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 400"), answer
    old = client.raw(f"GET /login HTTP/1.0\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
    assert b" 421 " in old.split(b"\r\n")[0]


@pytest.mark.parametrize("target", ["http://evil.example/login", "//evil.example/login", "*", "login"])
def test_a_request_to_another_place_reads_nothing(client: Client, target: str) -> None:
    assert client.get(target, role="admin").status in (400, 404)


def test_a_forwarded_name_counts_for_nothing(client: Client) -> None:
    names = [("X-Forwarded-Host", "localhost"), ("Forwarded", "host=localhost"), ("X-Host", "localhost")]
    assert client.ask("GET", "/login", *names, host="evil.example").status == 421


@pytest.mark.parametrize("host", OURS)
def test_the_names_of_this_machine_are_answered_to(client: Client, host: str) -> None:
    assert client.get("/login", host=host).status == 200


def test_a_configured_name_is_answered_to_and_its_port_counts_where_it_is_given(serve: Serve) -> None:
    client = serve(hosts=Hosts.of(["db.example.org", "x.example.org:8443"]))
    statuses = {
        host: client.get("/login", host=host).status
        for host in ("db.example.org", "db.example.org:99", "x.example.org:8443", "x.example.org", "x.example.org:1")
    }
    assert statuses == {
        "db.example.org": 200, "db.example.org:99": 200, "x.example.org:8443": 200, "x.example.org": 421,
        "x.example.org:1": 421,
    }  # fmt: skip


def test_an_address_that_all_are_bound_to_is_no_name() -> None:
    assert not Hosts.of(bound="0.0.0.0").answers("0.0.0.0")  # noqa: S104 - as above
    assert Hosts.of(bound="10.0.0.5").answers("10.0.0.5:8390")
    assert Hosts.of(bound="fd00::5").answers("[fd00::5]:8390")

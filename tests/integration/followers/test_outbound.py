"""Where messages may go: every forbidden address is refused before anything is sent, whatever the name service says."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from dbupkeep.clock import SystemClock
from dbupkeep.followers.outbound import Reach, Unreached, is_local, is_public, send

OPEN, CLOSED = Reach(private=True), Reach()

PRIVATE = """
    127.0.0.1 127.8.8.8 10.1.2.3 172.16.0.1 172.31.255.254 192.168.1.1 ::1 fd12:3456::1
    ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:192.168.0.1 64:ff9b::7f00:1 64:ff9b::a00:1 2002:7f00:1:: 2002:c0a8:101::1 ::127.0.0.1
""".split()

NEVER = """
    169.254.169.254 ::ffff:169.254.169.254 fe80::1 0.0.0.0 :: 224.0.0.1 ff02::1 255.255.255.255 100.64.0.1 240.0.0.1
    64:ff9b::a9fe:a9fe 2002:a9fe:a9fe::1
""".split()

PUBLIC = "93.184.216.34 8.8.8.8 2606:4700::1111 ::ffff:8.8.8.8 64:ff9b::808:808".split()


class Wire:
    """Stands in for the net: who was connected to."""

    def __init__(self) -> None:
        self.connected: list[str] = []

    def create_connection(self, place: tuple[str, int], timeout: object) -> socket.socket:
        self.connected.append(place[0])
        raise ConnectionRefusedError(111, "Connection refused")


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    made = Wire()
    monkeypatch.setattr("dbupkeep.followers.outbound.socket.create_connection", made.create_connection)
    return made


def names(*answers: Sequence[str]) -> Any:
    """A name service that gives one answer after another."""
    left = list(answers)
    asked: list[str] = []

    def lookup(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return left.pop(0) if len(left) > 1 else left[0]

    lookup.asked = asked  # type: ignore[attr-defined]
    return lookup


@pytest.mark.parametrize("address", [*PRIVATE, *NEVER])
def test_an_address_that_is_not_public_is_never_connected_to(address: str, wire: Wire) -> None:
    with pytest.raises(Unreached, match="may not go"):
        send("https://hooks.example.org/x", reach=CLOSED, lookup=names([address]))
    assert wire.connected == []


@pytest.mark.parametrize("address", NEVER)
def test_nor_where_a_private_network_is_allowed(address: str, wire: Wire) -> None:
    assert not is_local(ip_address(address))
    with pytest.raises(Unreached, match="may not go"):
        send("https://hooks.example.org/x", reach=OPEN, lookup=names([address]))
    assert wire.connected == []


@pytest.mark.parametrize("address", [*PUBLIC, *PRIVATE])
def test_what_is_allowed_is_connected_to(address: str, wire: Wire) -> None:
    reach = CLOSED if address in PUBLIC else OPEN
    assert is_public(ip_address(address)) == (address in PUBLIC)
    with pytest.raises(Unreached, match="connection refused"):
        send("https://hooks.example.org/x", reach=reach, lookup=names([address]))
    assert wire.connected == [address]


def test_a_name_is_looked_up_once_and_what_it_means_later_does_not_matter(wire: Wire) -> None:
    """A name service that answers with another address the second time (rebinding) finds nobody who asks."""
    lookup = names(["93.184.216.34"], ["127.0.0.1"])
    with pytest.raises(Unreached):
        send("https://hooks.example.org/x", reach=CLOSED, lookup=lookup)
    assert wire.connected == ["93.184.216.34"]
    assert lookup.asked == ["hooks.example.org"]


def test_one_forbidden_address_among_several_is_enough_to_refuse(wire: Wire) -> None:
    with pytest.raises(Unreached, match=r"127\.0\.0\.1"):
        send("https://hooks.example.org/x", reach=CLOSED, lookup=names(["93.184.216.34", "127.0.0.1"]))
    assert wire.connected == []


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://hooks.example.org/x", "http://"),
        ("ftp://hooks.example.org/x", "https://"),
        ("file:///etc/passwd", "https://"),
        ("gopher://127.0.0.1:25/x", "https://"),
        ("https://user:canary@hooks.example.org/x", "password"),
        ("https:///x", "https://"),
        ("https://hooks.example.org:99999/x", "url is none"),
        ("https://[::1/x", "url is none"),
        ("https://hooks.example.org/x\r\nHost: other", "https://"),
        ("https://hooks.example.org/x y", "https://"),
        ("https://hööks.example.org/x", "https://"),
    ],
)
def test_a_url_that_is_none_is_refused_without_being_repeated(url: str, why: str, wire: Wire) -> None:
    with pytest.raises(Unreached, match=why) as caught:
        send(url, reach=CLOSED, lookup=names(["93.184.216.34"]))
    assert wire.connected == []
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["https://127.0.0.1/x", "https://2130706433/x", "https://0x7f.1/x", "https://[::1]/x", "https://localhost/x"]
)
def test_other_ways_to_write_an_address_are_looked_up_too(url: str, wire: Wire) -> None:
    with pytest.raises(Unreached):
        send(url, reach=CLOSED)
    assert wire.connected == []


def test_a_list_of_hosts_restricts_all_receivers(wire: Wire) -> None:
    reach = Reach(hosts=("*.example.org", "hc-ping.com"))
    for url in ("https://a.example.org/x", "https://HC-PING.com./x"):
        with pytest.raises(Unreached, match="refused"):
            send(url, reach=reach, lookup=names(["93.184.216.34"]))
    with pytest.raises(Unreached, match="none of the hosts"):
        send("https://example.org.evil.net/x", reach=reach, lookup=names(["93.184.216.34"]))
    assert len(wire.connected) == 2


def test_plain_http_goes_to_private_addresses_alone(wire: Wire) -> None:
    with pytest.raises(Unreached, match="without TLS"):
        send("http://hooks.example.org/x", reach=OPEN, lookup=names(["93.184.216.34"]))
    assert wire.connected == []


def test_a_name_that_is_not_known_is_told(wire: Wire) -> None:
    def unknown(host: str, port: int) -> Sequence[str]:
        raise OSError(-2, "Name or service not known")

    with pytest.raises(Unreached, match="not known"):
        send("https://nowhere.example.org/x", reach=CLOSED, lookup=unknown)


def test_a_request_arrives_and_its_status_comes_back(receiver: Any) -> None:
    receiver.status = 204
    assert send(f"{receiver.url}/a?b=c", reach=OPEN, body=b"hello", headers={"X-Y": "z"}) == 204
    (got,) = receiver.received
    assert (got.method, got.path, got.body, got.headers["x-y"]) == ("POST", "/a?b=c", b"hello", "z")


def test_a_redirect_is_an_answer_and_is_not_followed(receiver: Any) -> None:
    receiver.status, receiver.location = 302, f"{receiver.url}/elsewhere"
    assert send(f"{receiver.url}/a", reach=OPEN) == 302
    assert receiver.paths == ["/a"]


def test_a_proxy_of_the_environment_is_not_used(receiver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert send(f"{receiver.url}/a", reach=OPEN) == 200


def test_one_who_does_not_answer_is_left(receiver: Any) -> None:
    receiver.answers.clear()
    began = SystemClock().monotonic()
    with pytest.raises(Unreached, match="did not answer within"):
        send(f"{receiver.url}/a", reach=OPEN, seconds=0.3)
    assert SystemClock().monotonic() - began < 3
    receiver.answers.set()


def test_one_who_answers_byte_by_byte_is_left_too() -> None:
    """Each byte comes in time, and all of them would take for ever."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as place:

        def drip() -> None:
            line, _ = place.accept()
            with line:
                line.recv(65536)
                try:
                    line.sendall(b"HTTP/1.1 200 OK\r\n")
                    while not over.wait(0.05):
                        line.sendall(b"X: y\r\n"[:1])
                except OSError:
                    return

        thread = threading.Thread(target=drip)
        thread.start()
        began = SystemClock().monotonic()
        with pytest.raises(Unreached, match="did not answer within"):
            send(f"http://127.0.0.1:{place.getsockname()[1]}/a", reach=OPEN, seconds=0.5)
        assert SystemClock().monotonic() - began < 5
        over.set()
        thread.join()


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """A server with a certificate that nobody vouches for."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    seen: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as place:

        def take() -> None:
            line, _ = place.accept()
            with line:
                try:
                    with context.wrap_socket(line, server_side=True) as secret:
                        seen.append(secret.recv(65536).decode())
                except OSError:
                    return

        thread = threading.Thread(target=take)
        thread.start()
        yield f"https://127.0.0.1:{place.getsockname()[1]}", seen
        thread.join()


def test_a_certificate_that_is_not_valid_is_refused_before_anything_is_sent(tls: tuple[str, list[str]]) -> None:
    url, seen = tls
    with pytest.raises(Unreached, match="certificate is not valid"):
        send(f"{url}/secret", reach=OPEN, body=b"secret")
    assert seen == []

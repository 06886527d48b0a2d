"""C14, C20: who asks too much, too slowly or too big is turned away cheaply, and others are served."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack, closing

import pytest

from dbupkeep.views.web.limits import BODY, LOG_INS, LOG_INS_IN_ALL, STRANGERS_IN_ALL, Buckets, Limits, Rate
from dbupkeep.views.web.patience import PatientProtocol
from tests.integration.http.security.conftest import WIDE, Client, Serve, ShiftedClock

READ = "/api/v1/jobs/none"
STREAM = "/api/v1/events/stream"


class Hand:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


def test_a_bucket_gives_its_burst_then_its_rate() -> None:
    now = Hand()
    buckets = Buckets(Rate(burst=3, each_second=2), now)
    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 0.5]
    assert buckets.take("b") == 0, "each key has its own"
    now.at += 0.5
    assert [buckets.take("a"), buckets.take("a")] == [0, 0.5]
    now.at += 1000
    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 0.5], "never more than the burst"


def test_strange_keys_take_no_memory_without_end() -> None:
    buckets = Buckets(Rate(burst=1, each_second=0.001), Hand())
    for number in range(25_000):
        buckets.take(str(number))
    assert len(buckets._left) <= 10_000


def test_counting_is_cheap() -> None:
    buckets = Buckets(Rate(burst=10, each_second=1), time.monotonic)
    began = time.process_time()
    for _ in range(100_000):
        buckets.take("a")
    assert time.process_time() - began < 1.0  # ten microseconds each


def test_a_flood_of_one_caller_is_turned_away_and_others_are_served(serve: Serve) -> None:
    now = Hand()
    client = serve(limits=Limits(now, per_caller=Rate(burst=5, each_second=2), in_all=WIDE))
    statuses = [client.get(READ, role="operator").status for _ in range(8)]
    assert statuses == [404] * 5 + [429] * 3
    answer = client.get(READ, role="operator")
    assert (answer.header("retry-after"), answer.header("content-type")) == ("1", "application/problem+json")
    assert client.get(READ, role="viewer").status == 404
    now.at += 1
    assert [client.get(READ, role="operator").status for _ in range(3)] == [404, 404, 429]


def test_a_flood_of_many_callers_is_turned_away(serve: Serve) -> None:
    client = serve(limits=Limits(Hand(), per_caller=WIDE, in_all=Rate(burst=4, each_second=1)))
    statuses = [client.get(READ, role=role).status for role in ("viewer", "operator", "admin") * 2]
    assert statuses == [404] * 4 + [429] * 2


def test_a_flood_of_strangers_takes_nothing_from_those_who_are_known(serve: Serve) -> None:
    client = serve(limits=Limits(Hand(), per_caller=WIDE, in_all=WIDE, strangers=Rate(burst=5, each_second=1)))
    guesses = [client.get(READ, ("Authorization", f"Bearer {number}")).status for number in range(8)]
    assert guesses == [401] * 5 + [429] * 3
    assert client.get(READ, role="viewer").status == 404


def test_many_addresses_together_get_only_so_much() -> None:
    limits = Limits(Hand())
    strange = [limits.stranger(f"address {number}") for number in range(400)]
    log_ins = [limits.log_in(f"address {number}") for number in range(40)]
    assert (strange.count(0), log_ins.count(0)) == (STRANGERS_IN_ALL.burst, LOG_INS_IN_ALL.burst)


def test_attempts_to_log_in_are_slowed_down(serve: Serve) -> None:
    now = Hand()
    client = serve(limits=Limits(now, per_caller=WIDE, in_all=WIDE, strangers=WIDE, log_ins=LOG_INS))
    statuses = [client.post("/login", ("Origin", client.origin), token="x").status for _ in range(7)]  # noqa: S106 - no secret
    assert statuses == [401] * 5 + [429] * 2
    assert client.post("/login", ("Origin", client.origin), token=client.tokens["admin"]).status == 429
    assert client.get("/login").status == 200
    now.at += 5
    assert client.post("/login", ("Origin", client.origin), token=client.tokens["admin"]).status == 303


def opened(client: Client, role: str) -> socket.socket:
    """An event stream that was begun: its connection, after the first line of the answer."""
    connection = socket.create_connection(("127.0.0.1", client.port), timeout=20)
    head = f"GET {STREAM} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {client.tokens[role]}\r\n\r\n"
    connection.sendall(head.encode())
    answer = b""
    while b"\r\n" not in answer:
        answer += connection.recv(1024)
    assert b" 200 " in answer.split(b"\r\n")[0], answer
    return connection


def test_there_are_only_so_many_event_streams(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dbupkeep.views.web.limits.STREAMS", 3)
    monkeypatch.setattr("dbupkeep.views.web.limits.STREAMS_PER_CALLER", 2)
    client = serve()
    with ExitStack() as streams:
        first = streams.enter_context(closing(opened(client, "viewer")))
        streams.enter_context(closing(opened(client, "viewer")))
        assert client.get(STREAM, role="viewer").status == 429, "as many as one caller may have"
        streams.enter_context(closing(opened(client, "admin")))
        answer = client.get(STREAM, role="operator")
        assert (answer.status, answer.header("retry-after")) == (429, "5")
        assert client.get(READ, role="viewer").status == 404, "requests are served beside them"
        first.close()
        with closing(again(client)) as stream:
            assert stream.fileno() > 0


def test_opening_a_stream_is_a_request_and_having_one_is_none(serve: Serve) -> None:
    now = Hand()
    client = serve(limits=Limits(now, per_caller=Rate(burst=3, each_second=1), in_all=WIDE))
    with closing(opened(client, "viewer")), closing(opened(client, "viewer")):
        assert [client.get(READ, role="viewer").status for _ in range(2)] == [404, 429]
        now.at += 1
        assert [client.get(READ, role="viewer").status for _ in range(2)] == [404, 429]
        answer = client.get(STREAM, role="viewer")
        assert (answer.status, answer.header("retry-after")) == (429, "1")


def again(client: Client) -> socket.socket:
    """A stream, once the server has seen that another one is closed."""
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        try:
            return opened(client, "viewer")
        except AssertionError:
            time.sleep(0.1)
    raise AssertionError("the place of a closed stream is not given to another one")


def test_a_body_that_is_too_big_is_refused_before_it_is_read(client: Client) -> None:
    said = client.raw(
        f"POST /login HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\nContent-Length: {10**12}\r\n\r\n".encode(),
        until=b"\r\n\r\n",
    )
    assert said.startswith(b"HTTP/1.1 413")


def test_a_body_without_a_length_is_read_only_so_far(client: Client) -> None:
    head = b"POST /login HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
    said = client.raw(head + chunk * (BODY // 0x4000 + 1), until=b"\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 413")


TWO_LENGTHS = [
    b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
    b"Content-Length: 4\r\nContent-Length: 5\r\n",
    b"Transfer-Encoding: chunked, identity\r\n",
    b"Transfer-Encoding: xchunked\r\n",
    b"Transfer-Encoding : chunked\r\n",
    b"X: y\r\n Transfer-Encoding: chunked\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n",
]


@pytest.mark.parametrize("lengths", TWO_LENGTHS)
def test_a_body_whose_end_is_not_clear_is_refused_and_nothing_behind_it_is_answered(
    client: Client, lengths: bytes
) -> None:
    head = b"POST /login HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\n"
    behind = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    answer = client.raw(head + lengths + b"\r\n0\r\n\r\n" + behind)
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 501")), answer
    assert answer.count(b"HTTP/1.1") == 1


def test_a_body_of_the_limit_is_read(client: Client) -> None:
    body = b"token=" + b"x" * (BODY - 6)
    assert client.ask("POST", "/login", ("Origin", client.origin), body=body).status == 401
    assert client.ask("POST", "/login", ("Origin", client.origin), body=body + b"x").status == 413


def test_a_body_that_does_not_come_is_not_waited_for(serve: Serve) -> None:
    client = serve(body_seconds=0.2)
    head = b"POST /login HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\nContent-Length: 10\r\n\r\nto"
    assert client.raw(head).startswith(b"HTTP/1.1 408")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PatientProtocol, "head_seconds", 0.3)


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ", b"GE"])
def test_a_head_that_does_not_come_is_not_waited_for(impatient: None, serve: Serve, sent: bytes) -> None:
    client = serve()
    began = time.monotonic()
    with closing(socket.create_connection(("127.0.0.1", client.port), timeout=20)) as connection:
        connection.sendall(sent)
        assert closed(connection)
    assert time.monotonic() - began < 10


def test_a_head_that_trickles_is_not_waited_for(impatient: None, serve: Serve) -> None:
    client = serve()
    with closing(socket.create_connection(("127.0.0.1", client.port), timeout=0.05)) as connection:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                connection.sendall(b"X")
                if not connection.recv(1):
                    return
            except TimeoutError:
                continue
            except OSError:
                return
    raise AssertionError("the connection is still open")


def test_a_stream_is_none_that_dawdles(impatient: None, serve: Serve) -> None:
    client = serve()
    with closing(opened(client, "viewer")) as stream:
        stream.settimeout(1.0)
        while (part := received(stream)) is not None:
            assert part, "the stream was ended"


def received(stream: socket.socket) -> bytes | None:
    """What comes; None when nothing does for a while."""
    try:
        return stream.recv(1024)
    except TimeoutError:
        return None


def test_there_are_only_so_many_connections(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PatientProtocol, "connections_at_most", 3)
    client = serve()
    with ExitStack() as idle:
        for _ in range(3):
            idle.enter_context(closing(opened(client, "viewer")))
        with closing(socket.create_connection(("127.0.0.1", client.port), timeout=20)) as one_more:
            assert closed(one_more)


def closed(connection: socket.socket) -> bool:
    """Whether the other side ends the connection, rather than answering on it."""
    try:
        return connection.recv(1024) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("size", [17_000, 70_000, 200_000])
def test_a_head_without_end_is_refused(client: Client, size: int) -> None:
    try:
        answer = client.raw(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * size + b"\r\n\r\n", until=b"\r\n\r\n")
    except ConnectionError:
        return
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 431")) or answer == b""


@pytest.mark.parametrize(
    "body", [b"[" * 60_000, b'{"a":' * 10_000, b"9" * 60_000, b'{"a": 1e999999}', b"\xff\xfe", b'"\\ud800"']
)
def test_a_body_that_is_made_to_hurt_is_refused(client: Client, body: bytes) -> None:
    kind = ("Content-Type", "application/json")
    for path in ("/api/v1/runs", "/api/v1/plans"):
        began = time.process_time()
        answer = client.ask("POST", path, kind, body=body, role="admin")
        assert 400 <= answer.status < 500, answer
        assert time.process_time() - began < 1.0


def test_time_that_stands_still_lets_nobody_in_again(clock: ShiftedClock) -> None:
    buckets = Buckets(Rate(burst=1, each_second=1), lambda: 5.0)
    assert [buckets.take(), buckets.take(), buckets.take()] == [0, 1.0, 1.0]

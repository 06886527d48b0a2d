"""Logs: one event is one line, with the job's fields on it and no password in it."""

from __future__ import annotations

import io
import json
import logging
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbupkeep.logs import FIELDS, LogFormat, bound, carries_password, carry, mask, printable, set_up

log = logging.getLogger("dbupkeep.test")


@pytest.fixture(autouse=True)
def quiet_again() -> Iterator[None]:
    yield
    logger = logging.getLogger("dbupkeep")
    logger.handlers.clear()
    logger.propagate = True
    logger.setLevel(logging.NOTSET)


def lines(log_format: LogFormat) -> io.StringIO:
    stream = io.StringIO()
    set_up(log_format, level=logging.INFO, stream=stream)
    return stream


def test_every_line_within_a_job_carries_its_fields() -> None:
    stream = lines(LogFormat.JSON)
    fields = {name: f"the {name}" for name in FIELDS}
    with bound(correlation_id="root"), bound(**fields, extra=None):
        log.info("operation started", extra={"bytes": 4096})
        with bound(attempt=2):
            log.info("attempt lost")
    log.info("idle")
    first, second, third = map(json.loads, stream.getvalue().splitlines())
    assert {name: first[name] for name in FIELDS} == fields
    assert list(first)[:4] == ["time", "level", "logger", "message"]
    assert (first["level"], first["message"], first["bytes"]) == ("info", "operation started", 4096)
    assert first["time"].endswith("Z")
    assert "extra" not in first
    assert second["attempt"] == 2
    assert not set(third) & set(FIELDS)


def test_text_for_people() -> None:
    stream = lines(LogFormat.TEXT)
    with bound(job_id="j1", object="public.my table"):
        log.warning("lock is busy", extra={"waited": 0.5, "by": ""})
    when, level, rest = stream.getvalue().split(maxsplit=2)
    assert (when[-1], level) == ("Z", "WARNING")
    assert rest == 'lock is busy job_id=j1 object="public.my table" waited=0.5 by=""\n'


def test_a_thread_takes_fields_along_when_it_is_told_to() -> None:
    stream = lines(LogFormat.JSON)
    with bound(job_id="j1"):
        carried = carry(log.info)
        threads = [threading.Thread(target=target, args=("sampled",)) for target in (carried, carried, log.info)]
    for thread in threads:
        thread.start()
        thread.join()
    assert [json.loads(line).get("job_id") for line in stream.getvalue().splitlines()] == ["j1", "j1", None]


def fail(error: Exception) -> None:
    raise error


HOSTILE = "a\nb\r\x1b[31mc\x00\x85\u2028\u202e\x9b\x7f\ud800"


@pytest.mark.parametrize("log_format", LogFormat)
def test_one_event_is_one_line(log_format: LogFormat) -> None:
    stream = lines(log_format)
    try:
        fail(ValueError(HOSTILE))
    except ValueError:
        with bound(object=HOSTILE):
            log.exception("failed %s", HOSTILE, extra={"note": [HOSTILE, {HOSTILE: HOSTILE}], HOSTILE: 1})
    (line,) = stream.getvalue().splitlines()
    assert line.isprintable()
    assert "ValueError" in line
    if log_format is LogFormat.JSON:
        assert json.loads(line)["object"] == HOSTILE
        assert "test_logs.py" in json.loads(line)["trace"]


@given(st.text())
def test_printable(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert shown == text or not text.isprintable()


def test_a_second_set_up_replaces_the_first() -> None:
    first, second = lines(LogFormat.TEXT), lines(LogFormat.TEXT)
    log.info("once")
    assert not first.getvalue()
    assert len(second.getvalue().splitlines()) == 1


CANARY = "c4n4ry"

LEAKS = [
    "postgresql://u:{}@h/db",
    "could not connect to postgresql:/u:{}@h/db",
    "postgresql:u:{}@h",
    "postgres//u:{}@h",
    "postgresql://u:a {}@h/db",
    "postgresql://u:a%zz{}@h",
    "postgresql://u:a@b/{}@h:5432/db",
    "postgresql://u:5432/{}@h",
    "postgresql://u:{}",
    "postgresql://u%3A{}@h",
    "postgresql://u:{}%40h/db",
    "mysql+pymysql://u:{}@h",
    "redis://:{}@h",
    "(postgresql://a:{0}@h and mysql://b:{0}@h2)",
    "postgresql://h/db?password={}&a=1",
    "postgresql://h/db?sslpassword=a {}&x",
    "host=h password='a {}' user=b",
    'PASSWORD = "a\\"{}"',
    "{{'password': '{}'}}",
    "DBUPKEEP_TOKEN={}",
]


@pytest.mark.parametrize("leak", LEAKS)
def test_no_password_is_logged(leak: str) -> None:
    text = leak.format(CANARY)
    assert carries_password(text)
    assert mask(mask(text)) == mask(text)
    for log_format in LogFormat:
        stream = lines(log_format)
        try:
            fail(ConnectionError(text))
        except ConnectionError:
            log.exception(
                "cannot connect: %s", text, extra={"url": text, "urls": [{"url": text}], "error_": OSError(text)}
            )
        assert "4ry" not in stream.getvalue()


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://upkeep@db1/shop",
        "postgresql://u@h:5432/db",
        "postgresql://h1:5432,h2:5432/db",
        "postgresql://u:@h",
        "listening on http://127.0.0.1:8390/, press Ctrl-C",
        "http://127.0.0.1:8390.",
        "http://[::1]:8390/x",
        "https://hc.example.org/ping/UUID",
        "sqlite:///srv/a:b@c.db",
        "12:30:01 nightly ops@example.org",
        "jobs: postgresql: 3 done",
        "password=",
        "vacuum: 3 tokens",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert mask(text) == text
    assert not carries_password(text)


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), min_size=1, max_size=20))
def test_whatever_the_password_is(secret: str) -> None:
    """With a host behind it, the whole of it goes, whatever characters it has."""
    assert mask(f"postgresql://u:{secret}@h/db") in ("postgresql://u:***@h/db", "postgresql://u:@h/db") or "/" in secret


@pytest.mark.parametrize(
    "piece", ["a", "a:/", "a.b", "postgresql:", "password", "?password=a", "?a", "@", "a:/x:@", "password='", "'", " "]
)
def test_masking_takes_time_in_line_with_the_length(piece: str) -> None:
    """Ten times the text, not a hundred times the work (a wide margin, since time is measured)."""

    def seconds(count: int) -> float:
        text = piece * count
        start = time.process_time()
        mask(text)
        return time.process_time() - start

    assert seconds(100_000) < 0.1 + 40 * seconds(10_000)

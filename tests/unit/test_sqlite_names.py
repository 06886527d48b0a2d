"""Paths, URLs, headers, engine names, error codes and the temporary folder of the SQLite engine."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbupkeep import engines
from dbupkeep.engine import Engine
from dbupkeep.engines.sqlite import header, space, target_of
from dbupkeep.engines.sqlite.faults import error_of
from dbupkeep.engines.sqlite.paths import path_of, url_of
from dbupkeep.engines.sqlite.words import count, duration, listed, size
from dbupkeep.errors import (
    Busy,
    Damaged,
    Interrupted,
    Kind,
    Missing,
    NotPermitted,
    OperationError,
    Refused,
    UnknownName,
    UsageError,
)  # fmt: skip
from dbupkeep.plans import SpaceNeed

# --- engines by name ---


@pytest.mark.parametrize("scheme", ["sqlite", "SQLite", "file"])
def test_engine_is_found_by_scheme_and_alias(scheme: str) -> None:
    engine: Engine = engines.load(scheme)
    assert engine.operations


def test_parameters_of_a_url_are_refused_and_an_escaped_question_mark_is_part_of_the_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as told:
        target_of(f"sqlite://{tmp_path}/a.db?mode=ro")
    assert "?mode=ro" in told.value.why
    assert path_of(target_of(f"sqlite://{tmp_path}/a%3Fb.db").url) == tmp_path / "a?b.db"
    assert path_of(target_of(f"{tmp_path}/a?b.db").url) == tmp_path / "a?b.db"


@pytest.mark.parametrize("scheme", ["oracle", "", "os", "..sqlite", "sqlite.vacuum", "__init__"])
def test_unknown_scheme_is_refused_with_the_known_ones_and_nothing_is_imported(scheme: str) -> None:
    before = set(sys.modules)
    with pytest.raises(UnknownName) as raised:
        engines.load(scheme)
    assert "sqlite" in raised.value.hint
    assert not {name for name in set(sys.modules) - before if name.startswith("dbupkeep")}


def test_engine_of_a_third_party_is_found_by_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    class Point:
        name = "duck"

        def load(self) -> str:
            return "the duck engine"

    monkeypatch.setattr(engines, "_foreign", lambda: {"duck": Point()})
    assert engines.load("duck") == "the duck engine"  # type: ignore[comparison-overlap]
    assert "duck" in engines.known()


# --- paths and urls ---


@given(st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1).filter(
    lambda name: name not in {".", ".."}
))  # fmt: skip
def test_url_of_a_path_gives_the_path_back(name: str) -> None:
    path = Path("/data") / name
    url = url_of(path)
    assert path_of(url) == path
    assert url.startswith("sqlite:///data/")
    assert not set("?#\n\r") & set(url)


def test_bytes_that_are_no_text_survive_in_urls() -> None:
    path = Path("/data/caf\udce9.db")
    assert path_of(url_of(path)) == path


def test_plain_paths_are_plain_in_urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "my app (2).db"
    file.touch()
    monkeypatch.chdir(tmp_path)
    for text in (str(file), "my app (2).db", "./my app (2).db", f"sqlite://{file}", f"sqlite:///{file}", f"sqlite:{file}",
                 "sqlite:///my app (2).db"):  # fmt: skip
        assert target_of(text).url == f"sqlite://{file}", text


def test_a_file_that_is_gone_is_never_taken_for_another_one_below_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone" / "app.db"
    other = tmp_path / "here" / str(gone).lstrip("/")
    other.parent.mkdir(parents=True)
    other.touch()
    monkeypatch.chdir(tmp_path / "here")
    target = target_of(str(gone))
    assert path_of(target.url) == gone
    with pytest.raises(Missing):
        engines.load("sqlite").connect(target)


def test_target_is_named_as_it_was_written(tmp_path: Path) -> None:
    assert target_of(str(tmp_path / "app.db")).name == str(tmp_path / "app.db")
    assert target_of(str(tmp_path / "app.db"), name="shop").name == "shop"


@pytest.mark.parametrize("text", ["", " ", "a\0b"])
def test_no_path_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError):
        target_of(text)


# --- headers ---


SOUND = header.MAGIC + (4096).to_bytes(2) + bytes((1, 1, 0, 64, 32, 32)) + bytes(20) + (4).to_bytes(4) + bytes(52)
JUDGED = {16, 17, 19, 21, 22, 23, 44, 45, 46, 47}
"""The bytes of the size of pages, the read version, the fractions and the format of the schema."""


@given(st.binary(max_size=300))
def test_bytes_that_are_no_header_are_refused_in_words(data: bytes) -> None:
    for content in (data, header.MAGIC + data[: header.SIZE - len(header.MAGIC) - 1]):
        with pytest.raises(Refused) as refused:
            header.parse(content, len(content), "x")
        assert refused.value.what.startswith("x ")
        assert refused.value.why
        assert refused.value.hint


PLACES = st.sampled_from(sorted(JUDGED)) | st.integers(16, header.SIZE - 1)
BYTES = st.integers(0, 3) | st.integers(0, 255)


@given(st.dictionaries(PLACES, BYTES, max_size=4))
def test_a_header_is_read_when_what_matters_in_it_can_be(changed: dict[int, int]) -> None:
    content = bytes(changed.get(at, byte) for at, byte in enumerate(SOUND))
    found = None
    with suppress(Refused):
        found = header.parse(content, len(content), "x")
    assert found or JUDGED & changed.keys()
    if found:
        assert found.page_size in {512 << power for power in range(8)}
        assert content[21:24] == SOUND[21:24]
        assert content[19] <= header.WAL
        assert content[44:48] <= SOUND[44:48]


def test_header_says_what_the_pragmas_say(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript("""
        PRAGMA page_size = 8192; PRAGMA auto_vacuum = 2; PRAGMA application_id = 77; PRAGMA journal_mode = wal;
        CREATE TABLE t (a); INSERT INTO t VALUES (zeroblob(100000)); DELETE FROM t;
    """)
    pages, free = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count"))
    connection.close()
    found = header.parse(path.read_bytes()[: header.LOOK], path.stat().st_size, "x")
    assert (found.page_size, found.pages, found.free_pages, found.application_id) == (8192, pages, free, 77)
    assert (found.wal, found.auto_vacuum, found.incremental, found.counted) == (True, True, True, True)


# --- error codes ---


@pytest.mark.parametrize(
    ("code", "cls", "kind"),
    [
        (apsw.SQLITE_BUSY, Busy, Kind.BUSY),
        (apsw.SQLITE_BUSY_SNAPSHOT, Busy, Kind.BUSY),
        (apsw.SQLITE_LOCKED, Busy, Kind.BUSY),
        (apsw.SQLITE_FULL, OperationError, Kind.SPACE),
        (apsw.SQLITE_IOERR_WRITE, OperationError, Kind.ENGINE),
        (apsw.SQLITE_INTERRUPT, Interrupted, Kind.INTERRUPTED),
        (apsw.SQLITE_CORRUPT_INDEX, Damaged, Kind.CORRUPT),
        (apsw.SQLITE_NOTADB, Refused, Kind.NOT_A_DATABASE),
        (apsw.SQLITE_READONLY, Refused, Kind.READ_ONLY),
        (apsw.SQLITE_READONLY_DBMOVED, Refused, Kind.REPLACED),
        (apsw.SQLITE_READONLY_ROLLBACK, Refused, Kind.READ_ONLY),
        (apsw.SQLITE_CONSTRAINT_UNIQUE, Damaged, Kind.CORRUPT),
        (apsw.SQLITE_PERM, NotPermitted, Kind.PERMISSION),
        (apsw.SQLITE_AUTH, NotPermitted, Kind.PERMISSION),
        (apsw.SQLITE_NOMEM, OperationError, Kind.ENGINE),
        (apsw.SQLITE_MISUSE, OperationError, Kind.ENGINE),
    ],
)
def test_result_code_decides_the_error(tmp_path: Path, code: int, cls: type[Exception], kind: Kind) -> None:
    error: Any = apsw.Error("attempt to write a readonly database")
    error.extendedresult = code
    found = error_of(error, tmp_path)
    assert type(found) is cls
    assert found.kind is kind
    assert found.what
    assert found.hint


def test_every_error_class_of_the_library_becomes_one_of_ours(tmp_path: Path) -> None:
    classes = [c for c in vars(apsw).values() if isinstance(c, type) and issubclass(c, apsw.Error)]
    assert len(classes) > 20
    for cls in classes:
        assert error_of(cls("text"), tmp_path).hint


def test_cannot_open_is_missing_when_it_is(tmp_path: Path) -> None:
    error: Any = apsw.CantOpenError("unable to open database file")
    error.extendedresult = apsw.SQLITE_CANTOPEN
    assert type(error_of(error, tmp_path / "nowhere")) is Missing
    assert type(error_of(error, tmp_path)) is NotPermitted


def test_disk_full_behind_a_write_error_is_a_matter_of_space(tmp_path: Path) -> None:
    error: Any = apsw.IOError("disk I/O error")
    error.extendedresult = apsw.SQLITE_IOERR_WRITE
    assert error_of(error, tmp_path, system_errno=28).kind is Kind.SPACE


@pytest.mark.parametrize("text", ["no such collation sequence: x", "unknown function: f()", "unsafe use of f()"])
def test_what_is_lacking_is_a_capability_whatever_the_code(tmp_path: Path, text: str) -> None:
    error: Any = apsw.CorruptError(f"malformed database schema (i) - {text}")
    error.extendedresult = apsw.SQLITE_CORRUPT
    assert error_of(error, tmp_path).kind is Kind.CAPABILITY


# --- the temporary folder ---


class FakeHandle:
    def __init__(self, log: list[str]) -> None:
        self.log = log

    def pragma(self, _: str, value: str) -> None:
        self.log.append(value)

    def check_stop(self) -> None:
        pass


def test_those_who_want_the_same_temporary_folder_share_it_and_another_waits(tmp_path: Path) -> None:
    log: list[str] = []
    handle: Any = FakeHandle(log)
    ours, theirs = str(tmp_path / "a"), str(tmp_path / "b")
    waiting, entered = threading.Event(), threading.Event()

    def other() -> None:
        waiter: Any = FakeHandle(log)
        waiter.check_stop = waiting.set
        with space.temp_folder(waiter, theirs):
            entered.set()

    thread = threading.Thread(target=other)
    with space.temp_folder(handle, ours):
        with space.temp_folder(handle, ours):
            thread.start()
            assert waiting.wait(20)
        assert not entered.is_set()
        assert log == [ours]
    thread.join()
    assert entered.is_set()
    assert log == [ours, "", theirs, ""]


def test_wait_for_the_temporary_folder_can_be_stopped(tmp_path: Path) -> None:
    handle: Any = FakeHandle([])
    stopped: Any = FakeHandle([])

    def stop() -> None:
        raise Interrupted("stop")

    stopped.check_stop = stop
    with space.temp_folder(handle, str(tmp_path)), pytest.raises(Interrupted), space.temp_folder(stopped, "/elsewhere"):
        pass


def test_sqlites_own_folder_is_left_unset() -> None:
    log: list[str] = []
    handle: Any = FakeHandle(log)
    with space.temp_folder(handle, space.default_temp()):
        pass
    assert log == []


def test_default_folder_is_the_one_that_sqlite_chooses(tmp_path: Path) -> None:
    """Seen from outside: where a VACUUM's temporary file is opened."""
    code = """
import apsw, os, sys
c = apsw.Connection(sys.argv[1])
c.execute("CREATE TABLE t (a); INSERT INTO t SELECT zeroblob(5000000)")
c.authorizer = lambda *_: print(*[os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd") if n.isdigit()
    and os.path.islink(f"/proc/self/fd/{n}") and "deleted" in os.readlink(f"/proc/self/fd/{n}")]) or apsw.SQLITE_OK
c.execute("VACUUM")
"""
    environment = {"SQLITE_TMPDIR": str(tmp_path), "PATH": ""}
    ran = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "app.db")],
        env=environment,
        capture_output=True,
        check=True,
        text=True,
    )
    opened = set(re.findall(r"(\S+)/[^/\s]+ \(deleted\)", ran.stdout))
    assert opened == {str(tmp_path)}


# --- words ---


@pytest.mark.parametrize(
    ("purpose", "movable"),
    [
        ("rollback journal or -wal", False),
        ("temporary file", True),
        ("temporary file and rollback journal or -wal", True),
    ],
)
def test_another_temporary_folder_is_advised_only_where_it_helps(purpose: str, *, movable: bool) -> None:
    lacking = SpaceNeed(purpose=purpose, folder="/data", needed=10, available=1)
    elsewhere = SpaceNeed(purpose="temporary file", folder="/var/tmp", needed=10, available=100)  # noqa: S108 - never used
    error = space.shortage(Path("/data/app.db"), (lacking, elsewhere))
    assert ("SQLITE_TMPDIR" in error.hint) is movable


def test_numbers_are_written_for_people() -> None:
    assert [size(n) for n in (0, 1023, 1536, 5 * 1024**3)] == ["0 bytes", "1023 bytes", "1.5 KiB", "5.0 GiB"]
    assert [duration(s) for s in (0.012, 3.44, 300)] == ["12 ms", "3.4 s", "5 min"]
    assert [count(1, "table"), count(2000, "table"), count(3, "index")] == ["1 table", "2,000 tables", "3 indexes"]
    assert listed(["a", "new\nline", "c", "d", "e"]) == r"a, 'new\nline', c and 2 more"

"""Wrong files: each its own words, kind and class; nothing is created and no byte is changed."""

from __future__ import annotations

import gzip
import os
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from dbupkeep.engine import Purpose
from dbupkeep.engines import sqlite as engine
from dbupkeep.engines.sqlite import target_of
from dbupkeep.engines.sqlite.handle import View, connect
from dbupkeep.errors import Busy, Kind, Missing, Refused, UpkeepError
from dbupkeep.operations import Operation

Wrong = Callable[[Any], Path]


def missing(lab: Any) -> Path:
    return Path(lab.folder / "nowhere" / "app.db")


def empty(lab: Any) -> Path:
    (lab.folder / "empty.db").touch()
    return Path(lab.folder / "empty.db")


def folder(lab: Any) -> Path:
    (lab.folder / "folder.db").mkdir()
    return Path(lab.folder / "folder.db")


def pipe(lab: Any) -> Path:
    os.mkfifo(lab.folder / "pipe.db")
    return Path(lab.folder / "pipe.db")


def loop(lab: Any) -> Path:
    (lab.folder / "loop.db").symlink_to("loop.db")
    return Path(lab.folder / "loop.db")


def hard_linked(lab: Any) -> Path:
    path = Path(lab.make())
    os.link(path, lab.folder / "second.db")
    return path


def text(lab: Any) -> Path:
    (lab.folder / "notes.db").write_text("these are notes\n" * 512)
    return Path(lab.folder / "notes.db")


def archive(lab: Any) -> Path:
    (lab.folder / "app.db.gz").write_bytes(gzip.compress(lab.make().read_bytes()))
    return Path(lab.folder / "app.db.gz")


def encrypted(lab: Any) -> Path:
    (lab.folder / "secret.db").write_bytes(os.urandom(16 * 4096))
    return Path(lab.folder / "secret.db")


def altered(lab: Any, offset: int, data: bytes) -> Path:
    path = Path(lab.make())
    content = bytearray(path.read_bytes())
    content[offset : offset + len(data)] = data
    path.write_bytes(content)
    return path


def bad_page_size(lab: Any) -> Path:
    return altered(lab, 16, b"\x03\x03")


def bad_fractions(lab: Any) -> Path:
    return altered(lab, 21, b"\x01\x02\x03")


def newer(lab: Any) -> Path:
    return altered(lab, 18, b"\x03\x03")


def newer_schema(lab: Any) -> Path:
    return altered(lab, 47, b"\x09")


def cut_off(lab: Any) -> Path:
    path = Path(lab.make())
    os.truncate(path, path.stat().st_size // 2)
    return path


def cut_in_header(lab: Any) -> Path:
    path = Path(lab.make())
    os.truncate(path, 50)
    return path


CASES: list[tuple[Wrong, type[UpkeepError], Kind, str]] = [
    (missing, Missing, Kind.MISSING, "there is no file"),
    (empty, Refused, Kind.NOT_A_DATABASE, "is empty"),
    (loop, Missing, Kind.MISSING, "cannot be reached: Too many levels of symbolic links"),
    (folder, Refused, Kind.NOT_A_DATABASE, "is a folder"),
    (pipe, Refused, Kind.NOT_A_DATABASE, "not a regular file"),
    (hard_linked, Refused, Kind.HARD_LINKED, "2 hard links"),
    (text, Refused, Kind.NOT_A_DATABASE, "these are notes"),
    (archive, Refused, Kind.NOT_A_DATABASE, "gzip archive"),
    (encrypted, Refused, Kind.ENCRYPTED, "looks encrypted"),
    (bad_page_size, Refused, Kind.CORRUPT, "page size of 771"),
    (bad_fractions, Refused, Kind.CORRUPT, "payload fractions"),
    (newer, Refused, Kind.CAPABILITY, "read version is 3"),
    (newer_schema, Refused, Kind.CAPABILITY, "schema format 9"),
    (cut_off, Refused, Kind.CORRUPT, "the file has only"),
    (cut_in_header, Refused, Kind.CORRUPT, "within the header"),
]


@pytest.mark.parametrize("name", ["x" * 300, "/".join(["x" * 200] * 25)], ids=["name", "path"])
def test_a_name_that_is_too_long_is_missing(lab: Any, name: str) -> None:
    with pytest.raises(Missing, match="cannot be reached"):
        engine.connect(target_of(str(lab.folder / name)))


@pytest.mark.parametrize("purpose", list(Purpose))
@pytest.mark.parametrize(("wrong", "cls", "kind", "words"), CASES, ids=[case[0].__name__ for case in CASES])
def test_wrong_file_is_refused_in_its_own_words(
    lab: Any, wrong: Wrong, cls: type[UpkeepError], kind: Kind, words: str, purpose: Purpose
) -> None:
    path = wrong(lab)
    before = None if wrong is pipe else lab.fingerprint()
    with pytest.raises(cls) as raised:
        engine.connect(target_of(str(path)), purpose=purpose)
    error = raised.value
    assert type(error) is cls
    assert error.kind is kind
    assert words in error.message
    assert error.hint
    if before is not None:
        assert lab.fingerprint() == before
    assert os.path.lexists(path) == (wrong is not missing)


def test_every_wrong_file_has_its_own_words() -> None:
    assert len({words for _, _, _, words in CASES}) == len(CASES)


@pytest.mark.parametrize("read_only", ["file", "folder"])
def test_read_only_file_is_surveyed_and_not_worked_on(
    lab: Any, read_only: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = lab.make()
    item = lab.planned(path, Operation.VACUUM)
    if read_only == "file":
        path.chmod(stat.S_IRUSR)
    else:  # by what the system answers, since a folder's mode does not bind root
        allowed = os.access
        answer = lambda where, mode: not (Path(where) == path.parent and mode & os.W_OK) and allowed(where, mode)  # noqa: E731
        monkeypatch.setattr(os, "access", answer)
    before = lab.fingerprint()
    facts = lab.surveyed(path)
    assert facts.values["writable"] is False
    assert [notice.code for notice in facts.notices if notice.code == "read_only"], "a plan would not tell"
    with pytest.raises(Refused) as raised:
        lab.done(path, item)
    assert raised.value.kind is Kind.READ_ONLY
    assert lab.fingerprint() == before


def test_locked_file_is_deferred_and_its_holder_named(lab: Any) -> None:
    path = lab.make()
    item = lab.planned(path, Operation.VACUUM, lock_wait=0.01, lock_tries=2)
    one = lab.other(path)
    one.does("BEGIN EXCLUSIVE")
    before = lab.fingerprint()
    with pytest.raises(Busy) as raised:
        lab.done(path, item)
    assert raised.value.kind is Kind.BUSY
    assert str(one.pid) in raised.value.message
    assert "write transaction" in raised.value.message
    assert lab.fingerprint() == before
    with pytest.raises(Busy) as raised:
        lab.surveyed(path)
    assert str(one.pid) in raised.value.message


def test_file_replaced_since_the_plan_is_not_touched(lab: Any) -> None:
    path = lab.make()
    item = lab.planned(path, Operation.VACUUM)
    Path(lab.make()).replace(path)
    before = lab.fingerprint()
    with pytest.raises(Refused) as raised:
        lab.done(path, item)
    assert raised.value.kind is Kind.REPLACED
    assert lab.fingerprint() == before


def test_deep_damage_is_damaged(lab: Any) -> None:
    path = lab.make(free=0)
    content = bytearray(path.read_bytes())
    content[100:108] = b"\xff" * 8  # the page that holds the schema
    path.write_bytes(content)
    with pytest.raises(UpkeepError) as raised:
        lab.surveyed(path)
    assert raised.value.kind is Kind.CORRUPT
    assert raised.value.hint


@pytest.mark.parametrize("view", list(View))
def test_file_that_vanishes_before_it_is_opened_is_not_made(lab: Any, view: View) -> None:
    path = lab.folder / "gone.db"
    with pytest.raises(apsw.CantOpenError):
        connect(path, view)
    assert not path.exists()


def test_strange_paths_are_only_paths(lab: Any) -> None:
    path = lab.folder / "a ?mode=rwc&x=%41#é'\".db"
    Path(lab.make()).replace(path)
    facts = lab.surveyed(path)
    assert facts.identity["path"] == str(path)
    assert lab.done(path, lab.planned(path, Operation.VACUUM))[1].effective == "yes"
    assert lab.own_files(path) == [path.name]
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM t").fetchone()[0]
    connection.close()

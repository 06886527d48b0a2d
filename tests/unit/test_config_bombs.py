"""C14: a file that was made to hurt is refused in less than 200 ms of processor time and 50 MB, one at a limit read in seconds."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

import pytest

from dbupkeep.config import load
from dbupkeep.errors import UpkeepError

APP = "version = 1\n[targets.a]\nurl = 'sqlite:///a'\n"

BOMBS = {
    "bigger than any file": "#" * 3_000_000,
    "a key of many parts": "a." * 20_000 + "a = 1",
    "arrays in arrays": "a = " + "[" * 5000 + "]" * 5000,
    "tables in tables": "a = " + "{a = " * 5000 + "1" + "}" * 5000,
    "a long array": "a = [" + "1," * 400_000 + "]",
    "empty lines": "\n" * 900_000,
    "long keys": "".join(f"{'k' * 1000}{number} = 1\n" for number in range(900)),
    "long texts": "".join(f"k{number} = '{'x' * 60_000}'\n" for number in range(15)),
    "a number without end": "a = " + "9" * 900_000,
}
AT_THE_LIMIT = {
    "targets": "version = 1\n" + "".join(f"[targets.t{n}]\nurl = 'sqlite:///x{n}'\n" for n in range(6000)),
    "keys that nobody knows": "version = 1\n" + "".join(f"k{n} = 1\n" for n in range(19_000)),
    "operations that nobody knows": f"{APP}[jobs.j]\n[[jobs.j.steps]]\ntargets = ['a']\noperations = ["
    + "'x'," * 15_000
    + "]",
    "passwords": "version = 1\n" + "".join(f"[targets.t{n}]\nurl = 'postgresql://u:p{n}@h/x'\n" for n in range(5000)),
    "time zones that nobody knows": APP + "".join(f"[jobs.j{n}]\ntimezone = 'X{n}'\nsteps = []\n" for n in range(4000)),
    "crons": "version = 1\n" + "".join(f"[windows.w{n}]\nopen = '1,2,3 * * * *'\nlasts = '1h'\n" for n in range(4000)),
}


def seconds(path: Path) -> float:
    """What it takes of the processor."""
    began = time.process_time()
    attempt(path)
    return time.process_time() - began


def megabytes(path: Path) -> float:
    """What it takes of the memory, at most."""
    tracemalloc.start()
    try:
        attempt(path)
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


def attempt(path: Path) -> bool:
    try:
        load(path, environ={})
    except UpkeepError:
        return False
    return True


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text("version = 1\n")
    load(path, environ={})  # what a first file has to import is not counted
    return path


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_cheaply(file: Path, name: str) -> None:
    file.write_text(BOMBS[name])
    assert seconds(file) < 0.2
    assert megabytes(file) < 50
    assert not attempt(file)


@pytest.mark.parametrize("name", AT_THE_LIMIT)
def test_a_file_at_every_limit_is_read_or_refused_soon(file: Path, name: str) -> None:
    file.write_text(AT_THE_LIMIT[name])
    assert seconds(file) < 3

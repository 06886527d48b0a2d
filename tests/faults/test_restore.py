"""A restore of the ledger is killed at random moments: what is there afterwards is the old ledger or the new one, whole."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dbupkeep.app import open_pair
from dbupkeep.clock import SystemClock
from dbupkeep.ledgers import copies
from dbupkeep.testing.pair_kit import Handles, family

DOCUMENTS = 150
"""Of 100 kB each, so that a restore takes a while."""


@pytest.mark.slow
@pytest.mark.fault
@pytest.mark.timeout(1800)
def test_killed_restore_leaves_one_ledger_or_the_other(kills: int, tmp_path: Path) -> None:
    ledger, copy, old = tmp_path / "ledger.db", tmp_path / "copy.db", tmp_path / "old.db"
    handles = Handles(lambda: open_pair(str(ledger), SystemClock(), 30.0))
    _fill(handles)
    copies.back_up(ledger, copy)
    _fill(handles)
    handles.close()
    shutil.copy(ledger, old)
    command = [sys.executable, "-m", "dbupkeep", "ledger", "restore", str(copy), "--force", "--ledger", str(ledger)]
    began = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    whole = time.monotonic() - began

    found = []
    for _ in range(4 if kills <= 200 else kills // 25):
        for path in tmp_path.glob("ledger.db*"):
            path.unlink()
        shutil.copy(old, ledger)
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            time.sleep(random.uniform(0.3, 1.0) * whole)  # the moment is the point, and nothing waits for it
            process.kill()
        found.append(copies.check(ledger).runs)
    print(f"{found.count(2)} times the old ledger, {found.count(1)} times the new one")
    assert set(found) <= {1, 2}


def _fill(handles: Handles) -> None:
    """A run, and something to copy."""
    handles.life.submit(family("a").submission)
    for number in range(DOCUMENTS):
        handles.life.keep("filling", f"{os.urandom(4).hex()} {number}", {"text": os.urandom(50_000).hex()})

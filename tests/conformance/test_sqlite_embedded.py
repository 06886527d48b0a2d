from __future__ import annotations

from functools import partial
from pathlib import Path

import apsw
import pytest
from typing_extensions import override

from dbupkeep.app import open_pair
from dbupkeep.clock import SystemClock
from dbupkeep.testing.pair_suite import Handles, LedgerQueueSuite, Opener


class TestSqliteEmbedded(LedgerQueueSuite):
    @pytest.fixture
    @override
    def opener(self, tmp_path: Path, lease: float) -> Opener:
        return partial(open_pair, str(tmp_path / "ledger.db"), SystemClock(), lease)

    @override
    def make_newer(self, pair: Handles) -> None:
        connection = apsw.Connection(pair.reader.health().location)
        connection.pragma("user_version", 9999)
        connection.close()

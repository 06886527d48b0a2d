from __future__ import annotations

from functools import partial

import pytest
from typing_extensions import override

from dbupkeep.app import open_pair
from dbupkeep.clock import SystemClock
from dbupkeep.testing.pair_suite import Handles, LedgerQueueSuite, Opener
from tests.plugins.postgresql import Database

pytestmark = pytest.mark.engine("postgresql")


class TestPostgresqlPgqueuer(LedgerQueueSuite):
    @pytest.fixture
    @override
    def opener(self, newest_database: Database, lease: float) -> Opener:
        self.database = newest_database
        return partial(open_pair, newest_database.url, SystemClock(), lease)

    @override
    def make_newer(self, pair: Handles) -> None:
        self.database.execute("update dbupkeep.schema_version set version = 9999")

from __future__ import annotations

import pytest
from typing_extensions import override

from dbupkeep.testing.engine_suite import EngineSuite, Laboratory


class TestSqlite(EngineSuite):
    @pytest.fixture
    @override
    def lab(self, sqlite_lab: Laboratory) -> Laboratory:
        return sqlite_lab

"""What every ledger with its queue must do, as tests. An adapter's test file subclasses `LedgerQueueSuite`.

The file gives the fixture `opener` (and `lease`, and `make_newer`); all else is here:

    class TestMine(LedgerQueueSuite):
        @pytest.fixture
        def opener(self, tmp_path: Path, lease: float) -> Opener:
            return partial(open_mine, tmp_path / "store", lease)

Public: it sees ports, domain and `lifecycle` alone, so that a third party's pair can be held to it too. Worker
processes that are lost are real processes; threads wait for conditions, never for a while.
"""

from __future__ import annotations

from collections.abc import Generator

import pytest

from dbupkeep.testing.pair_control import LimitTests, RepetitionTests, StopTests
from dbupkeep.testing.pair_delivery import LostWorkerTests, ServingTests
from dbupkeep.testing.pair_ending import EndingTests, PuttingOffTests
from dbupkeep.testing.pair_kit import Handles, Opener
from dbupkeep.testing.pair_life import AttemptTests, ReleaseTests, RequestTests, SubmissionTests, TransitionTests
from dbupkeep.testing.pair_store import KeepingTests, ReadingTests, TransactionTests
from dbupkeep.testing.pair_trail import TrailTests

__all__ = ["Handles", "LedgerQueueSuite", "Opener"]


class LedgerQueueSuite(
    SubmissionTests,
    TransitionTests,
    AttemptTests,
    ReleaseTests,
    RequestTests,
    StopTests,
    EndingTests,
    PuttingOffTests,
    LimitTests,
    RepetitionTests,
    TransactionTests,
    ReadingTests,
    KeepingTests,
    TrailTests,
    ServingTests,
    LostWorkerTests,
):
    """Subclass it, with a fixture `opener`, in a test file of its own."""

    @pytest.fixture
    def opener(self) -> Opener:
        """Opens the store of this test, new and empty, as one process would; each call gives handles of their own.

        It must be possible to pickle it: worker processes call it too.
        """
        raise NotImplementedError

    @pytest.fixture
    def lease(self) -> float:
        """How long a silent worker keeps what it holds, in seconds; `opener` must open the queue with it."""
        return 1.0

    @pytest.fixture
    def pair(self, opener: Opener) -> Generator[Handles, None, None]:
        """The store, as one process sees it."""
        handles = Handles(opener)
        yield handles
        handles.close()

    @pytest.fixture
    def other(self, opener: Opener, pair: Handles) -> Generator[Handles, None, None]:
        """The same store, as another process sees it."""
        handles = Handles(opener)
        yield handles
        handles.close()

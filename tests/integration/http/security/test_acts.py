"""C17: what is asked over HTTP stands in the audit trail under the token's name, what is refused too, and no flood fills it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from dbupkeep.app import App
from dbupkeep.audit import Act, Entry, everything
from dbupkeep.ledger import verified
from dbupkeep.views.web.denials import Denials
from tests.integration.http.security.conftest import Client

Eventually = Callable[[Callable[[], bool]], None]


def told(app: App) -> list[tuple[str, str, str, str]]:
    """What the trail says, without how the tokens of the test were made."""
    return [(each.who, each.what, each.on, each.outcome) for each in entries(app)]


def entries(app: App) -> list[Entry]:
    return [each for each in everything(app.ledger.acts_after) if each.what != "token_create"]


def test_verbs_of_api_and_page_are_told_under_the_name_of_the_token(client: Client, app: App, run: str) -> None:
    assert client.post(f"/api/v1/jobs/{run}/pause", role="operator").status < 300
    browser = client.log_in("admin")
    answer = client.post(f"/jobs/{run}/resume", browser.cookie, ("Origin", client.origin), csrf_token=browser.csrf)
    assert answer.status == 303, answer
    assert told(app) == [
        ("token operator", "pause", run, "done"),
        ("token admin", "log_in", "", "done"),
        ("token admin", "resume", run, "done"),
    ]
    assert list(verified(app.ledger)[1]) == []


def test_a_run_that_is_started_over_http_is_told(client: Client, app: App) -> None:
    body = b'{"definition": "one"}'
    answer = client.ask("POST", "/api/v1/runs", ("Content-Type", "application/json"), body=body, role="operator")
    assert answer.status in (201, 202), answer
    who, what, on, outcome = told(app)[-1]
    assert (who, what, outcome) == ("token operator", "run", "done")
    assert app.reader.job(on) is not None


def test_what_a_role_may_not_is_told(client: Client, app: App, run: str, eventually: Eventually) -> None:
    assert client.post(f"/api/v1/jobs/{run}/cancel", role="viewer").status == 403
    eventually(lambda: bool(told(app)))
    assert told(app) == [("token viewer", "request", f"POST /api/v1/jobs/{run}/cancel", "refused: 403")]


def test_what_another_site_tried_is_told(client: Client, app: App, eventually: Eventually) -> None:
    browser = client.log_in("admin")
    client.post("/logout", browser.cookie, ("Origin", "https://evil.example"), csrf_token=browser.csrf)
    eventually(lambda: len(told(app)) == 2)
    assert told(app)[1] == ("address 127.0.0.1", "request", "POST /logout", "refused: 403")


def test_failed_log_ins_are_told_without_what_was_tried(client: Client, app: App, eventually: Eventually) -> None:
    for _ in range(3):
        client.post("/login", ("Origin", client.origin), token="guess-of-a-token")  # noqa: S106 - no secret
    eventually(lambda: bool(told(app)))
    assert told(app) == [("address 127.0.0.1", "log_in", "POST /login", "refused: 401")]
    assert "guess" not in "".join(map(str, entries(app)))


class TestDenials:
    """Each kind is written once a minute, with how many there were."""

    ACT = Act(who="token viewer", what="request", on="POST /x", outcome="refused: 403")

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @pytest.mark.anyio
    async def test_they_are_counted_and_do_not_flood(self) -> None:
        written: list[Act] = []
        now = [0.0]
        denials = Denials(written.append, lambda: now[0])
        for _ in range(1000):
            denials.note(self.ACT)
        await settled(denials)
        assert written == [self.ACT]
        now[0] = 60.0
        denials.note(self.ACT)
        await settled(denials)
        assert written == [self.ACT, replace(self.ACT, detail={"more_before": 999})]

    @pytest.mark.anyio
    async def test_many_kinds_do_not_flood_either(self) -> None:
        written: list[Act] = []
        denials = Denials(written.append, lambda: 0.0)
        for number in range(5000):
            denials.note(replace(self.ACT, who=f"address {number}"))
        await settled(denials)
        assert len(written) == 20
        assert len(denials._seen) <= 1000


async def settled(denials: Denials) -> None:
    for task in list(denials._writing):
        await task

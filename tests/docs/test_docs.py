"""The documents are part of the product: complete, up to date, and without a link that leads nowhere."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest
from msgspec import Struct

from dbupkeep import config, documents, engines, events
from dbupkeep.audit import Act, sealed
from dbupkeep.definitions import ErrorPolicy, Policy, Target
from dbupkeep.engine import Finding
from dbupkeep.errors import Kind
from dbupkeep.estimates import Measurement
from dbupkeep.events import JobSubmitted, Recorded
from dbupkeep.facts import DatabaseFacts, Notice
from dbupkeep.jobs import ChildStats, Job, JobStatus, JobType, Outcome, Phase
from dbupkeep.operations import Operation
from dbupkeep.plans import Decision, Estimate, Plan, PlanItem, RunPlan, SpaceNeed
from dbupkeep.progress import Progress
from dbupkeep.views.cli.entry import COMMANDS, cli
from dbupkeep.views.cli.exits import Exit

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.glob("**/*.md"))]

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)", re.DOTALL)
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
ROW = re.compile(r"^\| `([^`]+)` \|", re.MULTILINE)

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def text_of(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def section(page: str, title: str) -> str:
    """The text below a heading of the second level."""
    return text_of(page).split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_generated_pages_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, DOCS / "generate.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def anchors(page: Path) -> set[str]:
    """As the usual renderers make them of headings."""
    headings = HEADING.findall(FENCED.sub("", page.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    lost = []
    for link in LINK.findall(FENCED.sub("", page.read_text(encoding="utf-8"))):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            lost.append(link)
    assert not lost


@pytest.mark.parametrize("page", sorted(DOCS.glob("**/*.md")), ids=name_of)
def test_page_can_be_found(page: Path) -> None:
    links = {(source.parent / link.partition("#")[0]).resolve() for source in PAGES if source != page
             for link in LINK.findall(source.read_text(encoding="utf-8"))}  # fmt: skip
    assert page in links or page.parent in links, "no other page leads there"


def commands(group: click.Group = cli, path: str = "dbupkeep") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")


def test_every_command_and_option_is_in_the_reference() -> None:
    page = text_of("reference/commands.md")
    for path, command in commands():
        assert re.search(rf"^##+ {path}$", page, re.MULTILINE), path
        part = re.split(rf"^##+ {path}$", page, flags=re.MULTILINE)[1].split("\n## ")[0]
        for option in (name for each in command.params if isinstance(each, click.Option) for name in each.opts):
            assert option in part, f"{path} {option}"


def test_every_command_is_explained_somewhere_by_hand() -> None:
    pages = [ROOT / "README.md", DOCS / "tutorial.md", *DOCS.glob("how-to/*.md")]
    words = " ".join(page.read_text(encoding="utf-8") for page in pages)
    missing = [
        name for group in COMMANDS.values() for name in group if not re.search(rf"\b(dbupkeep|make) {name}\b", words)
    ]
    assert missing in ([], ["completion"])


def test_every_event_is_in_the_reference() -> None:
    assert set(ROW.findall(text_of("reference/events.md"))) == set(events.EVENTS)


def test_every_kind_of_error_has_its_section() -> None:
    assert re.findall(r"^## (.+)$", text_of("how-to/what-to-do.md"), re.MULTILINE) == [kind.value for kind in Kind]


def test_every_exit_code_is_told() -> None:
    codes = re.findall(r"^\| (\d+) \|", text_of("reference/exit-codes.md"), re.MULTILINE)
    assert [int(code) for code in codes] == [int(code) for code in Exit]
    readme = re.findall(
        r"\d+", " ".join(re.findall(r"^\| ([\d, ]+) \|", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE))
    )
    assert {int(code) for code in readme} == {int(code) for code in Exit if code is not Exit.BROKEN_PIPE}


def test_every_operation_is_told_for_every_engine() -> None:
    page = text_of("reference/operations.md")
    assert all(f"\n## {engine}\n" in page for engine in engines.known())
    for operation in engines.load("sqlite").operations:
        rows = re.findall(r"^\| (\w+) \| \S", section("reference/sqlite.md", operation), re.MULTILINE)
        assert rows == ["due", "does", "locks", "space", "progress", "cancel", "evidence", "limits"]


def test_every_setting_is_in_the_reference() -> None:
    page = text_of("reference/configuration.md")
    schema = config.json_schema()
    for table in (schema, *schema["$defs"].values()):
        for key in table["properties"]:
            assert f"| `{key}` |" in page, key
    thresholds = text_of("reference/operations.md")
    for operation, settings in engines.load("sqlite").defaults.items():
        assert all(f"`{name}`" in thresholds for name in settings), operation


def test_every_configuration_that_is_shown_is_sound(tmp_path: Path) -> None:
    found = [
        block
        for page in PAGES
        for block in re.findall(r"^```toml\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    ]
    shown = [block for block in found if "version" in tomllib.loads(block)]
    assert shown
    for block in shown:
        file = tmp_path / "config.toml"
        file.write_text(block, encoding="utf-8")
        config.load(file, known=config.Known(engines=engines.known()))


def test_every_variable_of_the_environment_is_told() -> None:
    page = text_of("reference/environment.md")
    for source in (ROOT / "src").glob("**/*.py"):
        text = source.read_text(encoding="utf-8")
        named = {
            *re.findall(r"environ(?:ment)?(?:\.get\(|\[)\"(\w+)\"", text),
            *re.findall(r"\bDBUPKEEP_[A-Z]+\b(?!_)", text),
        }
        missing = [name for name in named if f"`{name}`" not in page and name != "DBUPKEEP_POLICIES"]
        assert not missing, f"{source.name}: {missing}"


def rows_of(title: str) -> list[str]:
    return ROW.findall(section("reference/json.md", title))


PARENT = Job(
    id="1", parent_id="1", correlation_id="1", type=JobType.DATABASE_MAINTENANCE_PARENT, phase=Phase.ORCHESTRATION,
    name="app.db", created_at=NOW, status=JobStatus.RUNNING, stats=ChildStats(),
    result={}, error={"where": "", "cause": ""},
)  # fmt: skip
ITEM = PlanItem(operation=Operation.VACUUM, decision=Decision.RUN, reason="", place=0)
PLAN = Plan(
    id="1", name="app.db", created_at=NOW, target=Target(name="app.db", url="sqlite:///app.db"), operations=(), policy=Policy(),
    errors=ErrorPolicy(), facts=DatabaseFacts(target="", engine="", version="", surveyed_at=NOW, bytes=0), settings={}, items=(ITEM,),
)  # fmt: skip


def fields_of(cls: type[Struct]) -> list[str]:
    return list(cls.__struct_fields__)


@pytest.mark.parametrize(
    ("title", "keys"),
    [
        ("Job", [*documents.run_document(PARENT, lambda _: [])]),
        ("Progress", [*documents.job_document(PARENT)["progress"]]),
        ("Error", [*documents.job_document(PARENT)["error"]]),
        ("Estimate", fields_of(Estimate)),
        ("Plan", [*documents.plan_document(PLAN)]),
        ("Plan item", [*documents.plan_document(PLAN)["jobs"][0]]),
        ("Run plan", [*documents.run_plan_document(RunPlan(id="1", name="", created_at=NOW, plans=()))]),
        ("Notice", fields_of(Notice)),
        ("Event", [*documents.event_document(Recorded(seq=1, at=NOW, job_id="", parent_id="", correlation_id="", event=JobSubmitted()))]),
        ("Measurement", [*fields_of(Measurement), "gain"]),
        ("Act", [*documents.act_document(sealed(Act(who="", what=""), seq=1, at="2026-01-01T00:00:00+00:00", previous=""))]),
        ("Finding", fields_of(Finding)),
    ],
)  # fmt: skip
def test_every_field_of_a_document_is_told(title: str, keys: list[str]) -> None:
    assert rows_of(title) == keys


def test_what_a_result_may_have_is_told() -> None:
    source = (ROOT / "src/dbupkeep/workers/database_maintenance_operation.py").read_text(encoding="utf-8")
    keys = re.findall(r'^        "(\w+)": ', source.partition("def _result")[2], re.MULTILINE)
    assert set(keys) | {"hint", "blocking_seconds"} == set(rows_of("Result"))


def test_names_inside_of_fields_are_told() -> None:
    job, item = section("reference/json.md", "Job"), section("reference/json.md", "Plan item")
    assert all(f"`{status}`" in job for status in JobStatus)
    assert all(f"`{outcome}`" in job for outcome in Outcome)
    assert all(f"`{name}`" in item for name in (*fields_of(SpaceNeed), "enough", *Decision))
    assert fields_of(Progress) == rows_of("Progress")

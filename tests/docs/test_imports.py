"""What import-linter cannot say: the domain sees the standard library without its I/O, and each driver has its place."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "src" / "dbupkeep"

DOMAIN = (
    "admission codec definitions errors estimates events facts health jobs operations planner plans progress results"
    " schedules totals"
).split()

PORTS = "engine follower ledger manager queue worker".split()

# A clock, randomness and everything that reaches out of the process are parameters of the domain, never imports.
REACHES_OUT = set(
    "asyncio concurrent ftplib glob http io locale logging multiprocessing os pathlib random secrets select shelve shutil"
    " signal smtplib socket sqlite3 ssl subprocess sys tempfile threading time urllib uuid".split()
)

# A contract may name how a caller says stop.
OF_PORTS = {"threading"}

# For all: the standard library of a later Python, and what records are made of (docs/decisions/0020-records.md).
EVERYWHERE = {"typing_extensions", "msgspec"}

# Which part of the package may import a third-party library; a part is a module or a package, by dotted prefix.
PLACES = {
    "apsw": ("engines.sqlite", "ledgers.sqlite", "ledgers.copies", "queues.embedded"),
    "psycopg": ("engines.postgresql", "ledgers.postgresql", "pooling", "queues.pgqueuer"),
    "pgqueuer": ("queues.pgqueuer",),
    "uuid_utils": ("clock",),
    "platformdirs": ("app", "config", "views"),
    "pydantic": ("config", "views"),
    "click": ("views",),
    "cronsim": ("cron",),
    "humanize": ("views",),
    "rich": ("views",),
    "fastapi": ("views.web", "views.api", "views.page", "views.site", "views.metrics"),
    "starlette": ("views.web", "views.api", "views.page", "views.site"),
    "uvicorn": ("views.web",),
    "jinja2": ("views",),
    "prometheus_client": ("views.metrics",),
    "opentelemetry": ("followers",),
    "apprise": ("followers",),
    "hypothesis": ("testing",),
    "pytest": ("testing",),
}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def imported(path: Path) -> Iterator[str]:
    """The top-level packages that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("name", DOMAIN + PORTS)
def test_domain_module_is_pure(name: str) -> None:
    path = PACKAGE / f"{name}.py"
    if not path.exists():
        pytest.skip(f"{name}.py is not written yet")
    foreign = (
        {package for package in imported(path) if package not in sys.stdlib_module_names} - EVERYWHERE - {"dbupkeep"}
    )
    assert not foreign, "the domain uses the standard library only, and what records are made of"
    outside = REACHES_OUT - OF_PORTS if name in PORTS else REACHES_OUT
    assert not set(imported(path)) & outside, "the domain does no I/O and reads no clock"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=module_name)
def test_third_party_library_is_used_in_its_place(path: Path) -> None:
    name = module_name(path)
    for package in set(imported(path)) - sys.stdlib_module_names - EVERYWHERE - {"dbupkeep"}:
        assert package in PLACES, f"{package} has no place: decide on it in docs/decisions, then add it here"
        assert any(f"{name}.".startswith(f"{place}.") for place in PLACES[package]), f"{package} is not for {name}"

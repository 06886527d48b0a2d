"""The commands `doctor`, `why`, `config`, `demo` and the ledger's own faults."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.acceptance.conftest import Cli


def test_doctor_looks_at_program_ledger_and_database(cli: Cli, bloated: Path) -> None:
    findings = {each["subject"]: each for each in cli("doctor", "app.db", "--json").json["findings"]}
    for subject in ("dbupkeep", "ledger", "ledger file", "ledger volume", "workers", "configuration"):
        assert findings[subject]["ok"], subject
    assert len(findings) > len(cli("doctor", "--json").json["findings"])
    assert "SQLite" in cli("doctor", "app.db").out


def test_doctor_minds_who_may_read_the_ledger(cli: Cli, bloated: Path, state_folder: Path) -> None:
    assert cli("run", "app.db").code == 0
    ledger = state_folder / "ledger.db"
    assert ledger.stat().st_mode & 0o777 == 0o600
    ledger.chmod(0o644)
    done = cli("doctor")
    assert done.code == 1
    assert "others may look into it" in done.out
    assert "chmod 600" in done.out


def test_why_says_what_is_in_the_way(cli: Cli, bloated: Path) -> None:
    done = cli("why", "app.db", "t")
    assert done.code == 0
    assert done.out


FAULTY = """
version = 1
[targets.app]
url = "sqlite:///srv/app.db"
[jobs.nightly]
[[jobs.nightly.steps]]
targets = ["ap"]
operations = ["vaccum"]
"""


def test_config_check_names_every_fault_with_its_line(cli: Cli, tmp_path: Path) -> None:
    config = tmp_path / "upkeep.toml"
    config.write_text(FAULTY)
    done = cli("config", "check", "--config", config)
    assert done.code == 2
    assert f"{config}:7" in done.err
    assert f"{config}:8" in done.err
    config.write_text(FAULTY.replace('"ap"', '"app"').replace("vaccum", "vacuum"))
    assert "1 target, 1 job" in cli("config", "check", "--config", config).out
    assert cli("config", "path", "--config", config).out.strip() == str(config)
    shown = cli("config", "show", "--origin", "--config", config, "--json").json["values"]
    assert {"key": "targets.app.url", "value": "sqlite:///srv/app.db", "origin": f"{config}:4"} in shown
    assert cli("config", "schema").json["title"] == "dbupkeep configuration"
    assert cli("plan", "x.db", "--config", tmp_path / "none.toml").code == 2


@pytest.mark.parametrize("content", [b"This is no ledger, but a text that somebody needs.", b""])
def test_a_file_that_is_no_ledger_is_left_alone(cli: Cli, bloated: Path, tmp_path: Path, content: bytes) -> None:
    other = tmp_path / "other"
    other.write_bytes(content)
    done = cli("jobs", "--ledger", other)
    if content:
        assert done.code == 1
        assert "hint:" in done.err
        assert other.read_bytes() == content
    assert cli("jobs", "--ledger", bloated).code == 1


@pytest.mark.demo
@pytest.mark.slow
def test_the_demo_shows_the_main_job(cli: Cli, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    done = cli("demo", "--size", "20", TMPDIR=str(scratch))
    assert done.code == 0
    assert "Plan for demo.db" in done.out
    assert "given back in" in done.out
    assert list(scratch.iterdir()) == []
    assert cli("jobs", "--json").json["jobs"] == []
    kept = cli("demo", "--size", "5", "--keep", "--json", TMPDIR=str(scratch))
    assert kept.json["outcome"] == "done"
    (folder,) = scratch.iterdir()
    assert {"demo.db", "ledger.db"} <= {path.name for path in folder.iterdir()}

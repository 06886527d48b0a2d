"""How it looks: colours, widths, names that try to do harm, terminals and pipes; and how little it loads."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.acceptance.conftest import Cli, Script

ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def test_a_pipe_gets_no_colour_unless_it_is_asked_for(cli: Cli, bloated: Path) -> None:
    run = cli("run", "app.db")
    assert "\x1b" not in run.out + run.err
    plain = cli("show")
    assert "\x1b" not in plain.out
    for coloured in (cli("show", "--color", "always"), cli("show", FORCE_COLOR="1")):
        assert "\x1b[" in coloured.out
        assert ANSI.sub("", coloured.out) == plain.out
    assert "\x1b" not in cli("show", FORCE_COLOR="1", NO_COLOR="1").out
    assert "\x1b" not in cli("show", "--color", "never", FORCE_COLOR="1").out


def on_a_terminal(cli: Cli, *arguments: str, columns: int = 80, **environ: str) -> tuple[int, str]:
    """Run a command whose three streams are a terminal."""
    ours, theirs = pty.openpty()
    env = {**os.environ, **cli.environ, "TERM": "xterm-256color", "COLUMNS": str(columns), **environ}
    process = subprocess.Popen(
        [sys.executable, "-m", "dbupkeep", *arguments],
        cwd=cli.folder,
        env=env,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    said = bytearray()
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the other side is closed
            break
        if not part:
            break
        said += part
    os.close(ours)
    return process.wait(60), said.decode()


def test_a_terminal_gets_a_live_picture_that_is_gone_in_the_end(cli: Cli, bloated: Path, script: Script) -> None:
    script.let("vacuum", "reindex", "analyze")
    code, said = on_a_terminal(cli, "run", "scripted://db")
    assert code == 0
    assert "\x1b[?25l" in said  # the cursor is hidden while it is drawn
    assert said.rindex("\x1b[?25h") > said.rindex("\x1b[?25l")
    assert "3 done" in said
    assert "started" not in said  # no plain lines beside the picture


def test_no_colour_on_a_terminal_is_possible(cli: Cli, bloated: Path) -> None:
    _, said = on_a_terminal(cli, "run", "app.db", NO_COLOR="1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", said)


def test_a_dumb_terminal_gets_lines(cli: Cli, bloated: Path) -> None:
    code, said = on_a_terminal(cli, "run", "app.db", TERM="dumb")
    assert code == 0
    assert "\x1b" not in said
    assert "app.db vacuum: started" in said


@pytest.mark.parametrize("columns", [40, 60, 80])
def test_nothing_is_wider_than_the_terminal(cli: Cli, fleet: Path, columns: int) -> None:
    width = str(columns)
    assert cli("run", "srv/*.db").code == 0
    for arguments in (
        ["plan", "srv/tenant-0.db", "--force"], ["plan", "srv/*.db", "--force"], ["jobs"], ["jobs", "--all"], ["show"],
        ["show", "--all"], ["show", "last/2/1"], ["history"], ["doctor"], ["plan", "none.db"],
    ):  # fmt: skip
        done = cli(*arguments, COLUMNS=width)
        words_as_they_are = ("dbupkeep ", "More:", "Do it:")  # commands are for copying, so they are never cut
        for line in (done.out + done.err).splitlines():
            assert len(line) <= columns or any(word in line for word in words_as_they_are), (arguments, line)


def test_names_cannot_move_the_cursor(cli: Cli, tmp_path: Path, database: Callable[..., Path]) -> None:
    name = "evil\x1b[2J\n\u202egnp.db"
    database(tmp_path / name)
    for arguments in (["plan", name], ["run", name], ["jobs"], ["show"], ["logs"], ["history"], ["plan", f"no{name}"]):
        done = cli(*arguments)
        assert "\x1b" not in done.out + done.err, arguments
        assert "\u202e" not in done.out + done.err, arguments
        assert "\\x1b[2J" in done.out + done.err, arguments
    assert cli("jobs", "--json").json["jobs"][0]["name"] == name


def test_a_name_that_is_no_text_is_refused_in_words(cli: Cli, tmp_path: Path, database: Callable[..., Path]) -> None:
    name = os.fsdecode(b"caf\xe9.db")
    database(tmp_path / "plain.db").rename(tmp_path / name)
    for arguments in (["plan", name], ["run", name, "--json"]):
        done = cli(*arguments)
        assert done.code == 13
        assert "is not in UTF-8" in done.err
    done = cli("run", "*.db")
    assert done.code in (0, 13)
    assert "Traceback" not in done.err


def test_an_old_encoding_gets_plain_signs(cli: Cli, bloated: Path) -> None:
    done = cli("run", "app.db", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.code == 0
    assert "->" in done.out
    assert done.out.isascii()


def test_quiet_leaves_results_and_errors(cli: Cli, bloated: Path) -> None:
    done = cli("run", "app.db", "-q")
    assert done.err == ""
    assert "given back" in done.out
    assert "error:" in cli("run", "none.db", "-q").err


def test_logs_can_be_json(cli: Cli, bloated: Path) -> None:
    import json

    done = cli("run", "app.db", "--log-format", "json", "-vv")
    lines = [json.loads(line) for line in done.err.splitlines()]
    assert {"time", "level", "logger", "message"} <= set(lines[0])
    assert any(line.get("operation") == "vacuum" and line.get("correlation_id") for line in lines)


def test_options_may_stand_before_the_command(cli: Cli, bloated: Path, tmp_path: Path) -> None:
    assert cli("--ledger", tmp_path / "mine.db", "run", "app.db").code == 0
    assert len(cli("--json", "jobs", "--ledger", tmp_path / "mine.db").json["jobs"]) == 1
    assert cli("jobs", "--json").json["jobs"] == []
    assert len(cli("jobs", "--json", DBUPKEEP_LEDGER=str(tmp_path / "mine.db")).json["jobs"]) == 1


def test_a_reader_that_leaves_early_is_no_error(cli: Cli, bloated: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "dbupkeep", "config", "schema"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.wait(60) == 141
    assert process.stderr.read() == ""
    process.stderr.close()


def test_closed_outputs_are_written_nowhere(cli: Cli, bloated: Path) -> None:
    script = f'exec "{sys.executable}" -m dbupkeep run "{bloated}" --ledger "{bloated}.ledger" >&- 2>&-'
    assert subprocess.run(["sh", "-c", script], check=False, timeout=60).returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a device that is always full")
def test_output_that_cannot_be_written_is_said(cli: Cli, bloated: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "dbupkeep", "config", "schema"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("error: the output could not be written\nwhy:   No space left on device\n")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed_and_completes(cli: Cli, shell: str) -> None:
    assert "_DBUPKEEP_COMPLETE" in cli("completion", shell).out
    done = cli(_DBUPKEEP_COMPLETE="bash_complete", COMP_WORDS="dbupkeep pl", COMP_CWORD="1")
    assert "plan" in done.out


def test_the_version_is_said(cli: Cli) -> None:
    from dbupkeep import __version__

    assert cli("--version").out == f"dbupkeep {__version__}\n"


def test_help_names_every_command_and_each_has_its_own(cli: Cli) -> None:
    from dbupkeep.views.cli.entry import COMMANDS

    listed = cli("--help").out
    for group in COMMANDS.values():
        for name in group:
            assert re.search(rf"^  {name} ", listed, re.MULTILINE), name
            done = cli(name, "--help")
            assert done.code == 0
            assert "Usage: dbupkeep" in done.out


def test_no_command_is_answered_with_the_help(cli: Cli) -> None:
    done = cli()
    assert done.code == 2
    assert done.err.startswith("Usage: dbupkeep")
    assert "error:" not in done.err


def test_an_unknown_command_is_answered_with_the_near_one(cli: Cli) -> None:
    done = cli("vacum")
    assert done.code == 2
    assert cli("jbos").err.count("did you mean `jobs`") == 1


HEAVY = ("rich", "pydantic", "psycopg", "pgqueuer", "fastapi", "asyncio", "humanize")
LOADED = "import sys; from dbupkeep.views.cli import main; main({arguments!r}); print(*sys.modules, file=sys.stderr)"


@pytest.mark.parametrize(
    ("arguments", "most"), [(["--version"], 120), (["jobs"], 420), (["show"], 420), (["plan", "app.db"], 480)]
)
def test_short_commands_load_little(cli: Cli, bloated: Path, arguments: list[str], most: int) -> None:
    assert cli("run", "app.db").code == 0
    done = subprocess.run(
        [sys.executable, "-c", LOADED.format(arguments=arguments)],
        cwd=cli.folder,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = done.stderr.split()
    wanted = set() if arguments[0] == "--version" else {"humanize"}  # sizes in words
    assert not {name.partition(".")[0] for name in loaded} & (set(HEAVY) - wanted)
    assert len(loaded) < most
    if arguments == ["--version"]:
        assert "click" not in loaded

"""Where and with what a benchmark ran."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import apsw

ROOT = Path(__file__).parents[1]


def facts() -> dict[str, object]:
    """Machine, versions, commit and date, for the head of a result."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _said(
            "git",
            "-C",
            str(ROOT),
            "describe",
            "--always",
            "--dirty",
            "--",
        )
        or "unknown",
        "cores": os.cpu_count(),
        "memory_bytes": memory,
        "kernel": platform.release(),
        "system": _system(),
        "python": platform.python_version(),
        "apsw_sqlite": apsw.sqlite_lib_version(),
        "stdlib_sqlite": sqlite3.sqlite_version,
        "sqlite3_command": _said("sqlite3", "--version").split(" ")[0],
        "load_before": round(os.getloadavg()[0], 2),
    }


def line(found: dict[str, object]) -> str:
    """The same as one line of text."""
    gigabytes = int(str(found["memory_bytes"])) / 2**30
    return (
        f"{found['date']}, commit {found['commit']}: {found['cores']} cores, {gigabytes:.0f} GiB, {found['system']},"
        f" Linux {found['kernel']}; Python {found['python']}, apsw with SQLite {found['apsw_sqlite']},"
        f" sqlite3 command {found['sqlite3_command']}; load {found['load_before']} before"
    )


def _said(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _system() -> str:
    path = Path("/etc/os-release")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return next(
        (text.partition("=")[2].strip('"') for text in lines if text.startswith("PRETTY_NAME=")), platform.system()
    )

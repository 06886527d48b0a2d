"""Text files speak of the project alone: no path of the machine they were written on, no address to install from."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Each is written so that it does not match this file.
UNWANTED = {
    "a user's home folder": re.compile(r"/(?:home|Users)/[a-z][\w.-]*/|/[r]oot/|[A-Z]:\\Users\\"),
    "a package index or its address": re.compile(
        r"[p]ypi\.org|[p]ythonhosted|--(?:extra-)?index-[u]rl[ =]\S*://|--find-[l]inks"
    ),
    "a marker of an unfinished merge": re.compile(r"^(?:[<]{7} |[>]{7} |[|]{7} )", re.MULTILINE),
}


def texts() -> list[Path]:
    """The files that git has, as text."""
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("the list of files is git's: wants a clone, and git")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    files = [ROOT / name for name in listed.split("\0") if name]
    return [path for path in files if path.is_file() and b"\0" not in path.read_bytes()[:8192]]


@pytest.mark.parametrize("what", UNWANTED)
def test_no_text_names(what: str) -> None:
    found = {
        path.relative_to(ROOT).as_posix(): match.group()
        for path in texts()
        if (match := UNWANTED[what].search(path.read_text(encoding="utf-8")))
    }
    assert not found


def test_no_text_names_the_checkout() -> None:
    # The folder that this very checkout lies in, where it is deep enough to be no word of the project.
    here = str(ROOT)
    if here.count("/") < 2:
        pytest.skip("the checkout is at the top of the file system")
    assert not [path.relative_to(ROOT).as_posix() for path in texts() if here in path.read_text(encoding="utf-8")]

"""The command line. Each command is loaded when it is asked for, so that short ones stay fast."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence

SELDOM = 100_000
"""New objects between two looks of Python's cycle collector: at its default it looks fifty times while a
command loads, and each look costs more. A command that runs ends before the first one; a service goes on with it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name and return its exit code; without any, as the program itself."""
    if argv is not None:
        return _run(argv)
    gc.set_threshold(SELDOM, *gc.get_threshold()[1:])
    try:
        return _run(sys.argv[1:])
    finally:
        gc.freeze()  # at the end of the process nobody need look for cycles once more, in all that was loaded


def _run(arguments: Sequence[str]) -> int:
    if list(arguments) == ["--version"]:
        from dbupkeep import __version__

        print(f"dbupkeep {__version__}")
        return 0
    from dbupkeep.views.cli.entry import run

    return run(arguments)

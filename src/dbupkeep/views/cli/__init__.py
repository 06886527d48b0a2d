"""The command line. Each command is loaded when it is asked for, so that short ones stay fast."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments == ["--version"]:
        from dbupkeep import __version__

        print(f"dbupkeep {__version__}")
        return 0
    from dbupkeep.views.cli.entry import run

    return run(arguments)

"""Where a benchmark works, and the commands that are compared."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PRODUCT = str(Path(sys.executable).with_name("dbupkeep"))

_BARE = "import sys, apsw; c = apsw.Connection(sys.argv[1]); [c.execute(text).fetchall() for text in sys.argv[2:]]"


@dataclass(frozen=True, kw_only=True)
class Place:
    """A folder, and how much is asked for."""

    folder: Path
    full: bool  # the size that results are quoted for; small is for trying a benchmark out
    rounds: int | None = None

    @property
    def state(self) -> Path:
        """The ledger's folder; removed before each run."""
        return self.folder / "state"

    @property
    def environment(self) -> Mapping[str, str]:
        """Keeps the user's own ledger and configuration out of it: there is none of either."""
        return {"DBUPKEEP_STATE": str(self.state), "XDG_CONFIG_HOME": str(self.folder), "NO_COLOR": "1"}

    def forget(self) -> None:
        """Begin with no ledger."""
        shutil.rmtree(self.state, ignore_errors=True)


def product(*arguments: str) -> list[str]:
    """Our command."""
    return [PRODUCT, *arguments]


def shell(path: Path, *statements: str) -> list[str]:
    """The product's own command line."""
    return ["sqlite3", str(path), "; ".join(statements)]


def bare(path: Path, *statements: str) -> list[str]:
    """The library that dbupkeep uses, in an interpreter of its own, and nothing else: the product's floor."""
    return [sys.executable, "-c", _BARE, str(path), *statements]

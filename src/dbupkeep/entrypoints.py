"""What installed packages bring to dbupkeep, by entry points.

Most machines have none, and reading the metadata of every installed package to learn that would take a good part of a
short command's time. So their `entry_points.txt` are looked through for a group of ours first.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

OURS = b"[dbupkeep."
"""How the groups of entry points that concern us begin."""


def brought(group: str) -> Sequence[EntryPoint]:
    """The entry points of a group, such as `dbupkeep.engines`."""
    if not _any_of_ours(tuple(sys.path)):
        return ()
    from importlib.metadata import entry_points

    return tuple(entry_points(group=group))


@cache
def _any_of_ours(path: tuple[str, ...]) -> bool:
    """Whether any package may bring something. True where it cannot be told by looking at folders."""
    if any(finder is not PathFinder and hasattr(finder, "find_distributions") for finder in sys.meta_path):
        return True
    return any(_mentions(folder or ".") for folder in path)


def _mentions(folder: str) -> bool:
    if os.path.isfile(folder):  # noqa: PTH113 - an archive on the path; plain texts are quicker than Paths
        return True
    return any(OURS in text for text in _texts(folder))


def _texts(folder: str) -> Iterator[bytes]:
    for name in _listed(folder):
        if name.endswith((".dist-info", ".egg-info")):
            try:
                with open(f"{folder}/{name}/entry_points.txt", "rb") as file:  # noqa: PTH123 - as above
                    yield file.read()
            except OSError:
                continue


def _listed(folder: str) -> Iterable[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 - as above
    except OSError:
        return ()

"""Discovery, as its parent process sees it: starts the scan and turns its lines into candidates."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from msgspec import structs

from dbupkeep.definitions import Target
from dbupkeep.engine import Candidate, Scope
from dbupkeep.engines.sqlite.inquiry import DEFAULTS, number
from dbupkeep.engines.sqlite.paths import path_of, url_of
from dbupkeep.engines.sqlite.scan import Request
from dbupkeep.errors import Missing, NotPermitted, OperationError, Refused
from dbupkeep.operations import Operation

SCAN = "import sys; from dbupkeep.engines.sqlite import scan; scan.main(sys.stdin, sys.stdout.write)"
"""Not `-m`: the package is imported first and brings the module with it, of which Python then warns."""


def discover(place: Target, scope: Scope) -> Iterator[Candidate]:
    """Check the place at once, then find candidates while they are asked for. Raises `Missing` or `Refused`."""
    root = Path(os.path.realpath(path_of(place.url)))
    if not root.exists():
        raise Missing(f"there is no folder {root}", why="nothing is at that path", hint="check the path of the target")
    if not root.is_dir():
        raise Refused(f"{root} is not a folder", why="a pattern searches a folder", hint="leave the pattern out")
    if not os.access(root, os.R_OK | os.X_OK):
        raise NotPermitted(f"{root} cannot be read", why="its mode does not allow it", hint="run as its owner")
    return _candidates(place, root, request_of(place, scope, root))


def request_of(place: Target, scope: Scope, root: Path) -> Request:
    """What the scan needs to know: the policy's thresholds of a fleet, and what was asked for."""
    vacuum = {**DEFAULTS[Operation.VACUUM], **scope.policy.thresholds.get(Operation.VACUUM, {})}
    asked = set(scope.operations)
    return Request(
        root=str(root),
        pattern=place.pattern or "*",
        recursive=place.recursive or "**" in place.pattern,
        exclude=place.exclude,
        min_share=number(Operation.VACUUM, "fleet_min_share", vacuum["fleet_min_share"]),
        min_pages=number(Operation.VACUUM, "fleet_min_pages", vacuum["fleet_min_pages"]),
        vacuum=Operation.VACUUM in asked,
        statistics=bool(asked & {Operation.ANALYZE, Operation.OPTIMIZE}),
        always=scope.policy.force or Operation.CHECK in asked,
    )


def _candidates(place: Target, root: Path, request: Request) -> Iterator[Candidate]:
    process = subprocess.Popen(
        [sys.executable, "-c", SCAN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,  # a Ctrl-C is for the parent, which lets the scan end or ends it
    )  # fmt: skip
    named = _Naming(place, root)
    with process:
        if not (process.stdin and process.stdout and process.stderr):
            raise AssertionError("unreachable: all three are pipes")
        try:
            process.stdin.write(json.dumps(structs.asdict(request)) + "\n")
            process.stdin.close()
            for line in process.stdout:
                path, due, problem = json.loads(line)
                yield Candidate(target=named.target(path), due=due, problem=problem)
        finally:
            if process.poll() is None:
                process.terminate()
        said = process.stderr.read()
    if process.returncode:
        raise OperationError(f"the scan of {root} failed", why=said.strip().rpartition("\n")[2], hint="run it again")


class _Naming:
    """Makes the targets of a place's files; of ten thousand files each step counts."""

    def __init__(self, place: Target, root: Path) -> None:
        self._each = structs.replace(place, pattern="", recursive=False, exclude=())
        self._before = f"{place.name.rstrip('/')}/" if place.name else ""
        self._folder = f"{str(root).rstrip('/')}/"

    def target(self, path: str) -> Target:
        """The target of one file: named by its path below the place."""
        below = path.startswith(self._folder)
        relative = path[len(self._folder) :] if below else os.path.relpath(path, self._folder)
        return structs.replace(self._each, name=self._before + relative, url=url_of(path))

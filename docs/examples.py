"""Runs the examples of a page as a reader would, on a terminal, and compares what they print with what the page shows.

python docs/examples.py PAGE...           says what differs
python docs/examples.py --write PAGE...   puts what was printed into the pages where they show something else

Blocks marked ```console are run from top to bottom in one empty folder, `$ ` before each command and `> ` before each
further line of it; ```python blocks are run in the same folder. In what is shown a line `…` leaves something out, and
numbers, identifiers, times and sizes may differ. A comment `<!-- console` holds what a reader need not see. A line `^C` stands for the keys pressed while an operation runs, a line
`Killed` for a `kill -9` from another terminal.
"""

from __future__ import annotations

import fcntl
import os
import pty
import pwd
import re
import select
import shlex
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

COLUMNS = 100
PATIENCE = 60.0
WORKING = re.compile("copying live pages|writing back|copying into a new file|checking")
"""What the live picture shows once a VACUUM is at work."""

FENCE = re.compile(r"^(?:```|<!-- )(?P<kind>console|python)$")
LEFT_OUT = "…"
CUT = 16
"""Characters before an ellipsis in a line that may differ."""

CTRL_C = "^C"
KILLED = "Killed"

MASKS = (
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}(?:-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})?\b"), "ID"),
    (re.compile(r"\b\d{8}T\d{6}Z(?:-\d+)?\b"), "WHEN"),
    (re.compile(r"\b\d{4}-\d\d-\d\d(?:[ T]\d\d:\d\d:\d\d(?:\.\d+)?Z?)?"), "WHEN"),
    (re.compile(r"(?:\b\d+ (?:s|min|h|d) ago|just now)"), "AGO"),
    (re.compile(r"\b[\d.,]+ (?:bytes|B|KiB|MiB|GiB|TiB)(?!\w)"), "SIZE"),
    (re.compile(r"\b[\d.]+ (?:ms|s|min|h|d)\b(?: \d+ (?:ms|s|min|h)\b)?"), "TIME"),
    (re.compile(r"\b\d[\d,.]*"), "N"),
    (re.compile(r"\(from history\)|\(estimated\)"), "(SOURCE)"),
)
IDENTIFIER = MASKS[0][0]


@dataclass(slots=True)
class Command:
    """One command of a page, with the lines that hold what it prints."""

    text: str
    line: int  # of the page, from 0
    shown: list[str] = field(default_factory=list)
    first: int = 0  # where what is shown begins

    @property
    def keys(self) -> str:
        """What happens to it while it runs."""
        return next((line for line in self.shown if line in (CTRL_C, KILLED)), "")


@dataclass(slots=True)
class Python:
    """One block of Python."""

    text: str
    line: int


def examples(page: str) -> Iterator[Command | Python]:
    """The commands and blocks of a page, in order."""
    kind, start, block = "", 0, []
    for number, line in enumerate(page.splitlines()):
        if kind and line in ("```", "-->"):
            yield from _commands(block, start) if kind == "console" else (Python("\n".join(block), start),)
            kind = ""
        elif kind:
            block.append(line)
        elif found := FENCE.match(line):
            kind, start, block = found["kind"], number + 1, []


def _commands(block: list[str], start: int) -> Iterator[Command]:
    command: Command | None = None
    for number, line in enumerate(block, start):
        if line.startswith("$ "):
            if command:
                yield command
            command = Command(line[2:], number, first=number + 1)
        elif command and (line == ">" or line.startswith("> ")) and not command.shown:
            command.text += "\n" + line[2:]
            command.first = number + 1
        elif command:
            command.shown.append(line)
    if command:
        yield command


class Screen:
    """As much of a terminal as the live picture uses."""

    def __init__(self) -> None:
        self.rows = [""]
        self.row = self.column = 0

    def feed(self, text: str) -> None:
        for part in re.findall(r"\x1b\[[?\d;]*[A-Za-z]|[\r\n]|[^\x1b\r\n]+|\x1b", text):
            if part == "\n":
                self.row += 1
                self.rows += [""] * (self.row + 1 - len(self.rows))
            elif part == "\r":
                self.column = 0
            elif part.startswith("\x1b"):
                self._control(part)
            else:
                line = self.rows[self.row].ljust(self.column)
                self.rows[self.row] = line[: self.column] + part + line[self.column + len(part) :]
                self.column += len(part)

    def _control(self, part: str) -> None:
        number = int(part[2:-1] or 1) if part[2:-1].isdecimal() or not part[2:-1] else 0
        if part.endswith("A"):
            self.row = max(0, self.row - number)
        elif part.endswith("K"):
            self.rows[self.row] = ""

    def lines(self) -> list[str]:
        lines = [line.rstrip() for line in self.rows]
        while lines and not lines[-1]:
            lines.pop()
        return lines


class Shell:
    """One folder, with a home of its own and what earlier commands exported."""

    def __init__(self, place: Path) -> None:
        self.folder, self.home, self._kept = place / "demo", place / "you", place / "kept"
        self.folder.mkdir()
        self.home.mkdir()
        self._kept.write_text("", encoding="utf-8")
        self._last = 0
        self.names: dict[str, str] = {}  # identifiers of the page, and what they are here
        bin_ = str(Path(sys.executable).parent)
        self.environment = {
            "PATH": os.pathsep.join([bin_, os.environ.get("PATH", os.defpath)]), "HOME": str(self.home), "USER": "you",
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""), "TERM": "xterm-256color", "NO_COLOR": "1", "LC_ALL": "C.UTF-8", "TZ": "UTC", "PYTHONWARNINGS": "ignore",
        }  # fmt: skip

    def run(self, command: Command) -> list[str]:
        """Run it and return what is on the screen in the end."""
        text = command.text
        for name in sorted(self.names, key=len, reverse=True):
            text = text.replace(name, self.names[name])
        kept = shlex.quote(str(self._kept))
        script = f"cd {shlex.quote(str(self.folder))}; . {kept}; (exit {self._last})\n{text}\nlast=$?; export -p > {kept}; exit $last"
        child, terminal = pty.fork()
        if child == 0:
            os.execvpe("bash", ["bash", "-c", script], self.environment)  # noqa: S606 - a shell is what pages are about
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 500, COLUMNS, 0, 0))
        screen = self._watch(child, terminal, command.keys)
        self._last = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.close(terminal)
        return [self._told(line) for line in screen.lines()]

    def _watch(self, child: int, terminal: int, keys: str) -> Screen:
        screen, until = Screen(), time.monotonic() + PATIENCE
        while True:
            if not select.select([terminal], [], [], max(0, until - time.monotonic()))[0]:
                os.kill(child, signal.SIGKILL)
                raise TimeoutError(f"no end after {PATIENCE:.0f} s: {screen.lines()}")
            try:
                text = os.read(terminal, 65536).decode("utf-8", "replace")
            except OSError:  # the other end has closed
                return screen
            screen.feed(text)
            if keys and WORKING.search(text):
                self._press(child, terminal, keys)
                keys = ""

    def _press(self, child: int, terminal: int, keys: str) -> None:
        if keys == CTRL_C:
            os.write(terminal, b"\x03")
            return
        running = Path(f"/proc/{child}/task/{child}/children").read_text(encoding="ascii").split()
        for pid in running:
            os.kill(int(pid), signal.SIGKILL)

    def _told(self, line: str) -> str:
        line = re.sub(rf"\bby {re.escape(pwd.getpwuid(os.getuid()).pw_name)}\b", "by you", line.replace(CTRL_C, ""))
        if re.search(r"line \d+: +\d+ Killed", line):
            return KILLED
        return line.replace(str(self.folder), "/srv/demo").replace(str(self.home), "~").rstrip()

    def learn(self, shown: list[str], printed: list[str]) -> None:
        """Remember which identifier here stands for which one of the page."""
        there, here = (IDENTIFIER.findall("\n".join(lines)) for lines in (shown, printed))
        if len(there) == len(here):
            for name, meant in zip(there, here, strict=True):
                self.names.setdefault(name, meant)


def masked(lines: list[str]) -> str:
    """What must agree."""
    text = " ".join(" ".join(lines).split())
    for pattern, word in MASKS:
        text = pattern.sub(word, text)
    return text


def agrees(shown: list[str], printed: list[str]) -> bool:
    """Whether what was printed is what is shown, but for numbers and what is left out."""
    groups: list[list[str]] = [[]]
    for line in shown:
        if line.strip() == LEFT_OUT:
            groups.append([])
        elif line != CTRL_C:
            groups[-1].append(line)
    pattern = ".*".join(_pattern(group) for group in groups)
    return re.fullmatch(pattern, masked(printed), re.DOTALL) is not None


def _pattern(lines: list[str]) -> str:
    """What a group of lines matches. Where a cell was cut off depends on numbers beside it, so its last words do not count."""
    cut = [re.sub(rf"\s*\S*.{{0,{CUT}}}{LEFT_OUT}", f" {LEFT_OUT}", line) if line.strip()[0] != LEFT_OUT else line
           for line in lines if line.strip()]  # fmt: skip
    return re.escape(masked(cut)).replace(rf"\ {LEFT_OUT}", f"[^{LEFT_OUT}]*{LEFT_OUT}")


def faults(page: Path, place: Path) -> Iterator[str]:
    """Run a page in an empty folder; a text for each example that does something else than the page says."""
    shell = Shell(place)
    for example in examples(page.read_text(encoding="utf-8")):
        where = f"{page.name}:{example.line + 1}"
        if isinstance(example, Python):
            if said := _python(example, shell.folder, shell.environment):
                yield f"{where}: {said}"
            continue
        printed = shell.run(example)
        shell.learn(example.shown, printed)
        if example.keys != KILLED and not agrees(example.shown, printed):
            yield "\n".join([f"{where}: $ {example.text}", "--- shown", *example.shown, "--- printed", *printed])


def _python(example: Python, folder: Path, environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", example.text], cwd=folder, env=dict(environment), capture_output=True,
        text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    return done.stderr if done.returncode else ""


def write(page: Path, place: Path) -> None:
    """Put what the commands print into the page where it shows something else, but for numbers; never where it leaves something out."""
    lines = page.read_text(encoding="utf-8").splitlines()
    shell, moved, renamed = Shell(place), 0, dict[str, str]()
    for example in examples("\n".join(lines)):
        if isinstance(example, Python):
            _python(example, shell.folder, shell.environment)
            continue
        printed = shell.run(example)
        if example.keys == KILLED:
            continue
        shell.learn(example.shown, printed)
        if any(line.strip() == LEFT_OUT for line in example.shown) or agrees(example.shown, printed):
            continue
        renamed |= {
            name: shell.names[name] for name in IDENTIFIER.findall("\n".join(example.shown)) if name in shell.names
        }
        printed = [*filter(None, [example.keys]), *printed, *([""] if example.shown and not example.shown[-1] else [])]
        start = example.first + moved
        lines[start : start + len(example.shown)] = printed
        moved += len(printed) - len(example.shown)
    text = "\n".join(lines) + "\n"
    for name, now in renamed.items():
        text = text.replace(name, now)
    page.write_text(text, encoding="utf-8")


def main(arguments: list[str]) -> int:
    """Run the pages that are named."""
    pages = [Path(argument) for argument in arguments if not argument.startswith("--")]
    found = []
    for page in pages:
        with tempfile.TemporaryDirectory() as place:
            if "--write" in arguments:
                write(page, Path(place))
            else:
                found += faults(page, Path(place))
    print("\n\n".join(found) or "all examples do what their pages say")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

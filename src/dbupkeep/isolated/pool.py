"""Child processes that hold sessions: started when needed, kept for the next session, ended with this process."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from dbupkeep.errors import Lost

IDLE = 8
"""How many idle children are kept."""

PARTING = 5.0
"""Seconds that a child is given to end by itself."""


class Child:
    """One child process: a request a line, and for each an answer; news of a running request in between."""

    def __init__(self, scheme: str) -> None:
        """Start it. It ends by itself when this process goes away: its standard input closes."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "dbupkeep.isolated.child", scheme],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the parent, who asks the child to stop
        )
        self._sending = threading.Lock()

    def call(self, name: str, arguments: Mapping[str, Any], news: Callable[[Mapping[str, Any]], None]) -> Any:  # noqa: ANN401 - JSON
        """Send a request and wait for its answer. Raises `Lost` when the child goes away."""
        self.send({"call": name, "arguments": arguments})
        while True:
            message = self._receive()
            if "news" in message:
                news(message)
            else:
                return message

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message; from any thread."""
        line = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        try:
            with self._sending:
                self._in.write(line)
                self._in.flush()
        except (OSError, ValueError) as error:
            raise self._lost() from error

    def kill(self) -> None:
        """End it at once; whoever waits for an answer gets `Lost`."""
        self._process.kill()

    def close(self) -> None:
        """Have it end, and wait for that."""
        with suppress(OSError, ValueError):
            self._in.close()
        try:
            self._process.wait(PARTING)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()

    def _receive(self) -> Mapping[str, Any]:
        stdout = self._process.stdout
        line = stdout.readline() if stdout else b""
        if not line:
            raise self._lost()
        message: Mapping[str, Any] = json.loads(line)
        return message

    def _lost(self) -> Lost:
        code = self._process.poll()
        return Lost(
            "the process that worked on the database went away",
            why=f"it ended with status {code}" if code is not None else "it does not answer",
            hint="the database rolls back by itself when it is opened next; the attempt is made again",
        )

    @property
    def _in(self) -> Any:  # noqa: ANN401 - a pipe
        return self._process.stdin


class Pool:
    """The children of one engine."""

    def __init__(self, scheme: str) -> None:
        """Begin with none."""
        self._scheme = scheme
        self._idle: list[Child] = []
        self._guard = threading.Lock()
        self._closed = False

    def take(self) -> Child:
        """An idle child, or a new one."""
        with self._guard:
            if self._idle:
                return self._idle.pop()
        return Child(self._scheme)

    def give_back(self, child: Child) -> None:
        """Keep a child for the next session, or end it."""
        with self._guard:
            if not self._closed and len(self._idle) < IDLE:
                self._idle.append(child)
                return
        child.close()

    def close(self) -> None:
        """End the idle children; those in use end when they are given back."""
        with self._guard:
            self._closed = True
            idle, self._idle = self._idle, []
        for child in idle:
            child.close()

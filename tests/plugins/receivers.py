"""A real server that writes down what it is sent, and answers as the test says."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from typing_extensions import override


@dataclass(frozen=True)
class Received:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """What came, and what is answered."""

    status: int = 200
    location: str = ""
    answers: threading.Event = field(default_factory=threading.Event)  # cleared: it keeps who asks waiting
    received: list[Received] = field(default_factory=list)
    url: str = ""

    @property
    def paths(self) -> list[str]:
        return [each.path for each in self.received]


def serve(receiver: Receiver) -> ThreadingHTTPServer:
    """A server on a thread; the caller shuts it down."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            named = {name.lower(): value for name, value in self.headers.items()}
            receiver.received.append(Received(self.command, self.path, named, body))
            receiver.answers.wait(30)
            self.send_response(receiver.status)
            if receiver.location:
                self.send_header("location", receiver.location)
            self.send_header("content-length", "0")
            self.end_headers()

        @override
        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    return server


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A real server on a socket, which answers at once."""
    made = Receiver()
    made.answers.set()
    server = serve(made)
    yield made
    made.answers.set()
    server.shutdown()
    server.server_close()

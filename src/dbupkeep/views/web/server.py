"""The HTTP server: uvicorn on a thread of this process, on a socket that is bound before anything is promised."""

from __future__ import annotations

import os
import socket
import threading

import uvicorn

from dbupkeep.errors import UsageError
from dbupkeep.views.web.guard import Guard
from dbupkeep.views.web.limits import HEAD
from dbupkeep.views.web.patience import PatientProtocol

BACKLOG = 128

BEHIND = 19
"""How far answers stand behind work where the processor is short, in steps of `nice`; no step is further behind."""

FAREWELL = 3
"""Seconds that open requests and streams get at the end."""


def listen(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    """A listening socket. Raises `UsageError` when the place is taken or is no place of this machine."""
    try:
        return socket.create_server((address, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise UsageError(
            f"cannot listen on {address} port {port}", why=(error.strerror or str(error)).lower(),
            hint="another service may be there; choose another with --port, or --port 0 for any free one",
        ) from error  # fmt: skip


class Server:
    """Serves a site until it is closed."""

    def __init__(self, site: Guard, place: socket.socket, *, root_path: str = "") -> None:
        """Begin to serve on a listening socket, which is closed in the end."""
        config = uvicorn.Config(
            site, log_config=None, access_log=False, lifespan="off", server_header=False, date_header=True,
            timeout_graceful_shutdown=FAREWELL, proxy_headers=False, root_path=root_path,
            http=PatientProtocol, h11_max_incomplete_event_size=HEAD,
        )  # fmt: skip
        self._place = place
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._serve, name="dbupkeep-http", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it is found."""
        host, port = self._place.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def close(self) -> None:
        """Let open requests come to their end, for a few seconds."""
        self._server.should_exit = True
        self._thread.join()
        self._place.close()

    def _serve(self) -> None:
        """The thread. Those that it starts, for routes and streams, stand behind the workers as it does."""
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + BEHIND)
        self._server.run([self._place])

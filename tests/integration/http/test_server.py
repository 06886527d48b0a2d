"""The server's thread: what it answers stands behind what the workers do."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import closing
from http.client import HTTPConnection
from typing import Any

from dbupkeep.views.web.server import BEHIND, Server, listen


def test_answers_stand_behind_work_where_the_processor_is_short() -> None:
    seen: dict[str, int] = {}

    async def site(scope: Any, receive: Any, send: Any) -> None:
        seen["answering"] = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        helper = threading.Thread(
            target=lambda: seen.update(helping=os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        )
        helper.start()
        helper.join()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    ours = os.getpriority(os.PRIO_PROCESS, 0)
    behind = min(ours + BEHIND, 19)  # there is nothing further behind
    with closing(Server(site, listen(socket.AF_INET, "127.0.0.1", 0))) as server:  # type: ignore[arg-type] # any application
        with closing(HTTPConnection(server.url.removeprefix("http://"), timeout=20)) as client:
            client.request("GET", "/")
            assert client.getresponse().status == 204
        assert os.getpriority(os.PRIO_PROCESS, 0) == ours
    assert seen == {"answering": behind, "helping": behind}

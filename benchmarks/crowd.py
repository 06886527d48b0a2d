"""Many who look at one service at once: `python -m benchmarks.crowd URL STREAMS ASKING`, until a line comes in.

Opens so many event streams, and so many connections that ask as fast as they are answered. The token comes from
`DBUPKEEP_TOKEN`. Says `ready` when all streams are open, and in the end a JSON document of what it saw.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from urllib.parse import urlsplit


class Crowd:
    """What was seen."""

    def __init__(self, url: str) -> None:
        """Look at this service."""
        place = urlsplit(url)
        self._host, self._port = str(place.hostname), int(place.port or 80)
        self._token = os.environ["DBUPKEEP_TOKEN"]
        self.answers: Counter[int] = Counter()
        self.events = 0
        self.streams = 0

    async def listen(self) -> None:
        """Hold one event stream, and count what comes."""
        reader, writer = await asyncio.open_connection(self._host, self._port)
        while True:
            writer.write(self._request("/api/v1/events/stream"))
            status = await self._head(reader)
            if status == 200:
                break
            if status != 429:
                raise SystemExit(f"a stream was answered with {status}")
            await asyncio.sleep(0.5)  # as many come at once as ask too often
        self.streams += 1
        while line := await reader.readline():
            self.events += line.startswith(b"id:")

    async def ask(self) -> None:
        """Ask again and again on one connection."""
        reader, writer = await asyncio.open_connection(self._host, self._port)
        request = self._request("/api/v1/jobs?limit=20")
        while True:
            writer.write(request)
            self.answers[await self._head(reader)] += 1

    def _request(self, path: str) -> bytes:
        lines = [f"GET {path} HTTP/1.1", f"Host: {self._host}:{self._port}", f"Authorization: Bearer {self._token}"]
        return "\r\n".join([*lines, "", ""]).encode()

    async def _head(self, reader: asyncio.StreamReader) -> int:
        """The status of an answer, whose body is read where its length is known."""
        head = await reader.readuntil(b"\r\n\r\n")
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                await reader.readexactly(int(line.partition(b":")[2]))
        return int(head.split(b" ", 2)[1])


async def main(url: str, streams: int, asking: int) -> None:
    """Look until a line comes in."""
    crowd = Crowd(url)
    tasks = [asyncio.create_task(crowd.listen()) for _ in range(streams)]
    while crowd.streams < streams:
        for task in tasks:
            if task.done():
                task.result()
        await asyncio.sleep(0.05)
    tasks += [asyncio.create_task(crowd.ask()) for _ in range(asking)]
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    broken = sum(task.done() for task in tasks)
    seen = {"streams": streams, "events": crowd.events, "answers": crowd.answers, "broken": broken}
    print(json.dumps(seen), flush=True)
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))

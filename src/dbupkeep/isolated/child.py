"""The child process: holds one session at a time, reads requests from standard input, answers on standard output.

When standard input ends, the parent is gone: what runs is interrupted and the process ends, so that nothing works on a
database that nobody watches.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from queue import SimpleQueue
from typing import Any, BinaryIO

from dbupkeep import engines
from dbupkeep.codec import from_json, to_json
from dbupkeep.definitions import Target
from dbupkeep.engine import Engine, Leftover, Purpose, Scope, Session, Work
from dbupkeep.errors import Lost, UpkeepError, UsageError, preserved, revive
from dbupkeep.plans import PlanItem
from dbupkeep.progress import Progress

SAMPLE = 0.25
"""Seconds between looks at work that cannot report itself."""

PROGRESS = 0.1
"""Seconds between reports that are passed on; an engine reports far more often."""


class Out:
    """Answers and news, a line each, from any thread."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._guard = threading.Lock()

    def say(self, **message: Any) -> None:  # noqa: ANN401 - JSON
        """Send one message; a parent that is gone is noticed by the reader of requests."""
        line = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        with self._guard:
            self._stream.write(line)
            self._stream.flush()


class Relay:
    """The `Report` of a running item: passes news on, and samples where the engine asks for it."""

    def __init__(self, out: Out) -> None:
        self._out = out
        self._sample: Callable[[], Progress | None] | None = None
        self._guard = threading.Lock()
        self._latest: Progress | None = None
        self._noted: SimpleQueue[Mapping[str, Any]] = SimpleQueue()
        self._ended = threading.Event()
        self._pulse = threading.Thread(target=self._beat, name="dbupkeep-child-pulse", daemon=True)
        self._pulse.start()

    def progress(self, progress: Progress) -> None:
        """Keep the last word; the pulse passes it on."""
        self._latest = progress

    def stage(self, name: str, message: str = "") -> None:
        """Pass a stage on."""
        self._out.say(news="stage", stage=name, message=message)

    def note(self, text: str) -> None:
        """Pass it on, and wait until it is kept. Raises what kept it from that."""
        self._out.say(news="note", text=text)
        if refusal := self._noted.get():
            raise revive(refusal)

    def noted(self, refusal: Mapping[str, Any]) -> None:
        """The note is kept, or it was refused by this error."""
        self._noted.put(refusal)

    def blocking(self, seconds: float) -> float:
        """Pass it on; of the rest of the run nothing is known here."""
        self._out.say(news="blocking", seconds=seconds)
        return seconds

    def follow(self, sample: Callable[[], Progress | None] | None) -> None:
        """Have `sample` called by the pulse."""
        with self._guard:
            self._sample = sample

    def end(self) -> None:
        """Stop the pulse; nothing is passed on afterwards."""
        self._ended.set()
        self._pulse.join()

    def _beat(self) -> None:
        while not self._ended.wait(PROGRESS):
            with self._guard:
                sampled = self._sample() if self._sample else None
            latest, self._latest = sampled or self._latest, None
            if latest is not None:
                self._out.say(news="progress", progress=to_json(latest))


class Host:
    """Answers requests on one session."""

    def __init__(self, engine: Engine, out: Out) -> None:
        self._engine = engine
        self._out = out
        self._session: Session | None = None
        self._relay: Relay | None = None

    def answer(self, call: str, arguments: Mapping[str, Any]) -> None:
        """Do what is asked and say how it went."""
        try:
            result = getattr(self, f"do_{call}")(**arguments)
        except UpkeepError as error:
            self._out.say(error=preserved(error))
        except Exception as error:  # noqa: BLE001 - goes to the parent, which turns it into an outcome
            what = f"unforeseen: {type(error).__name__}: {error}"
            self._out.say(error={"class": "UpkeepError", "kind": "bug", "what": what, "why": "", "hint": ""})
        else:
            self._out.say(result=to_json(result))

    def interrupt(self) -> None:
        """Ask what runs to end."""
        if self._session is not None:
            self._session.interrupt()

    def noted(self, refusal: Mapping[str, Any]) -> None:
        """Tell what runs what became of its note."""
        if self._relay is not None:
            self._relay.noted(refusal)

    @property
    def session(self) -> Session:
        """The open session."""
        if self._session is None:
            raise UsageError("no session is open")
        return self._session

    def do_connect(self, target: Mapping[str, Any], tag: str, purpose: str) -> None:
        """Open a session."""
        self._session = self._engine.connect(from_json(Target, target), tag=tag, purpose=Purpose(purpose))

    def do_survey(self, scope: Mapping[str, Any]) -> object:
        """Survey."""
        return self._engine.survey(self.session, from_json(Scope, scope))

    def do_run(self, item: Mapping[str, Any]) -> object:
        """Run an item."""
        relay = self._relay = Relay(self._out)
        try:
            return self.session.run(from_json(PlanItem, item), relay)
        finally:
            relay.end()

    def do_verify(self, item: Mapping[str, Any], work: Mapping[str, Any]) -> object:
        """Verify an item."""
        return self.session.verify(from_json(PlanItem, item), from_json(Work, work))

    def do_recover(self, item: Mapping[str, Any], tag: str, notes: Sequence[str]) -> object:
        """Recover from a lost attempt."""
        return self.session.recover(from_json(PlanItem, item), tag, notes)

    def do_leftovers(self) -> object:
        """List leftovers."""
        return list(self.session.leftovers())

    def do_clean(self, leftover: Mapping[str, Any]) -> None:
        """Remove a leftover."""
        self.session.clean(from_json(Leftover, leftover))

    def do_why(self, object: str) -> object:
        """Say what keeps maintenance from helping."""
        return list(self._engine.why(self.session, object))

    def do_doctor(self) -> object:
        """Check versions, rights and surroundings."""
        return list(self._engine.doctor(self.session))

    def do_close(self) -> None:
        """Close the session."""
        session, self._session = self._session, None
        if session is not None:
            session.close()


def main(scheme: str) -> None:
    """Serve requests until standard input ends."""
    stream = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints must not end up among the answers
    out = Out(stream)
    host = Host(engines.load(scheme), out)
    working: threading.Thread | None = None
    for line in sys.stdin.buffer:
        message = json.loads(line)
        if "interrupt" in message:
            host.interrupt()
            out.say(news="asked")
            continue
        if "noted" in message:
            host.noted(message["noted"])
            continue
        if working is not None:
            working.join()
        working = threading.Thread(target=host.answer, args=(message["call"], message["arguments"]), daemon=True)
        working.start()
    host.interrupt()
    host.noted(preserved(Lost("the process that keeps the record is gone")))
    if working is not None:
        working.join(timeout=1.0)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])

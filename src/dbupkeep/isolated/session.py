"""A session in a child process, as its parent sees it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dbupkeep.codec import from_json, to_json
from dbupkeep.definitions import Target
from dbupkeep.engine import Evidence, Finding, Leftover, Purpose, Report, Scope, Stop, Work
from dbupkeep.errors import Lost, UpkeepError, preserved, revive
from dbupkeep.facts import DatabaseFacts
from dbupkeep.isolated.pool import Child, Pool
from dbupkeep.plans import PlanItem
from dbupkeep.progress import Progress

UNANSWERED = 40
"""Requests to end, made some four times a second, after which a child that answers none of them is killed."""

NO_NEWS: Callable[[Mapping[str, Any]], None] = lambda _: None  # noqa: E731 - a constant that happens to be callable


class IsolatedSession:
    """Fulfils `dbupkeep.engine.Session`; one request at a time, `interrupt` from any thread."""

    def __init__(self, pool: Pool, target: Target, *, tag: str, purpose: Purpose) -> None:
        """Take a child and open the target in it. Raises what the engine raises."""
        self._pool = pool
        self._child: Child | None = pool.take()
        self._running = threading.Event()
        self._asked = 0  # how often the running item was asked to end without an answer
        try:
            self._call("connect", target=to_json(target), tag=tag, purpose=purpose.value)
        except UpkeepError:
            self.close()
            raise

    def survey(self, scope: Scope) -> DatabaseFacts:
        """Read what a plan needs to know."""
        return from_json(DatabaseFacts, self._call("survey", scope=to_json(scope)))

    def run(self, item: PlanItem, report: Report) -> Work:
        """Do the item."""
        self._asked = 0
        self._running.set()
        try:
            return from_json(Work, self._call("run", news=self._teller(report), item=to_json(item)))
        finally:
            self._running.clear()

    def interrupt(self) -> Stop:
        """Ask the running item to end; what became of it shows in how `run` ends.

        A child that does not even answer is killed: `run` then raises `Lost`, and the database rolls back.
        """
        child = self._child
        if child is None or not self._running.is_set():
            return Stop.UNKNOWN
        self._asked += 1
        if self._asked > UNANSWERED:
            child.kill()
        else:
            child.send({"interrupt": True})
        return Stop.UNKNOWN

    def verify(self, item: PlanItem, work: Work) -> Evidence:
        """Look at what the work achieved."""
        return from_json(Evidence, self._call("verify", item=to_json(item), work=to_json(work)))

    def recover(self, item: PlanItem, tag: str, notes: Sequence[str] = ()) -> Evidence | None:
        """Clean up after a lost attempt."""
        found = self._call("recover", item=to_json(item), tag=tag, notes=list(notes))
        return None if found is None else from_json(Evidence, found)

    def leftovers(self) -> Sequence[Leftover]:
        """What cut-off operations left."""
        return [from_json(Leftover, one) for one in self._call("leftovers")]

    def clean(self, leftover: Leftover) -> None:
        """Remove one that is ours."""
        self._call("clean", leftover=to_json(leftover))

    def why(self, object: str) -> Sequence[Finding]:
        """Say what keeps maintenance from helping."""
        return [from_json(Finding, one) for one in self._call("why", object=object)]

    def doctor(self) -> Sequence[Finding]:
        """Check versions, rights and surroundings."""
        return [from_json(Finding, one) for one in self._call("doctor")]

    def close(self) -> None:
        """Close the target and give the child back; safe to repeat."""
        child, self._child = self._child, None
        if child is None:
            return
        try:
            child.call("close", {}, NO_NEWS)
        except Lost:
            child.close()
        else:
            self._pool.give_back(child)

    def _teller(self, report: Report) -> Callable[[Mapping[str, Any]], None]:
        """Passes a child's news on to a report."""

        def tell(message: Mapping[str, Any]) -> None:
            if message["news"] == "progress":
                report.progress(from_json(Progress, message["progress"]))
            elif message["news"] == "stage":
                report.stage(message["stage"], message["message"])
            elif message["news"] == "note":
                self._keep(report, message["text"])
            elif message["news"] == "blocking":
                report.blocking(message["seconds"])
            else:  # it heard that it should end
                self._asked = 0

        return tell

    def _keep(self, report: Report, text: str) -> None:
        """Keep a note, and tell the child, which waits for that; a refusal ends its work in its own way."""
        try:
            report.note(text)
        except UpkeepError as error:
            self._answer(preserved(error))
        else:
            self._answer({})

    def _answer(self, refusal: Mapping[str, Any]) -> None:
        if self._child is not None:
            self._child.send({"noted": refusal})

    def _call(self, name: str, *, news: Callable[[Mapping[str, Any]], None] = NO_NEWS, **arguments: Any) -> Any:  # noqa: ANN401 - JSON
        if self._child is None:
            raise Lost("the session is closed")
        try:
            answer = self._child.call(name, arguments, news)
        except BaseException:  # an answer may still come, and must not be taken for that of another session
            child, self._child = self._child, None
            child.kill()
            child.close()
            raise
        if "error" in answer:
            raise revive(answer["error"])
        return answer["result"]

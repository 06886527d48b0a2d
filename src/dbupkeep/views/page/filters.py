"""What a person wrote into the filter: `state:failed op:vacuum acme`. Pure; it stands in the address of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from dbupkeep.jobs import Job, JobStatus
from dbupkeep.operations import Operation
from dbupkeep.views.page.signs import WORDS

KEYS = ("state", "op", "engine")

SUGGESTIONS: Sequence[str] = (
    *(f"state:{status.value}" for status in JobStatus), *(f"op:{operation.value}" for operation in Operation),
    "engine:sqlite", "engine:postgresql",
)  # fmt: skip

_SAID: Mapping[str, str] = {word: status.value for status, word in WORDS.items()}
"""Words of the page for those of the ledger."""


class Filter(Struct, frozen=True, kw_only=True):
    """Several of one key: any of them; different keys and words: all of them."""

    text: str = ""
    states: frozenset[str] = frozenset()
    operations: frozenset[str] = frozenset()
    engines: frozenset[str] = frozenset()
    words: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether it restricts anything."""
        return bool(self.text)

    @property
    def below(self) -> bool:
        """Whether it is about operations rather than about the databases that they are on."""
        return bool(self.operations or self.states)

    def fits(self, job: Job, *names: str) -> bool:
        """Whether a job is wanted, by what it is and by its names."""
        said = f"{job.name} {job.target} {job.config.get('object', '')} {' '.join(names)}".lower()
        return (
            (not self.states or job.status.value in self.states)
            and (not self.operations or str(job.config.get("operation", "")) in self.operations)
            and (not self.engines or job.target.partition(":")[0] in self.engines)
            and all(word in said for word in self.words)
        )


def read(text: str) -> Filter:
    """Read what was written; a key that is not known is a word like any other."""
    found: dict[str, set[str]] = {key: set() for key in KEYS}
    words = []
    for part in text.split():
        key, colon, value = part.partition(":")
        if colon and value and key.lower() in KEYS:
            found[key.lower()].add(_SAID.get(value.lower(), value.lower()))
        else:
            words.append(part.lower())
    return Filter(
        text=" ".join(text.split()),
        states=frozenset(found["state"]),
        operations=frozenset(found["op"]),
        engines=frozenset(found["engine"]),
        words=tuple(words),
    )

"""Things found by name: registered by the program, or brought by an installed package's entry point."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from dbupkeep.entrypoints import brought
from dbupkeep.errors import UnknownName

T = TypeVar("T")


class Registry(Generic[T]):
    """A name for each thing; the program's own go before an entry point's."""

    def __init__(self, kind: str, group: str, make: Callable[[Callable[..., T]], T]) -> None:
        """`kind` is the word for people; an entry point of `group` is loaded and given to `make`."""
        self._kind = kind
        self._group = group
        self._make = make
        self._things: dict[str, T] = {}

    def register(self, name: str, thing: T) -> None:
        """Give a thing its name, in place of what had it."""
        self._things[name] = thing

    def get(self, name: str) -> T:
        """The thing of that name. Raises `UnknownName` with the names there are."""
        if name not in self._things:
            self._load(name)
        return self._things[name]

    def names(self) -> list[str]:
        """All names, entry points included."""
        return sorted({*self._things, *(point.name for point in brought(self._group))})

    def _load(self, name: str) -> None:
        for point in brought(self._group):
            if point.name == name:
                self._things[name] = self._make(point.load())
                return
        known = ", ".join(self.names())
        raise UnknownName(
            f"unknown {self._kind}: {name}",
            why=f"known are {known}" if known else "none is registered",
            hint=f"a package can bring one by an entry point in the group {self._group}",
        )

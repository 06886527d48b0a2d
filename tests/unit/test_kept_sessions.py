from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import cast

import pytest

from dbupkeep.definitions import Target
from dbupkeep.engine import Engine, Session
from dbupkeep.errors import Lost
from dbupkeep.kept import KeptSessions

SHOP, OTHER = Target(name="shop", url="postgresql:///shop"), Target(name="other", url="postgresql:///other")
LONG = 60.0


@dataclass
class Opened:
    tags: list[str]
    fit: bool = True
    closed: threading.Event = field(default_factory=threading.Event)

    def renew(self, tag: str) -> bool:
        self.tags.append(tag)
        return self.fit

    def close(self) -> None:
        self.closed.set()


class Product:
    def __init__(self, *, lasting: bool = True) -> None:
        self.opened: list[Opened] = []
        if lasting:
            self.LASTING = True

    def connect(self, target: Target, *, tag: str = "") -> Session:
        self.opened.append(Opened([tag]))
        return cast("Session", self.opened[-1])


def use(kept: KeptSessions, product: Product, tag: str, target: Target = SHOP) -> Session:
    with kept.lent(cast("Engine", product), target, tag=tag) as session:
        return session


def test_the_next_job_has_the_same_session_under_a_mark_of_its_own() -> None:
    kept, product = KeptSessions(LONG), Product()
    assert use(kept, product, "a") is use(kept, product, "b")
    assert [each.tags for each in product.opened] == [["a", "b"]]
    kept.close()
    assert product.opened[0].closed.is_set()


def test_two_jobs_at_a_time_and_two_targets_have_sessions_of_their_own() -> None:
    kept, product = KeptSessions(LONG), Product()
    with kept.lent(cast("Engine", product), SHOP, tag="a") as one:
        assert use(kept, product, "b") is not one
        assert use(kept, product, "c", OTHER) is not one
    assert len(product.opened) == 3
    kept.close()
    kept.close()
    assert all(each.closed.is_set() for each in product.opened)


def test_what_went_wrong_in_a_session_meets_no_other_job() -> None:
    kept, product = KeptSessions(LONG), Product()
    with pytest.raises(Lost), kept.lent(cast("Engine", product), SHOP, tag="a"):
        raise Lost("the connection is gone")
    assert product.opened[0].closed.is_set()
    use(kept, product, "b")
    assert len(product.opened) == 2
    kept.close()


def test_a_session_that_is_not_fit_is_closed_and_another_opened() -> None:
    kept, product = KeptSessions(LONG), Product()
    use(kept, product, "a")
    product.opened[0].fit = False
    use(kept, product, "b")
    assert (product.opened[0].closed.is_set(), len(product.opened)) == (True, 2)
    kept.close()


def test_without_another_job_it_is_closed_after_a_moment() -> None:
    kept, product = KeptSessions(0.01), Product()
    use(kept, product, "a")
    assert product.opened[0].closed.wait(10)
    use(kept, product, "b")
    assert len(product.opened) == 2
    kept.close()


def test_of_an_engine_that_says_nothing_of_it_every_job_has_a_new_one() -> None:
    kept, product = KeptSessions(LONG), Product(lasting=False)
    use(kept, product, "a")
    assert product.opened[0].closed.is_set()
    use(kept, product, "b")
    assert len(product.opened) == 2

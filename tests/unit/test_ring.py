"""The newest events at hand: each stream goes through them by its own place, and knows when it must look elsewhere."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from dbupkeep.views.web.ring import AT_ONCE, Entry, Ring

RUNS = ("a", "b")


def entry(seq: int, run: str = "a") -> Entry:
    return Entry(seq=seq, run=run, message=b"%d" % seq)


def test_what_is_gone_by_is_said_to_be_so() -> None:
    ring = Ring(floor=4, head=4).plus([entry(seq) for seq in (5, 7, 8)], size=2)
    assert (ring.floor, ring.head) == (5, 8)
    assert ring.after(4) is None
    assert ring.after(5) == ([b"7", b"8"], 8)
    assert ring.after(6) == ([b"7", b"8"], 8)
    assert ring.after(8) == ([], 8)
    assert ring.after(9) == ([], 9)


def test_a_stream_of_one_run_is_not_held_up_by_much_of_others() -> None:
    ring = Ring().plus([*(entry(seq) for seq in range(1, 3 * AT_ONCE)), entry(3 * AT_ONCE, "b")])
    assert ring.after(0, "b") == ([b"%d" % (3 * AT_ONCE)], 3 * AT_ONCE)


@given(
    seed=st.integers(0, 2**32), run=st.sampled_from(("", *RUNS)), place=st.integers(0, 2001), size=st.integers(1, 600)
)
def test_whoever_goes_through_it_gets_each_event_once(seed: int, run: str, place: int, size: int) -> None:
    chance = random.Random(seed)
    seqs = sorted(chance.sample(range(1, 2000), chance.randint(0, 500)))
    entries = [entry(seq, chance.choice(RUNS)) for seq in seqs]
    ring = Ring().plus(entries[:250], size).plus(entries[250:], size)
    got: list[bytes] = []
    at = max(place, ring.floor)
    while True:
        found = ring.after(at, run)
        assert found is not None
        messages, at = found
        if not messages:
            break
        got += messages
    start = max(place, ring.floor)
    assert got == [each.message for each in entries if each.seq > start and run in ("", each.run)]
    assert at == max(start, ring.head)

"""What the seals of the audit trail show, and what they cannot."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from dbupkeep.audit import PRUNED, START, Act, Ends, Entry, acting, actor, faults, sealed

LENGTH = 6


def trail(length: int = LENGTH, *, first: int = 1, previous: str = START) -> list[Entry]:
    found: list[Entry] = []
    for seq in range(first, first + length):
        act = Act(who="maria", what="cancel", on=f"job {seq}", target="t", detail={"before": "running"})
        found.append(sealed(act, seq=seq, at=f"2026-01-01T00:00:0{seq}+00:00", previous=previous))
        previous = found[-1].seal
    return found


def ends_of(entries: Sequence[Entry]) -> Ends:
    return Ends(last=entries[-1].seq, last_seal=entries[-1].seal)


def changed(entry: Entry, name: str, value: object) -> Entry:
    return replace(entry, **{name: value})


def swapped(entries: list[Entry]) -> list[Entry]:
    one, two = entries[1], entries[2]
    return [entries[0], replace(two, seq=one.seq), replace(one, seq=two.seq), *entries[3:]]


def resealed(entries: list[Entry], place: int, **changes: str) -> list[Entry]:
    """One entry changed, and its own seal made anew."""
    old = entries[place]
    act = Act(
        who=old.who, what=old.what, on=old.on, target=old.target, outcome=old.outcome, detail=json.loads(old.detail)
    )
    new = sealed(replace(act, **changes), seq=old.seq, at=old.at, previous=old.previous)
    return [*entries[:place], new, *entries[place + 1 :]]


WHOLE = trail()

TAMPERED: dict[str, Callable[[], list[Entry]]] = {
    "deleted in the middle": lambda: WHOLE[:2] + WHOLE[3:],
    "deleted at the beginning": lambda: WHOLE[1:],
    "deleted at the end": lambda: WHOLE[:-1],
    "emptied": list,
    "in another order": lambda: [WHOLE[0], WHOLE[2], WHOLE[1], *WHOLE[3:]],
    "two have changed places": lambda: swapped(WHOLE),
    "one put in twice": lambda: [*WHOLE[:3], WHOLE[2], *WHOLE[3:]],
    "one put in": lambda: [*WHOLE, *trail(1, first=LENGTH + 1, previous=START)],
    "one changed and its seal made anew": lambda: resealed(WHOLE, 2, who="nobody"),
    "the last one changed and its seal made anew": lambda: resealed(WHOLE, LENGTH - 1, who="nobody"),
    **{
        f"{name} changed": lambda name=name: [  # type: ignore[misc] # a default binds it
            *WHOLE[:3], changed(WHOLE[3], name, 99 if name == "seq" else "x"), *WHOLE[4:]
        ]
        for name in Entry.__struct_fields__
    },
}  # fmt: skip


def test_a_whole_trail_has_no_fault() -> None:
    assert list(faults(WHOLE, ends_of(WHOLE))) == []
    assert list(faults([], Ends())) == []


@pytest.mark.parametrize("how", TAMPERED)
def test_a_trail_that_was_tampered_with_has_faults(how: str) -> None:
    assert list(faults(TAMPERED[how](), ends_of(WHOLE)))


@given(st.data())
def test_any_change_of_any_text_is_seen(data: st.DataObject) -> None:
    place = data.draw(st.integers(0, LENGTH - 1))
    name = data.draw(st.sampled_from([name for name in Entry.__struct_fields__ if name != "seq"]))
    text = data.draw(st.text())
    other = changed(WHOLE[place], name, text)
    found = list(faults([*WHOLE[:place], other, *WHOLE[place + 1 :]], ends_of(WHOLE)))
    assert bool(found) == (other != WHOLE[place])


def test_text_does_not_move_from_one_field_to_another_unseen() -> None:
    seals = {
        sealed(Act(who=who, what=what, on=on), seq=1, at="", previous=START).seal
        for who, what, on in (("ab", "c", ""), ("a", "bc", ""), ("a", "b", "c"), ('a","b', "", "c"))
    }
    assert len(seals) == 4


def test_a_cut_end_is_seen_by_a_seal_that_was_noted_even_where_the_ends_were_moved() -> None:
    cut = WHOLE[:-2]
    assert list(faults(cut, ends_of(cut))) == [], "without it nothing shows it"
    noted = (WHOLE[-1].seq, WHOLE[-1].seal)
    assert list(faults(cut, ends_of(cut), known=noted)) == [
        f"entry {LENGTH}, which was noted, is missing: the end was cut off"
    ]


def test_a_trail_that_was_written_anew_is_seen_by_a_seal_that_was_noted() -> None:
    anew = [WHOLE[0], *trail(LENGTH - 1, first=2, previous=WHOLE[1].seal)]
    anew[1:] = trail(LENGTH - 1, first=2, previous=sealed(Act(who="x", what="y"), seq=1, at="", previous=START).seal)
    anew[0] = sealed(Act(who="x", what="y"), seq=1, at="", previous=START)
    assert list(faults(anew, ends_of(anew))) == [], "without it nothing shows it"
    noted = (WHOLE[3].seq, WHOLE[3].seal)
    assert "entry 4 is not the one that was noted: the trail was rewritten" in faults(anew, ends_of(anew), known=noted)


def test_a_beginning_that_nothing_vouches_for_is_seen() -> None:
    left = WHOLE[3:]
    forged = Ends(pruned=3, pruned_seal=WHOLE[2].seal, last=LENGTH, last_seal=WHOLE[-1].seal)
    assert list(faults(left, forged)) == [
        "nothing in the trail says that its entries up to 3 were pruned: its beginning was cut off"
    ]
    said = Act(who="retention", what=PRUNED, detail={"through": 3, "seal": WHOLE[2].seal, "entries": 3})
    whole = [*left, sealed(said, seq=LENGTH + 1, at="", previous=WHOLE[-1].seal)]
    assert list(faults(whole, replace(forged, last=LENGTH + 1, last_seal=whole[-1].seal))) == []


def test_who_acts_is_known_to_its_thread_alone() -> None:
    seen: list[str] = []
    with acting("maria"):
        with acting("otto"):
            seen.append(actor())
        other = threading.Thread(target=lambda: seen.append(actor()))
        other.start()
        other.join()
        seen.append(actor())
    assert [*seen, actor()] == ["otto", "", "maria", ""]

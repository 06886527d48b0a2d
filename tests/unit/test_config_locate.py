"""The scanner finds the line of every key and value that `tomllib` finds, and is not kept busy by a bomb."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbupkeep.config.locate import (
    DEEPEST,
    LONGEST_NUMBER,
    LONGEST_TEXT,
    MOST_ENTRIES,
    MOST_LINES,
    Path,
    TooMuch,
    locate,
)

EVERYTHING = '''\
version = 1
[targets.shop]
url = "postgresql://x"   # c [a.b]
exclude = ["a,b]", 'c',
  """d
""" , 4]
"quo\\u0074ed".x = {a = 1, b = {c = [1,
2]}}

[[jobs.n.steps]]
name = """a""""
[[jobs.n.steps]]
ops = [
  "x", # y ]
  "z",
]
[jobs.n.steps.config]
k = 2020-01-01 10:00:00
'm' = \'\'\'
[not.a.table]
\'\'\'
last = -1.5e3
'''


def keys(value: object, key: Path = ()) -> Iterator[Path]:
    if key:
        yield key
    if isinstance(value, dict):
        for name, item in value.items():
            yield from keys(item, (*key, name))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from keys(item, (*key, number))


def test_finds_every_key_on_its_line() -> None:
    located = locate(EVERYTHING)
    assert located.readable == len(EVERYTHING)
    assert set(keys(tomllib.loads(EVERYTHING))) == set(located.lines)
    lines = {
        ("targets", "shop", "url"): 3,
        ("targets", "shop", "exclude", 2): 5,
        ("targets", "shop", "exclude", 3): 6,
        ("targets", "shop", "quoted", "x", "b", "c", 1): 8,
        ("jobs", "n", "steps", 0, "name"): 11,
        ("jobs", "n", "steps", 1): 12,
        ("jobs", "n", "steps", 1, "ops", 1): 15,
        ("jobs", "n", "steps", 1, "config", "k"): 18,
        ("jobs", "n", "steps", 1, "config", "last"): 22,
    }
    assert {key: located.lines[key] for key in lines} == lines


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=6)
SCALARS = st.one_of(
    st.booleans(), st.integers(-(10**12), 10**12), st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]))
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=12
)


def quoted(text: str) -> str:
    plain = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08X}" for c in plain) + '"'


def written(value: object, newline: str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, list):
        return "[" + ",".join(newline + written(item, newline) for item in value) + newline + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{quoted(name)} = {written(item, newline)}" for name, item in value.items()) + "}"
    return str(value)


@given(st.dictionaries(NAMES, VALUES, max_size=5), st.sampled_from(["", " ", "\n", ' # ] } "\n']))
def test_agrees_with_the_parser(table: dict[str, object], newline: str) -> None:
    text = "".join(f"{quoted(name)} = {written(value, newline)}\n" for name, value in table.items())
    located = locate(text)
    assert located.readable == len(text)
    assert set(keys(tomllib.loads(text))) == set(located.lines)
    assert all(1 <= line <= text.count("\n") for line in located.lines.values())


@given(st.text(st.sampled_from("[]{}=.,\"'\\#\n ab1"), max_size=60))
def test_no_text_upsets_it(text: str) -> None:
    """Whatever the parser takes, the scanner has seen in full; whatever else comes, it points at lines that are there."""
    located = locate(text)
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        pass
    else:
        assert located.readable == len(text)
        assert set(keys(table)) <= set(located.lines)
    assert all(1 <= line <= text.count("\n") + 1 for line in located.lines.values())


@pytest.mark.parametrize(
    ("bomb", "what"),
    [
        pytest.param("a." * 20_000 + "a = 1", "key is longer", id="dotted key"),
        pytest.param('"' + "a" * 2000 + '" = 1', "", id="long quoted key"),
        pytest.param("a = " + "[" * 5000 + "]" * 5000, "deeper", id="nested arrays"),
        pytest.param("a = " + "{a = " * 5000 + "1" + "}" * 5000, "deeper", id="nested tables"),
        pytest.param("[" + ".".join(["a"] * (DEEPEST + 1)) + "]", "key is longer", id="deep header"),
        pytest.param("a = [" + "1," * (MOST_ENTRIES + 1) + "]", "keys and values", id="long array"),
        pytest.param("a." * 20 + "b = 1\n" + ("a." * 20 + "c = 1\n") * 1000, "keys and values", id="many parts"),
        pytest.param("#\n" * (MOST_LINES + 1), "lines", id="many lines"),
        pytest.param('a = "' + "x" * (LONGEST_TEXT + 1) + '"', "value is longer", id="long text"),
        pytest.param('a = """' + "\\n" * LONGEST_TEXT + '"""', "value is longer", id="long multi-line text"),
        pytest.param("a = " + "1" * (LONGEST_NUMBER + 1), "value is longer", id="long number"),
        pytest.param("a = 0x" + "f" * 900_000, "value is longer", id="long hexadecimal number"),
        pytest.param("a = 'x' " + "b." * 20_000 + "= 1", "key is longer", id="bomb behind a value"),
        pytest.param("= " + "b." * 20_000 + "= 1", "", id="bomb behind what is no TOML"),
    ],
)
def test_bombs_do_not_reach_the_parser(bomb: str, what: str) -> None:
    """By counting: a bomb is refused, or the parser is given no more than a short piece of it."""
    if what:
        with pytest.raises(TooMuch, match=what):
            locate(bomb)
    else:
        assert locate(bomb).readable < 2000

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import override

from dbupkeep.views.terminal import Cell, Color, ReaderLeft, Table, Terminal, cells, fit, pad, squeeze, wrap


class Stream(io.StringIO):
    def __init__(self, *, tty: bool = False, encoding: str = "utf-8") -> None:
        super().__init__()
        self._tty = tty
        self._encoding = encoding

    @override
    def isatty(self) -> bool:
        return self._tty

    @property
    @override
    def encoding(self) -> str:  # type: ignore[override] # of a text stream it can be read only
        return self._encoding


@pytest.mark.parametrize(
    ("color", "tty", "environ", "colored"),
    [
        (Color.AUTO, True, {}, True),
        (Color.AUTO, False, {}, False),
        (Color.AUTO, True, {"NO_COLOR": "1"}, False),
        (Color.AUTO, True, {"NO_COLOR": ""}, True),
        (Color.AUTO, True, {"TERM": "dumb"}, False),
        (Color.AUTO, False, {"FORCE_COLOR": "1"}, True),
        (Color.AUTO, False, {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        (Color.ALWAYS, False, {"NO_COLOR": "1"}, True),
        (Color.NEVER, True, {"FORCE_COLOR": "1"}, False),
    ],
)
def test_when_it_is_coloured(color: Color, tty: bool, environ: dict[str, str], colored: bool) -> None:
    terminal = Terminal(Stream(tty=tty), color=color, environ=environ)
    assert terminal.color is colored
    assert (terminal.paint("word", "red bold") == "\x1b[31;1mword\x1b[0m") is colored


def test_a_file_takes_lines_of_any_length() -> None:
    assert Terminal(Stream(), environ={}).width is None
    assert Terminal(Stream(), environ={"COLUMNS": "60"}).width == 60
    assert Terminal(Stream(tty=True), environ={"COLUMNS": "0"}).width


def test_signs_that_the_encoding_lacks_are_written_in_another_way() -> None:
    stream = Stream(encoding="ascii")
    Terminal(stream, environ={}).line("✓ 3 → 1 ☃")
    assert stream.getvalue() == "+ 3 -> 1 \\u2603\n"


def test_a_reader_that_left_is_told_apart_from_other_faults() -> None:
    class Broken(Stream):
        @override
        def write(self, text: str) -> int:
            raise BrokenPipeError

    with pytest.raises(ReaderLeft):
        Terminal(Broken(), environ={}).line("x")


def test_wide_characters_take_two_columns() -> None:
    assert cells("数据库") == 6
    assert cells("e\u0301") == 1
    assert fit("数据库.db", 5) == "数据…"
    assert pad("数", 4) == "数  "
    assert pad("7", 3, right=True) == "  7"


@given(st.text(), st.integers(0, 40))
def test_what_is_cut_fits(text: str, width: int) -> None:
    assert cells(fit(text, width)) <= width
    assert cells(squeeze(text, width)) <= width


@given(st.text(st.characters(exclude_categories=["C", "Z"]) | st.just(" ")), st.integers(20, 60), st.integers(0, 10))
def test_what_is_wrapped_fits_and_loses_no_short_word(text: str, width: int, indent: int) -> None:
    lines = wrap(text, width, indent=indent)
    room = max(20, width - indent)
    assert all(cells(line) <= indent + room for line in lines)
    short = [word for word in text.split(" ") if word and cells(word) <= room]
    said = " ".join(line.strip(" ") for line in lines).split(" ")
    assert [word for word in said if word in short] == short or any(cells(word) > room for word in text.split(" "))


ROWS = [
    [Cell("✓", "green"), Cell("a-database-with-a-long-name.db"), Cell("1.5 MiB"), Cell("why it is due, at length")],
    [Cell("✗", "red"), Cell("b.db"), Cell("12 B"), Cell("")],
]


def table(width: int | None) -> list[str]:
    environ = {} if width is None else {"COLUMNS": str(width)}
    head = ("", "DATABASE", "SIZE", "WHY")
    shown = Table(head=head, rows=ROWS, right=frozenset({2}), flexible=(1,), optional=(3,), names=frozenset({1}))
    return shown.lines(Terminal(Stream(), environ=environ))


def test_columns_are_aligned() -> None:
    head, first, second = table(None)
    assert head.index("SIZE") + 4 == first.index("1.5 MiB") + 7 == second.index("12 B") + 4
    assert first.index("why") == head.index("WHY")
    assert second == second.rstrip()


def test_a_narrow_terminal_loses_the_optional_column_and_then_the_middle_of_names() -> None:
    assert "WHY" in table(70)[0]
    assert "WHY" not in table(40)[0]
    assert table(30)[1] == "✓  a-databas…-name.db  1.5 MiB"


@pytest.mark.parametrize("width", range(1, 80, 7))
def test_no_line_of_a_table_is_wider_than_the_terminal(width: int) -> None:
    assert all(cells(line) <= width for line in table(width))


def test_a_column_that_is_empty_throughout_is_left_out() -> None:
    lines = Table(head=("A", "B", "C"), rows=[[Cell("1"), Cell(""), Cell("3")]]).lines(Terminal(Stream(), environ={}))
    assert lines == ["A  C", "1  3"]


def test_a_table_without_rows_is_nothing() -> None:
    assert Table(head=("A",)).lines(Terminal(Stream(), environ={})) == []

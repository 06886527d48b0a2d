"""What a page shows is what the program prints: every example of every page is run on a terminal, in an empty folder."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_examples", ROOT / "docs" / "examples.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


examples = _load()

PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
WITH_EXAMPLES = [page for page in PAGES if any(True for _ in examples.examples(page.read_text(encoding="utf-8")))]


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_page_shows_what_the_program_prints(page: Path) -> None:
    with tempfile.TemporaryDirectory() as place:  # a short path: pytest's own is cut off in a line of 100 columns
        found = list(examples.faults(page, Path(place)))
    assert not found, "\n\n".join(["after a change of words: `make docs`", *found])


def test_the_pages_that_should_have_examples_have_some() -> None:
    names = {page.relative_to(ROOT).as_posix() for page in WITH_EXAMPLES}
    assert names >= {"README.md", "docs/tutorial.md", "docs/how-to/library.md", "docs/how-to/scripts.md"}


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("app.db · 18.3 MiB · ≈ 78 ms", "app.db · 1.1 GiB · ≈ 2 min 5 s", True),
        ("took 3 s", "took   3 ms", True),
        ("id 01a20c7b-8580-7158-88c8-1013dfd625f3", "id 01b20c7b-8580", True),
        ("first\n…\nlast", "first\nsecond\nlast", True),
        ("first\nlast", "first\nsecond\nlast", False),
        (
            "a 3 ms  59 % of the file is free (349 of 587 pages, 1.4 M…\nb",
            "a 13 ms 59 % of the file is free (349 of 587 page…\nb",
            True,
        ),
        (
            "a 3 ms  59 % of the file is free (349 of 587 pages, 1.4 M…\nb",
            "a 13 ms 59 % of the file is full (349 of 587 page…\nb",
            False,
        ),
        (
            "a 3 ms  59 % of the file is free (349 of 587 pages, 1.4 M…\nb",
            "a 13 ms 59 % of the file is free (349 of 587 page…\nc",
            False,
        ),
        ("3 done", "3 failed", False),
        ("effective yes", "", False),
    ],
)
def test_a_comparison_minds_words_and_not_numbers(shown: str, printed: str, same: bool) -> None:
    assert examples.agrees(shown.splitlines(), printed.splitlines()) is same


def test_a_page_that_tells_other_words_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```console\n$ echo one two\none three\n$ (exit 3)\n$ echo $?\n3\n```\n", encoding="utf-8")
    (fault,) = examples.faults(page, tmp_path)
    assert "page.md:2" in fault
    assert "one two" in fault

from __future__ import annotations

from pathlib import Path

import pytest

from dbupkeep import engines
from dbupkeep.errors import UnknownName
from dbupkeep.registry import Registry


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "plug-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plug\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[dbupkeep.things]\nfar = json:dumps\nnear = json:loads\n")
    monkeypatch.syspath_prepend(str(tmp_path))


def registry(made: list[object]) -> Registry[object]:
    def make(loaded: object) -> object:
        made.append(loaded)
        return loaded

    return Registry("thing", "dbupkeep.things", make)


def test_a_thing_is_found_by_its_name(plugin: None) -> None:
    made: list[object] = []
    things = registry(made)
    things.register("near", "own")
    assert things.get("near") == "own", "the program's own go before an entry point's"
    assert things.names() == ["far", "near"]
    assert made == []
    assert things.get("far") is things.get("far")
    assert len(made) == 1, "an entry point is loaded once"


def test_an_unknown_name_is_told_with_the_known_ones(plugin: None) -> None:
    with pytest.raises(UnknownName, match="unknown thing: other") as caught:
        registry([]).get("other")
    assert "far, near" in caught.value.why
    assert "dbupkeep.things" in caught.value.hint
    with pytest.raises(UnknownName) as caught:
        Registry[object]("thing", "nothing at all", lambda loaded: loaded).get("other")
    assert caught.value.why == "none is registered"


def test_an_engine_is_found_by_its_scheme() -> None:
    assert engines.load("SQLite") is engines.load("file")
    for scheme in ("nowhere", "", "os", "..", "sqlite.session"):
        with pytest.raises(UnknownName):
            engines.load(scheme)

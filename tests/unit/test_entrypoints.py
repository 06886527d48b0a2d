from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import pytest

from dbupkeep.entrypoints import brought

GROUP = "dbupkeep.engines"


def install(folder: Path, text: str, *, suffix: str = ".dist-info") -> None:
    info = folder / f"extra-1.0{suffix}"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: extra\nVersion: 1.0\n")
    (info / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: extra\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(text)


@pytest.mark.parametrize("suffix", [".dist-info", ".egg-info"])
def test_what_an_installed_package_brings_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    install(tmp_path, "[console_scripts]\nx = x:x\n\n[dbupkeep.engines]\nodd = odd_engine\n", suffix=suffix)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    assert [point.name for point in brought(GROUP)] == ["odd"]
    assert not brought("dbupkeep.queues")


def test_packages_that_bring_nothing_are_not_read_further(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "[console_scripts]\nx = x:x\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(tmp_path / "missing")])
    monkeypatch.setitem(sys.modules, "importlib.metadata", None)  # importing it would fail now
    assert not brought(GROUP)


def test_an_archive_on_the_path_is_read_by_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "extra.zip", "w") as archive:
        archive.writestr("extra-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: extra\nVersion: 1.0\n")
        archive.writestr("extra-1.0.dist-info/entry_points.txt", "[dbupkeep.engines]\nodd = odd_engine\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "extra.zip")])
    assert [point.name for point in brought(GROUP)] == ["odd"]

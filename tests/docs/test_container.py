"""The container file, as far as it can be checked without an engine: what it says, and that what it starts works here."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dbupkeep.testing.pair_kit import eventually

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "Containerfile").read_text(encoding="utf-8")


def instructions() -> list[tuple[str, str]]:
    """Each with its word and the rest, continued lines joined."""
    lines = [line for line in TEXT.splitlines() if line and not line.startswith("#")]
    joined = re.sub(r"\\\n *", " ", "\n".join(lines)).splitlines()
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined)]


def final() -> list[tuple[str, str]]:
    """Those of the last stage, which is what is shipped."""
    found = instructions()
    last = max(n for n, (word, _) in enumerate(found) if word == "FROM")
    return found[last:]


def of(word: str) -> str:
    (rest,) = [rest for each, rest in final() if each == word]
    return rest


def environment() -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in shlex.split(of("ENV")))


def test_every_instruction_is_one() -> None:
    known = {
        "ARG", "FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "VOLUME", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK",
        "ENTRYPOINT", "CMD",
    }  # fmt: skip
    assert {word for word, _ in instructions()} <= known, "ADD and others are not wanted"


def test_base_is_held_to_one_version() -> None:
    (base,) = [rest for word, rest in instructions() if word == "ARG"]
    assert re.fullmatch(r"BASE=docker\.io/library/python:\d+\.\d+\.\d+-slim-\w+(@sha256:[0-9a-f]{64})?", base)
    assert all(rest.startswith("${BASE}") for word, rest in instructions() if word == "FROM")


def test_nobody_is_root_and_nothing_is_secret() -> None:
    user, _, group = of("USER").partition(":")
    assert int(user) >= 1000
    assert int(group) >= 1000
    assert not re.search(r"(?i)^(ENV|ARG)\b.*(token|password|secret|key)", TEXT, re.MULTILINE)
    assert "--mount=type=secret" not in TEXT


def test_state_is_in_a_volume_that_its_user_owns() -> None:
    state = environment()["DBUPKEEP_STATE"]
    assert json.loads(of("VOLUME")) == [state]
    (made,) = [shlex.split(rest) for word, rest in final() if word == "RUN" and rest.startswith("install -d")]
    owner, _, group = of("USER").partition(":")
    assert made == ["install", "-d", "-m", "0700", "-o", owner, "-g", group, state]


def test_what_is_copied_is_there_and_not_ignored() -> None:
    kept = [
        line[1:] for line in (ROOT / ".containerignore").read_text(encoding="utf-8").splitlines() if line[:1] == "!"
    ]
    copied = [
        name
        for word, rest in instructions()
        if word == "COPY" and "--from" not in rest
        for name in shlex.split(rest)[:-1]
    ]
    assert copied
    assert sorted(kept) == sorted(copied)
    assert all((ROOT / name).exists() for name in copied)


def test_shell_steps_are_shell() -> None:
    for word, rest in instructions():
        if word == "RUN":
            assert subprocess.run(["sh", "-n", "-c", rest], check=False).returncode == 0


def test_constraints_are_the_locked_versions(tmp_path: Path) -> None:
    (step,) = [rest for word, rest in instructions() if word == "RUN" and rest.startswith("sed ")]
    (tmp_path / "requirements.lock").write_bytes((ROOT / "requirements.lock").read_bytes())
    subprocess.run(["sh", "-c", step], cwd=tmp_path, check=True)
    lines = (tmp_path / "constraints.txt").read_text(encoding="utf-8").splitlines()
    locked = re.findall(
        r"^([A-Za-z0-9._-]+)==(\S+)", (ROOT / "requirements.lock").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert lines == [f"{name}=={version}" for name, version in locked]
    assert {"apsw", "click", "pydantic", "psycopg"} <= {name for name, _ in locked}


@pytest.mark.slow
def test_what_it_starts_gets_well_and_ends_when_it_is_stopped(tmp_path: Path) -> None:
    """Its command, its health check and its signal, in its environment, with this checkout in the place of the image."""
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    environ = {**environment(), "DBUPKEEP_STATE": str(state), "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environ['PATH']}"
    command = [*json.loads(of("ENTRYPOINT")), *json.loads(of("CMD")), "--port", "0"]
    check = json.loads(of("HEALTHCHECK").partition(" CMD ")[2])
    assert subprocess.run(check, env=environ, cwd=state, check=False, capture_output=True).returncode == 1
    with subprocess.Popen(command, env=environ, cwd=state, stderr=subprocess.DEVNULL) as service:
        try:
            eventually("it is well", lambda: subprocess.run(check, env=environ, cwd=state, check=False).returncode == 0)
            service.send_signal(signal.Signals[of("STOPSIGNAL")])
            assert service.wait(10) == 0
        finally:
            service.kill()
    assert subprocess.run(check, env=environ, cwd=state, check=False, capture_output=True).returncode == 1
    assert (state / "ledger.db").stat().st_mode & 0o777 == 0o600

"""A configuration file becomes targets, policies and jobs, or all of its faults at once, each with its line."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbupkeep import config
from dbupkeep.config import Known, find, json_schema, load
from dbupkeep.config.document import BIGGEST_FILE
from dbupkeep.config.faults import MOST_SHOWN
from dbupkeep.definitions import ErrorPolicy, OnError, Policy, Schedule, Target
from dbupkeep.engines import sqlite
from dbupkeep.errors import DefinitionError, UnknownName, UsageError
from dbupkeep.operations import Operation

EXAMPLE = Path(__file__).parents[2] / "docs" / "example.toml"

MINIMAL = '[targets.app]\nurl = "sqlite:///srv/app.db"\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def faults(file: Path, text: str, environ: dict[str, str] | None = None, known: Known | None = None) -> list[str]:
    """The faults of a text, without the name of the file."""
    file.write_text(text)
    with pytest.raises(DefinitionError) as caught:
        load(file, environ=environ or {}, known=known)
    return [fault.removeprefix(f"{file}:") for fault in caught.value.faults]


def test_example() -> None:
    example = load(EXAMPLE, environ={})
    nightly = example.job("nightly")
    verify, tidy = nightly.steps
    assert nightly.schedule == Schedule(cron="15 1 * * MON-FRI", timezone="Europe/Berlin")
    assert nightly.window == example.windows["night"]
    assert nightly.window is not None
    assert nightly.window.soft_stop == timedelta(minutes=20)
    assert [target.name for target in tidy.targets] == ["app", "tenants", "shop"]
    assert verify.operations == (Operation.CHECK,)
    assert verify.errors == ErrorPolicy(on_error=OnError.FAIL, tolerance=2)
    assert tidy.errors == ErrorPolicy(on_error=OnError.STOP, stop_after=5, tolerance=2)
    assert tidy.policy.setting("vacuum", "min_bytes", None) == 16 * 1024**2
    assert tidy.policy.max_stall == timedelta(seconds=2)
    assert example.job("statistics").schedule.every == timedelta(hours=6)
    assert example.job("packing").schedule.when_due == timedelta(minutes=15)
    assert example.job("statistics").steps[0].policy == Policy()
    assert example.target("tenants") == Target(
        name="tenants",
        url="sqlite:///srv/tenants",
        pattern="*.db",
        recursive=True,
        exclude=("archive/*", "*-copy.db"),
        parallel=2,
    )


def test_the_example_uses_settings_that_an_engine_has() -> None:
    known = Known(settings={operation: tuple(settings) for operation, settings in sqlite.defaults.items()})
    assert load(EXAMPLE, environ={}, known=known).policy("gentle").thresholds


def test_all_faults_at_once_in_order_with_their_lines(file: Path) -> None:
    text = """\
version = 2
[targets.shop]
url = "postgresql://db1/shop"
patern = "*.db"
[targets.nowhere]
[windows.night]
open = "0 1 * * MON-FRY"
lasts = "4 parsecs"
[policies.gentle]
vaccum = { a = 1 }
max_attempts = 0
[jobs.nightly]
policy = "gentel"
window = "nihgt"
[[jobs.nightly.steps]]
targets = ["shop", "shp"]
operations = [
  "analyze",
  "vaccum",
]
action = "database_maintenence"
[[jobs.nightly.steps]]
operations = []
targets = "shop"
"""
    assert faults(file, text) == [
        "1: version: must be 1",
        '4: targets.shop: unknown key "patern" (did you mean "pattern"?)',
        '5: targets.nowhere: needs either "url" or "dir"',
        '7: windows.night.open: the day of the week of the cron expression, "mon-fry", is not from 0 to 7',
        '8: windows.night.lasts: must be a duration such as "10d", "1h30m" or "500ms", or a number of seconds',
        '10: policies.gentle: unknown key "vaccum" (did you mean "vacuum"?)',
        "11: policies.gentle.max_attempts: must be at least 1",
        '13: jobs.nightly.policy: unknown policy "gentel" (did you mean "gentle"?)',
        '14: jobs.nightly.window: unknown window "nihgt" (did you mean "night"?)',
        '16: jobs.nightly.steps[0].targets[1]: unknown target "shp" (did you mean "shop"?)',
        '19: jobs.nightly.steps[0].operations[1]: unknown operation "vaccum" (did you mean "vacuum"?)',
        '21: jobs.nightly.steps[0].action: unknown action "database_maintenence" (did you mean "database_maintenance"?)',
        "23: jobs.nightly.steps[1].operations: the list is empty; leave it out for vacuum, analyze, reindex",
        "24: jobs.nightly.steps[1].targets: must be a list: [ … ]",
    ]


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        ('[jobs.j]\nschedule = "0 1 * * *"\nevery = "1d"', 'jobs.j: "schedule" and "every" exclude each other'),
        ('[jobs.j]\non_error = "fail"\nstop_after = 2', 'jobs.j: "stop_after" is for on_error = "stop"'),
        ('[jobs.j]\non_error = "halt"', 'jobs.j.on_error: unknown reaction "halt" (there is continue, fail, stop)'),
        ('[jobs.j]\nevery = "1d"\nwhen_due = "1h"', 'jobs.j: "every" and "when_due" exclude each other'),
        ("[jobs.j]\nwhen_due = 0", "jobs.j.when_due: must be longer than 0"),
        ("[jobs.j]\nevery = 0", "jobs.j.every: must be longer than 0"),
        ('[jobs.j]\ntimezone = "../zone"', 'jobs.j.timezone: unknown time zone "../zone"'),
    ],
)
def test_job_tables(file: Path, table: str, fault: str) -> None:
    text = f'version = 1\n{MINIMAL}{table}\n[[jobs.j.steps]]\ntargets = ["app"]\n'
    assert [each.partition(": ")[2] for each in faults(file, text)] == [fault]


def test_steps_and_targets_are_needed(file: Path) -> None:
    found = faults(file, f"version = 1\n{MINIMAL}[jobs.a]\n[jobs.b]\nsteps = []\n[[jobs.c.steps]]\n")
    assert found == [
        '4: jobs.a: "steps" is missing',
        "6: jobs.b.steps: must have at least 1 in it",
        '7: jobs.c.steps[0]: "targets" is missing or empty: name at least one of [targets]',
    ]


def test_defaults_and_duplicates(file: Path) -> None:
    steps = '[[jobs.j.steps]]\ntargets = ["app", "app"]\n[[jobs.j.steps]]\ntargets = ["app"]\n'
    file.write_text(f'version = 1\n{MINIMAL}{steps}operations = ["analyze", "analyze", "vacuum"]\n')
    first, second = load(file, environ={}).job("j").steps
    assert first.operations == (Operation.VACUUM, Operation.REINDEX, Operation.ANALYZE)
    assert second.operations == (Operation.VACUUM, Operation.ANALYZE)
    assert [target.name for target in first.targets] == ["app"]
    assert (first.name, second.name, first.policy.name) == ("step 1", "step 2", "default")


def test_the_retired_job_type_is_refused_and_the_action_is_not(file: Path) -> None:
    step = '[[jobs.j.steps]]\ntargets = ["app"]\naction = "database_maintenance"\n'
    file.write_text(f"version = 1\n{MINIMAL}{step}")
    assert load(file, environ={}).job("j").steps[0].action == "database_maintenance"
    (fault,) = faults(file, f'version = 1\n{MINIMAL}{step}type = "database_maintenance"\n')
    assert fault.startswith("7: jobs.j.steps[0]: the job type database_maintenance is no longer run")
    assert "database_maintenance_operation" in fault


def test_what_the_program_can_do_is_told(file: Path) -> None:
    known = Known(
        actions=("database_maintenance", "report"),
        engines=("sqlite",),
        settings={Operation.VACUUM: ("free_share", "free_bytes")},
    )
    text = 'version = 1\n[targets.a]\nurl = "sqlit:///a"\n[policies.p.vacuum]\nfree_shar = 1\n[[jobs.j.steps]]\naction = "report"\n'
    assert faults(file, text, known=known) == [
        '3: targets.a.url: unknown engine "sqlit" (did you mean "sqlite"?)',
        '5: policies.p.vacuum.free_shar: unknown vacuum setting "free_shar" (did you mean "free_share"?)',
    ]


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:c4n4ry@h/db",
        "postgresql:/u:c4n4ry@h/db",
        "postgresql:u:c4n4ry@h/db",
        "postgresql://u:c4n 4ry@h/db",
        "postgresql://u:%zzc4n4ry@h/db",
        "postgresql://h/db?password=c4n4ry",
        "mysql://:c4n4ry@h",
    ],
)
@pytest.mark.parametrize(
    "place",
    ['[targets.a]\nurl = "{}"', '[targets."{}"]', '[jobs.j]\nhooks = {{ before = ["x", "{}"] }}', 'x = "{}', "[{}"],
)
def test_a_password_is_refused_and_not_repeated(file: Path, url: str, place: str) -> None:
    found = faults(file, "version = 1\n" + place.format(url))
    assert "4ry" not in " ".join(found)
    if place.startswith("["):
        (said,) = (
            [fault for fault in found if ".pgpass" in fault] if "=" in place else [".pgpass PGPASSFILE environment 3: "]
        )
        assert all(word in said for word in ("3: ", "PGPASSFILE", "environment"))


TOKENED = "https://hooks.example.org/services/c4n4ry"


@pytest.mark.parametrize(
    "place",
    [
        '[jobs.j]\nnotifications = ["{}"]\nsteps = [{{ targets = ["a"] }}]',
        '[jobs.j]\nsteps = [{{ targets = ["{}"] }}]',
        '[jobs.j]\nhealthcheck = ["{}"]',
        '[jobs."{}"]\nnothing = 1',
        '[notify.n]\nwebhook = "{}"',
        '[notify.n]\nwebhook = "x{}"\nsecret = "{}"',
        '[notify.n]\nwebhook = "{}"\nsecret = "env:X"\n"{}" = 1',
        '[notify.n]\napprise = "{}"',
        '[notify.n]\nsecret = "c4n4ry"\nwebhook = "https://hooks.example.org/x"',
        '[notify.n]\nwebhook = "{}',
        '["{}"]\n["{}"]',
        "webhook = {}",
    ],
)
def test_what_is_as_good_as_a_password_is_not_repeated(file: Path, place: str) -> None:
    """Who may only look sees the faults of a configuration."""
    found = faults(file, "version = 1\n" + place.format(TOKENED, TOKENED))
    assert found
    assert "4ry" not in " ".join(found)


def test_the_environment_goes_before_the_file(file: Path) -> None:
    file.write_text(f"version = 1\n{MINIMAL}[policies.Very-Gentle]\ncool_off = 5\nmax_attempts = 9\n")
    environ = {
        "DBUPKEEP_POLICIES__VERY_GENTLE__COOL_OFF": "7d",
        "DBUPKEEP_TARGETS__APP__EXCLUDE": '["a", "b"]',
        "DBUPKEEP_TARGETS__APP__PARALLEL": "3",
        "DBUPKEEP_TARGETS__OTHER__URL": "sqlite:///srv/other.db",
        "DBUPKEEP_LEDGER": "not ours",
    }
    read = load(file, environ=environ)
    assert read.policy("Very-Gentle").cool_off == timedelta(days=7)
    assert (read.target("app").exclude, read.target("app").parallel) == (("a", "b"), 3)
    assert read.target("other").url == "sqlite:///srv/other.db"
    shown = {value.key: (value.value, value.origin) for value in read.show(origin=True)}
    assert shown["policies.Very-Gentle.cool_off"] == (604_800, "environment DBUPKEEP_POLICIES__VERY_GENTLE__COOL_OFF")
    assert shown["policies.Very-Gentle.max_attempts"] == (9, f"{file}:6")
    assert shown["policies.Very-Gentle.max_stall"] == (5, "default")
    assert shown["targets.app.exclude[1]"] == ("b", "environment DBUPKEEP_TARGETS__APP__EXCLUDE")
    assert {value.origin for value in read.show()} == {""}


def test_a_fault_of_the_environment_names_the_variable(file: Path) -> None:
    environ = {"DBUPKEEP_POLICIS__G__FORCE": "true", "DBUPKEEP_TARGETS__APP__PARALLEL": "many"}
    assert faults(file, f"version = 1\n{MINIMAL}", environ) == [
        'environment DBUPKEEP_POLICIS__G__FORCE: unknown key "policis" (did you mean "policies"?)',
        "environment DBUPKEEP_TARGETS__APP__PARALLEL: targets.app.parallel: must be a whole number",
    ]
    found = faults(file, f"version = 1\n{MINIMAL}", {"DBUPKEEP_TARGETS__APP__URL__X": "1"})
    assert found == ["environment DBUPKEEP_TARGETS__APP__URL__X: targets.app.url.x is no place for a value"]


def test_the_environment_alone_is_enough() -> None:
    read = load(None, environ={"DBUPKEEP_TARGETS__APP__URL": "sqlite:///srv/app.db"})
    assert (read.file, read.target("app").engine) == ("", "sqlite")


def test_a_pattern_beside_a_servers_url_chooses_of_its_databases(file: Path) -> None:
    file.write_text(
        'version = 1\n[targets.all]\nurl = "postgresql://db1/postgres"\npattern = "*"\nexclude = ["template*"]\n'
    )
    target = load(file, environ={}).target("all")
    assert (target.url, target.pattern, target.is_fleet) == ("postgresql://db1/postgres", "*", True)
    assert faults(file, 'version = 1\n[targets.a]\nurl = "sqlite:///x.db"\npattern = "*"\n') == [
        '2: targets.a: "pattern" and "recursive" are for a target with "dir"'
    ]


def test_a_folder_is_relative_to_its_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/people/me")
    folders = '[targets.a]\ndir = "data #1"\n[targets.b]\ndir = "~/x"\npattern = "*.sqlite"\n'
    file.write_text(f"version = 1\n{folders}")
    read = load(file, environ={})
    assert read.target("a").url == f"sqlite://{file.parent}/data %231"
    assert (read.target("a").pattern, read.target("a").is_fleet) == ("*.db", True)
    assert (read.target("b").url, read.target("b").pattern) == ("sqlite:///people/me/x", "*.sqlite")


def test_search_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named, user, system = (tmp_path / name for name in ("named.toml", "dbupkeep", "etc"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr(config, "SYSTEM_FOLDER", system)
    assert find(environ={}) is None
    for folder in (system, user):
        folder.mkdir()
        (folder / "config.toml").touch()
        assert find(environ={}) == folder / "config.toml"
    named.touch()
    assert find(environ={"DBUPKEEP_CONFIG": str(named)}) == named
    assert find(named, environ={"DBUPKEEP_CONFIG": "elsewhere"}) == named
    with pytest.raises(UsageError, match="no configuration file") as caught:
        find(tmp_path / "not there", environ={})
    assert "--config" in caught.value.hint
    with pytest.raises(UsageError, match="no configuration file") as caught:
        find(environ={"DBUPKEEP_CONFIG": str(tmp_path / "not there")})
    assert "DBUPKEEP_CONFIG" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"version = 1\nx = = 2\n", "2:5: this is not TOML: invalid value"),
        (b'version = 1\nx = "a\n', "2:7: this is not TOML: illegal character '\\n'"),
        (b"version = 1\nversion = 1\n", "2:"),
        (b"version = 1\nx = \xff\n", "2: the text is not UTF-8"),
        (b"version = 1\nx = " + b"9" * 10**6, f"1: the file is bigger than {BIGGEST_FILE} bytes"),
        (b"version = 1\nx." + b"a." * 20_000 + b"a = 1", "2: a key is longer than 32 parts and 1024 characters"),
        (b"version = 1\nx = " + b"[" * 5000, "2: tables and arrays are nested deeper than 32"),
        (
            b"version = 1\n[targets.a]\nparallel = 99999999999999999999\nurl = 'a://'",
            "3: targets.a.parallel: must be between",
        ),
        (b"", '1: "version" is missing'),
    ],
)
def test_what_cannot_be_read(file: Path, content: bytes, fault: str) -> None:
    file.write_bytes(content)
    with pytest.raises(DefinitionError) as caught:
        load(file, environ={})
    assert caught.value.faults[0].startswith(f"{file}:{fault}")


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        load(tmp_path, environ={})
    with pytest.raises(UsageError, match="no configuration file"):
        load(tmp_path / "not\nthere", environ={})


def test_a_byte_order_mark_and_windows_lines_are_fine(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbfversion = 1\r\n[policies.p]\r\nmax_attempts = 4\r\n")
    (value,) = [each for each in load(file, environ={}).show(origin=True) if each.key.endswith("max_attempts")]
    assert (value.value, value.origin) == (4, f"{file}:3")


def test_more_faults_than_anyone_reads(file: Path) -> None:
    found = faults(file, "version = 1\n" + "".join(f"k{number} = 1\n" for number in range(9000)))
    assert len(found) == MOST_SHOWN
    found = faults(file, "version = 1\n" + "".join(f'[targets.k{n}]\nurl = "a://:pw@h"\n' for n in range(3000)))
    assert len(found) == MOST_SHOWN + 1


def test_control_characters_do_not_reach_the_terminal(file: Path) -> None:
    found = faults(
        file, 'version = 1\n[targets."a\\u001b[31m\\nb"]\nurl = "x\\u009b://"\n[jobs.j]\npolicy = "\\u202e"\n'
    )
    assert all(fault.isprintable() for fault in found)


@given(st.text(max_size=200) | st.text(st.sampled_from("[]{}=.\"'\\#\n ab1version targets url"), max_size=200))
def test_any_text_is_read_or_refused_in_words(text: str) -> None:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        file = Path(folder) / "config.toml"
        file.write_text(text, encoding="utf-8", errors="surrogatepass")
        said: tuple[str, ...] = ("nothing wrong",)
        try:
            load(file, environ={})
        except DefinitionError as error:
            said = error.faults
        assert said
        assert all(fault.isprintable() for fault in said)


def test_names_that_are_not_there() -> None:
    with pytest.raises(UnknownName, match='unknown policy: defalt \\(did you mean "default"\\?\\)'):
        load(None, environ={}).policy("defalt")


def test_pydantic_is_not_imported_before_a_file_is_read() -> None:
    code = """
import sys
from dbupkeep.config import find, load
load(None, environ={})
assert not {"pydantic", "tomllib", "platformdirs"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_json_schema() -> None:
    schema = json_schema()
    assert json.loads(json.dumps(schema)) == schema
    sections = {"server", "targets", "windows", "policies", "notify", "notify_hosts", "jobs"}
    assert set(schema["properties"]) == {"version", "timezone", "retention", *sections}
    assert set(Operation) <= set(schema["$defs"]["PolicyTable"]["properties"])
    operations = schema["$defs"]["StepTable"]["properties"]["operations"]["anyOf"][0]["items"]
    assert operations["enum"] == list(Operation)


def test_the_server_has_its_place_in_the_file_and_in_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('version = 1\n[server]\nport = 9000\nallowed_hosts = ["db.example.org"]\n')
    server = load(path, environ={"DBUPKEEP_SERVER__HOST": "10.0.0.5", "DBUPKEEP_SERVER__TLS_PROXY": "true"}).server
    assert (server.host, server.port, server.allowed_hosts) == ("10.0.0.5", 9000, ("db.example.org",))
    assert server.tls_proxy
    assert not server.plain_http


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('allowed_hosts = ["*.example.org"]', "must be a host name"),
        ('allowed_hosts = ["http://example.org"]', "must be a host name"),
        ('root_path = "/x/"', "must be a path such as"),
        ('root_path = "/../x;"', "must be a path such as"),
        ("port = 70000", "must be at most 65535"),
        ("tls_proxi = true", "tls_proxy"),
    ],
)
def test_a_faulty_server_is_told(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f"version = 1\n[server]\n{line}\n")
    with pytest.raises(DefinitionError) as caught:
        load(path, environ={})
    assert said in caught.value.faults[0]

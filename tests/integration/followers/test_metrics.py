"""What a scrape says: parsed by Prometheus' own client, named by its rules, and what the examples ask for is there."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics

from dbupkeep.config import Config
from dbupkeep.outbox import Post
from dbupkeep.views.metrics import FAMILIES, Family, exposition

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"

EMPTY = Config()

UNITS = (
    "_seconds",
    "_bytes",
    "_info",
    "_operations",
    "_messages",
    "_events",
    "_left",
    "_depth",
    "_workers",
    "_health",
    "_valid",
)


def follow(bench: Any, config: Config = EMPTY) -> None:
    """Have all followers take in what there is."""
    for follower in bench.app.followers(config):
        at = Post(follower, **bench.parts())
        while at.step(bench.app.reader.newest(), lambda: True):
            pass
        at.save()


def scrape(bench: Any, config: Config = EMPTY) -> dict[str, float]:
    """Every sample by its name and labels."""
    text, _ = exposition(bench.app, config)
    return {
        f"{sample.name}{json.dumps(sample.labels, sort_keys=True)}": sample.value
        for family in parser.text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def _openmetrics(text: str) -> Iterator[Any]:
    yield from openmetrics.text_string_to_metric_families(text)  # type: ignore[no-untyped-call]


def test_a_ledger_with_nothing_on_it_is_scraped(bench: Any) -> None:
    found = scrape(bench)
    assert found["dbupkeep_pending_operations{}"] == 0
    assert found["dbupkeep_window_overrun_seconds_total{}"] == 0
    assert found['dbupkeep_workers{"state": "idle"}'] == 0


def test_what_happened_is_counted(bench: Any) -> None:
    bench.says = {"analyze": "it broke"}
    bench.run("nightly", "scripted:///a", operations=("vacuum", "analyze"))
    follow(bench)
    found = scrape(bench)
    ended = 'dbupkeep_operations_total{{"engine": "scripted", "operation": "{}", "outcome": "{}"}}'
    assert found[ended.format("vacuum", "completed")] == 1
    assert found[ended.format("vacuum", "failed")] == 0  # there before the first failure, so that its increase is seen
    assert found[ended.format("analyze", "failed")] == 1
    assert found['dbupkeep_runs_total{"outcome": "failed"}'] == 1
    assert found['dbupkeep_reclaimed_bytes_total{"engine": "scripted", "operation": "vacuum"}'] == 1
    assert found['dbupkeep_operation_duration_seconds_count{"engine": "scripted", "operation": "vacuum"}'] == 1
    assert found['dbupkeep_database_bytes{"target": "a"}'] == 1 << 20
    assert not [name for name in found if "last_success" in name]
    bench.says = {}
    bench.run("nightly")
    follow(bench)
    success = scrape(bench)['dbupkeep_last_success_timestamp_seconds{"job": "nightly", "target": "a"}']
    assert abs(success - bench.clock.now().timestamp()) < 60


def test_no_counter_goes_back_when_runs_are_pruned(bench: Any) -> None:
    bench.run("nightly", "scripted:///a", operations=("vacuum", "analyze"))
    follow(bench)
    before = scrape(bench)
    bench.app.ledger.prune(bench.clock.now() + timedelta(days=1))
    follow(bench)
    after = scrape(bench)
    counters = [name for name in before if "_total{" in name or "_bucket{" in name or "_count{" in name]
    assert len(counters) > 20
    assert not [name for name in counters if after[name] < before[name]]


def test_a_job_that_waits_is_told_by_its_age(bench: Any) -> None:
    from dbupkeep.definitions import JobDefinition, Step, Target

    step = Step(name="1", targets=(Target(name="a", url="scripted:///a"),))
    bench.app.runs.create_run(JobDefinition(name="nightly", steps=(step,)))
    bench.clock.wait(hours=1)
    found = scrape(bench)
    assert found["dbupkeep_queue_depth{}"] == 1
    assert 3600 <= found["dbupkeep_oldest_pending_seconds{}"] < 3700


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_names_follow_the_rules(family: Family) -> None:
    """As `promtool check metrics` has them: base units, no suffix that its kind adds, help, labels that are no parts of names."""
    assert re.fullmatch(r"dbupkeep(_[a-z]+)+", family.name)
    assert not family.name.endswith(("_total", "_count", "_sum", "_bucket"))
    assert not re.search(r"milli|micro|minutes|hours|kib|mib|percent", family.name)
    assert family.help.endswith(".")
    assert all(re.fullmatch(r"[a-z]+", label) for label in family.labels)
    assert not {"table", "object", "index", "le", "quantile"} & set(family.labels)
    if family.kind.__name__ != "CounterMetricFamily":
        assert family.name.endswith(UNITS)


def test_openmetrics_is_valid_too(bench: Any) -> None:
    bench.run()
    follow(bench)
    text, kind = exposition(bench.app, EMPTY, "application/openmetrics-text; version=1.0.0")
    assert "openmetrics" in kind
    names = {family.name for family in _openmetrics(text.decode())}
    assert {family.name for family in FAMILIES} <= names


KNOWN = frozenset(
    name
    for family in FAMILIES
    for name in (
        (f"{family.name}_bucket", f"{family.name}_sum", f"{family.name}_count")
        if family.histogram
        else (family.written,)
    )
)

LABELS = {family.written: set(family.labels) for family in FAMILIES} | {
    f"{family.name}{suffix}": {*family.labels, "le"}
    for family in FAMILIES
    if family.histogram
    for suffix in ("_bucket", "_sum", "_count")
}

FUNCTIONS = set("absent increase rate sum max min time histogram_quantile by and or unless on ignoring".split())

TOKEN = re.compile(
    r"\s*(?:(?P<duration>\[(?:\d+[smhdw]|\$__range|\$__rate_interval)\])|(?P<number>\d+(?:\.\d+)?(?:e\d+)?)"
    r"|(?P<word>[a-zA-Z_:][a-zA-Z0-9_:]*)|(?P<matchers>\{[^{}]*\})|(?P<operator>[-+*/()<>,]|==|!=|<=|>=))"
)


def words_of(query: str) -> Iterator[tuple[str, str]]:
    """The parts of a query; fails on what is none."""
    at = 0
    while at < len(query.rstrip()):
        found = TOKEN.match(query, at)
        assert found, f"this is no PromQL: {query[at:]}"
        assert found.lastgroup
        yield found.lastgroup, found[found.lastgroup]
        at = found.end()


def check(query: str) -> None:
    """A query has parentheses that fit, and asks for metrics and labels that there are."""
    parts = list(words_of(query))
    depth = 0
    for _, part in parts:
        depth += {"(": 1, ")": -1}.get(part, 0)
        assert depth >= 0, query
    assert depth == 0, query
    sides = re.split(r"\b(?:and|or|unless)\b(?! *(?:on|ignoring))", query)
    assert len({bool(re.match(r" *(?:sum|max|min)\b", side)) for side in sides}) == 1, (
        "only sides with equal labels match"
    )
    metric, labels = "", set[str]()
    for number, (kind, part) in enumerate(parts):
        if kind == "word" and part.startswith("dbupkeep_"):
            assert part in KNOWN, f"{part} is no metric"
            metric = part
            labels |= LABELS[part]
        elif kind == "matchers":
            for name in re.findall(r"(\w+)\s*[=!~]", part):
                assert name in LABELS[metric], f"{metric} has no label {name}"
        elif kind == "word" and part not in FUNCTIONS:
            assert re.search(r"\bby \([^)]*\b" + part + r"\b[^)]*\)", query), f"what is {part} in {query}?"
            everywhere = {label for family in FAMILIES for label in (*family.labels, "le")}
            assert part in everywhere, f"no metric has the label {part}"
        assert number < 200
    assert metric, f"{query} asks for nothing"


RULES = yaml.safe_load((EXAMPLES / "alerts.yml").read_text(encoding="utf-8"))["groups"][0]["rules"]
PANELS = json.loads((EXAMPLES / "dashboard.json").read_text(encoding="utf-8"))["panels"]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_example_alert_asks_for_what_there_is(rule: Any) -> None:
    check(rule["expr"])
    assert {"summary", "description"} <= set(rule["annotations"])
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    told = json.dumps(rule["annotations"])
    for label in re.findall(r"\$labels\.(\w+)", told):
        assert label in rule["expr"] or any(label in LABELS[name] for name in KNOWN if name in rule["expr"])


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_of_the_example_dashboard_asks_for_what_there_is(panel: Any) -> None:
    for target in panel["targets"]:
        check(target["expr"])
        for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
            assert label in target["expr"]
    place = panel["gridPos"]
    assert place["x"] + place["w"] <= 24


@pytest.mark.parametrize(
    "query",
    [
        "sum(dbupkeep_nothing)",
        "sum(dbupkeep_workers",
        'dbupkeep_workers{table="t"}',
        "sum(%)",
        "sum(dbupkeep_workers) == 0 and dbupkeep_queue_depth > 0",
    ],
)
def test_a_query_for_what_there_is_not_is_noticed(query: str) -> None:
    with pytest.raises(AssertionError):
        check(query)


def test_the_example_of_a_scrape_keeps_our_label_job() -> None:
    """Prometheus has a label of that name for each place that it scrapes, and renames ours unless it is told not to."""
    page = (EXAMPLES.parent / "how-to" / "monitor.md").read_text(encoding="utf-8")
    scrape = yaml.safe_load(page.partition("```yaml\n")[2].partition("```")[0])["scrape_configs"][0]
    assert scrape["honor_labels"] is True


def test_the_examples_cover_what_people_must_be_told_of() -> None:
    asked = " ".join(rule["expr"] for rule in RULES)
    for wanted in ("ineffective", "repeated_deferrals", "last_success", "overrun", "wraparound", "follower_failing"):
        assert wanted in asked
    shown = " ".join(target["expr"] for panel in PANELS for target in panel["targets"])
    assert "dbupkeep_health" in shown


@pytest.mark.slow
def test_a_scrape_stays_cheap_with_a_hundred_thousand_jobs(bench: Any) -> None:
    """Whatever is on the ledger: what a scrape reads does not grow with what has ended."""
    from dbupkeep.testing.pair_kit import family

    new = family("x")
    bench.app.lifecycle.submit(new.submission)
    columns = "id, parent_id, correlation_id, " + ", ".join(
        row["name"] for row in bench.app.ledger.reading().text("pragma table_info(jobs)", {})
        if row["name"] not in ("id", "parent_id", "correlation_id", "status")
    )  # fmt: skip
    copies = f"""
        insert into jobs ({columns}, status)
        with recursive n (n) as (select 1 union all select n + 1 from n where n < 100000)
        select substr(j.id, 1, 28) || printf('%08d', n), {columns.partition(", ")[2].replace("parent_id", "j.parent_id", 1)},
               iif(n % 10, 'completed', 'pending')
        from n join jobs j on j.id = :id
    """
    bench.app.ledger.transact(lambda tx: tx.sql.connection.execute(copies, {"id": new.children[0].id}))
    bench.app.ledger.transact(lambda tx: tx.sql.connection.execute("update jobs set released = 0 where id like '%00'"))
    scrape(bench)
    began = time.process_time()
    found = scrape(bench)
    assert time.process_time() - began < 0.5
    assert found["dbupkeep_pending_operations{}"] == 10_001

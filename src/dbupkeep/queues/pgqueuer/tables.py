"""PgQueuer's tables in the ledger's schema: their names, how they are made, and how a delivery is put into them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cache
from importlib import metadata
from typing import Any

import psycopg
from pgqueuer.adapters.drivers.psycopg import PsycopgDriver
from pgqueuer.adapters.persistence.qb import QueryBuilderEnvironment, QueryQueueBuilder, QuerySchedulerBuilder
from pgqueuer.domain.settings import DBSettings, Durability
from pgqueuer.domain.types import Channel
from pgqueuer.queries import Queries

from dbupkeep.jobs import Delivery

SCHEMA = "dbupkeep"

MADE_BY = f"select obj_description(to_regclass('{SCHEMA}.pgqueuer'), 'pg_class') as comment"
"""Which version of PgQueuer made the tables stands in their comment, so that opening costs one small question."""


@cache
def settings() -> DBSettings:
    """Fixed names, whatever the environment says to PgQueuer: other programs of the user may use it too."""
    return DBSettings(
        prefix="",
        db_schema=SCHEMA,
        channel=Channel("dbupkeep_pgqueuer"),
        function="fn_pgqueuer_changed",
        statistics_table="pgqueuer_statistics",
        queue_status_type="pgqueuer_status",
        queue_table="pgqueuer",
        queue_table_log="pgqueuer_log",
        trigger="tg_pgqueuer_changed",
        schedules_table="pgqueuer_schedules",
        durability=Durability.durable,
    )


def builders() -> dict[str, Any]:
    """What `Queries` is to be made with."""
    return {
        "qbe": QueryBuilderEnvironment(settings()),
        "qbq": QueryQueueBuilder(settings()),
        "qbs": QuerySchedulerBuilder(settings()),
    }


def mark() -> str:
    """What the comment of tables that are up to date says."""
    return f"pgqueuer {metadata.version('pgqueuer')}"


def number_of(comment: str | None) -> tuple[int, ...]:
    """The version that a comment names; empty without one."""
    return tuple(int(part) for part in re.findall(r"\d+", comment or "")[:3])


async def migrate(parameters: Mapping[str, Any]) -> None:
    """Install or upgrade, one process at a time."""
    connection = await connect(parameters)
    try:
        await connection.execute("select pg_advisory_lock(hashtextextended('dbupkeep pgqueuer', 0))")
        queries = Queries(PsycopgDriver(connection), **builders())
        if await queries.schema_is_installed():
            await queries.upgrade()
        else:
            await queries.install(create_schema=False)
        await connection.execute(f"comment on table {SCHEMA}.pgqueuer is '{mark()}'".encode())
    finally:
        await connection.close()


async def connect(parameters: Mapping[str, Any]) -> psycopg.AsyncConnection[Any]:
    """A connection as PgQueuer wants it."""
    connection = await psycopg.AsyncConnection.connect(**parameters, autocommit=True)
    await connection.execute(f"set search_path = {SCHEMA}; set timezone = 'UTC'")
    return connection


@cache
def enqueueing() -> str:
    """PgQueuer's own statement; what is there already stays as it is."""
    return builders()["qbq"].build_enqueue_query("skip")  # type: ignore[no-any-return]


def enqueued(deliveries: Sequence[Delivery]) -> tuple[list[Any], ...]:
    """Its parameters: priority, entry point, payload, delay, key, headers."""
    return (
        [0] * len(deliveries),
        [delivery.lane for delivery in deliveries],
        [_payload(delivery) for delivery in deliveries],
        [timedelta(seconds=delivery.delay) for delivery in deliveries],
        [delivery.key for delivery in deliveries],
        [None] * len(deliveries),
    )


def _payload(delivery: Delivery) -> bytes:
    return json.dumps({"job_id": delivery.job_id, "attempt": delivery.attempt}).encode()


def delivery_of(payload: bytes | None, lane: str) -> Delivery:
    """What was put in."""
    return Delivery(**json.loads(payload or b"{}"), lane=lane)

-- What is true of jobs. A parent keeps the counts of its children; a root is its own parent.
create table jobs (
    id text primary key,
    parent_id text not null references jobs (id),
    correlation_id text not null references jobs (id),
    type text not null,
    phase text not null,
    name text not null,
    status text not null,
    reason text not null,
    config text not null,
    target text not null,
    hold text not null,
    lane text not null,
    plan_id text not null,
    place integer not null,
    weight integer not null,
    errors text not null,
    attempt integer not null,
    max_attempts integer not null,
    cancel_requested integer not null,
    paused integer not null,
    outcome text not null,
    released integer not null default 0,
    waits_left integer not null default 0,
    n_pending integer not null,
    n_running integer not null,
    n_completed integer not null,
    n_failed integer not null,
    n_cancelled integer not null,
    n_skipped integer not null,
    n_deferred integer not null,
    n_partial integer not null,
    n_ineffective integer not null,
    weight_total integer not null,
    weight_ended integer not null,
    progress text,
    estimate text,
    result text,
    error text,
    created_at text not null,
    started_at text,
    finished_at text
) without rowid;

create index jobs_children on jobs (parent_id, place, id);
create index jobs_of_target on jobs (target, id);
create index jobs_runs on jobs (correlation_id);
create index jobs_unended on jobs (parent_id, status) where status in ('pending', 'running');
create index jobs_plans on jobs (plan_id) where plan_id <> '';
create index jobs_ready on jobs (target, correlation_id, place)
    where status = 'pending' and released = 0 and waits_left = 0 and phase = 'execution';
create index jobs_released on jobs (id) where released = 1 and status in ('pending', 'running');
create index jobs_roots on jobs (id) where parent_id = id;

-- Who waits for whom; a gate also wants the other one completed.
create table waits (
    on_id text not null references jobs (id),
    job_id text not null references jobs (id),
    gate integer not null,
    primary key (on_id, job_id)
) without rowid;
create index waits_of on waits (job_id);

-- What is worked on now, across all runs: at most one job for each hold.
create table holds (
    hold text primary key,
    target text not null,
    job_id text not null references jobs (id)
) without rowid;
create index holds_of_target on holds (target);
create index holds_of_job on holds (job_id);

create table targets (
    target text primary key,
    slots integer not null
) without rowid;

create table events (
    seq integer primary key autoincrement,
    at text not null,
    event text not null,
    job_id text not null,
    parent_id text not null,
    correlation_id text not null,
    data text not null
);
create index events_of_run on events (correlation_id, seq);

create table documents (
    kind text not null,
    key text not null,
    version integer not null,
    doc text not null,
    updated_at text not null,
    primary key (kind, key)
) without rowid;

create table measurements (
    id integer primary key,
    at text not null,
    engine text not null,
    target text not null,
    object text not null,
    operation text not null,
    doc text not null
);
create index measurements_of_target on measurements (target, at);
create index measurements_of_engine on measurements (engine, at);

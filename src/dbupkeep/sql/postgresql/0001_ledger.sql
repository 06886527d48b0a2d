-- What is true of jobs. A parent keeps the counts of its children; a root is its own parent. Text that is compared is
-- compared by its bytes, as identifiers and cursors want it, whatever the database's own collation is.
create table jobs (
    id text collate "C" primary key,
    parent_id text collate "C" not null references jobs (id),
    correlation_id text collate "C" not null references jobs (id),
    type text collate "C" not null,
    phase text collate "C" not null,
    name text collate "C" not null,
    status text collate "C" not null,
    reason text not null,
    config json not null,
    target text collate "C" not null,
    hold text collate "C" not null,
    lane text collate "C" not null,
    plan_id text collate "C" not null,
    place integer not null,
    weight bigint not null,
    errors json not null,
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
    weight_total bigint not null,
    weight_ended bigint not null,
    progress json,
    estimate json,
    result json,
    error json,
    created_at timestamptz not null,
    started_at timestamptz,
    finished_at timestamptz
) with (fillfactor = 80);

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
    on_id text collate "C" not null references jobs (id),
    job_id text collate "C" not null references jobs (id),
    gate integer not null,
    primary key (on_id, job_id)
);
create index waits_of on waits (job_id);

-- What is worked on now, across all runs: at most one job for each hold.
create table holds (
    hold text collate "C" primary key,
    target text collate "C" not null,
    job_id text collate "C" not null references jobs (id)
);
create index holds_of_target on holds (target);
create index holds_of_job on holds (job_id);

create table targets (
    target text collate "C" primary key,
    slots integer not null
);

-- Numbers are given in the order of commits: see how the adapter writes events last.
create table events (
    seq bigint generated always as identity primary key,
    at timestamptz not null,
    event text not null,
    job_id text collate "C" not null,
    parent_id text collate "C" not null,
    correlation_id text collate "C" not null,
    data json not null
);
create index events_of_run on events (correlation_id, seq);

create table documents (
    kind text collate "C" not null,
    key text collate "C" not null,
    version integer not null,
    doc json not null,
    updated_at timestamptz not null,
    primary key (kind, key)
);

create table measurements (
    id bigint generated always as identity primary key,
    at timestamptz not null,
    engine text collate "C" not null,
    target text collate "C" not null,
    object text not null,
    operation text not null,
    doc json not null
);
create index measurements_of_target on measurements (target, at);
create index measurements_of_engine on measurements (engine, at);

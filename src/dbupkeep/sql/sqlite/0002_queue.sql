-- Who is on a job. Leases and due times are seconds since this machine's start, and only mean something with its boot
-- id. The key begins with the job's id, so that the order of keys is the order of submission.
create table deliveries (
    key text primary key,
    job_id text not null,
    attempt integer not null,
    lane text not null,
    due real not null,
    boot text not null,
    worker text,
    lease real
) without rowid;
create index deliveries_free on deliveries (key) where worker is null;
create index deliveries_held on deliveries (lease) where worker is not null;

create table workers (
    id text primary key,
    lanes text not null,
    boot text not null,
    lease real not null,
    process text not null, -- what tells whether it still lives, to others that see the same processes
    seen_at text not null
) without rowid;

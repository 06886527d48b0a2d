-- The worker processes that serve. Who is on which delivery stands in the tables of PgQueuer, which brings its own.
create table workers (
    id text collate "C" primary key,
    lanes json not null,
    lease interval not null,
    seen_at timestamptz not null
);

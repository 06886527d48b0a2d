-- Which run a hold is taken for, so that a run's operations at a time are counted without a look at its jobs; empty for
-- a discovery, which is no operation.
alter table holds add column run text collate "C" not null default '';
update holds set run = (
    select case when type = 'database_discovery' then '' else correlation_id end from jobs where jobs.id = holds.job_id
);
create index holds_of_run on holds (run);

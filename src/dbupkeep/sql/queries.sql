-- name: job
select * from jobs where id = :id

-- name: job_insert
insert into jobs (
    id, parent_id, correlation_id, type, phase, name, status, reason, config, target, hold, lane, plan_id, place,
    weight, errors, attempt, max_attempts, cancel_requested, stop_requested, paused, at_a_time, until, outcome,
    waits_left, n_pending, n_running, n_completed, n_failed, n_cancelled, n_skipped, n_deferred, n_partial,
    n_ineffective, n_often, weight_total, weight_ended, progress, estimate, result, error, created_at, started_at, finished_at
) values (
    :id, :parent_id, :correlation_id, :type, :phase, :name, :status, :reason, :config, :target, :hold, :lane,
    :plan_id, :place, :weight, :errors, :attempt, :max_attempts, :cancel_requested, :stop_requested, :paused,
    :at_a_time, :until, :outcome, :waits_left, :n_pending, :n_running, :n_completed, :n_failed, :n_cancelled,
    :n_skipped, :n_deferred, :n_partial, :n_ineffective, :n_often, :weight_total, :weight_ended, :progress, :estimate, :result, :error, :created_at, :started_at,
    :finished_at
)

-- name: job_update
update jobs set
    status = :status, reason = :reason, attempt = :attempt, max_attempts = :max_attempts,
    cancel_requested = :cancel_requested, stop_requested = :stop_requested, paused = :paused,
    at_a_time = :at_a_time, until = :until,
    outcome = :outcome, progress = :progress, result = :result, error = :error, started_at = :started_at,
    finished_at = :finished_at
where id = :id

-- name: job_counts
update jobs set
    n_pending = :n_pending, n_running = :n_running, n_completed = :n_completed, n_failed = :n_failed,
    n_cancelled = :n_cancelled, n_skipped = :n_skipped, n_deferred = :n_deferred, n_partial = :n_partial,
    n_ineffective = :n_ineffective, n_often = :n_often, weight_total = :weight_total, weight_ended = :weight_ended
where id = :id

-- name: job_progress
update jobs set progress = :progress where id = :id and attempt = :attempt and status = 'running'

-- name: job_control
select j.status, j.attempt, j.cancel_requested, r.paused, r.until
from jobs j join jobs r on r.id = j.correlation_id
where j.id = :id

-- name: job_before
select * from jobs
where target = :target and type = :type and config = :config and id < :id and status not in ('pending', 'running')
order by id desc limit 1

-- name: jobs_unended
select * from jobs
where parent_id = :parent_id and id <> :parent_id and status in ('pending', 'running')
order by place, id

-- name: jobs_unended_last
select * from jobs
where parent_id = :parent_id and id <> :parent_id and status in ('pending', 'running') and (place, id) < (:place, :id)
order by place desc, id desc limit :limit

-- name: children
select * from jobs where parent_id = :parent_id and id <> :parent_id order by place, id

-- name: jobs_like
select * from jobs where id >= :prefix and id < :end order by id limit 2

-- name: jobs_running
select * from jobs where parent_id = :parent_id and id <> :parent_id and status = 'running'

-- name: runs_growing
select count(*) as n from jobs
where parent_id = :parent_id and type = 'database_discovery' and status in ('pending', 'running')

-- name: jobs_released
select * from jobs
where released = 1 and status in ('pending', 'running') and id > :cursor
order by id limit :limit

-- name: wait_insert
insert into waits (on_id, job_id, gate) values (:on_id, :job_id, :gate) on conflict do nothing

-- name: wait_count
update jobs set waits_left = (
    select count(*) from waits w join jobs o on o.id = w.on_id
    where w.job_id = jobs.id and o.status in ('pending', 'running')
) where id = :id

-- name: successors
select j.id, j.target, j.status, w.gate from waits w join jobs j on j.id = w.job_id where w.on_id = :on_id

-- name: successors_freed
update jobs set waits_left = waits_left - 1
where waits_left > 0 and id in (select job_id from waits where on_id = :on_id)

-- name: successors_withheld
update jobs set released = 0
where released = 1 and status = 'pending' and started_at is null and id in (select job_id from waits where on_id = :on_id)

-- name: successors_hold_drop
delete from holds where job_id in (
    select j.id from waits w join jobs j on j.id = w.job_id
    where w.on_id = :on_id and j.released = 1 and j.status = 'pending' and j.started_at is null
)

-- name: gates_closed
select o.id from waits w join jobs o on o.id = w.on_id
where w.job_id = :job_id and w.gate = 1 and o.status in ('failed', 'cancelled', 'deferred')
limit 1

-- name: successors_bound
update jobs set waits_left = waits_left + 1
where status = 'pending' and id in (select job_id from waits where on_id = :on_id)

-- name: ready
select j.id, j.attempt, j.lane from jobs j join jobs r on r.id = j.correlation_id
where j.target = :target and j.status = 'pending' and j.released = 0 and j.waits_left = 0 and j.phase = 'execution'
  and r.paused = 0
  and not exists (select 1 from holds h where h.hold = j.hold)
  and not exists (
      select 1 from holds h
      where h.target = j.target and (h.hold = j.target || '|' or j.hold = j.target || '|')
  )
  and (r.at_a_time = 0 or j.type = 'database_discovery'
      or r.at_a_time > (select count(*) from holds h where h.run = r.id))
order by j.correlation_id, j.place
limit :limit

-- name: ready_of_run
-- `|| ''` keeps it to the index of what is ready: of a big run most has ended, or waits. So it is with what is out.
select distinct j.target from jobs j
where j.correlation_id || '' = :correlation_id
  and j.status = 'pending' and j.released = 0 and j.waits_left = 0 and j.phase = 'execution'
  and not exists (select 1 from holds h where h.hold = j.hold)
  and not exists (
      select 1 from holds h
      where h.target = j.target and (h.hold = j.target || '|' or j.hold = j.target || '|')
  )
  and coalesce((select slots from targets t where t.target = j.target), 1)
      > (select count(*) from holds h where h.target = j.target)
limit :limit

-- name: out_of_run
select * from jobs
where correlation_id || '' = :correlation_id and released = 1 and status in ('pending', 'running') and phase = 'execution'
order by id

-- name: run_slots
update targets set slots = :slots where target in (
    select target from jobs where correlation_id = :correlation_id and status = 'pending' and target <> ''
)

-- name: slots_free
select coalesce((select slots from targets where target = :target), 1)
    - (select count(*) from holds where target = :target) as free

-- name: slots_set
insert into targets (target, slots) values (:target, :slots) on conflict (target) do update set slots = excluded.slots

-- name: hold_take
insert into holds (hold, target, job_id, run)
select j.hold, j.target, j.id, j.run
from (
    select case when hold = '' then id else hold end as hold, target, id,
        case when type = 'database_discovery' then '' else correlation_id end as run
    from jobs where id = :job_id
) j
where not exists (
    select 1 from holds h
    where h.target = j.target and (h.hold = j.target || '|' or j.hold = j.target || '|')
)
and not exists (
    select 1 from jobs r
    where r.id = j.run and r.at_a_time > 0 and r.at_a_time <= (select count(*) from holds h where h.run = r.id)
)
on conflict do nothing

-- name: hold_drop
delete from holds where job_id = :job_id

-- name: released_set
update jobs set released = :released where id = :id

-- name: run_withhold
update jobs set released = 0 where correlation_id = :correlation_id and status = 'pending' and released = 1 and started_at is null

-- name: run_withhold_holds
delete from holds where job_id in (
    select id from jobs where correlation_id = :correlation_id and status = 'pending' and started_at is null
)

-- name: run_targets
select distinct target from jobs where correlation_id = :correlation_id and status = 'pending' and target <> ''

-- name: event_insert
insert into events (at, event, job_id, parent_id, correlation_id, data)
values (:at, :event, :job_id, :parent_id, :correlation_id, :data)

-- name: events_after
select * from events where seq > :after order by seq limit :limit

-- name: events_of_run
select * from events where correlation_id = :correlation_id and seq > :after order by seq limit :limit

-- name: event_newest
select coalesce(max(seq), 0) as seq from events

-- name: document
select doc, version from documents where kind = :kind and key = :key

-- name: document_insert
insert into documents (kind, key, version, doc, updated_at) values (:kind, :key, 1, :doc, :updated_at)
on conflict do nothing

-- name: document_update
update documents set doc = :doc, version = version + 1, updated_at = :updated_at
where kind = :kind and key = :key and version = :version

-- name: document_put
insert into documents (kind, key, version, doc, updated_at) values (:kind, :key, 1, :doc, :updated_at)
on conflict (kind, key) do update set doc = excluded.doc, version = documents.version + 1, updated_at = excluded.updated_at

-- name: measurement_insert
insert into measurements (at, engine, target, object, operation, doc)
values (:at, :engine, :target, :object, :operation, :doc)

-- name: measurements_of_target
select doc from measurements where target = :target and at <= :until order by at desc, id desc limit :limit

-- name: measurements_of_engine
select doc from measurements where engine = :engine and at <= :until order by at desc, id desc limit :limit

-- name: measurements
select doc from measurements where at <= :until order by at desc, id desc limit :limit

-- name: targets
select t.target, j.name, j.status, t.runs, t.last_run_at
from (
    select target, count(*) as runs, max(created_at) as last_run_at, max(id) as last_id from jobs
    where type = 'database_maintenance_parent' group by target
) t join jobs j on j.id = t.last_id
order by t.target

-- name: statuses
select status, count(*) as n from jobs group by status

-- name: oldest_pending
select min(created_at) as at from jobs where status = 'pending'

-- name: backlog_waiting
-- By the index of what has not ended alone: identifiers made later sort later, so the least one is the oldest.
select count(case when status = 'pending' then 1 end) as pending, min(case when status = 'pending' then id end) as oldest
from jobs where status in ('pending', 'running')

-- name: backlog_out
select count(case when status = 'pending' then 1 end) as deliverable, count(case when status = 'running' then 1 end) as running
from jobs where released = 1 and status in ('pending', 'running')

-- name: prunable
select id from jobs where parent_id = id and status not in ('pending', 'running') and finished_at < :before
order by id limit :limit

-- name: prune_waits
delete from waits where on_id in (select id from jobs where correlation_id = :correlation_id)

-- name: prune_events
delete from events where correlation_id = :correlation_id

-- name: prune_plans
delete from documents where kind = 'plan' and key in (
    select plan_id from jobs where correlation_id = :correlation_id and plan_id <> ''
) and not exists (select 1 from jobs where plan_id = documents.key and correlation_id <> :correlation_id)

-- name: prune_saved
delete from documents where updated_at < :before and (
    (kind in ('plan', 'run_plan') and not exists (select 1 from jobs where plan_id = documents.key))
    or (kind = 'once' and ((key > 'schedule:' and key < 'schedule;') or (key > 'api:' and key < 'api;')))
    or kind = 'idempotency'
)

-- name: prune_blocking
delete from documents where kind = 'blocking' and key in (select id from jobs where correlation_id = :correlation_id)

-- name: prune_definition
delete from documents where kind = 'definition' and key = :correlation_id

-- name: prune_once
delete from documents where kind = 'once' and key in (
    select d.key from jobs j join documents d on d.kind = 'once' and d.key > j.id || ':' and d.key < j.id || ';'
    where j.correlation_id = :correlation_id and j.type = 'database_discovery'
)

-- name: prune_jobs
delete from jobs where correlation_id = :correlation_id

-- name: audit_ends
select pruned, pruned_seal, last, last_seal from audit_ends

-- name: audit_ends_locked
select pruned, pruned_seal, last, last_seal from audit_ends

-- name: audit_insert
insert into audit (seq, at, who, what, on_what, target, outcome, detail, previous, seal)
values (:seq, :at, :who, :what, :on, :target, :outcome, :detail, :previous, :seal)

-- name: audit_ended
update audit_ends set last = :seq, last_seal = :seal

-- name: audit_after
select * from audit where seq > :after order by seq limit :limit

-- name: audit_before
select * from audit where seq < :before and (:who = '' or who = :who) and (:what = '' or what = :what)
order by seq desc limit :limit

-- name: audit_older
select seq, seal from audit where at < :before order by seq desc limit 1

-- name: audit_prune_through
update audit_ends set pruned = :seq, pruned_seal = :seal

-- name: audit_prune
delete from audit where seq <= :seq

-- name: run_lock
select 1 as locked from jobs where id = :id for no key update

-- name: target_lock
select 1 as locked from targets where target = :target for no key update

-- name: target_known
insert into targets (target, slots) values (:target, 1) on conflict do nothing

-- name: document_locked
select doc, version from documents where kind = :kind and key = :key for update

-- name: prunable
select id from jobs where parent_id = id and status not in ('pending', 'running') and finished_at < :before
order by id limit :limit for no key update skip locked

-- name: events_in_turn
select pg_advisory_xact_lock(hashtextextended('dbupkeep events', 0))

-- name: bytes
select coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint as bytes
from pg_class c where c.relnamespace = current_schema()::regnamespace and c.relkind = 'r'

-- name: outcome
select pg_xact_status(:xid::xid8) as outcome

-- name: worker_put
insert into workers (id, lanes, lease, seen_at) values (:id, :lanes, :lease * interval '1 second', now())
on conflict (id) do update set seen_at = excluded.seen_at

-- name: workers
select id, lanes, seen_at, seen_at + lease >= now() as alive from workers order by id

-- name: worker_drop
delete from workers where id = :id

-- name: version
select version from schema_version

-- name: workers_prune
delete from workers where seen_at + lease < now()
  and not exists (select 1 from pgqueuer where queue_manager_id::text = workers.id)

-- name: deliveries_known
select dedupe_key from pgqueuer where dedupe_key = any(:keys) and status in ('queued', 'picked')

-- name: deliveries_held
select dedupe_key, queue_manager_id::text as worker from pgqueuer
where queue_manager_id is not null and status = 'picked' order by dedupe_key

-- name: delivery_log_prune
delete from pgqueuer_log where created < now() - interval '1 day'

-- name: job_before
select * from jobs
where target = :target and type = :type and config::text = :config and id < :id
  and status not in ('pending', 'running')
order by id desc limit 1

-- name: audit_ends_locked
select pruned, pruned_seal, last, last_seal from audit_ends for update

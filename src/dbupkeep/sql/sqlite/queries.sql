-- name: delivery_insert
insert into deliveries (key, job_id, attempt, lane, due, boot) values (:key, :job_id, :attempt, :lane, :due, :boot)
on conflict do nothing

-- name: delivery_lost
select * from deliveries
where worker is not null and (boot <> :boot or lease < :now) and key not in (select value from json_each(:held))
  and (:lanes = '[]' or lane in (select value from json_each(:lanes)))
order by lease limit 1

-- name: delivery_free
select * from deliveries
where worker is null and (boot <> :boot or due <= :now)
  and (:lanes = '[]' or lane in (select value from json_each(:lanes)))
order by key limit 1

-- name: delivery_take
update deliveries set worker = :worker, lease = :lease, boot = :boot where key = :key

-- name: delivery_done
delete from deliveries where key = :key and worker = :worker

-- name: delivery_lose
update deliveries set lease = 0 where key = :key and worker = :worker

-- name: deliveries_renew
update deliveries set lease = :lease where worker = :worker and key in (select value from json_each(:held))

-- name: deliveries_known
select key from deliveries where key in (select value from json_each(:keys))

-- name: deliveries_of
select key from deliveries where worker = :worker order by key

-- name: worker_put
insert into workers (id, lanes, boot, lease, process, seen_at)
values (:id, :lanes, :boot, :lease, :process, :seen_at)
on conflict (id) do update set lease = excluded.lease, seen_at = excluded.seen_at

-- name: workers
select * from workers order by id

-- name: deliveries_dead
update deliveries set lease = 0 where worker = :id and lease > 0

-- name: worker_dead
update workers set lease = 0 where id = :id

-- name: worker_drop
delete from workers where id = :id

-- name: workers_prune
delete from workers where (boot <> :boot or lease < :now)
  and not exists (select 1 from deliveries where worker = workers.id)

-- name: ready_of_run
-- Through the index of what is ready: of a big run most has ended, or waits.
select distinct j.target from jobs j indexed by jobs_ready
where j.correlation_id = :correlation_id
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
select * from jobs indexed by jobs_released
where correlation_id = :correlation_id and released = 1 and status in ('pending', 'running') and phase = 'execution'
order by id

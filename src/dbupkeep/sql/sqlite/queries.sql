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

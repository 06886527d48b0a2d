-- The audit trail: entries are only added, each sealed with the seal of the one before. `audit_ends` notes where it ends,
-- and up to which entry it was pruned; older ones alone may be deleted. Moments are text, so that they come back as sealed.
create table audit (
    seq bigint primary key,
    at text not null,
    who text collate "C" not null,
    what text collate "C" not null,
    on_what text not null,
    target text not null,
    outcome text not null,
    detail text not null,
    previous text not null,
    seal text not null
);
create index audit_by_who on audit (who, seq);

create table audit_ends (
    id integer primary key check (id = 1),
    pruned bigint not null,
    pruned_seal text not null,
    last bigint not null,
    last_seal text not null
);
insert into audit_ends values (1, 0, repeat('0', 64), 0, repeat('0', 64));

create function audit_refuse() returns trigger language plpgsql as $$
begin
    if tg_op = 'DELETE' then
        if old.seq <= (select pruned from audit_ends) then
            return old;
        end if;
    end if;
    raise exception 'the audit trail is only added to';
end
$$;

create trigger audit_kept before update or delete on audit for each row execute function audit_refuse();
create trigger audit_not_emptied before truncate on audit for each statement execute function audit_refuse();

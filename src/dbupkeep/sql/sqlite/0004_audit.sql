-- The audit trail: entries are only added, each sealed with the seal of the one before. `audit_ends` notes where it ends,
-- and up to which entry it was pruned; older ones alone may be deleted.
create table audit (
    seq integer primary key,
    at text not null,
    who text not null,
    what text not null,
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
    pruned integer not null,
    pruned_seal text not null,
    last integer not null,
    last_seal text not null
);
insert into audit_ends values (
    1, 0, '0000000000000000000000000000000000000000000000000000000000000000',
    0, '0000000000000000000000000000000000000000000000000000000000000000'
);

create trigger audit_unchanged before update on audit
begin
    select raise(abort, 'the audit trail is only added to');
end;

create trigger audit_kept before delete on audit
when old.seq > (select pruned from audit_ends)
begin
    select raise(abort, 'the audit trail is only added to');
end;

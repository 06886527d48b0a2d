-- What people ask of a run while it goes: to stop after what runs, and limits. How many of a parent's operations were
-- put off often.
alter table jobs add column stop_requested integer not null default 0;
alter table jobs add column at_a_time integer not null default 0; -- of a root: operations at a time; 0: no limit
alter table jobs add column until text; -- of a root: by when it is to have ended
alter table jobs add column n_often integer not null default 0;

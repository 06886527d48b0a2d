-- Named queries. `NAME_15` stands in for `NAME` from PostgreSQL 15 on; `{{NAME}}` is the text of another block.
-- Sessions have search_path = pg_catalog.

-- name: introduction
-- Settings last for the session, unless another process answers than the one that greeted us: that is a pooler, whose session
-- may be the application's in the next moment, and then they are gone with this statement.
WITH settings AS MATERIALIZED (
  SELECT count(set_config(name, value, pg_backend_pid() <> %(greeted)s)) AS n FROM unnest(%(names)s::text[], %(values)s::text[]) AS s (name, value)
)
SELECT pg_backend_pid() AS pid,
       current_database()::text AS database,
       (SELECT oid::bigint FROM pg_database WHERE datname = current_database()) AS database_oid,
       current_user::text AS role,
       current_setting('is_superuser')::bool AS superuser,
       pg_is_in_recovery() AS standby,
       (SELECT system_identifier::text FROM pg_control_system()) AS system,
       current_setting('block_size')::int AS block_size
  FROM settings

-- name: server
-- Settings that the formulas use, and what is true of the server as a whole.
SELECT current_setting('autovacuum')::bool AS autovacuum,
       current_setting('autovacuum_vacuum_threshold')::float8 AS vacuum_base,
       current_setting('autovacuum_vacuum_scale_factor')::float8 AS vacuum_scale,
       current_setting('autovacuum_vacuum_max_threshold', true)::float8 AS vacuum_max,
       current_setting('autovacuum_vacuum_insert_threshold')::float8 AS insert_base,
       current_setting('autovacuum_vacuum_insert_scale_factor')::float8 AS insert_scale,
       current_setting('autovacuum_analyze_threshold')::float8 AS analyze_base,
       current_setting('autovacuum_analyze_scale_factor')::float8 AS analyze_scale,
       current_setting('autovacuum_freeze_max_age')::float8 AS freeze_max_age,
       current_setting('autovacuum_multixact_freeze_max_age')::float8 AS multixact_freeze_max_age,
       current_setting('track_counts')::bool AS track_counts,
       has_table_privilege('pg_catalog.pg_statistic', 'SELECT') AS sees_statistics,
       pg_has_role('pg_read_all_stats', 'MEMBER') AS sees_sessions,
       age(datfrozenxid) AS database_age, mxid_age(datminmxid) AS database_multixact_age
  FROM pg_database
 WHERE datname = current_database()

-- name: near
-- All tables in one pass over pg_class: how many there are, and the OIDs of those that have as much of anything as `floor` of a
-- threshold of autovacuum; in a second list, those of TOAST tables. Settings of their own, and partitions, put them there too.
-- Most rows are of indexes, which every condition leaves at once; most others have less than `..._from`, the least that any
-- threshold comes to, so that each counter is mostly asked for once. Ages are looked at where the database's is one, which
-- no table is beyond. The server keeps no statistics of pg_statistic, so nothing ever resets what has changed there.
SELECT {{passed}}
  FROM pg_class c

-- name: near_and_lacking
-- As `near`, with what may lack statistics: tables and indexes with those of fewer columns or expressions than they have, and
-- whether any extended ones do. OID and number of columns are one number, for speed; what has tables below it always may.
SELECT p.pages, p.tables, p.partitioned_tables, p.oldest, p.near, p.near_toast,
       (SELECT array_agg((t >> 16)::oid)::text
          FROM unnest(p.filled) AS t
          LEFT JOIN (SELECT starelid, count(*) AS columns FROM pg_statistic WHERE stainherit IS NOT TRUE GROUP BY starelid) s
            ON s.starelid = (t >> 16)::oid
         WHERE t & 65535 > coalesce(s.columns, 0)) AS lacking,
       (SELECT array_agg(i.indexrelid)::text FROM pg_index i
         WHERE i.indexprs IS NOT NULL AND i.indisready
           AND cardinality(array_positions(i.indkey::int2[], 0::int2))
             > (SELECT count(*) FROM pg_statistic s WHERE s.starelid = i.indexrelid)) AS expressions,
       EXISTS (SELECT FROM pg_statistic_ext e WHERE NOT EXISTS (SELECT FROM pg_statistic_ext_data d WHERE d.stxoid = e.oid)) AS extended
  FROM (
    SELECT {{passed}},
           array_agg(c.oid::bigint << 16 | CASE WHEN c.relkind = 'p' OR c.relhassubclass THEN 65535 ELSE c.relnatts END) FILTER (
             WHERE c.relkind <> 'i' AND (c.relkind = 'r' AND c.oid >= 16384 OR c.relkind = 'm' OR c.relkind = 'p')
               AND c.relpersistence <> 't'
               AND (c.reltuples <> 0 OR c.relkind = 'p' OR c.relhassubclass OR pg_stat_get_live_tuples(c.oid) > 0)
           ) AS filled
      FROM pg_class c
    OFFSET 0
  ) p

-- name: passed
sum(c.relpages)::bigint AS pages,
       count(*) FILTER (WHERE c.relkind <> 'i' AND (c.relkind = 'r' OR c.relkind = 'm') AND c.relpersistence <> 't') AS tables,
       count(*) FILTER (WHERE c.relkind = 'p') AS partitioned_tables,
       max(age(c.relfrozenxid)) FILTER (WHERE c.relkind <> 'i' AND (c.relkind = 'r' OR c.relkind = 't' OR c.relkind = 'm')) AS oldest,
       array_agg(c.oid) FILTER (
         WHERE NOT %(everything)s AND c.relkind <> 'i' AND (c.relkind = 'r' OR c.relkind = 'm' OR c.relkind = 'p') AND c.relpersistence <> 't'
           AND (c.relkind = 'p' OR c.relispartition OR c.reloptions IS NOT NULL OR {{old}} OR {{dead}}
                OR pg_stat_get_ins_since_vacuum(c.oid) >= %(inserted_from)s::bigint
               AND pg_stat_get_ins_since_vacuum(c.oid) >= %(floor)s * (%(insert_base)s + %(insert_scale)s * greatest(c.reltuples, 0)
                   * (1 - coalesce(least(1.0, {{frozen_pages}}::float8 / nullif(c.relpages, 0)), 0)))
                OR pg_stat_get_mod_since_analyze(c.oid) >= %(modified_from)s::bigint AND c.oid <> 'pg_statistic'::regclass
               AND pg_stat_get_mod_since_analyze(c.oid) >= %(floor)s * (%(analyze_base)s + %(analyze_scale)s * greatest(c.reltuples, 0))
                OR %(blind)s AND (c.reltuples > 0 OR pg_stat_get_mod_since_analyze(c.oid) > 0)
               AND pg_stat_get_last_analyze_time(c.oid) IS NULL AND pg_stat_get_last_autoanalyze_time(c.oid) IS NULL)
       )::text AS near,
       array_agg(c.oid) FILTER (
         WHERE NOT %(everything)s AND c.relkind = 't' AND c.relpersistence <> 't'
           AND (c.reloptions IS NOT NULL OR {{old}} OR {{dead}}
                OR pg_stat_get_ins_since_vacuum(c.oid) >= %(inserted_from)s::bigint
               AND pg_stat_get_ins_since_vacuum(c.oid) >= %(floor)s * (%(insert_base)s + %(insert_scale)s * greatest(c.reltuples, 0)))
       )::text AS near_toast

-- name: old
%(aged)s AND (age(c.relfrozenxid) >= %(floor)s * %(freeze_max_age)s OR mxid_age(c.relminmxid) >= %(floor)s * %(multixact_freeze_max_age)s)

-- name: dead
pg_stat_get_dead_tuples(c.oid) >= %(dead_from)s::bigint AND pg_stat_get_dead_tuples(c.oid) >= %(floor)s
                   * least(%(vacuum_max)s::float8, %(vacuum_base)s + %(vacuum_scale)s * greatest(c.reltuples, 0))

-- name: tables
-- Tables, materialized views and partitioned tables by OID or by that of their TOAST table, or all.
-- No sizes, which would look at every file.
SELECT c.oid::bigint AS oid, n.nspname AS schema, c.relname AS name, c.relkind::text AS kind, c.reltuples::float8 AS rows,
       c.relpages AS pages, {{frozen_pages}} AS frozen_pages,
       CASE WHEN c.relkind <> 'p' THEN age(c.relfrozenxid) END AS age,
       CASE WHEN c.relkind <> 'p' THEN mxid_age(c.relminmxid) END AS multixact_age, c.reloptions AS options,
       {{permission}} AS permitted,
       CASE WHEN c.relispartition THEN (SELECT inhparent::bigint FROM pg_inherits WHERE inhrelid = c.oid LIMIT 1) END AS parent,
       pg_stat_get_dead_tuples(c.oid) AS dead, pg_stat_get_mod_since_analyze(c.oid) AS modified,
       pg_stat_get_ins_since_vacuum(c.oid) AS inserted, pg_stat_get_vacuum_count(c.oid) AS vacuums,
       pg_stat_get_analyze_count(c.oid) AS analyzes,
       greatest(pg_stat_get_last_analyze_time(c.oid), pg_stat_get_last_autoanalyze_time(c.oid)) AS analyzed_at,
       t.oid::bigint AS toast_oid, t.reltuples::float8 AS toast_rows, t.relpages AS toast_pages, t.reloptions AS toast_options,
       age(t.relfrozenxid) AS toast_age, mxid_age(t.relminmxid) AS toast_multixact_age,
       pg_stat_get_dead_tuples(t.oid) AS toast_dead, pg_stat_get_ins_since_vacuum(t.oid) AS toast_inserted
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_class t ON t.oid = c.reltoastrelid AND t.oid <> 0
 CROSS JOIN ({{role}}) m
 WHERE c.relkind IN ('r', 'm', 'p') AND c.relpersistence <> 't'
   AND (%(everything)s OR c.oid = ANY (%(also)s::oid[] || %(near)s::oid[])
        OR cardinality(%(near_toast)s::oid[]) > 0 AND c.reltoastrelid = ANY (%(near_toast)s::oid[]))

-- name: permission
(c.relowner = ANY (m.roles) OR m.owns AND NOT c.relisshared) AND has_schema_privilege(c.relnamespace, 'USAGE')

-- name: permission_17
(has_table_privilege(c.oid, 'MAINTAIN') OR m.owns AND NOT c.relisshared) AND has_schema_privilege(c.relnamespace, 'USAGE')

-- name: role
SELECT array_agg(r.oid) AS roles,
       (SELECT pg_has_role(datdba, 'USAGE') FROM pg_database WHERE datname = current_database()) AS owns
  FROM pg_roles r WHERE pg_has_role(r.oid, 'USAGE')

-- name: role_17
SELECT pg_has_role(datdba, 'USAGE') AS owns FROM pg_database WHERE datname = current_database()

-- name: frozen_pages
NULL::int

-- name: frozen_pages_18
c.relallfrozen

-- name: schemas
SELECT nspname::text AS name FROM pg_namespace

-- name: missing_statistics
-- Of tables that may lack statistics, those with rows of which a column, an expression index or an extended statistics object
-- has never been analysed: the rule of vacuumdb --missing-stats-only. Wants SELECT on pg_statistic.
SELECT a.attrelid::bigint AS oid, count(*) AS missing, false AS inherits
  FROM pg_class c
  JOIN pg_attribute a ON a.attrelid = c.oid
  LEFT JOIN pg_statistic s ON s.starelid = a.attrelid AND s.staattnum = a.attnum AND s.stainherit = (c.relkind = 'p')
 WHERE c.oid = ANY (%(lacking)s::oid[]) AND (c.reltuples <> 0 OR c.relkind = 'p' OR pg_stat_get_live_tuples(c.oid) > 0)
   AND a.attnum > 0 AND NOT a.attisdropped AND a.attstattarget IS DISTINCT FROM 0 AND a.attgenerated <> 'v'
   AND s.starelid IS NULL
 GROUP BY a.attrelid
UNION ALL
-- Of what has tables below it by inheritance, the statistics of all of them together; where those have rows.
SELECT a.attrelid::bigint, count(*), true
  FROM pg_class c
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attstattarget IS DISTINCT FROM 0
   AND a.attgenerated <> 'v'
  LEFT JOIN pg_statistic s ON s.starelid = a.attrelid AND s.staattnum = a.attnum AND s.stainherit
 WHERE c.relkind = 'r' AND c.relhassubclass AND c.oid >= 16384 AND s.starelid IS NULL AND EXISTS (
       SELECT FROM pg_inherits h JOIN pg_class k ON k.oid = h.inhrelid WHERE h.inhparent = c.oid AND k.reltuples > 0)
 GROUP BY a.attrelid
UNION ALL
SELECT i.indrelid::bigint, count(*), false
  FROM pg_index i
  JOIN pg_class c ON c.oid = i.indrelid AND c.reltuples <> 0 AND c.relkind IN ('r', 'm')
  JOIN pg_attribute a ON a.attrelid = i.indexrelid AND a.attnum > 0 AND i.indkey[a.attnum - 1] = 0
   AND a.attstattarget IS DISTINCT FROM 0
  LEFT JOIN pg_statistic s ON s.starelid = a.attrelid AND s.staattnum = a.attnum
 WHERE i.indexrelid = ANY (%(expressions)s::oid[]) AND s.starelid IS NULL
 GROUP BY i.indrelid
UNION ALL
SELECT e.stxrelid::bigint, count(*), false
  FROM pg_statistic_ext e
  JOIN pg_class c ON c.oid = e.stxrelid AND c.reltuples <> 0
  LEFT JOIN pg_statistic_ext_data d ON d.stxoid = e.oid
 WHERE d.stxoid IS NULL AND e.stxstattarget IS DISTINCT FROM 0
 GROUP BY e.stxrelid

-- name: columns
-- The columns of some tables that were chosen by name, and whether each has statistics, as far as the role may know.
SELECT a.attrelid::bigint AS oid, a.attname::text AS name,
       EXISTS (SELECT FROM pg_stats s WHERE s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = a.attname
                  AND s.inherited = (c.relkind = 'p'))
       OR c.reltuples <= 0 OR NOT has_column_privilege(a.attrelid, a.attnum, 'SELECT') AS analyzed
  FROM pg_attribute a
  JOIN pg_class c ON c.oid = a.attrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE a.attrelid = ANY (%(oids)s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped

-- name: sizes
-- Bytes with TOAST, maps and indexes, of the tables that are looked at closely.
SELECT oid::bigint AS oid, pg_table_size(oid) AS bytes, pg_indexes_size(oid) AS index_bytes
  FROM unnest(%(oids)s::oid[]) AS oid

-- name: horizon
-- Who keeps dead rows from being removed, the oldest first: sessions, prepared transactions, slots, standbys. A snapshot is
-- as old as the oldest transaction that was open then: of equal ones the one that is open for longest is the cause.
SELECT 'session' AS kind, a.pid, a.usename::text AS role, a.application_name AS name, a.state,
       extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, a.query_start))::float8 AS seconds,
       greatest(age(a.backend_xmin), age(a.backend_xid)) AS age, a.datname::text AS database
  FROM pg_stat_activity a
 WHERE a.pid <> pg_backend_pid() AND (a.backend_xmin IS NOT NULL OR a.backend_xid IS NOT NULL)
   AND a.backend_type <> 'walsender' AND a.query !~* '^\s*(/\*.*?\*/\s*)?(vacuum|autovacuum: )'
UNION ALL
SELECT 'prepared', NULL, p.owner::text, p.gid, NULL,
       extract(epoch FROM clock_timestamp() - p.prepared)::float8, age(p.transaction), p.database::text
  FROM pg_prepared_xacts p
UNION ALL
SELECT 'slot', s.active_pid, NULL, s.slot_name::text, CASE WHEN s.active THEN 'active' ELSE 'inactive' END,
       NULL, greatest(age(s.xmin), age(s.catalog_xmin)), s.database::text
  FROM pg_replication_slots s
 WHERE s.xmin IS NOT NULL OR s.catalog_xmin IS NOT NULL
UNION ALL
SELECT 'standby', r.pid, r.usename::text, r.application_name, r.state, NULL, age(r.backend_xmin), NULL
  FROM pg_stat_replication r
 WHERE r.backend_xmin IS NOT NULL
 ORDER BY age DESC NULLS LAST, seconds DESC NULLS LAST
 LIMIT 20

-- name: at_work
-- Vacuums that run in this database, ours and others'.
SELECT p.pid, p.relid::bigint AS oid, a.backend_type = 'autovacuum worker' AS auto,
       a.query LIKE '%%(to prevent wraparound)%%' AS wraparound, a.application_name AS name
  FROM pg_stat_progress_vacuum p JOIN pg_stat_activity a USING (pid)
 WHERE p.datname = current_database()

-- name: replication
-- What is not on the disk yet counts too: commits of ours need not have waited for that.
SELECT count(*) AS standbys, max(pg_wal_lsn_diff(pg_current_wal_insert_lsn(), replay_lsn))::bigint AS lag_bytes,
       max(extract(epoch FROM replay_lag))::float8 AS lag_seconds,
       (SELECT max(pg_wal_lsn_diff(pg_current_wal_insert_lsn(), restart_lsn))::bigint FROM pg_replication_slots) AS slot_bytes
  FROM pg_stat_replication

-- name: collations
SELECT collname::text AS name, collversion AS recorded, pg_collation_actual_version(oid) AS actual
  FROM pg_collation
 WHERE collversion IS NOT NULL AND collversion <> pg_collation_actual_version(oid)

-- name: collations_15
SELECT collname::text AS name, collversion AS recorded, pg_collation_actual_version(oid) AS actual
  FROM pg_collation
 WHERE collversion IS NOT NULL AND collversion <> pg_collation_actual_version(oid)
UNION ALL
SELECT 'default', datcollversion, pg_database_collation_actual_version(oid)
  FROM pg_database
 WHERE datname = current_database() AND datcollversion <> pg_database_collation_actual_version(oid)

-- name: state
-- What VACUUM and ANALYZE change, of some tables by OID, with their names of now: before and after the work.
SELECT c.oid::bigint AS oid, n.nspname AS schema, c.relname AS name, ({{wal}}) AS wal,
       pg_table_size(c.oid) AS bytes, pg_indexes_size(c.oid) AS index_bytes, c.reltuples::float8 AS rows, c.relpages AS pages, c.relallvisible AS visible_pages,
       greatest(age(CASE WHEN c.relkind <> 'p' THEN c.relfrozenxid END),
                (SELECT age(t.relfrozenxid) FROM pg_class t WHERE t.oid = c.reltoastrelid)) AS age,
       pg_stat_get_dead_tuples(c.oid) + coalesce(pg_stat_get_dead_tuples(nullif(c.reltoastrelid, 0)), 0) AS dead,
       pg_stat_get_ins_since_vacuum(c.oid) AS inserted, pg_stat_get_mod_since_analyze(c.oid) AS modified,
       pg_stat_get_vacuum_count(c.oid) AS vacuums, pg_stat_get_vacuum_count(nullif(c.reltoastrelid, 0)) AS toast_vacuums,
       pg_stat_get_analyze_count(c.oid) AS analyzes
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.oid = ANY (%(oids)s::oid[])

-- name: parts
-- Of some tables what VACUUM changes, apart from their TOAST tables, and of those alone.
SELECT sum(pg_stat_get_dead_tuples(c.oid))::bigint AS dead, max(age(c.relfrozenxid)) AS age,
       coalesce(sum(pg_stat_get_dead_tuples(t.oid)), 0)::bigint AS toast_dead, coalesce(max(age(t.relfrozenxid)), 0) AS toast_age
  FROM pg_class c LEFT JOIN pg_class t ON t.oid = c.reltoastrelid AND t.oid <> 0
 WHERE c.oid = ANY (%(oids)s::oid[])

-- name: permitted
-- Whether the role may maintain some tables.
SELECT c.oid::bigint AS oid, {{permission}} AS permitted
  FROM pg_class c CROSS JOIN ({{role}}) m
 WHERE c.oid = ANY (%(oids)s::oid[])

-- name: databases
-- Those that take connections, the oldest first: 'template0' does not, 'template1' is maintained as vacuumdb -a does.
-- One that the role may not enter is among them, and fails: who does not want it excludes it.
SELECT datname::text AS name,
       CASE WHEN datconnlimit = -2 THEN 'it was being dropped, and is unusable: DROP DATABASE it again' END AS problem
  FROM pg_database
 WHERE datallowconn OR datconnlimit = -2
 ORDER BY pg_catalog.age(datfrozenxid) DESC, datname

-- name: may_list_files
-- Superusers, and whom they let.
SELECT has_function_privilege('pg_ls_dir(text)', 'EXECUTE')
   AND has_function_privilege('pg_stat_file(text,boolean)', 'EXECUTE') AND NOT pg_is_in_recovery() AS may

-- name: lost_files
-- Files in the folder of the database that no relation has. Those of transactions that are still open are not there to
-- be seen, so only files from before the oldest of them count, and none of the last minutes; empty ones go at a checkpoint.
SELECT count(*) AS files, coalesce(sum(f.size), 0)::bigint AS bytes, max(f.folder) AS folder,
       coalesce((array_agg(f.name ORDER BY f.size DESC))[1:3], '{}') AS named
  FROM (
    SELECT l.folder, l.name, s.size
      FROM (SELECT 'base/' || d.oid AS folder, pg_ls_dir('base/' || d.oid) AS name
              FROM pg_database d WHERE d.datname = current_database()) l
     CROSS JOIN LATERAL pg_stat_file(l.folder || '/' || l.name, true) s
     WHERE l.name ~ '^[0-9]+(\.[0-9]+)?$' AND s.size > 0
       AND s.modification < least(
             now() - interval '10 minutes',
             (SELECT min(coalesce(a.xact_start, now())) FROM pg_stat_activity a),
             (SELECT min(p.prepared) FROM pg_prepared_xacts p))
       AND NOT EXISTS (SELECT FROM pg_class c WHERE pg_relation_filenode(c.oid) = split_part(l.name, '.', 1)::oid)
  ) f

-- name: rights
SELECT count(*) AS tables, count(*) FILTER (WHERE {{permission}}) AS permitted,
       pg_has_role('pg_read_all_stats', 'USAGE') AS sees_sessions,
       has_table_privilege('pg_catalog.pg_statistic', 'SELECT') AS sees_statistics,
       has_schema_privilege('pg_toast', 'USAGE') AS reaches_toast
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace CROSS JOIN ({{role}}) m
 WHERE c.relkind IN ('r', 'm', 'p') AND c.relpersistence <> 't' AND n.nspname NOT IN ('pg_catalog', 'information_schema')

-- name: settings
SELECT current_setting('track_counts')::bool AS track_counts, current_setting('autovacuum')::bool AS autovacuum,
       (SELECT reset_val FROM pg_settings WHERE name = 'client_connection_check_interval') AS client_check

-- name: extensions
SELECT name::text, installed_version AS installed FROM pg_available_extensions WHERE name = ANY (%(names)s)

-- name: wal
SELECT CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint END AS bytes

-- name: looking_on
-- What a session of ours is doing, and who is in its way. A prepared transaction has no process: it is found by what it holds.
SELECT a.state, a.wait_event_type, b.pid AS blocker, b.usename::text AS blocker_role, b.application_name AS blocker_name,
       b.state AS blocker_state, extract(epoch FROM clock_timestamp() - b.xact_start)::float8 AS blocker_seconds,
       CASE WHEN b.pid IS NULL AND a.wait_event_type = 'Lock' AND 0 = ANY (pg_blocking_pids(a.pid)) THEN (
         SELECT p.gid FROM pg_prepared_xacts p
           JOIN pg_locks o ON o.pid IS NULL AND o.locktype = 'transactionid' AND o.transactionid = p.transaction
           JOIN pg_locks h ON h.pid IS NULL AND h.virtualtransaction = o.virtualtransaction
           JOIN pg_locks w ON w.pid = a.pid AND NOT w.granted AND w.locktype = h.locktype
            AND w.relation IS NOT DISTINCT FROM h.relation AND w.transactionid IS NOT DISTINCT FROM h.transactionid
          ORDER BY p.prepared LIMIT 1) END AS prepared
  FROM pg_stat_activity a
  LEFT JOIN LATERAL (
    SELECT * FROM pg_stat_activity o WHERE a.wait_event_type = 'Lock' AND o.pid = ANY (pg_blocking_pids(a.pid))
     ORDER BY o.xact_start LIMIT 1) b ON true
 WHERE a.pid = %(pid)s

-- name: held_up
-- Who waits for a lock that a session (or one of a mark) holds, or queues behind one that it wants; ours do not count.
SELECT w.pid, NULL::float8 AS seconds
  FROM (SELECT DISTINCT pid FROM pg_locks WHERE NOT granted AND pid IS NOT NULL) w
 WHERE pg_blocking_pids(w.pid) && (SELECT array_agg(pid) FROM pg_stat_activity
                                    WHERE pid = %(pid)s OR application_name = nullif(%(tag)s, ''))
   AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid = w.pid
                      AND (a.application_name LIKE 'dbupkeep:%%' OR a.backend_type = 'autovacuum worker'))

-- name: held_up_14
SELECT w.pid, extract(epoch FROM clock_timestamp() - w.waitstart)::float8 AS seconds
  FROM (SELECT pid, min(waitstart) AS waitstart FROM pg_locks WHERE NOT granted AND pid IS NOT NULL GROUP BY pid) w
 WHERE pg_blocking_pids(w.pid) && (SELECT array_agg(pid) FROM pg_stat_activity
                                    WHERE pid = %(pid)s OR application_name = nullif(%(tag)s, ''))
   AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid = w.pid
                      AND (a.application_name LIKE 'dbupkeep:%%' OR a.backend_type = 'autovacuum worker'))

-- name: progress_vacuum
SELECT * FROM pg_stat_progress_vacuum WHERE pid = %(pid)s

-- name: progress_analyze
SELECT * FROM pg_stat_progress_analyze WHERE pid = %(pid)s

-- name: indexes
-- Indexes that may need a rebuild, or all, each with its table's counters: those that are invalid, that follow a changed
-- collation, that have at least so many pages, or of which nothing was ever counted. No sizes, which would look at every
-- file. The index of a TOAST table belongs to the main table.
SELECT i.indexrelid::bigint AS oid, n.nspname AS schema, x.relname AS name, x.relpages AS pages, x.reltuples::float8 AS entries,
       x.reltablespace::bigint AS tablespace, c.oid::bigint AS table_oid, o.nspname AS table_schema, c.relname AS table_name,
       h.oid::bigint AS toast_oid, c.relpages + coalesce(h.relpages, 0) AS table_pages,
       t.relkind = 't' AS toast, a.amname::text AS method,
       i.indisvalid AS valid, i.indisready AS ready, i.indisunique AS is_unique, i.indisexclusion AS exclusion,
       i.indpred IS NOT NULL AS partial, x.reloptions AS options,
       (SELECT min(k) FROM unnest(i.indcollation) AS k WHERE k = ANY (%(collations)s::oid[]))::bigint AS collation,
       t.reltuples::float8 AS rows, pg_stat_get_live_tuples(t.oid) AS live, pg_stat_get_dead_tuples(t.oid) AS dead,
       pg_stat_get_mod_since_analyze(t.oid) AS modified, pg_stat_get_ins_since_vacuum(t.oid) AS inserted,
       {{permission}} AND has_schema_privilege(x.relnamespace, 'USAGE') AS permitted, pg_has_role(x.relowner, 'USAGE') AS owned,
       CASE WHEN NOT i.indisvalid THEN obj_description(i.indexrelid, 'pg_class') END AS comment,
       CASE WHEN NOT i.indisvalid THEN (
         SELECT array_agg(y.relname::text) FROM pg_index j JOIN pg_class y ON y.oid = j.indexrelid
          WHERE j.indrelid = i.indrelid AND j.indexrelid <> i.indexrelid) END AS siblings
  FROM pg_index i
  JOIN pg_class x ON x.oid = i.indexrelid AND x.relkind = 'i' AND x.relpersistence <> 't'
  JOIN pg_namespace n ON n.oid = x.relnamespace
  JOIN pg_am a ON a.oid = x.relam
  JOIN pg_class t ON t.oid = i.indrelid AND t.oid >= 16384
  LEFT JOIN pg_class w ON w.reltoastrelid = t.oid AND t.relkind = 't'
  JOIN pg_class c ON c.oid = coalesce(w.oid, t.oid)
  JOIN pg_namespace o ON o.oid = c.relnamespace
  LEFT JOIN pg_class h ON h.oid = c.reltoastrelid AND h.oid <> 0
 CROSS JOIN ({{role}}) m
 WHERE %(everything)s OR NOT i.indisvalid OR x.relpages >= %(pages)s
    OR x.reltuples <= 0 AND pg_stat_get_live_tuples(t.oid) >= 10000
    OR EXISTS (SELECT FROM unnest(i.indcollation) AS k WHERE k = ANY (%(collations)s::oid[]))

-- name: index_count
SELECT count(*) AS indexes
  FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid AND x.relkind = 'i' AND x.relpersistence <> 't'
 WHERE i.indrelid >= 16384

-- name: changed_collations
SELECT oid::bigint AS oid, collname::text AS name, collversion AS recorded, pg_collation_actual_version(oid) AS actual
  FROM pg_collation
 WHERE collversion IS NOT NULL AND collversion <> pg_collation_actual_version(oid)

-- name: changed_collations_15
SELECT oid::bigint AS oid, collname::text AS name, collversion AS recorded, pg_collation_actual_version(oid) AS actual
  FROM pg_collation
 WHERE collversion IS NOT NULL AND collversion <> pg_collation_actual_version(oid)
UNION ALL
SELECT 100, 'of the database', datcollversion, pg_database_collation_actual_version(oid)
  FROM pg_database
 WHERE datname = current_database() AND datcollversion <> pg_database_collation_actual_version(oid)

-- name: index_sizes
SELECT oid::bigint AS oid, pg_relation_size(oid) AS bytes FROM unnest(%(oids)s::oid[]) AS oid

-- name: index_columns
-- What the statistics say of each column of some B-tree indexes; expressions have statistics of their own.
SELECT i.indexrelid::bigint AS oid, k.place, i.indnkeyatts AS keys, a.attlen AS length, a.attalign::text AS align,
       a.atttypid = 'cstring'::regtype AS cstring,
       coalesce(s.avg_width, e.avg_width) AS width, coalesce(s.null_frac, e.null_frac)::float8 AS nulls,
       coalesce(s.n_distinct, e.n_distinct)::float8 AS distinct_values,
       coalesce(s.most_common_freqs, e.most_common_freqs)::float8[] AS common,
       k.place > i.indnkeyatts OR EXISTS (
         SELECT FROM pg_opclass o
           JOIN pg_amproc p ON p.amprocfamily = o.opcfamily AND p.amproclefttype = o.opcintype
            AND p.amprocrighttype = o.opcintype AND p.amprocnum = 4
          WHERE o.oid = i.indclass[k.place - 1])
       AND coalesce((SELECT c.collisdeterministic FROM pg_collation c WHERE c.oid = i.indcollation[k.place - 1]), true) AS by_image
  FROM pg_index i
 CROSS JOIN LATERAL generate_series(1, i.indnatts) AS k (place)
  JOIN pg_class x ON x.oid = i.indexrelid
  JOIN pg_namespace n ON n.oid = x.relnamespace
  JOIN pg_class t ON t.oid = i.indrelid
  JOIN pg_namespace m ON m.oid = t.relnamespace
  JOIN pg_attribute a ON a.attrelid = i.indexrelid AND a.attnum = k.place
  LEFT JOIN pg_attribute b ON b.attrelid = i.indrelid AND b.attnum = i.indkey[k.place - 1] AND b.attnum > 0
  LEFT JOIN pg_stats s ON s.schemaname = m.nspname AND s.tablename = t.relname AND s.attname = b.attname AND NOT s.inherited
  LEFT JOIN pg_stats e ON e.schemaname = n.nspname AND e.tablename = x.relname AND e.attname = a.attname
   AND i.indkey[k.place - 1] = 0
 WHERE i.indexrelid = ANY (%(oids)s::oid[])
 ORDER BY i.indexrelid, k.place

-- name: extension
-- Where an extension's functions are, and whether the role may call one of them.
SELECT n.nspname AS schema, e.extversion AS version, bool_and(has_function_privilege(p.oid, 'EXECUTE')) AS callable
  FROM pg_extension e
  JOIN pg_namespace n ON n.oid = e.extnamespace
  JOIN pg_proc p ON p.pronamespace = n.oid AND p.proname = %(function)s
   AND oidvectortypes(p.proargtypes) = %(arguments)s
 WHERE e.extname = %(name)s
 GROUP BY n.nspname, e.extversion

-- name: index_states
-- Some indexes with their tables, by name.
SELECT n.nspname AS schema, x.relname AS name, x.oid::bigint AS oid, i.indrelid::bigint AS relation, coalesce(m.oid, t.oid)::bigint AS table_oid,
       i.indisvalid AS valid, i.indisexclusion AS exclusion, pg_relation_size(x.oid) AS bytes, t.relkind = 't' AS toast,
       x.reltuples::float8 AS entries, a.amname::text AS method, ({{wal}}) AS wal
  FROM unnest(%(schemas)s::text[]::name[], %(names)s::text[]::name[]) AS wanted (schema, name)
  JOIN pg_namespace n ON n.nspname = wanted.schema
  JOIN pg_class x ON x.relname = wanted.name AND x.relnamespace = n.oid
  JOIN pg_index i ON i.indexrelid = x.oid
  JOIN pg_am a ON a.oid = x.relam
  JOIN pg_class t ON t.oid = i.indrelid
  LEFT JOIN pg_class m ON m.reltoastrelid = t.oid AND t.relkind = 't'

-- name: invalid_indexes
-- Invalid indexes of some tables, or of all; with who is building one of them now.
SELECT i.indexrelid::bigint AS oid, n.nspname AS schema, x.relname AS name, i.indrelid::bigint AS relation,
       i.indisready AS ready, pg_relation_size(x.oid) AS bytes, obj_description(i.indexrelid, 'pg_class') AS comment,
       pg_has_role(x.relowner, 'USAGE') AS owned,
       (SELECT min(p.pid) FROM pg_stat_progress_create_index p
         WHERE p.datname = current_database() AND p.relid = i.indrelid) AS builder
  FROM pg_index i
  JOIN pg_class x ON x.oid = i.indexrelid AND x.relkind = 'i' AND x.relpersistence <> 't'
  JOIN pg_namespace n ON n.oid = x.relnamespace
 WHERE NOT i.indisvalid AND (%(relations)s::oid[] IS NULL OR i.indrelid = ANY (%(relations)s::oid[]))
 ORDER BY i.indexrelid

-- name: long_transactions
-- Sessions and prepared transactions that CONCURRENTLY has to wait for, the oldest first: those with a snapshot are
-- waited for by every table (`relations` is null), those with locks alone by the tables that they touched. Of the prepared all:
-- they have no session that would end.
SELECT a.pid, a.usename::text AS role, a.application_name AS name, a.state, a.query,
       extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS seconds,
       CASE WHEN a.backend_xmin IS NULL THEN (
         SELECT array_agg(DISTINCT l.relation::bigint) FROM pg_locks l
          WHERE l.pid = a.pid AND l.locktype = 'relation' AND l.database = d.oid AND l.relation >= 16384) END AS relations,
       a.backend_xmin IS NOT NULL AS snapshot
  FROM pg_stat_activity a
  JOIN pg_database d ON d.datname = current_database()
 WHERE a.datid = d.oid AND a.pid <> pg_backend_pid() AND a.backend_type = 'client backend'
   AND a.xact_start < clock_timestamp() - make_interval(secs => %(seconds)s)
   AND NOT EXISTS (SELECT FROM pg_stat_progress_vacuum v WHERE v.pid = a.pid)
   AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index c WHERE c.pid = a.pid)
UNION ALL
SELECT NULL, p.owner::text, p.gid, 'prepared', NULL, extract(epoch FROM clock_timestamp() - p.prepared)::float8,
       (SELECT array_agg(DISTINCT l.relation::bigint) FROM pg_locks l JOIN pg_locks o USING (virtualtransaction)
         WHERE l.pid IS NULL AND l.locktype = 'relation' AND l.relation >= 16384
           AND o.pid IS NULL AND o.locktype = 'transactionid' AND o.transactionid = p.transaction), false
  FROM pg_prepared_xacts p
 WHERE p.database = current_database()
 ORDER BY 6 DESC

-- name: progress_reindex
SELECT p.*, p.index_relid::bigint AS index_oid FROM pg_stat_progress_create_index p WHERE pid = %(pid)s

-- name: orphans
-- Sessions of lost attempts: of exactly their marks, this role and this database.
SELECT a.pid, a.state, a.wait_event_type, a.query, a.backend_start::text AS started
  FROM pg_stat_activity a
 WHERE a.application_name = ANY(%(tags)s) AND a.usename = current_user AND a.datname = current_database()
   AND a.pid <> pg_backend_pid()

-- name: btrees
-- The valid B-trees of some tables and of their TOAST tables.
SELECT i.indexrelid::bigint AS oid, n.nspname AS schema, x.relname AS name, pg_relation_size(i.indexrelid) AS bytes,
       c.oid::bigint AS table_oid
  FROM pg_class c
  JOIN pg_index i ON i.indrelid IN (c.oid, c.reltoastrelid)
  JOIN pg_class x ON x.oid = i.indexrelid AND x.relkind = 'i'
  JOIN pg_am a ON a.oid = x.relam AND a.amname = 'btree'
  JOIN pg_namespace n ON n.oid = x.relnamespace
 WHERE c.oid = ANY (%(oids)s::oid[]) AND i.indisvalid AND i.indisready
 ORDER BY i.indrelid, x.relname

-- name: heaps
-- Tables from so many pages on, with what a rewrite must know of them.
SELECT c.oid::bigint AS oid, o.nspname AS schema, c.relname AS name, c.relkind::text AS kind, c.relpages AS pages,
       c.relpersistence::text AS persistence, c.reloptions AS options, c.reltablespace::bigint AS tablespace,
       c.reltuples::float8 AS rows, pg_stat_get_live_tuples(c.oid) AS live, pg_stat_get_dead_tuples(c.oid) AS dead,
       pg_stat_get_mod_since_analyze(c.oid) AS modified, pg_stat_get_ins_since_vacuum(c.oid) AS inserted,
       greatest(age(c.relfrozenxid), age(h.relfrozenxid)) AS age,
       greatest(mxid_age(c.relminmxid), mxid_age(h.relminmxid)) AS multixact_age, h.oid::bigint AS toast_oid,
       pg_relation_size(c.oid) AS main_bytes, pg_table_size(c.oid) AS bytes, pg_indexes_size(c.oid) AS index_bytes,
       EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisvalid AND (i.indisprimary OR i.indisreplident)) AS identity,
       EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisvalid AND i.indisunique AND i.indpred IS NULL
                  AND i.indexprs IS NULL AND (i.indisprimary OR NOT EXISTS (
                    SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum = ANY (i.indkey) AND NOT a.attnotnull))) AS keyed,
       EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND strpos(a.attname, E'\\') > 0) AS backslash,
       {{permission}} AS permitted
  FROM pg_class c
  JOIN pg_namespace o ON o.oid = c.relnamespace
  LEFT JOIN pg_class h ON h.oid = c.reltoastrelid AND h.oid <> 0
 CROSS JOIN ({{role}}) m
 WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND c.oid >= 16384 AND o.nspname NOT IN ('information_schema', 'repack')
   AND (%(everything)s OR c.relpages >= %(pages)s OR c.reltuples < 0)

-- name: table_columns
SELECT a.attrelid::bigint AS oid, a.attlen AS length, a.attalign::text AS align, s.avg_width AS width, s.null_frac::float8 AS nulls
  FROM pg_attribute a
  JOIN pg_class c ON c.oid = a.attrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_stats s ON s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = a.attname AND NOT s.inherited
 WHERE a.attrelid = ANY (%(oids)s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attrelid, a.attnum

-- name: heap_state
-- A table before and after a rewrite; its file tells whether it was rewritten.
SELECT c.oid::bigint AS oid, pg_relation_filenode(c.oid)::bigint AS filenode, pg_table_size(c.oid) AS bytes,
       pg_indexes_size(c.oid) AS index_bytes, c.relpersistence::text AS persistence, pg_has_role(c.relowner, 'USAGE') AS owned
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = %(schema)s AND c.relname = %(name)s

-- name: volumes
WITH data AS (SELECT setting AS folder FROM pg_settings WHERE name = 'data_directory')
SELECT '0' AS place, coalesce(nullif(pg_tablespace_location(d.dattablespace), ''), data.folder) AS folder
  FROM data, pg_database d WHERE d.datname = current_database()
UNION ALL
SELECT 'wal', folder || '/pg_wal' FROM data
UNION ALL
SELECT oid::text, pg_tablespace_location(oid) FROM pg_tablespace WHERE pg_tablespace_location(oid) <> ''

-- name: wal_kept
-- Why WAL stays after it was written: settings, and slots with what they keep and may still keep; as JSON.
SELECT json_build_object(
         'most', pg_size_bytes(current_setting('max_wal_size')), 'keep', pg_size_bytes(current_setting('wal_keep_size')),
         'slots', CASE WHEN NOT pg_is_in_recovery() THEN (
           SELECT json_agg(json_build_object(
                    'name', slot_name, 'active', active, 'safe', safe_wal_size,
                    'bytes', pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint))
             FROM pg_replication_slots WHERE restart_lsn IS NOT NULL) END)::text AS kept

-- name: repack_objects
-- What pg_repack has made for a table, or for any: its log, its copy, the type of the key, and the trigger.
SELECT r.number::bigint AS oid, r.kind, r.name, r.bytes, r.schema, r.table_name
  FROM (
    SELECT substring(c.relname FROM '^(?:log|table)_(\d+)$') AS number, 'table' AS kind, c.relname::text AS name,
           pg_table_size(c.oid) AS bytes, NULL::text AS schema, NULL::text AS table_name
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'repack'
     WHERE c.relkind = 'r' AND c.relname ~ '^(log|table)_\d+$'
    UNION ALL
    SELECT substring(t.typname FROM '^pk_(\d+)$'), 'type', t.typname::text, 0, NULL, NULL
      FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace AND n.nspname = 'repack'
     WHERE t.typname ~ '^pk_\d+$'
    UNION ALL
    SELECT g.tgrelid::text, 'trigger', g.tgname::text, 0, n.nspname::text, c.relname::text
      FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE g.tgname IN ('repack_trigger', 'z_repack_trigger')
  ) r
 WHERE r.number IS NOT NULL AND (%(oid)s::bigint IS NULL OR r.number::bigint = %(oid)s)
 ORDER BY CASE r.kind WHEN 'trigger' THEN 0 WHEN 'table' THEN 1 ELSE 2 END, r.name

-- name: repack_version
SELECT extversion AS version FROM pg_extension WHERE extname = 'pg_repack'

-- name: progress_rewrite
SELECT p.*, (SELECT count(*) FROM pg_index i WHERE i.indrelid = p.relid) AS indexes
  FROM pg_stat_progress_cluster p WHERE pid = %(pid)s

-- name: progress_rewrite_19
SELECT p.*, (SELECT count(*) FROM pg_index i WHERE i.indrelid = p.relid) AS indexes
  FROM pg_stat_progress_repack p WHERE pid = %(pid)s

-- name: at_work_under
-- What the sessions of a mark are doing.
SELECT a.pid, a.state, a.wait_event_type, left(a.query, 200) AS query, c.phase
  FROM pg_stat_activity a LEFT JOIN pg_stat_progress_create_index c USING (pid)
 WHERE a.application_name = %(tag)s AND a.pid <> pg_backend_pid() AND a.datname = current_database()
 ORDER BY a.state = 'active' DESC

-- name: named
-- A table or index by name, with or without its schema; of an index its table.
SELECT c.oid::bigint AS oid, n.nspname AS schema, c.relname AS name, c.relkind::text AS kind, x.relname AS index_name,
       x.oid::bigint AS index_oid, c.reltuples::float8 AS rows, c.reloptions AS options, h.oid::bigint AS toast_oid,
       CASE WHEN c.relkind <> 'p' THEN age(c.relfrozenxid) END AS age,
       pg_stat_get_dead_tuples(c.oid) AS dead, pg_stat_get_live_tuples(c.oid) AS live,
       pg_stat_get_mod_since_analyze(c.oid) AS modified, {{permission}} AS permitted,
       greatest(pg_stat_get_last_vacuum_time(c.oid), pg_stat_get_last_autovacuum_time(c.oid)) AS vacuumed_at,
       greatest(pg_stat_get_last_analyze_time(c.oid), pg_stat_get_last_autoanalyze_time(c.oid)) AS analyzed_at
  FROM pg_class o
  JOIN pg_namespace p ON p.oid = o.relnamespace
  LEFT JOIN pg_index i ON i.indexrelid = o.oid
  LEFT JOIN pg_class x ON x.oid = i.indexrelid
  JOIN pg_class c ON c.oid = coalesce(i.indrelid, o.oid)
  JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_class h ON h.oid = c.reltoastrelid AND h.oid <> 0
 CROSS JOIN ({{role}}) m
 WHERE o.relname = %(name)s AND (%(schema)s::text IS NULL OR p.nspname = %(schema)s)
   AND o.relkind IN ('r', 'm', 'p', 'i', 'I', 't')
 ORDER BY p.nspname = 'public' DESC, p.nspname NOT IN ('pg_catalog', 'information_schema') DESC, p.nspname
 LIMIT 1

-- name: locks_in_the_way
-- Who has, or waits for, a lock on a table that maintenance cannot have beside it; the longest first.
SELECT l.pid, coalesce(a.usename, p.owner)::text AS role, coalesce(a.application_name, p.gid) AS name, a.state, a.query, l.mode,
       l.granted, extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, p.prepared))::float8 AS seconds,
       a.backend_type = 'autovacuum worker' AS auto, a.query LIKE '%%(to prevent wraparound)%%' AS wraparound
  FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid)
  LEFT JOIN LATERAL (
    SELECT x.* FROM pg_locks o JOIN pg_prepared_xacts x ON x.transaction = o.transactionid
     WHERE l.pid IS NULL AND o.pid IS NULL AND o.locktype = 'transactionid' AND o.virtualtransaction = l.virtualtransaction
     LIMIT 1) p ON true
 WHERE l.locktype = 'relation' AND l.relation = %(oid)s AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND l.pid IS DISTINCT FROM pg_backend_pid()
   AND l.mode IN ('ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
 ORDER BY l.granted DESC, a.xact_start

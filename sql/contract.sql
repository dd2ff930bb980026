-- The SQL contract: what other programs may rely on, and who may read it. Part of the extension's script, after its functions.

-- It was needed for the name of the schema alone.
SET LOCAL allow_system_table_mods TO off;

-- Nothing that somebody left in schema public may be taken for a function or an operator of the server's.
SET LOCAL search_path TO pg_catalog, pg_temp;

-- Names that begin with "pg_" are reserved for the server's own roles, so this one has no such prefix.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'keeper_monitor') THEN
        CREATE ROLE keeper_monitor NOLOGIN;
        COMMENT ON ROLE keeper_monitor IS 'may read the state of pg_keeper and the log of failovers, and nothing else';
    END IF;
END
$$;

-- A table of an older pg_keeper has two columns. Its rows move to a table made here, so that nothing else of it (an owner, triggers,
-- rules, policies) lives on in one that the server's superuser writes to.
DO $$
DECLARE
    existing regclass := to_regclass('public.failover_log');
    kind "char";
    columns text[];
BEGIN
    IF existing IS NULL THEN
        RETURN;
    END IF;
    -- Locked before it is looked at, so that it is still the same when its rows are read.
    BEGIN
        LOCK TABLE public.failover_log IN ACCESS EXCLUSIVE MODE;
    EXCEPTION WHEN wrong_object_type THEN
        NULL; -- Not lockable, so it is not a table; told below.
    END;
    existing := to_regclass('public.failover_log');
    SELECT relkind INTO kind FROM pg_class WHERE oid = existing;
    SELECT array_agg(attname::text || ' ' || atttypid::regtype::text ORDER BY attnum) INTO columns
        FROM pg_attribute WHERE attrelid = existing AND attnum > 0 AND NOT attisdropped;
    IF kind <> 'r'
        OR EXISTS (SELECT FROM pg_inherits WHERE inhrelid = existing OR inhparent = existing)
        OR cardinality(columns) <> 2
        OR columns[1] NOT IN ('unixtime integer', 'unixtime bigint')
        OR columns[2] NOT IN ('host character varying', 'host text', 'host character')
    THEN
        RAISE EXCEPTION USING
            ERRCODE = 'wrong_object_type',
            MESSAGE = 'public.failover_log exists and is not a log that pg_keeper can take over',
            DETAIL = 'It must be a plain table with exactly the columns unixtime (integer or bigint) and host (a text type), in this order.',
            HINT = 'Rename it, for example: ALTER TABLE public.failover_log RENAME TO failover_log_old;';
    END IF;
    IF EXISTS (SELECT FROM public.failover_log WHERE unixtime IS NULL OR host IS NULL) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'not_null_violation',
            MESSAGE = 'public.failover_log has rows without unixtime or host',
            HINT = 'Delete them: DELETE FROM public.failover_log WHERE unixtime IS NULL OR host IS NULL;';
    END IF;
    ALTER TABLE public.failover_log RENAME TO failover_log_before_pg_keeper;
END
$$;

CREATE TABLE public.failover_log (
    unixtime bigint NOT NULL,
    host text NOT NULL,
    timeline integer,
    system_identifier bigint,
    reason text,
    last_answer timestamptz,
    detected timestamptz,
    promoted timestamptz,
    recorded timestamptz,
    switch_lsn pg_lsn,
    keepalives_missed integer,
    attempts_void integer,
    last_error text,
    after_command text,
    CONSTRAINT failover_log_once UNIQUE (system_identifier, timeline)
);

COMMENT ON TABLE public.failover_log IS
    'one row for each time that a server became the active one; the row with the highest unixtime names the active host. Written by pg_keeper alone.';
COMMENT ON COLUMN public.failover_log.unixtime IS
    'when the row was written, in seconds since 1970, and always above every older row''s, also where this host''s clock is behind';
COMMENT ON COLUMN public.failover_log.host IS 'pg_keeper.node_name of the server that became active';
COMMENT ON COLUMN public.failover_log.timeline IS 'the timeline that it writes; null in rows of an older pg_keeper';
COMMENT ON COLUMN public.failover_log.system_identifier IS 'the cluster, as pg_control_system() names it; null in rows of an older pg_keeper';
COMMENT ON COLUMN public.failover_log.reason IS
    'why: "initial" (the first primary), "partner lost", "manual" (promoted by hand), "switchover", or "unknown"';
COMMENT ON COLUMN public.failover_log.last_answer IS 'when the lost partner last answered';
COMMENT ON COLUMN public.failover_log.detected IS 'when the partner was found lost';
COMMENT ON COLUMN public.failover_log.promoted IS 'when recovery had ended';
COMMENT ON COLUMN public.failover_log.recorded IS 'when this row was written, by the host''s clock';
COMMENT ON COLUMN public.failover_log.switch_lsn IS 'where the timeline left the one before it';
COMMENT ON COLUMN public.failover_log.keepalives_missed IS 'keepalives in a row without an answer';
COMMENT ON COLUMN public.failover_log.attempts_void IS 'keepalives that were repeated because this server itself had stalled';
COMMENT ON COLUMN public.failover_log.last_error IS 'what went wrong with the last keepalive';
COMMENT ON COLUMN public.failover_log.after_command IS 'how pg_keeper.after_command ended; null if it was not set';

DO $$
DECLARE
    reader name;
BEGIN
    IF to_regclass('public.failover_log_before_pg_keeper') IS NULL THEN
        RETURN;
    END IF;
    INSERT INTO public.failover_log (unixtime, host)
        SELECT unixtime, host::text FROM ONLY public.failover_log_before_pg_keeper;
    -- Whoever was let read goes on reading.
    FOR reader IN
        SELECT DISTINCT r.rolname FROM pg_class c, aclexplode(c.relacl) a, pg_roles r
            WHERE c.oid = to_regclass('public.failover_log_before_pg_keeper')
              AND a.privilege_type = 'SELECT' AND r.oid = a.grantee AND a.grantee <> c.relowner
    LOOP
        EXECUTE format('GRANT SELECT ON public.failover_log TO %I', reader);
    END LOOP;
    DROP TABLE public.failover_log_before_pg_keeper;
EXCEPTION WHEN dependent_objects_still_exist THEN
    RAISE EXCEPTION USING
        ERRCODE = 'dependent_objects_still_exist',
        MESSAGE = 'public.failover_log cannot be taken over because a view or another object depends on it',
        HINT = 'Drop that object, create the extension, and create the object anew. DROP TABLE public.failover_log, without CASCADE, would name it.';
END
$$;

-- Its rows belong to the administrator: pg_dump keeps them.
SELECT pg_extension_config_dump('public.failover_log', '');

CREATE VIEW pg_keeper.status AS
    SELECT node_name, role, state, reason, partner, partner_state, keepalives_missed, last_answer_age, timeline, lsn::pg_lsn AS lsn,
           partner_timeline, partner_lsn::pg_lsn AS partner_lsn, lag_bytes, sync, armed, fence
    FROM pg_keeper.status();

COMMENT ON VIEW pg_keeper.status IS 'what this server''s keeper is doing, and why; works on a standby as well';
COMMENT ON COLUMN pg_keeper.status.node_name IS 'this server''s pg_keeper.node_name';
COMMENT ON COLUMN pg_keeper.status.role IS 'primary or standby';
COMMENT ON COLUMN pg_keeper.status.state IS 'what the keeper is doing';
COMMENT ON COLUMN pg_keeper.status.reason IS 'why, in a sentence; on a standby that would not promote itself, why not and what to do';
COMMENT ON COLUMN pg_keeper.status.partner IS 'the partner''s node name';
COMMENT ON COLUMN pg_keeper.status.partner_state IS 'what is known of the partner';
COMMENT ON COLUMN pg_keeper.status.keepalives_missed IS 'keepalives in a row without an answer';
COMMENT ON COLUMN pg_keeper.status.last_answer_age IS 'time since the partner last answered';
COMMENT ON COLUMN pg_keeper.status.timeline IS 'this server''s timeline';
COMMENT ON COLUMN pg_keeper.status.lsn IS 'the end of this server''s WAL';
COMMENT ON COLUMN pg_keeper.status.partner_timeline IS 'the partner''s timeline when it last answered';
COMMENT ON COLUMN pg_keeper.status.partner_lsn IS 'the end of the partner''s WAL when it last answered';
COMMENT ON COLUMN pg_keeper.status.lag_bytes IS 'on a standby, bytes of the primary''s last known WAL that were not received';
COMMENT ON COLUMN pg_keeper.status.sync IS 'the state of synchronous replication';
COMMENT ON COLUMN pg_keeper.status.armed IS 'whether this standby would promote itself if its partner were lost now';
COMMENT ON COLUMN pg_keeper.status.fence IS 'whether this primary is kept from taking writes, and why; "none" if it is not';
COMMENT ON FUNCTION pg_keeper.rejoin_plan(boolean) IS
    'the shell commands that make this fenced server a standby of the new primary, one line a row; with fresh_copy they copy everything, even where pg_rewind would do';
COMMENT ON FUNCTION pg_keeper.lift_fence() IS
    'opens a server that its return guard or its fence keeps from taking writes; for superusers who know that no other server is active';
COMMENT ON FUNCTION pg_keeper.check() IS 'what could spoil a failover, one row for each thing, and what to do about it; works on a standby as well';

-- The names of hosts and the errors of a partner are not for everybody.
REVOKE ALL ON public.failover_log, pg_keeper.status FROM PUBLIC;
REVOKE ALL ON FUNCTION pg_keeper.status(), pg_keeper.check(), pg_keeper.lift_fence(), pg_keeper.rejoin_plan(boolean) FROM PUBLIC;
GRANT USAGE ON SCHEMA pg_keeper TO keeper_monitor;
GRANT SELECT ON public.failover_log, pg_keeper.status TO keeper_monitor;
GRANT EXECUTE ON FUNCTION pg_keeper.status(), pg_keeper.check() TO keeper_monitor;

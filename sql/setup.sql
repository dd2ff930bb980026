-- What an administrator runs once, as superuser on the primary; the standby gets all of it by replication. It is safe to run again.
--
--     psql -f setup.sql
--     psql -v database=other -f setup.sql      (another database than pg_state: set pg_keeper.database to the same name on both servers)

\set ON_ERROR_STOP on
\set QUIET on
\if :{?database}
\else
    \set database pg_state
\endif

-- Neither a standby that is gone nor a read-only default holds this up.
SET synchronous_commit TO local;
SET default_transaction_read_only TO off;
SET client_min_messages TO warning;

DO $$
BEGIN
    IF pg_is_in_recovery() THEN
        RAISE EXCEPTION USING MESSAGE = 'this server is a standby', HINT = 'Run setup.sql on the primary; the standby gets all of it by replication.';
    END IF;
    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        RAISE EXCEPTION USING MESSAGE = 'setup.sql must be run by a superuser', HINT = 'For example: psql -U postgres -f setup.sql';
    END IF;
    IF current_setting('pg_keeper.database', true) IS NULL THEN
        RAISE EXCEPTION USING
            MESSAGE = 'the server has not loaded pg_keeper',
            HINT = 'Add pg_keeper to shared_preload_libraries in postgresql.conf on both servers, restart them, and run setup.sql again.';
    END IF;
END
$$;

SELECT format('CREATE DATABASE %I', :'database') WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'database')
\gexec

\connect :"database"
SET synchronous_commit TO local;
SET default_transaction_read_only TO off;
SET client_min_messages TO warning;

CREATE EXTENSION IF NOT EXISTS pg_keeper;
-- Of an older version, it is brought to the one that is installed.
ALTER EXTENSION pg_keeper UPDATE;

-- The extension makes keeper_monitor where it is created for the first time; this covers a cluster restored without its roles.
SELECT 'CREATE ROLE keeper_monitor NOLOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'keeper_monitor')
\gexec

-- As whom pg-keeper-watcher logs in, without a password until one is set. A limit that was changed since is left alone.
SELECT command FROM (VALUES
    (1, 'CREATE ROLE keeper_watch LOGIN CONNECTION LIMIT 20'),
    (2, 'COMMENT ON ROLE keeper_watch IS ' || quote_literal(
        'pg-keeper-watcher logs in as this role. Each application host keeps one connection and may open a second one for a moment: '
        'raise the limit with ALTER ROLE keeper_watch CONNECTION LIMIT, and keep it well below max_connections.'))
) AS commands (step, command)
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'keeper_watch')
ORDER BY step
\gexec

GRANT keeper_monitor TO keeper_watch;
GRANT CONNECT ON DATABASE :"database" TO keeper_monitor;
GRANT USAGE ON SCHEMA public, pg_keeper TO keeper_monitor;
GRANT SELECT ON public.failover_log, pg_keeper.status TO keeper_monitor;
GRANT EXECUTE ON FUNCTION pg_keeper.status(), pg_keeper.check() TO keeper_monitor;

SELECT current_setting('pg_keeper.database') <> :'database' AS other_database,
       (SELECT rolpassword IS NULL FROM pg_authid WHERE rolname = 'keeper_watch') AS no_password \gset

\echo 'Database' :"database" 'has the extension pg_keeper, and the roles keeper_monitor and keeper_watch are there.'
\echo
\echo 'What is left to do:'
\if :other_database
    \echo ' * Set pg_keeper.database on both servers, and reload:'
    \echo '       ALTER SYSTEM SET pg_keeper.database =' :'database' ';'
\endif
\if :no_password
    \echo ' * Give the watcher a password, in psql:'
    \echo '       \\password keeper_watch'
\endif
\echo ' * In pg_hba.conf on both servers, with the addresses of the application hosts and of the other server, and with the user of'
\echo '   pg_keeper.partner_conninfo (it needs LOGIN and REPLICATION):'
\echo '       host ' :"database" ' keeper_watch  APPLICATION-HOST/32  scram-sha-256'
\echo '       host  replication  USER  OTHER-SERVER/32  scram-sha-256'
\echo '   Then reload: SELECT pg_reload_conf();'
\echo ' * See what is still missing, on both servers: SELECT * FROM pg_keeper.check();'

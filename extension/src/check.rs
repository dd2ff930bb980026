//! `pg_keeper.check()`: gathers what `keeper_core::check` decides from. It only reads, so that it works on a standby as well.

use crate::guc::conninfo;
use crate::shared::Published;
use crate::{conf, gate, guc, observe, shared};
use keeper_core::check::{Commits, Facts, Files, Guard, Held, Own, Partner, Recorder, Server, findings};
use keeper_core::{GateKind, OnStandbyLoss, Parameters, PartnerState, Role};
use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;
use pgrx::spi::{Error, SpiClient};
use std::ffi::CStr;
use std::time::Duration;

/// The most faults of the configuration files that are told at once.
const FAULTS: i64 = 10;

#[pg_schema]
mod pg_keeper {
    use super::*;

    /// One row for each thing that could spoil a failover.
    #[pg_extern(strict, volatile, parallel_restricted, security_definer)]
    #[search_path(pg_catalog, pg_temp)]
    #[allow(clippy::type_complexity)]
    fn check() -> Result<
        TableIterator<
            'static,
            (name!(name, String), name!(status, String), name!(detail, String), name!(hint, Option<String>)),
        >,
        Error,
    > {
        let rows = findings(&facts()?).into_iter().map(|row| {
            let hint = (!row.hint.is_empty()).then_some(row.hint);
            (row.name.to_owned(), row.status.as_str().to_owned(), row.detail, hint)
        });
        Ok(TableIterator::new(rows))
    }
}

/// Everything that is known, as it is now.
fn facts() -> Result<Facts, Error> {
    guc::recheck();
    // SAFETY: reads shared memory that every backend is attached to.
    let role = if unsafe { pg_sys::RecoveryInProgress() } { Role::Standby } else { Role::Primary };
    let published = shared::published();
    Spi::connect(|client| {
        Ok(Facts {
            role,
            files: files(client)?,
            settings: own(),
            partner: partner(client, &published)?,
            server: server(client)?,
            commits: commits(client, role, &published)?,
            guard: guard(client, &published)?,
            recorder: recorder(client, role)?,
        })
    })
}

fn files(client: &SpiClient) -> Result<Files, Error> {
    let entries = match conf::read() {
        Ok(entries) => entries,
        Err(fault) => {
            return Ok(Files { faults: vec![fault.to_string()], ..Files::default() });
        }
    };
    let ours = |name: &str| name.get(..10).is_some_and(|prefix| prefix.eq_ignore_ascii_case("pg_keeper."));
    let unknown = entries.iter().filter(|entry| ours(&entry.name) && guc::allowed(&entry.name).is_none());
    let unknown = unknown.map(|entry| format!("{} ({}:{})", entry.name, entry.file, entry.line)).collect();
    // The server also lists what only waits for a restart; unknown names of ours have a list of their own.
    let refused = "select f.name, f.sourcefile || ':' || f.sourceline, f.error from pg_file_settings f \
                   left join pg_settings s on lower(s.name) = lower(f.name) \
                   where f.error is not null and s.pending_restart is not true \
                   and (s.context <> 'internal' or s.name is null and f.name not ilike 'pg\\_keeper.%') \
                   order by f.seqno limit $1";
    let fault = |row: pgrx::spi::SpiHeapTupleData| {
        let text = |column| Ok::<_, Error>(row.get::<String>(column)?.unwrap_or_default());
        let (name, place, error) = (text(1)?, text(2)?, text(3)?);
        Ok(match guc::allowed(&name) {
            Some(allowed) => format!("{name} ({place}) must be {allowed}"),
            None => format!("{name} ({place}): {error}"),
        })
    };
    Ok(Files {
        faults: client.select(refused, None, &[FAULTS.into()])?.map(fault).collect::<Result<_, Error>>()?,
        unknown,
        pending_restart: texts(client, "select name from pg_settings where pending_restart order by 1")?,
    })
}

fn own() -> Own {
    let (keepalive_time, keepalive_count) = guc::keepalives();
    Own {
        problems: guc::problems(),
        old_spellings: guc::old_spellings(),
        partner_set: guc::partner_conninfo().is_some(),
        enabled: guc::enabled(),
        keepalive_time,
        keepalive_count,
    }
}

fn partner(client: &SpiClient, published: &Published) -> Result<Partner, Error> {
    let is_running = "select exists (select from pg_stat_activity where pid = $1)";
    let options = guc::partner_conninfo().and_then(|text| conninfo::parse(&text)).unwrap_or_default();
    let option = |keyword: &str| value_of(&options, keyword).unwrap_or_default().to_owned();
    let host = if option("hostaddr").is_empty() { option("host") } else { option("hostaddr") };
    Ok(Partner {
        keeper_running: !published.is_stale()
            && client.select(is_running, Some(1), &[published.keeper_pid.into()])?.first().get_one()? == Some(true),
        state: PartnerState::parse(published.partner_state.as_str()).unwrap_or(PartnerState::Unknown),
        armed: published.armed && !published.is_stale(),
        reason: published.reason.as_str().to_owned(),
        last_error: published.last_error.as_str().to_owned(),
        refused_with: published.refused_with.as_str().to_owned(),
        report: published.partner(),
        user: Some(option("user")).filter(|user| !user.is_empty()).unwrap_or_else(default_user),
        address: if host.starts_with(['/', '@']) { String::new() } else { host },
        is_primary_of_ours: is_primary_of_ours(&options),
    })
}

fn server(client: &SpiClient) -> Result<Server, Error> {
    let query = "select current_setting('max_connections')::int, current_setting('max_worker_processes')::int, \
                        current_setting('max_wal_senders')::int, current_setting('max_prepared_transactions')::int, \
                        current_setting('max_locks_per_transaction')::int, \
                        (select count(*)::int from pg_stat_activity where backend_type = 'walsender'), \
                        (select setting::int from pg_settings where name = 'wal_keep_size'), \
                        current_setting('wal_level'), current_setting('synchronous_standby_names'), \
                        current_setting('hot_standby')::bool, \
                        current_setting('max_logical_replication_workers')::int > 0, \
                        current_setting('wal_log_hints')::bool, current_setting('data_checksums')::bool, \
                        exists (select from pg_replication_slots where slot_type = 'physical') \
                          or pg_is_in_recovery() and current_setting('primary_slot_name') <> ''";
    let row = client.select(query, Some(1), &[])?.first();
    let number = |column| Ok::<_, Error>(u32::try_from(row.get::<i32>(column)?.unwrap_or(0)).unwrap_or(0));
    let text = |column| Ok::<_, Error>(row.get::<String>(column)?.unwrap_or_default());
    let switch = |column| Ok::<_, Error>(row.get::<bool>(column)?.unwrap_or(false));
    Ok(Server {
        parameters: Parameters {
            max_connections: number(1)?,
            max_worker_processes: number(2)?,
            max_wal_senders: number(3)?,
            max_prepared_transactions: number(4)?,
            max_locks_per_transaction: number(5)?,
        },
        wal_senders: number(6)?,
        wal_keep_megabytes: number(7)?,
        wal_level: text(8)?,
        synchronous_standby_names: text(9)?,
        hot_standby: switch(10)?,
        logical_launcher: switch(11)?,
        wal_log_hints: switch(12)?,
        data_checksums: switch(13)?,
        has_slot: switch(14)?,
    })
}

fn commits(client: &SpiClient, role: Role, published: &Published) -> Result<Commits, Error> {
    let query = "select current_setting('pg_keeper.synchronous_standby_names'), current_setting('pg_keeper.on_standby_loss'), \
                        coalesce(current_setting('allow_alter_system', true)::bool, true), s.source, s.sourcefile, s.sourceline \
                 from pg_settings s where s.name = 'synchronous_standby_names'";
    let row = client.select(query, Some(1), &[])?.first();
    let text = |column| Ok::<_, Error>(row.get::<String>(column)?.unwrap_or_default());
    let file = row.get::<String>(5)?.filter(|file| !file.ends_with("postgresql.auto.conf"));
    let held = match (text(4)?.as_str(), file) {
        ("command line", _) => Held::CommandLine,
        (_, Some(file)) => Held::File(format!("{file}:{}", row.get::<i32>(6)?.unwrap_or_default())),
        (_, None) => Held::Otherwise,
    };
    let streaming = "select application_name from pg_stat_replication where state in ('catchup', 'streaming') \
                     and application_name <> 'pg_basebackup' order by 1";
    let stale = "not known: the keeper is not running, or hangs";
    Ok(Commits {
        wished: text(1)?,
        on_standby_loss: OnStandbyLoss::parse(&text(2)?).unwrap_or(OnStandbyLoss::Async),
        before_command_limit: guc::before_command().map_or(Duration::ZERO, |_| guc::command_timeout()),
        status: if published.is_stale() { stale } else { published.synchronous.as_str() }.to_owned(),
        held,
        alter_system_allowed: row.get::<bool>(3)?.unwrap_or(true),
        standbys: match role {
            Role::Primary => texts(client, streaming)?,
            Role::Standby => name_as_standby(client)?.into_iter().collect(),
        },
    })
}

fn guard(client: &SpiClient, published: &Published) -> Result<Guard, Error> {
    let waits = "select current_setting('pg_keeper.on_unknown_partner') = 'wait'";
    let gate = gate::gate().kind();
    Ok(Guard {
        gate,
        fence: match (published.fence.as_str(), gate) {
            ("", GateKind::Open) => "none",
            ("", GateKind::Closed | GateKind::Fenced) => "the keeper has not said anything yet",
            (fence, _) => fence,
        }
        .to_owned(),
        waits_for_administrator: client.select(waits, Some(1), &[])?.first().get_one()? == Some(true),
    })
}

fn recorder(client: &SpiClient, role: Role) -> Result<Recorder, Error> {
    let database = guc::database().to_string_lossy().into_owned();
    let query = "select exists (select from pg_database where datname = $1), \
                        case when current_database() = $1 then exists ( \
                          select from pg_depend d join pg_extension e on e.oid = d.refobjid and d.refclassid = 'pg_extension'::regclass \
                          where d.objid = to_regclass('public.failover_log') and d.deptype = 'e' and e.extname = 'pg_keeper') end";
    let row = client.select(query, Some(1), &[database.clone().into()])?.first();
    let timeline = match role {
        Role::Primary => observe::primary_timeline().0,
        Role::Standby => 0,
    };
    let (database_exists, has_table) = (row.get::<bool>(1)?.unwrap_or(false), row.get::<bool>(2)?);
    let query = "select exists (select from public.failover_log \
                     where timeline = $1 and system_identifier = (select system_identifier from pg_control_system()))";
    let recorded = match has_table {
        Some(true) => client.select(query, Some(1), &[timeline.cast_signed().into()])?.first().get_one()?,
        // From another database the table cannot be seen; the recorder's word holds until shared memory is made anew.
        Some(false) | None => (shared::recorded() == timeline).then_some(true),
    };
    let query = "select extversion from pg_extension where extname = 'pg_keeper' and current_database() = $1";
    let objects = texts_of(client, query, &[database.clone().into()])?.pop();
    Ok(Recorder { database_exists, has_table, timeline, recorded, database, objects })
}

/// The first column of every row.
fn texts(client: &SpiClient, query: &str) -> Result<Vec<String>, Error> {
    texts_of(client, query, &[])
}

fn texts_of(client: &SpiClient, query: &str, arguments: &[DatumWithOid]) -> Result<Vec<String>, Error> {
    client.select(query, None, arguments)?.map(|row| Ok(row.get::<String>(1)?.unwrap_or_default())).collect()
}

pub(crate) fn value_of<'a>(options: &'a [(String, String)], keyword: &str) -> Option<&'a str> {
    options.iter().find(|(name, _)| name == keyword).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
}

/// By which name this standby asks its primary for WAL; `None` when a service file may tell it.
fn name_as_standby(client: &SpiClient) -> Result<Option<String>, Error> {
    let Some(options) = primary_conninfo() else { return Ok(None) };
    if options.is_empty() || value_of(&options, "service").is_some() {
        return Ok(None);
    }
    if let Some(name) = value_of(&options, "application_name") {
        return Ok(Some(name.to_owned()));
    }
    let fallback = "select coalesce(nullif(current_setting('cluster_name'), ''), 'walreceiver')";
    client.select(fallback, Some(1), &[])?.first().get_one()
}

fn primary_conninfo() -> Option<Vec<(String, String)>> {
    // SAFETY: a setting's string or null, copied by the parser before anything can change it.
    unsafe {
        if pg_sys::PrimaryConnInfo.is_null() { None } else { conninfo::parse(CStr::from_ptr(pg_sys::PrimaryConnInfo)) }
    }
}

/// Whether `primary_conninfo` leads where `partner` does, as far as host and port tell.
fn is_primary_of_ours(partner: &[(String, String)]) -> Option<bool> {
    let primary = primary_conninfo()?;
    let is_unclear = |options: &[(String, String)]| options.is_empty() || value_of(options, "service").is_some();
    if is_unclear(&primary) || is_unclear(partner) {
        return None;
    }
    let port = |options| value_of(options, "port").unwrap_or("5432").to_owned();
    let names =
        |options| [value_of(options, "host"), value_of(options, "hostaddr")].map(|name| name.map(str::to_lowercase));
    let (ours, theirs) = (names(&primary), names(partner));
    let is_same_host =
        ours == theirs || ours.iter().flatten().any(|name| theirs.iter().flatten().any(|other| other == name));
    Some(is_same_host && port(&primary) == port(partner))
}

/// As whom libpq connects when the connection string names no user.
pub(crate) fn default_user() -> String {
    let account = || nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten().map(|user| user.name);
    std::env::var("PGUSER").ok().or_else(account).unwrap_or_default()
}

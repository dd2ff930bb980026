//! What could spoil a failover, decided from facts that the shell has gathered.
//!
//! Each row of `pg_keeper.check()` is one function here and in the files below. A row that is not ok says what to type.

mod access;
mod files;
mod guard;
mod server;
mod synchronous;
mod version;

use crate::event::Parameters;
use crate::gate::GateKind;
use crate::report::{Report, Role};
use crate::settings::OnStandbyLoss;
use crate::status::PartnerState;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

/// What to do about a row whose answer only the partner can give.
const SEE_PARTNER: &str = "See the row \"partner\".";

/// How grave a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Severity {
    /// As it should be.
    Ok,
    /// A failover works, and something about it is worse than it could be; or it is not known yet.
    Warning,
    /// A failover does not work, or service does not come back with it.
    Error,
}

impl Severity {
    /// The severity as the function shows it.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Ok => "ok",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

/// One thing that could spoil a failover, and how it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub name: &'static str,
    /// How it stands.
    pub status: Severity,
    /// What was found.
    pub detail: String,
    /// What to do; empty when there is nothing to do.
    pub hint: String,
}

impl Finding {
    fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Finding { name, status: Severity::Ok, detail: detail.into(), hint: String::new() }
    }

    fn warning(name: &'static str, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Finding { name, status: Severity::Warning, detail: detail.into(), hint: hint.into() }
    }

    fn error(name: &'static str, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Finding { name, status: Severity::Error, detail: detail.into(), hint: hint.into() }
    }
}

/// Everything that the rows are decided from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// What this server is.
    pub role: Role,
    /// Its configuration files.
    pub files: Files,
    /// pg_keeper's own settings.
    pub settings: Own,
    /// What the keeper knows of the partner.
    pub partner: Partner,
    /// PostgreSQL's settings and state.
    pub server: Server,
    /// Whom commits wait for.
    pub commits: Commits,
    /// Whether this server takes writes.
    pub guard: Guard,
    /// Where failovers are recorded.
    pub recorder: Recorder,
}

/// The configuration files, read anew.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Files {
    /// Why the files, or lines of them, are not taken, each with its place. No value is repeated.
    pub faults: Vec<String>,
    /// Names that begin with `pg_keeper.` and are no setting, each with its place.
    pub unknown: Vec<String>,
    /// Settings whose new value waits for a restart.
    pub pending_restart: Vec<String>,
}

/// pg_keeper's own settings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Own {
    /// Values that were bad at the start, each a sentence that says what is allowed.
    pub problems: Vec<String>,
    /// Old spellings in use, each with the right one.
    pub old_spellings: Vec<(&'static str, &'static str)>,
    /// `pg_keeper.partner_conninfo` is set.
    pub partner_set: bool,
    /// `pg_keeper.enabled`
    pub enabled: bool,
    /// `pg_keeper.keepalive_time`
    pub keepalive_time: Duration,
    /// `pg_keeper.keepalive_count`
    pub keepalive_count: u32,
}

/// What the keeper knows of the partner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partner {
    /// A keeper process is there.
    pub keeper_running: bool,
    /// The partner's state.
    pub state: PartnerState,
    /// Standby: it would promote itself if the partner were lost now.
    pub armed: bool,
    /// Why the keeper is in its state, in a sentence.
    pub reason: String,
    /// What went wrong with the last keepalive that was not answered; empty for nothing.
    pub last_error: String,
    /// The SQLSTATE with which the partner refuses to tell; empty if it does not.
    pub refused_with: String,
    /// What the partner last told of itself.
    pub report: Option<Report>,
    /// The user as whom we ask the partner.
    pub user: String,
    /// The partner's host as `partner_conninfo` names it: an address, a name, or empty for a socket on this machine.
    pub address: String,
    /// Standby: whether `primary_conninfo` leads to the same host and port as `partner_conninfo`; `None` when it is empty or not a
    /// connection string.
    pub is_primary_of_ours: Option<bool>,
}

/// PostgreSQL's settings and state.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Server {
    /// Settings that a standby must not undercut.
    pub parameters: Parameters,
    /// `wal_level`
    pub wal_level: String,
    /// `hot_standby`
    pub hot_standby: bool,
    /// WAL senders at work.
    pub wal_senders: u32,
    /// `max_logical_replication_workers` is not zero: its launcher takes a worker's slot.
    pub logical_launcher: bool,
    /// `synchronous_standby_names`
    pub synchronous_standby_names: String,
    /// `wal_log_hints`
    pub wal_log_hints: bool,
    /// The cluster has data checksums.
    pub data_checksums: bool,
    /// `wal_keep_size`, in megabytes.
    pub wal_keep_megabytes: u32,
    /// Physical replication slots, or on a standby a slot named in `primary_slot_name`.
    pub has_slot: bool,
}

/// Whom commits wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commits {
    /// `pg_keeper.synchronous_standby_names`; empty where synchronous replication is not pg_keeper's to manage.
    pub wished: String,
    /// `pg_keeper.on_standby_loss`
    pub on_standby_loss: OnStandbyLoss,
    /// `pg_keeper.command_timeout` while there is a `pg_keeper.before_command`, else zero.
    pub before_command_limit: Duration,
    /// How synchronous replication stands, in the words of status.
    pub status: String,
    /// Where PostgreSQL's own `synchronous_standby_names` comes from.
    pub held: Held,
    /// `allow_alter_system`, which is on where there is no such setting.
    pub alter_system_allowed: bool,
    /// The `application_name` of each standby that streams from this primary, or the one of this standby; empty when there is none or when
    /// it is not known.
    pub standbys: Vec<String>,
}

/// Where the value of a setting comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// The server's command line, which no file overrides.
    CommandLine,
    /// A file that an administrator writes, with its place; ALTER SYSTEM overrides it.
    File(String),
    /// ALTER SYSTEM or nothing.
    Otherwise,
}

/// Whether this server takes writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// What stands between a client and its commit.
    pub gate: GateKind,
    /// Why, in the words of status.
    pub fence: String,
    /// `pg_keeper.on_unknown_partner` is `wait`.
    pub waits_for_administrator: bool,
}

/// Where failovers are recorded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recorder {
    /// `pg_keeper.database`
    pub database: String,
    /// There is such a database.
    pub database_exists: bool,
    /// In that database, when the check runs in it: whether `public.failover_log` is there and belongs to the extension.
    pub has_table: Option<bool>,
    /// The timeline of this server.
    pub timeline: u32,
    /// Its row is there.
    pub recorded: Option<bool>,
    /// In that database, when the check runs in it: the version of the extension's objects.
    pub objects: Option<String>,
}

/// All rows, in the order in which one would mend things.
pub fn findings(facts: &Facts) -> Vec<Finding> {
    let server_rows: [fn(&Facts) -> Finding; 13] = [
        server::hot_standby_parameters,
        server::wal_level,
        server::max_wal_senders,
        server::max_worker_processes,
        server::hot_standby,
        server::synchronous_standby_names,
        synchronous::replication,
        synchronous::wait_for_silent_standby,
        server::primary_conninfo,
        server::keepalive_settings,
        server::recorder,
        server::pg_rewind,
        server::wal_keep_size,
    ];
    let first_rows: [fn(&Facts) -> Finding; 9] = [
        files::configuration_files,
        files::settings,
        version::versions,
        guard::fence,
        guard::return_guard,
        access::partner,
        access::hba_here,
        access::hba_there,
        access::replication_privilege,
    ];
    first_rows.iter().chain(&server_rows).map(|row| row(facts)).collect()
}

#[cfg(test)]
mod tests;

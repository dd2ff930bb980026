use super::*;
use crate::gate::GateKind;
use crate::report::{Sight, Synchronous};
use alloc::string::ToString;
use alloc::vec;

fn report(role: Role) -> Report {
    Report {
        role,
        instance: 7,
        node_name: "db02".into(),
        enabled: true,
        keepalive_time: Duration::from_secs(5),
        keepalive_count: 4,
        parameters: parameters(),
        streaming: true,
        sight: Sight { state: PartnerState::Alive, sqlstate: String::new() },
        gate: GateKind::Open,
        before_command_limit: Duration::ZERO,
        synchronous: Synchronous::Unmanaged,
        promise: Duration::ZERO,
        keeper_age: Duration::ZERO,
        permit: Duration::ZERO,
        on_standby_loss: None,
    }
}

fn parameters() -> Parameters {
    Parameters {
        max_connections: 100,
        max_worker_processes: 8,
        max_wal_senders: 10,
        max_prepared_transactions: 0,
        max_locks_per_transaction: 64,
    }
}

/// A server at which there is nothing to find fault with.
fn sound(role: Role) -> Facts {
    let other = if role == Role::Primary { Role::Standby } else { Role::Primary };
    Facts {
        role,
        files: Files::default(),
        settings: Own {
            partner_set: true,
            enabled: true,
            keepalive_time: Duration::from_secs(5),
            keepalive_count: 4,
            ..Own::default()
        },
        partner: Partner {
            keeper_running: true,
            state: PartnerState::Alive,
            armed: role == Role::Standby,
            reason: String::new(),
            last_error: String::new(),
            refused_with: String::new(),
            report: Some(report(other)),
            user: "keeper".into(),
            address: "10.0.0.12".into(),
            is_primary_of_ours: Some(true),
        },
        server: Server {
            parameters: parameters(),
            wal_level: "replica".into(),
            hot_standby: true,
            wal_senders: 2,
            logical_launcher: true,
            wal_log_hints: true,
            wal_keep_megabytes: 1024,
            ..Server::default()
        },
        recorder: Recorder {
            database: "pg_state".into(),
            database_exists: true,
            has_table: Some(true),
            timeline: 1,
            recorded: Some(true),
        },
    }
}

/// The rows that are not ok.
fn complaints(facts: &Facts) -> Vec<Finding> {
    findings(facts).into_iter().filter(|finding| finding.status != Severity::Ok).collect()
}

/// The names and severities of the rows that are not ok, once something was changed.
fn after(role: Role, change: impl FnOnce(&mut Facts)) -> Vec<(&'static str, Severity)> {
    let mut facts = sound(role);
    change(&mut facts);
    complaints(&facts).iter().map(|finding| (finding.name, finding.status)).collect()
}

#[test]
fn a_sound_pair_has_no_complaint() {
    for role in [Role::Primary, Role::Standby] {
        assert_eq!(complaints(&sound(role)), vec![]);
        assert_eq!(findings(&sound(role)).len(), 17);
    }
}

#[test]
fn each_fault_shows_in_its_row() {
    use Role::{Primary, Standby};
    use Severity::{Error, Warning};
    let files = |facts: &mut Facts| facts.files.unknown.push("pg_keeper.keepalve_time (postgresql.conf:3)".into());
    assert_eq!(after(Primary, files), [("configuration files", Error)]);
    assert_eq!(after(Primary, |f| f.files.pending_restart.push("port".into())), [("configuration files", Warning)]);
    assert_eq!(after(Standby, |f| f.settings.enabled = false), [("settings", Warning)]);
    assert_eq!(
        after(Standby, |f| f.settings.problems.push("x must be y".into())),
        [("settings", Error), ("partner", Error)]
    );
    assert_eq!(after(Standby, |f| f.partner.armed = false), [("partner", Warning)]);
    assert_eq!(after(Primary, |f| f.partner.report = Some(report(Primary))), [("partner", Error)]);
    assert_eq!(
        after(Primary, |f| f.partner.keeper_running = false),
        [("partner", Error), ("max_worker_processes", Error)]
    );
    assert_eq!(after(Standby, |f| f.server.parameters.max_connections = 50), [("hot standby parameters", Error)]);
    assert_eq!(after(Primary, |f| f.server.parameters.max_connections = 200), [("hot standby parameters", Error)]);
    assert_eq!(after(Primary, |f| f.server.wal_level = "minimal".into()), [("wal_level", Error)]);
    assert_eq!(after(Primary, |f| f.server.wal_senders = 10), [("max_wal_senders", Warning)]);
    assert_eq!(after(Primary, |f| f.server.hot_standby = false), [("hot_standby", Error)]);
    assert_eq!(
        after(Standby, |f| f.server.synchronous_standby_names = "*".into()),
        [("synchronous_standby_names", Error)]
    );
    assert_eq!(after(Primary, |f| f.server.synchronous_standby_names = "*".into()), []);
    assert_eq!(after(Standby, |f| f.partner.is_primary_of_ours = Some(false)), [("primary_conninfo", Warning)]);
    assert_eq!(after(Primary, |f| f.settings.keepalive_count = 3), [("keepalive settings", Warning)]);
    assert_eq!(after(Primary, |f| f.recorder.recorded = Some(false)), [("recorder", Error)]);
    assert_eq!(after(Standby, |f| f.recorder.recorded = Some(false)), []);
    assert_eq!(after(Standby, |f| f.recorder.database_exists = false), [("recorder", Error)]);
    assert_eq!(after(Primary, |f| f.server.wal_log_hints = false), [("pg_rewind", Warning)]);
    assert_eq!(after(Primary, |f| f.server.wal_keep_megabytes = 0), [("wal_keep_size", Warning)]);
}

#[test]
fn every_complaint_says_what_to_do() {
    let mut facts = sound(Role::Standby);
    facts.partner.report = None;
    facts.partner.state = PartnerState::Unknown;
    facts.server = Server::default();
    facts.recorder = Recorder::default();
    let found = complaints(&facts);
    assert!(found.len() > 8);
    assert!(found.iter().all(|finding| !finding.detail.is_empty() && !finding.hint.is_empty()));
}

fn refused(sqlstate: &str, error: &str) -> Finding {
    let mut facts = sound(Role::Standby);
    facts.partner.state = PartnerState::Unhelpful;
    facts.partner.report = None;
    facts.partner.refused_with = sqlstate.to_string();
    facts.partner.last_error = error.to_string();
    complaints(&facts).into_iter().find(|finding| finding.name == "pg_hba.conf on the partner").unwrap()
}

#[test]
fn a_refusal_names_the_line_that_is_missing() {
    let error = "no pg_hba.conf entry for replication connection from host \"10.0.0.11\", user \"repl\", no encryption";
    let line = "host replication repl 10.0.0.11/32 scram-sha-256";
    assert!(refused("28000", error).hint.contains(line));
    let error = "no pg_hba.conf entry for replication connection from host \"fd00::1\", user \"Repl\", no encryption";
    assert!(refused("28000", error).hint.contains("host replication \"Repl\" fd00::1/128 scram-sha-256"));
    let error = "no pg_hba.conf entry for replication connection from host \"[local]\", user \"repl\", no encryption";
    assert!(refused("28000", error).hint.contains("local replication repl scram-sha-256"));
    assert!(refused("28000", "role \"keeper\" does not exist").hint.contains("CREATE ROLE keeper LOGIN REPLICATION;"));
    assert!(refused("28P01", "password authentication failed").hint.contains("10.0.0.12:*:*:keeper:PASSWORD"));
    assert!(refused("", "fe_sendauth: no password supplied").hint.contains("passfile"));
}

#[test]
fn what_the_partner_cannot_do_here_is_told_here() {
    let refuse = |sqlstate: &str| {
        let mut facts = sound(Role::Primary);
        if let Some(report) = &mut facts.partner.report {
            report.sight = Sight { state: PartnerState::Unhelpful, sqlstate: sqlstate.into() };
        }
        complaints(&facts)
    };
    let found = refuse("28000");
    assert_eq!(found[0].name, "pg_hba.conf here");
    assert!(found[0].hint.contains("host replication keeper 10.0.0.12/32 scram-sha-256"));
    assert_eq!(refuse("42501")[0].name, "replication privilege");
}

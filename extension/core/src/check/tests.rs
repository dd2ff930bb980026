use super::*;
use crate::gate::GateKind;
use crate::report::{Sight, Synchronous};
use alloc::format;
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
        version: crate::Version::OURS,
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
pub(super) fn sound(role: Role) -> Facts {
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
        commits: Commits {
            wished: String::new(),
            on_standby_loss: OnStandbyLoss::Async,
            before_command_limit: Duration::ZERO,
            status: "not managed".into(),
            held: Held::Otherwise,
            alter_system_allowed: true,
            standbys: vec!["db02".into()],
        },
        guard: Guard { gate: GateKind::Open, fence: "none".into(), waits_for_administrator: false },
        recorder: Recorder {
            database: "pg_state".into(),
            database_exists: true,
            has_table: Some(true),
            timeline: 1,
            recorded: Some(true),
            objects: Some(crate::Version::OURS.to_string()),
        },
    }
}

/// The rows that are not ok.
pub(super) fn complaints(facts: &Facts) -> Vec<Finding> {
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
        assert_eq!(findings(&sound(role)).len(), 22);
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
    // A slot alone is not enough for pg_rewind.
    assert_eq!(
        after(Primary, |f| (f.server.wal_keep_megabytes, f.server.has_slot) = (0, true)),
        [("wal_keep_size", Warning)]
    );
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

/// A pair whose standby counts.
fn synchronous(role: Role) -> Facts {
    let mut facts = sound(role);
    facts.commits.wished = "db01, db02".into();
    facts.commits.status = "synchronous".into();
    if role == Role::Primary {
        facts.server.synchronous_standby_names = "db01, db02".into();
    }
    if let Some(report) = &mut facts.partner.report {
        report.on_standby_loss = Some(OnStandbyLoss::Async);
    }
    facts
}

fn row(name: &str, facts: &Facts) -> Finding {
    findings(facts).into_iter().find(|finding| finding.name == name).unwrap()
}

/// What the row says of a synchronous pair, once something was changed.
fn of_synchronous(role: Role, change: impl FnOnce(&mut Facts)) -> Finding {
    let mut facts = synchronous(role);
    change(&mut facts);
    row("synchronous replication", &facts)
}

const SYNC: &str = "synchronous replication";

#[test]
fn a_synchronous_pair_has_no_complaint() {
    for role in [Role::Primary, Role::Standby] {
        assert_eq!(complaints(&synchronous(role)), vec![]);
        assert_eq!(row(SYNC, &synchronous(role)), Finding::ok(SYNC, "synchronous"));
    }
    let unmanaged = row(SYNC, &sound(Role::Primary));
    assert_eq!(unmanaged, Finding::ok(SYNC, "not managed: pg_keeper.synchronous_standby_names is empty"));
}

#[test]
fn what_keeps_the_names_from_being_set_is_named() {
    use Role::{Primary, Standby};
    for role in [Primary, Standby] {
        assert_eq!(
            of_synchronous(role, |f| f.commits.alter_system_allowed = false),
            Finding::error(
                SYNC,
                "pg_keeper cannot set synchronous_standby_names: allow_alter_system is off",
                "Set allow_alter_system = on in postgresql.conf, then: SELECT pg_reload_conf();"
            )
        );
        assert_eq!(
            of_synchronous(role, |f| {
                f.commits.held = Held::CommandLine;
                f.server.synchronous_standby_names = "db09".into();
            }),
            Finding::error(
                SYNC,
                "pg_keeper cannot set synchronous_standby_names: the server's command line holds it at \"db09\"",
                "Take synchronous_standby_names from the command line (pg_ctl -o, or the options of the service or the container), then \
                 restart the server."
            )
        );
    }
    let in_a_file = |f: &mut Facts| {
        f.commits.held = Held::File("/etc/postgresql.conf:12".into());
        f.server.synchronous_standby_names = "db09".into();
    };
    assert_eq!(
        of_synchronous(Primary, in_a_file),
        Finding::error(
            SYNC,
            "synchronous_standby_names is \"db09\" (/etc/postgresql.conf:12), and pg_keeper is to hold it at \"db01, db02\"",
            "Remove that line, then: SELECT pg_reload_conf(); pg_keeper sets it by itself."
        )
    );
    assert_eq!(of_synchronous(Standby, in_a_file).status, Severity::Ok);
    let status = "catching up: the standby may lack what comes after 0/1000 (synchronous_standby_names does not hold what it should: it was \
                  set, and has no effect)";
    assert_eq!(
        of_synchronous(Primary, |f| f.commits.status = status.into()),
        Finding::error(
            SYNC,
            status,
            "Mend what the row \"configuration files\" names, or what the reason says, then: SELECT pg_reload_conf();"
        )
    );
}

#[test]
fn a_standby_that_is_not_named_is_told() {
    use Role::{Primary, Standby};
    let other = |f: &mut Facts| f.commits.standbys = vec!["walreceiver".into()];
    assert_eq!(
        of_synchronous(Primary, other),
        Finding::error(
            SYNC,
            "no standby that streams from here is among the names \"db01, db02\": walreceiver",
            "Put application_name=db01 into primary_conninfo on the standby, or on both servers: ALTER SYSTEM SET \
             pg_keeper.synchronous_standby_names = '*'; each time with SELECT pg_reload_conf();"
        )
    );
    assert_eq!(
        of_synchronous(Standby, other).detail,
        "this standby is not among the names \"db01, db02\": walreceiver"
    );
    assert!(
        of_synchronous(Standby, other).hint.starts_with("Put application_name=db01 into primary_conninfo here, or")
    );
    assert_eq!(of_synchronous(Primary, |f| f.commits.standbys = vec!["DB02".into()]).status, Severity::Ok);
    assert_eq!(of_synchronous(Primary, |f| f.commits.standbys.clear()).status, Severity::Ok);
    let everybody = |f: &mut Facts| {
        other(f);
        f.commits.wished = "*".into();
    };
    assert_eq!(of_synchronous(Primary, everybody).status, Severity::Ok);
    let two = |f: &mut Facts| f.commits.wished = "ANY 2 (db01, db02)".into();
    assert_eq!(
        of_synchronous(Primary, two),
        Finding::error(
            SYNC,
            "\"ANY 2 (db01, db02)\" asks for 2 standbys, and 1 that it names stream from here: commits wait for more",
            "A pair has one standby. On both servers: ALTER SYSTEM SET pg_keeper.synchronous_standby_names = '*'; SELECT pg_reload_conf();"
        )
    );
}

#[test]
fn a_partner_that_is_set_up_otherwise_is_told() {
    use Role::{Primary, Standby};
    let partner_says = |policy| {
        move |f: &mut Facts| {
            if let Some(report) = &mut f.partner.report {
                report.on_standby_loss = policy;
            }
        }
    };
    for role in [Primary, Standby] {
        assert_eq!(
            of_synchronous(role, partner_says(None)),
            Finding::warning(
                SYNC,
                "pg_keeper.synchronous_standby_names is set here and not on the partner, which would be asynchronous as primary",
                "On the partner: ALTER SYSTEM SET pg_keeper.synchronous_standby_names = 'db01, db02'; ALTER SYSTEM SET \
                 pg_keeper.on_standby_loss = 'async'; SELECT pg_reload_conf();"
            )
        );
        assert_eq!(
            of_synchronous(role, partner_says(Some(OnStandbyLoss::Wait))),
            Finding::warning(
                SYNC,
                "pg_keeper.on_standby_loss is async here and wait on the partner",
                "Set it alike, on the partner with: ALTER SYSTEM SET pg_keeper.on_standby_loss = 'async'; SELECT pg_reload_conf();"
            )
        );
        assert_eq!(
            of_synchronous(role, |f| f.commits.wished.clear()),
            Finding::warning(
                SYNC,
                "pg_keeper.synchronous_standby_names is set on the partner and not here, so this server would be asynchronous as primary",
                "Set it here as it is there: ALTER SYSTEM SET pg_keeper.synchronous_standby_names = '*'; SELECT pg_reload_conf();"
            )
        );
        assert_eq!(
            of_synchronous(role, |f| f.partner.report = None),
            Finding::warning(
                SYNC,
                "whether the partner is set up alike is not known: it has not answered since the keeper started",
                "See the row \"partner\"."
            )
        );
    }
}

#[test]
fn a_standby_with_names_of_its_own_is_told_how_to_be_rid_of_them() {
    let held = |held, alter_system_allowed| {
        let mut facts = sound(Role::Standby);
        facts.server.synchronous_standby_names = "*".into();
        facts.commits = Commits { held, alter_system_allowed, ..facts.commits };
        row("synchronous_standby_names", &facts).hint
    };
    let by_statement = "ALTER SYSTEM SET synchronous_standby_names = ''; SELECT pg_reload_conf();";
    assert_eq!(held(Held::Otherwise, true), by_statement);
    assert_eq!(held(Held::File("postgresql.conf:3".into()), true), by_statement);
    assert_eq!(
        held(Held::Otherwise, false),
        "Remove it from the configuration files, postgresql.auto.conf among them, then: SELECT pg_reload_conf();"
    );
    assert_eq!(
        held(Held::CommandLine, true),
        "Take synchronous_standby_names from the server's command line, then restart the server."
    );
}

#[test]
fn the_price_of_a_silent_standby_is_told() {
    const WAIT: &str = "wait for a silent standby";
    let of = |change: fn(&mut Facts)| {
        let mut facts = synchronous(Role::Primary);
        change(&mut facts);
        row(WAIT, &facts)
    };
    assert_eq!(
        of(|_| {}),
        Finding::ok(
            WAIT,
            "25s, then commits go on without it: 5 keepalives of 5s; one that is killed or stopped is dropped at once"
        )
    );
    let partner = |f: &mut Facts| {
        if let Some(report) = &mut f.partner.report {
            report.keepalive_time = Duration::from_secs(2);
            report.before_command_limit = Duration::from_secs(30);
        }
    };
    assert_eq!(
        of(partner),
        Finding::ok(
            WAIT,
            "40s, then commits go on without it: 5 keepalives of 2s, and 30s that pg_keeper.before_command may take; one that is killed or \
             stopped is dropped at once"
        )
    );
    assert_eq!(
        of(|f| f.commits.on_standby_loss = OnStandbyLoss::Wait),
        Finding::ok(WAIT, "without end: pg_keeper.on_standby_loss is wait, so commits wait until the standby is back")
    );
    assert_eq!(
        of(|f| f.commits.wished.clear()),
        Finding::ok(WAIT, "none: pg_keeper.synchronous_standby_names is empty")
    );
    assert_eq!(
        of(|f| f.partner.report = None),
        Finding::warning(
            WAIT,
            "not known: it depends on the partner's settings, and the partner has not answered since the keeper started",
            "See the row \"partner\"."
        )
    );
}

#[test]
fn a_primary_that_takes_no_writes_says_why() {
    const FENCE: &str = "fence";
    let with = |gate: GateKind, fence: &str| {
        let mut facts = sound(Role::Primary);
        facts.guard.gate = gate;
        facts.guard.fence = fence.into();
        row(FENCE, &facts)
    };
    assert_eq!(with(GateKind::Open, "none"), Finding::ok(FENCE, "none: this server takes writes"));
    let by = "db02 is primary on timeline 2, which left timeline 1 of this server at 0/3000148";
    assert_eq!(
        with(GateKind::Fenced, &format!("fenced: {by}")),
        Finding::error(
            FENCE,
            format!("this server takes no writes, fenced: {by}"),
            "In a shell on this machine: psql -d pg_state -XAtc 'SELECT pg_keeper.rejoin_plan()' > rejoin.sh writes down the commands that \
             make it a standby. Read them, then: sh rejoin.sh"
        )
    );
    assert_eq!(
        with(GateKind::Closed, "closed: the partner has not answered yet"),
        Finding::warning(
            FENCE,
            "this server takes no writes yet: the partner has not answered yet",
            "It opens by itself when it knows what its partner is; see the row \"partner\". If it is certain that no other server is active: \
             SELECT pg_keeper.lift_fence();"
        )
    );
    assert_eq!(
        with(GateKind::Open, &format!("lifted, although {by}")),
        Finding::warning(
            FENCE,
            format!("lifted, although {by}"),
            "Stop the other server, and make it a standby of this one with pg_rewind or pg_basebackup."
        )
    );
    assert_eq!(with(GateKind::Open, "commits wait: the partner is about to promote itself").status, Severity::Warning);
    let mut standby = sound(Role::Standby);
    standby.guard.gate = GateKind::Closed;
    assert_eq!(row(FENCE, &standby), Finding::ok(FENCE, "of no consequence on a standby"));
}

#[test]
fn one_keepalive_is_too_few() {
    const GUARD: &str = "return guard";
    let with = |count, waits_for_administrator| {
        let mut facts = sound(Role::Standby);
        facts.settings.keepalive_count = count;
        facts.guard.waits_for_administrator = waits_for_administrator;
        row(GUARD, &facts)
    };
    assert_eq!(
        with(1, false),
        Finding::warning(
            GUARD,
            "pg_keeper.keepalive_count is 1: a single lost packet makes a standby promote itself, and lets a former primary take writes",
            "On both servers: ALTER SYSTEM SET pg_keeper.keepalive_count = 4; SELECT pg_reload_conf();"
        )
    );
    assert_eq!(
        with(4, false),
        Finding::ok(
            GUARD,
            "started as primary, this server asks its partner first, and takes writes alone after 20s of silence"
        )
    );
    assert_eq!(
        with(4, true),
        Finding::ok(
            GUARD,
            "started as primary, this server asks its partner first, and waits for an administrator while the partner does not answer"
        )
    );
}

//! Whole plans are kept in the folder `expected`, as files that a shell takes.

extern crate std;

use super::*;

fn parameters() -> Parameters {
    Parameters {
        max_connections: 100,
        max_worker_processes: 8,
        max_wal_senders: 10,
        max_prepared_transactions: 0,
        max_locks_per_transaction: 64,
    }
}

/// A fenced primary with everything in its data directory.
fn fenced() -> Facts {
    Facts {
        role: Role::Primary,
        fence: "fenced: db02 is primary on timeline 2, which left timeline 1 of this server at 0/3000148".into(),
        left_at: Some(Lsn(0x300_0148)),
        node_name: "db01".into(),
        database: "pg_state".into(),
        fresh_copy: false,
        server: Server {
            major: 15,
            system_identifier: SystemIdentifier(7_300_000_000_000_000_001),
            timeline: Timeline(1),
            host: "db01.example.org".into(),
            account: "postgres".into(),
            port: 5432,
            socket_directory: "/var/run/postgresql".into(),
            unit: String::new(),
            is_process_one: false,
            data_checksums: true,
            wal_log_hints: false,
            full_page_writes: true,
            restores_wal: false,
            primary_slot_name: String::new(),
            has_slots: false,
            parameters: parameters(),
        },
        files: Files {
            data_directory: "/srv/pg/15".into(),
            inode: 4711,
            is_mount_point: false,
            programs: "/usr/lib/postgresql/15/bin".into(),
            config_file: "/srv/pg/15/postgresql.conf".into(),
            log_file: "/var/log/postgres.log".into(),
            own: ["/srv/pg/15/postgresql.conf", "/srv/pg/15/pg_hba.conf", "/srv/pg/15/pg_ident.conf"]
                .map(String::from)
                .into(),
            wal_directory: String::new(),
            tablespaces: Vec::new(),
        },
        partner: Partner {
            node_name: "db02".into(),
            options: options("host=10.0.0.12 port=5432 user=keeper passfile=/var/lib/postgresql/.pgpass"),
            user: "keeper".into(),
            superuser: "postgres".into(),
            parameters: Some(parameters()),
        },
    }
}

/// As Debian lays a cluster out, run by systemd.
fn debian() -> Facts {
    let mut facts = fenced();
    facts.server.unit = "postgresql@15-main.service".into();
    facts.files.data_directory = "/var/lib/postgresql/15/main".into();
    facts.files.config_file = "/etc/postgresql/15/main/postgresql.conf".into();
    facts.files.own = ["postgresql.conf", "pg_hba.conf", "conf.d/pg_keeper.conf"]
        .map(|name| format!("/etc/postgresql/15/main/{name}"))
        .into();
    facts
}

/// A pair with slots, with names that no shell leaves alone, and with everything that can lie elsewhere.
fn odd() -> Facts {
    let mut facts = fenced();
    facts.node_name = "DB-01".into();
    facts.server.has_slots = true;
    facts.files.data_directory = "/srv/my data/it's 15".into();
    facts.files.config_file = "/srv/my data/it's 15/postgresql.conf".into();
    facts.files.own = ["postgresql.conf", "pg_hba.conf", "conf.d/a.conf", "conf.d/b.conf", "keys/node's.key"]
        .map(|name| format!("/srv/my data/it's 15/{name}"))
        .into();
    facts.files.own.push("/etc/ssl/server.key".into());
    facts.files.wal_directory = "/wal/o'brien".into();
    facts.files.tablespaces = ["/ts/a=b", "/srv/my data/it's 15/within", "pg_tblspc/16384"].map(String::from).into();
    facts.partner.options = options("host=db02 user=Keep\\er passfile=my'pass sslmode=verify-full sslrootcert=system");
    facts.partner.user = "Keep\\er".into();
    facts
}

fn options(text: &str) -> Vec<(String, String)> {
    text.split(' ').filter_map(|pair| pair.split_once('=')).map(|(name, value)| (name.into(), value.into())).collect()
}

fn text(facts: &Facts) -> String {
    plan(facts).iter().map(|line| format!("{line}\n")).collect()
}

#[track_caller]
fn holds(text: &str, part: &str) {
    assert!(text.contains(part), "no {part} in\n{text}");
}

#[test]
fn pg_rewind_with_the_configuration_in_the_data_directory() {
    assert_eq!(text(&fenced()), include_str!("expected/rewind.sh"));
}

#[test]
fn a_fresh_copy_where_pg_rewind_cannot_know_what_differs() {
    let mut facts = fenced();
    facts.server.data_checksums = false;
    assert_eq!(text(&facts), include_str!("expected/copy.sh"));
}

#[test]
fn debian_s_layout_under_systemd() {
    assert_eq!(text(&debian()), include_str!("expected/debian_rewind.sh"));
    assert_eq!(text(&Facts { fresh_copy: true, ..debian() }), include_str!("expected/debian_copy.sh"));
}

#[test]
fn debian_s_layout_without_systemd() {
    let mut facts = debian();
    facts.server.unit = String::new();
    let text = text(&facts);
    holds(&text, "\nif pg_ctl -D \"$data\" status >/dev/null; then pg_ctlcluster 15 main stop; fi\n");
    holds(&text, "\npg_ctlcluster 15 main start\n");
}

#[test]
fn a_unit_s_escaped_name_reaches_systemd_whole() {
    let mut facts = debian();
    facts.server.unit = r"postgresql@15\x2dmain.service".into();
    let text = text(&facts);
    holds(&text, r"systemctl --no-ask-password stop 'postgresql@15\x2dmain.service' || ");
    holds(&text, r"|| fail 'All is ready. Last, as root: systemctl start postgresql@15\x2dmain.service'");
}

#[test]
fn slots_odd_names_and_everything_elsewhere() {
    assert_eq!(text(&odd()), include_str!("expected/odd_rewind.sh"));
    assert_eq!(text(&Facts { fresh_copy: true, ..odd() }), include_str!("expected/odd_copy.sh"));
}

#[test]
fn the_slot_of_its_time_as_a_standby_is_used_again() {
    let mut facts = fenced();
    facts.server.primary_slot_name = "standby_1".into();
    let text = text(&facts);
    holds(&text, "pg_create_physical_replication_slot('standby_1', true)");
    holds(&text, "\"primary_slot_name = 'standby_1'\" >> \"$data\"/postgresql.auto.conf\n");
}

#[test]
fn nothing_is_done_where_nothing_is_to_be_done() {
    let commands = |facts: &Facts| plan(facts).iter().filter(|line| !line.starts_with('#')).count();
    let standby = Facts { role: Role::Standby, ..fenced() };
    holds(&text(&standby), "# Nothing to do: this server is a standby already.\n");
    let open = Facts { fence: "none".into(), ..fenced() };
    holds(&text(&open), "# Nothing to do: this server is a primary and is not fenced");
    let mut alone = fenced();
    alone.partner.options.clear();
    holds(&text(&alone), "pg_keeper.partner_conninfo is not set");
    let mut mounted = Facts { fresh_copy: true, ..fenced() };
    mounted.files.is_mount_point = true;
    holds(&text(&mounted), "A file system is mounted on the data directory /srv/pg/15");
    let mut broken = fenced();
    broken.files.data_directory = "/srv/two\nlines".into();
    holds(&text(&broken), "control character");
    for facts in [&standby, &open, &alone, &mounted, &broken] {
        assert_eq!(commands(facts), 0, "{}", text(facts));
    }
}

#[test]
fn no_secret_is_told() {
    let mut facts = fenced();
    let secrets = crate::conninfo::SECRETS.iter().map(|keyword| (keyword.to_string(), "hunter2".to_string()));
    facts.partner.options.extend(secrets);
    assert!(!text(&facts).contains("hunter2"));
    facts.fresh_copy = true;
    assert!(!text(&facts).contains("hunter2"));
    facts.files.is_mount_point = true;
    assert!(!text(&facts).contains("hunter2"));
}

#[test]
fn a_service_names_its_user_itself() {
    let mut facts = fenced();
    facts.partner.options = options("service=partner");
    facts.partner.user = "postgres".into();
    holds(&text(&facts), "\npartner='service=partner'\n");
    holds(&text(&facts), "\nsource='service=partner user=postgres dbname=postgres'\n");
}

#[test]
fn parameters_too_small_for_a_standby_are_raised() {
    let mut facts = fenced();
    facts.partner.parameters = Some(Parameters { max_connections: 200, max_wal_senders: 3, ..parameters() });
    holds(&text(&facts), "application_name=db01'\" 'max_connections = 200' >> \"$data\"/postgresql.auto.conf\n");
}

#[test]
fn process_one_of_a_container_is_stopped_from_outside() {
    let mut facts = fenced();
    facts.server.is_process_one = true;
    let text = text(&facts);
    holds(
        &text,
        "\nif pg_ctl -D \"$data\" status >/dev/null; then fail 'The server runs: stop its container first.'; fi\n",
    );
    assert!(!text.contains(" stop;") && !text.contains(" restart") && !text.contains("uname"), "{text}");
}

#[test]
fn a_plan_that_does_not_ask_for_wal_says_so() {
    let mut archived = fenced();
    archived.server.restores_wal = true;
    let mut fence_lost = fenced();
    fence_lost.left_at = None;
    for (facts, why) in [(archived, "restore_command is set"), (fence_lost, "the fence is not on disk")] {
        let text = text(&facts);
        holds(&text, "# Nobody asks here whether the partner still has the WAL");
        holds(&text, why);
        assert!(!text.contains("ask_for_wal"), "{text}");
    }
}

#[test]
fn without_a_unix_socket_the_role_that_may_look_asks() {
    let mut facts = odd();
    facts.server.socket_directory = String::new();
    holds(&text(&facts), "\n#   psql -h localhost -U 'Keep\\er' -p 5432 -d pg_state -x -c ");
}

#[test]
fn options_of_newer_versions_are_not_given_to_older_programs() {
    let mut facts = debian();
    facts.server.restores_wal = true;
    holds(&text(&facts), " --config-file=/etc/postgresql/15/main/postgresql.conf --restore-target-wal || rewound=no\n");
    facts.server.major = 13;
    let text = text(&facts);
    assert!(!text.contains("--config-file") && !text.contains("--restore-target-wal"), "{text}");
    holds(&text, "'SHOW transaction_read_only'");
}

/// What pg_rewind left behind, and whether the commands go on with it.
#[test]
fn wal_that_is_missing_after_pg_rewind_is_seen() {
    const LABEL: &str =
        "START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\nCHECKPOINT LOCATION: 0/2000060\n";
    let plan = text(&fenced());
    let from = plan.find("if [ -e \"$data/backup_label\" ]").unwrap();
    let looks = &plan[from..plan[from..].find("\nfi\n").unwrap() + from + 4];
    let old = "000000010000000000000003";
    let (first, fork) = ("000000010000000000000002", "000000020000000000000003");
    for (label, segments, refusal) in [
        (None, vec![], None),
        (Some(LABEL), vec![first, old, fork], None),
        (Some(LABEL), vec!["000000020000000000000002", fork], None),
        (
            Some(LABEL),
            vec![old, fork],
            Some("The WAL segment 0000000000000002 of the last common checkpoint is missing"),
        ),
        (Some(LABEL), vec![first, old], Some("The partner's WAL segment 0000000000000003 is missing")),
    ] {
        let data = tempfile::tempdir().unwrap();
        std::fs::create_dir(data.path().join("pg_wal")).unwrap();
        if let Some(label) = label {
            std::fs::write(data.path().join("backup_label"), label).unwrap();
        }
        for segment in &segments {
            std::fs::write(data.path().join("pg_wal").join(segment), "").unwrap();
        }
        let begin = "set -eu; fail() { printf '%s\\n' \"$1\"; exit 1; }; fork='0000000000000003|t'; copy=copy";
        let script = format!("{begin}; data='{}'\n{looks}", data.path().display());
        let ended = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        let said = String::from_utf8_lossy(&ended.stdout);
        assert_eq!(ended.status.success(), refusal.is_none(), "{segments:?}: {said}");
        assert!(said.contains(refusal.unwrap_or_default()), "{segments:?}: {said}");
    }
}

#![allow(clippy::unwrap_used)]

use super::*;

const WHOLE: &str = r#"
nodes:
  db01: {conninfo: "host=10.0.0.10 dbname=pg_state user=keeper_watch", address: "db01:5432"}
  db02: {conninfo: "host=10.0.0.11 port=5433 user=keeper_watch passfile=/own"}
connection: {passfile: /etc/pg-keeper-watcher/pgpass, sslmode: prefer, timeout: 3s}
polling: {interval: 2s, interval_during_outage: 100ms}
targets:
  - name: shop
    file: /srv/shop/env.yaml
    set:
      db_master[0].address: "{address}"
      db_slave[0].address: "jdbc:postgresql://{host}:{port}/{name}"
    restart: {systemd_unit: shop.service, timeout: 31s, kill_after: 11s, settle: 2s, splay: 1s, limit: 3 per 10m}
    verify: {tcp: "127.0.0.1:8080", timeout: 21s}
  - file: /etc/batch/database.yml
    document: 2
    write: in_place
    set: {production.host: "{host}", production.port: "{port}"}
    restart: {command: [/usr/local/bin/reload-batch]}
  - file: /etc/x.yml
    set: {a: "{host}"}
    restart: {signal: {pid_file: /run/x.pid, signal: SIGHUP}}
http: {listen: "127.0.0.1:9188"}
"#;

#[test]
fn every_key_is_understood() {
    let config = Config::parse(WHOLE).unwrap();
    let [first, second] = &config.nodes;
    assert_eq!((first.name.as_str(), first.address.address.as_str()), ("db01", "db01:5432"));
    assert_eq!((second.name.as_str(), second.address.address.as_str()), ("db02", "10.0.0.11:5433"));
    let passfile = |node: &NodeConfig| node.conninfo.complete(&Pairs::new()).unwrap().passfile;
    assert_eq!(passfile(first).as_deref(), Some("/etc/pg-keeper-watcher/pgpass"));
    assert_eq!(passfile(second).as_deref(), Some("/own"));
    assert!(config.connection.keep_open);
    assert_eq!(config.connection.timeout, Duration::from_secs(3));
    assert_eq!(config.polling, Intervals { calm: Duration::from_secs(2), outage: Duration::from_millis(100) });

    assert_eq!(config.http, Some("127.0.0.1:9188".parse().unwrap()));

    let names: Vec<&str> = config.targets.iter().map(|target| target.name.as_str()).collect();
    assert_eq!(names, ["shop", "/etc/batch/database.yml", "/etc/x.yml"]);
    let shop = &config.targets[0];
    assert_eq!(
        shop.restart,
        Restart {
            how: RestartHow::SystemdUnit("shop.service".to_owned()),
            timeout: Duration::from_secs(31),
            kill_after: Duration::from_secs(11),
            settle: Duration::from_secs(2),
            splay: Duration::from_secs(1),
            limit: parse_limit("3 per 10m").ok(),
        }
    );
    assert_eq!(shop.verify.as_ref().map(|verify| verify.timeout), Some(Duration::from_secs(21)));
    let wanted: Vec<(String, String)> =
        shop.wanted(second).set.into_iter().map(|(path, value)| (path.to_string(), value)).collect();
    assert_eq!(
        wanted,
        [
            ("db_master[0].address".to_owned(), "10.0.0.11:5433".to_owned()),
            ("db_slave[0].address".to_owned(), "jdbc:postgresql://10.0.0.11:5433/db02".to_owned()),
        ]
    );
    assert_eq!((shop.document, shop.write), (None, Write::Rename));
    assert_eq!((config.targets[1].document, config.targets[1].write), (NonZeroUsize::new(2), Write::InPlace));
    assert_eq!(config.targets[1].wanted(second).document, NonZeroUsize::new(2));
    assert_eq!(config.targets[1].restart.timeout, Duration::from_secs(30));
    assert_eq!(
        config.targets[2].restart.how,
        RestartHow::Signal { pid_file: "/run/x.pid".into(), signal: Signal::Hup }
    );
}

#[test]
fn what_is_wrong_is_named_with_key_and_line() {
    let second = r#"  db02: {conninfo: "host=10.0.0.11 port=5433 user=keeper_watch passfile=/own"}"#;
    for (from, to, message) in [
        ("polling:", "poling:", "line 6: poling is unknown; known here: nodes, connection, polling, targets, http"),
        (
            "interval: 2s",
            "intervall: 2s",
            "line 6: polling.intervall is unknown; known here: interval, interval_during_outage",
        ),
        (
            "interval: 2s",
            "interval: 2",
            "line 6: polling.interval: \"2\" is not a duration; write a whole number with a unit, like 500ms, 1s, 2m or 1h",
        ),
        ("interval: 2s", "interval: 1ms", "line 6: polling.interval: is shorter than 10ms, the shortest"),
        ("timeout: 3s", "timeout: 0s", "line 5: connection.timeout: must be longer than 0"),
        (
            "sslmode: prefer",
            "sslmode: verify",
            "line 5: connection.sslmode: sslmode \"verify\" is unknown; it is disable, allow, prefer, require, verify-ca or verify-full",
        ),
        (
            "sslmode: prefer",
            "sslmode: verify-full, sslrootcert: ca.crt",
            "line 5: connection.sslrootcert: sslrootcert \"ca.crt\" is not an absolute path; begin it with /",
        ),
        (
            "sslmode: prefer",
            "sslrootcert: system, sslmode: require",
            "line 3: nodes.db01.conninfo: sslmode require is too weak for sslrootcert=system; use verify-full",
        ),
        ("timeout: 3s", "keep_open: maybe", "line 5: connection.keep_open: \"maybe\" is neither true nor false"),
        (
            second,
            "  db02: {conninfo: \"host=10.0.0.11,10.1.0.11\"}",
            "line 4: nodes.db02: address is missing; write what applications are told, like \"db01:5432\"",
        ),
        (
            second,
            "  db02: {conninfo: \"service=db02\"}",
            "line 4: nodes.db02: address is missing; write what applications are told, like \"db01:5432\"",
        ),
        (
            "user=keeper_watch\"",
            "user=x password=s3cret\"",
            "line 3: nodes.db01.conninfo: password is not taken from the configuration; put it into a file and name that file with passfile",
        ),
        (second, "", "line 2: nodes: there are exactly two nodes, and here are 1"),
        (second, "  db01: {conninfo: \"host=b\"}", "line 4: key \"db01\" stands twice in one mapping, first on line 3"),
        (
            second,
            "  db02: {}",
            "line 4: nodes.db02.conninfo is missing; write conninfo: \"host=... dbname=pg_state user=...\"",
        ),
        (
            second,
            "  db02: {conninfo: \"host=/run/postgresql\"}",
            "line 4: nodes.db02: address is missing; write what applications are told, like \"db01:5432\"",
        ),
        (
            second,
            "  db02: {conninfo: \"host=10.0.0.10\", address: b}",
            "line 2: nodes: the conninfo of both nodes names the same server; give each its own",
        ),
        (
            second,
            "  db02: {conninfo: \"host=b\", address: \"db01:5432\"}",
            "line 2: nodes: both nodes have the address db01:5432; give each its own",
        ),
        (
            "file: /srv/shop/env.yaml",
            "file: env.yaml",
            "line 9: targets[0].file: \"env.yaml\" is not an absolute path; begin it with /",
        ),
        ("file: /srv/shop/env.yaml", "x: y", "line 8: targets[0].file is missing; write the YAML file's absolute path"),
        (
            "file: /etc/x.yml",
            "file: /srv/shop/env.yaml",
            "line 20: targets[2]: /srv/shop/env.yaml is the file of another target too; write one target with a command that restarts both",
        ),
        (
            "db_master[0].address:",
            "db_master[0.address:",
            "line 11: targets[0].set.db_master[0.address: \"db_master[0.address\" is not a path: a ] is missing; write it like db_master[0].address or \"a.b\"[0]",
        ),
        (
            "\"{address}\"",
            "\"{adress}\"",
            "line 11: targets[0].set.db_master[0].address: \"{adress}\" holds a brace that is none of {address}, {host}, {port}, {name}",
        ),
        (
            "\"{address}\"",
            "db01",
            "line 11: targets[0].set.db_master[0].address: \"db01\" is the same whichever node is active; use {address}, {host}, {port} or {name}",
        ),
        (
            "{command: [/usr/local/bin/reload-batch]}",
            "{}",
            "line 19: restart has exactly one of systemd_unit, command and signal, and here are 0",
        ),
        (
            "{command: [",
            "{systemd_unit: a.service, command: [",
            "line 19: restart has exactly one of systemd_unit, command and signal, and here are 2",
        ),
        (
            "[/usr/local/bin/reload-batch]",
            "/usr/local/bin/reload-batch",
            "line 19: targets[1].restart.command must be a list, and is a single value; write the program and its arguments as a list, like [/usr/local/bin/reload, --now]",
        ),
        (
            "[/usr/local/bin/reload-batch]",
            "[reload-batch]",
            "line 19: targets[1].restart.command: \"reload-batch\" is not an absolute path; begin it with /",
        ),
        (
            "signal: SIGHUP",
            "signal: KILL",
            "line 22: targets[2].restart.signal.signal: \"KILL\" is not one of HUP, INT, QUIT, TERM, USR1, USR2",
        ),
        (
            "shop.service",
            "--force",
            "line 13: targets[0].restart.systemd_unit: \"--force\" is not the name of a unit; write it like shop.service",
        ),
        (
            "limit: 3 per 10m",
            "limit: 3",
            "line 13: targets[0].restart.limit: \"3\" is not a limit; write it like \"3 per 10m\"",
        ),
        (
            "document: 2",
            "document: 0",
            "line 16: targets[1].document: \"0\" is not the number of a document; write 1 for the first one",
        ),
        (
            "write: in_place",
            "write: inplace",
            "line 17: targets[1].write: \"inplace\" is not one of rename, in_place; write in_place only for a file that is a mount point of its own",
        ),
        ("tcp: \"127.0.0.1:8080\"", "tcp: \"127.0.0.1\"", "line 14: targets[0].verify.tcp: \"127.0.0.1\" has no port"),
        (
            "{signal: {pid",
            "{settle: 1s, signal: {pid",
            "line 22: targets[2].restart.settle is unknown; known here: signal, splay, limit",
        ),
        (
            "\"127.0.0.1:9188\"",
            "9188",
            "line 23: http.listen: \"9188\" is not an IP address with a port; write it like 127.0.0.1:9188, [::1]:9188 or 0.0.0.0:9188",
        ),
        ("{listen: \"127.0.0.1:9188\"}", "{}", "line 23: http.listen is missing; write listen: \"127.0.0.1:9188\""),
        ("{listen:", "{port: 1, listen:", "line 23: http.port is unknown; known here: listen"),
    ] {
        let text = WHOLE.replacen(from, to, 1);
        assert_ne!(text, WHOLE, "{from}");
        let error = Config::parse(&text).unwrap_err().to_string();
        assert_eq!(error, message);
        assert!(!error.contains("s3cret"));
    }
    for (text, part) in [
        ("", "the file is empty"),
        ("[]", "line 1: the file must be a mapping"),
        ("nodes: 1", "line 1: targets is missing"),
        ("a: [", "not valid YAML"),
    ] {
        let error = Config::parse(text).unwrap_err().to_string();
        assert!(error.contains(part) || error.contains("nodes must be"), "{text:?}: {error}");
    }
}

/// The example that the package brings, as it is and with everything in it that is commented out.
#[test]
fn the_example_is_accepted() {
    let example = include_str!("../../../packaging/examples/watcher.yaml");
    let targets = Config::parse(example).unwrap().targets;
    assert_eq!(targets[0].restart.how, RestartHow::SystemdUnit("shop.service".to_owned()));
    let mut whole = example.to_owned();
    for key in ["sslmode:", "sslrootcert:", "verify:", "http:"] {
        let commented = format!("# {key}");
        assert_eq!(whole.matches(&commented).count(), 1, "{key}");
        whole = whole.replace(&commented, key);
    }
    let config = Config::parse(&whole).unwrap();
    assert!(config.http.is_some() && config.targets[0].verify.is_some());
}

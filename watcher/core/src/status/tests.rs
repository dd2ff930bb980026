#![allow(clippy::unwrap_used)]

use super::*;
use crate::choose::{Nobody, NodeId, Position, TwoPrimaries};
use crate::config::Config;
use crate::plan::{Moment, Wanted};
use crate::units::{SystemIdentifier, Timeline};

const CONFIG: &str = "nodes: {db01: {conninfo: host=a}, db02: {conninfo: host=b}}\n\
    targets: [{name: shop, file: /srv/env.yaml, set: {a: \"{host}\"}, restart: {command: [/bin/true]}}]\n";

const POSITION: Position = Position { system_identifier: SystemIdentifier(u64::MAX), timeline: Timeline(3) };
const ACTIVE: Choice = Choice::Active(NodeId::First, POSITION);

const PRIMARY: Result<Observation, &str> = Ok(Observation::Primary {
    system_identifier: POSITION.system_identifier,
    timeline: POSITION.timeline,
    fenced: false,
});
const STANDBY: Result<Observation, &str> = Ok(Observation::Standby { system_identifier: POSITION.system_identifier });

fn owing(failures: u32) -> Debt {
    let mut debt = Debt::default();
    let wanted = Wanted { node: "db01".to_owned(), position: POSITION.into(), edition: String::new() };
    debt.rewrite_begins(wanted, Moment(0));
    (0..failures).for_each(|_| debt.restart_failed(1, Moment(0), Moment(0)));
    debt
}

fn status(
    choice: Choice,
    daemon_running: bool,
    answers: [Result<Observation, &str>; 2],
    file: Option<Result<bool, &str>>,
    debt: &Debt,
) -> Status {
    let config = Config::parse(CONFIG).unwrap();
    let mut status = Status::new(&choice, config.node_names(), daemon_running);
    status.nodes = (config.nodes.iter().zip(answers))
        .map(|(node, answer)| Node::new(node, answer.map_err(str::to_owned)))
        .collect();
    status.targets = vec![Target::new(&config.targets[0], file.map(|file| file.map_err(str::to_owned)), debt)];
    status
}

fn well() -> Status {
    status(ACTIVE, true, [PRIMARY, STANDBY], Some(Ok(true)), &Debt::default())
}

#[test]
fn the_table_is_aligned() {
    assert_eq!(
        well().to_table(),
        "active node is db01 (timeline 3); a watcher is running\n\
         \n\
         NODE  ADDRESS  STATE\n\
         db01  a:5432   primary on timeline 3\n\
         db02  b:5432   standby\n\
         \n\
         TARGET  FILE                         RESTART\n\
         shop    /srv/env.yaml is up to date  none pending\n"
    );
}

/// These keys and words are promised to programs.
#[test]
fn the_json_keeps_its_keys() {
    let failed = status(ACTIVE, false, [PRIMARY, Err("refused")], Some(Err("no such key")), &owing(2));
    assert_eq!(
        failed.to_json().unwrap(),
        r#"{
  "format": 1,
  "state": "active",
  "sentence": "active node is db01 (timeline 3)",
  "active_node": "db01",
  "timeline": 3,
  "daemon_running": false,
  "nodes": [
    {
      "name": "db01",
      "address": "a:5432",
      "state": "primary",
      "timeline": 3,
      "system_identifier": "18446744073709551615",
      "error": null
    },
    {
      "name": "db02",
      "address": "b:5432",
      "state": "unreachable",
      "timeline": null,
      "system_identifier": null,
      "error": "refused"
    }
  ],
  "targets": [
    {
      "name": "shop",
      "file": "/srv/env.yaml",
      "file_state": "unusable",
      "error": "no such key",
      "restart": "pending",
      "failed_attempts": 2
    }
  ]
}"#
    );
    let words = |value: serde_json::Value| value.as_str().map(str::to_owned);
    let state = |state| words(serde_json::to_value::<State>(state).unwrap());
    assert_eq!(state(State::NoActiveNode).as_deref(), Some("no_active_node"));
    assert_eq!(state(State::TwoPrimaries).as_deref(), Some("two_primaries"));
    let file = |state| words(serde_json::to_value::<FileState>(state).unwrap()).unwrap();
    assert_eq!(
        [FileState::UpToDate, FileState::NotUpToDate, FileState::NotCompared].map(file),
        ["up_to_date", "not_up_to_date", "not_compared"]
    );
}

#[test]
fn nagios_is_told_how_bad_it_is() {
    let none = Debt::default();
    let mut unseen = owing(0);
    unseen.restart_carried_out(1, true);
    let nobody = Choice::Nobody(Nobody::BothUnreachable);
    let two = Choice::TwoPrimaries(TwoPrimaries::StillContested);
    let down = Err("refused");
    let current = Some(Ok(true));
    let old = Some(Ok(false));
    let fenced =
        Ok(Observation::Primary { system_identifier: POSITION.system_identifier, timeline: Timeline(2), fenced: true });
    for (status, severity, words) in [
        (well(), Severity::Ok, "OK - active node is db01 (timeline 3) |"),
        (status(ACTIVE, true, [PRIMARY, down], current, &none), Severity::Warning, "WARNING - db02 is unreachable; "),
        (status(ACTIVE, true, [PRIMARY, fenced], current, &none), Severity::Warning, "WARNING - db02 is fenced; "),
        (status(ACTIVE, false, [PRIMARY, STANDBY], current, &none), Severity::Warning, "- no watcher is running; "),
        (
            status(ACTIVE, true, [PRIMARY, STANDBY], old, &none),
            Severity::Critical,
            "- shop: the file is not up to date",
        ),
        (status(ACTIVE, true, [PRIMARY, STANDBY], current, &owing(0)), Severity::Critical, "- shop: restart pending; "),
        (status(ACTIVE, true, [PRIMARY, STANDBY], current, &unseen), Severity::Warning, "- shop: restarted, not seen"),
        (
            status(ACTIVE, true, [PRIMARY, STANDBY], current, &owing(1)),
            Severity::Critical,
            "- shop: restart pending, 1 attempt failed; ",
        ),
        (
            status(ACTIVE, true, [PRIMARY, STANDBY], Some(Err("a | b\nc")), &none),
            Severity::Critical,
            "- shop: a   b c; active node is db01",
        ),
        (status(nobody, true, [down, down], None, &none), Severity::Critical, "CRITICAL - no active node: "),
        (status(two, true, [PRIMARY, down], None, &none), Severity::Critical, "CRITICAL - two primaries"),
    ] {
        let (told, line) = status.to_nagios(true);
        assert_eq!(told, severity, "{line}");
        assert!(line.contains(words), "{line}");
        assert!(!line.contains('\n') && line.matches('|').count() == 1, "{line}");
    }
    let by_cron = status(ACTIVE, false, [PRIMARY, STANDBY], current, &none);
    assert_eq!(by_cron.to_nagios(false).0, Severity::Ok);
    assert_eq!(
        well().to_nagios(true).1,
        "PG_KEEPER_WATCHER OK - active node is db01 (timeline 3) | nodes_answering=2;2:;1:;0;2 files_outdated=0;0;;0;1 \
         restarts_pending=0;0;;0;1 daemon=1;1:;;0;1 timeline=3"
    );
}

//! Conversations with one node, as text files in `tests/golden/`.
//!
//! A line that begins with a time in seconds is something that happens; the indented lines below it are what the node wants done. The test
//! plays the file and demands the same text. After a wanted change, `UPDATE_GOLDEN=1 cargo test -p keeper-core` writes the files anew:
//! read the difference before you commit it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use keeper_core::{
    Action, Answer, Command, CommandOutcome, Event, Evidence, Farewell, Fence, Gate, GateKind, History, Inert, Kept,
    Level, Lsn, Moment, Node, Observation, OnStandbyLoss, OnUnknownPartner, Parameters, PartnerState, Reply, Report,
    Role, Settings, Sight, SqlState, Stage, Start, Switch, Synchronous, SynchronousNames, SystemIdentifier, Timeline,
};
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

/// The clock does not begin at zero: a schedule that reaches back before the start must not wrap.
const EPOCH: u64 = 1_000_000_000;

#[test]
fn golden_conversations() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut played = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().is_some_and(|name| name == "answers.txt") {
            continue;
        }
        let wanted = std::fs::read_to_string(&path).unwrap();
        let got = Play::new().play(&wanted);
        compare(&path, &wanted, &got);
        played += 1;
    }
    assert!(played > 5, "the golden files are gone");
}

#[test]
fn golden_table_of_answers() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/answers.txt");
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    let mut got = String::new();
    for line in wanted.lines().filter(|line| !line.starts_with("    ")) {
        writeln!(got, "{line}").unwrap();
        if !line.is_empty() && !line.starts_with('#') {
            writeln!(got, "    {:?}", reply(&mut line.split_whitespace()).verdict()).unwrap();
        }
    }
    compare(&path, &wanted, &got);
}

fn compare(path: &Path, wanted: &str, got: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, got).unwrap();
        return;
    }
    for (number, (wanted, got)) in wanted.lines().zip(got.lines()).enumerate() {
        assert_eq!(wanted, got, "{}:{}", path.display(), number + 1);
    }
    assert_eq!(wanted.lines().count(), got.lines().count(), "{}: its end", path.display());
}

struct Play {
    now: Moment,
    node: Node,
    observation: Observation,
    /// The fence file.
    disk: Kept,
    text: String,
}

impl Play {
    fn new() -> Self {
        Play {
            now: Moment::from_micros(EPOCH),
            node: Node::new(start(None, Gate::Closed, Kept::Nothing, Moment::default())),
            observation: Observation {
                in_recovery: true,
                standby_signal: true,
                system_identifier: SystemIdentifier(7),
                timeline: Timeline(1),
                history: Some(History::of_first(Timeline(1))),
                received: Lsn(0),
                replayed: Lsn(0),
                streaming: false,
                synchronous_names: SynchronousNames::Empty,
                synchronous_in_effect: false,
                told_partner: None,
                recorded: None,
            },
            disk: Kept::Nothing,
            text: String::new(),
        }
    }

    fn play(mut self, script: &str) -> String {
        for line in script.lines().filter(|line| !line.starts_with("    ")) {
            writeln!(self.text, "{line}").unwrap();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut words = line.split_whitespace();
            let at = moment(words.next().unwrap());
            match words.next().unwrap() {
                "until" => self.run_until(at),
                "worker-restarted" => {
                    let node = &self.node;
                    self.node = Node::new(start(node.evidence(), node.gate(), self.disk.clone(), node.promised()));
                }
                "server-restarted" => {
                    self.node = Node::new(start(None, Gate::Closed, self.disk.clone(), Moment::default()));
                    self.observation.told_partner = None;
                    self.observation.recorded = None;
                }
                "fence-file" => self.disk = fence_file(&mut words),
                "promised" => {
                    let promise = self.node.promised().since(at);
                    writeln!(self.text, "    for {promise:?}").unwrap();
                }
                "report" => {
                    writeln!(self.text, "    {}", synchronous(self.node.report("db02").synchronous)).unwrap();
                }
                "status" => {
                    let status = self.node.status();
                    let armed = if status.armed { "armed" } else { "not armed" };
                    let partner = status.partner_state.as_str();
                    writeln!(self.text, "    {}, partner {partner}, {armed}", status.state.as_str()).unwrap();
                    writeln!(self.text, "    {}", status.reason).unwrap();
                    for (name, value, usual) in
                        [("fence", status.fence, "none"), ("synchronous", status.synchronous, "not managed")]
                    {
                        if value != usual {
                            writeln!(self.text, "    {name}: {value}").unwrap();
                        }
                    }
                }
                word => {
                    let event = self.event(word, &mut words);
                    self.feed(at, event, false);
                }
            }
        }
        self.text
    }

    /// Wakes the node at each instant that it asks for, and once a second as the worker does.
    fn run_until(&mut self, end: Moment) {
        loop {
            let second = self.now + Duration::from_secs(1);
            let next = self.node.next_deadline(self.now).map_or(second, |deadline| deadline.min(second));
            if next > end {
                return;
            }
            let look = Event::Observed(self.observation.clone());
            self.feed(next, look, true);
        }
    }

    fn feed(&mut self, at: Moment, event: Event, timed: bool) {
        self.now = at;
        let looked = matches!(event, Event::Observed(_));
        for action in self.node.step(at, event) {
            let time = if timed { format!("{:.3} ", seconds(at)) } else { String::new() };
            writeln!(self.text, "    {time}{}", describe(&action)).unwrap();
            match action {
                Action::KeepFence(fence) => self.disk = Kept::Ours(fence),
                Action::SetFenceAside => self.disk = Kept::Nothing,
                Action::SendKeepalive
                | Action::SetSynchronousStandbyNames(_)
                | Action::SetGate(_)
                | Action::EndClients
                | Action::CloseConnection
                | Action::RunCommand(_)
                | Action::TellRecorder(_)
                | Action::TakeBackStory
                | Action::Promote
                | Action::TellCommandOutcome(_)
                | Action::Log(_) => {}
            }
        }
        if looked {
            // A deadline that has passed and stays makes the worker spin.
            assert!(
                self.node.next_deadline(at).is_none_or(|next| next > at),
                "{:.3}: the next deadline has passed",
                seconds(at)
            );
        }
    }

    fn event<'a>(&mut self, word: &'a str, words: &mut impl Iterator<Item = &'a str>) -> Event {
        match word {
            "settings" => Event::SettingsRead(settings(words)),
            "look" => {
                for word in words {
                    match (word, word.split_once('=')) {
                        ("standby", _) => self.observation.in_recovery = true,
                        ("primary", _) => self.observation.in_recovery = false,
                        ("streaming", _) => self.observation.streaming = true,
                        ("not-streaming", _) => self.observation.streaming = false,
                        ("in-effect", _) => self.observation.synchronous_in_effect = true,
                        ("not-in-effect", _) => self.observation.synchronous_in_effect = false,
                        (_, Some(("names", names))) => self.observation.synchronous_names = synchronous_names(names),
                        (_, Some(("told", at))) => self.observation.told_partner = Some(moment(at)),
                        ("no-history", _) => self.observation.history = None,
                        ("no-signal", _) => self.observation.standby_signal = false,
                        (_, Some(("at", lsn))) => {
                            self.observation.received = lsn.parse().unwrap();
                            self.observation.replayed = self.observation.received;
                        }
                        (_, Some(("timeline", number))) => {
                            let (timeline, history) = history(number);
                            (self.observation.timeline, self.observation.history) = (timeline, Some(history));
                        }
                        (_, Some(("recorded", number))) => {
                            self.observation.recorded = Some(Timeline(number.parse().unwrap()));
                        }
                        _ => panic!("look: {word}"),
                    }
                }
                Event::Observed(self.observation.clone())
            }
            "connection-lost" => Event::ConnectionLost {
                farewell: words.next().map(|sqlstate| Farewell {
                    sqlstate: SqlState::new(sqlstate),
                    routine: words.next().unwrap().to_owned(),
                }),
            },
            "before_command" => Event::CommandEnded(Command::Before, outcome(words)),
            "after_command" => Event::CommandEnded(Command::After, outcome(words)),
            "commit-waits" => Event::CommitWaits,
            "asked-by-partner" => Event::AskedByPartner,
            "lift" => Event::LiftRequested,
            "fence-not-kept" => {
                self.disk = Kept::Nothing;
                Event::FenceNotKept(rest_of(words))
            }
            "names-not-set" => Event::SynchronousNamesNotSet(rest_of(words)),
            "refused-to-promote" => Event::PromotionRefused(rest_of(words)),
            other => Event::KeepaliveEnded(reply(&mut std::iter::once(other).chain(words))),
        }
    }
}

fn start(evidence: Option<Evidence>, gate: Gate, fence: Kept, promised: Moment) -> Start {
    Start { instance: 1, parameters: parameters(), evidence, gate, fence, promised, promotion_asked: false }
}

/// `none`, `damaged WHY`, or `1@0/2000 by=db01 timeline=2`, with `lifted` if it is.
fn fence_file<'a>(words: &mut impl Iterator<Item = &'a str>) -> Kept {
    let left = match words.next().unwrap() {
        "none" => return Kept::Nothing,
        "damaged" => return Kept::Damaged(rest_of(words)),
        left => left.split_once('@').unwrap(),
    };
    let mut fence = Fence {
        left: Switch { timeline: Timeline(left.0.parse().unwrap()), at: left.1.parse().unwrap() },
        by: "db01".to_owned(),
        by_timeline: Timeline(2),
        lifted: false,
    };
    for word in words {
        match (word, word.split_once('=')) {
            ("lifted", _) => fence.lifted = true,
            (_, Some(("by", name))) => fence.by = name.to_owned(),
            (_, Some(("timeline", number))) => fence.by_timeline = Timeline(number.parse().unwrap()),
            _ => panic!("fence-file: {word}"),
        }
    }
    Kept::Ours(fence)
}

fn synchronous_names(word: &str) -> SynchronousNames {
    match word {
        "empty" => SynchronousNames::Empty,
        "wished" => SynchronousNames::Wished,
        "other" => SynchronousNames::Other,
        _ => panic!("names: {word}"),
    }
}

fn synchronous(told: Synchronous) -> String {
    match told {
        Synchronous::Unmanaged => "reports nothing of synchronous replication".to_owned(),
        Synchronous::Counts { may_be_dropped: true } => {
            "reports that the standby counts, and may be dropped".to_owned()
        }
        Synchronous::Counts { may_be_dropped: false } => "reports that the standby counts, for good".to_owned(),
        Synchronous::Dropped { since } => format!("reports that the standby is dropped since {since}"),
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

fn moment(seconds: &str) -> Moment {
    Moment::from_micros(EPOCH + (seconds.parse::<f64>().unwrap() * 1e6).round() as u64)
}

fn duration(seconds: &str) -> Duration {
    Duration::from_secs_f64(seconds.parse().unwrap())
}

fn seconds(moment: Moment) -> f64 {
    (moment.as_micros() - EPOCH) as f64 / 1e6
}

/// `2` is timeline 2 after a switch at 0/2000; `3@0/1000,0/1800` names the switches.
fn history(text: &str) -> (Timeline, History) {
    let (number, at) = text.split_once('@').unwrap_or((text, "0/2000"));
    let timeline = Timeline(number.parse().unwrap());
    let switches = at.split(',').chain(std::iter::repeat(at.rsplit(',').next().unwrap()));
    let lines: String = (1..timeline.0).zip(switches).map(|(from, at)| format!("{from}\t{at}\treason\n")).collect();
    (timeline, History::parse(timeline, &lines).unwrap())
}

fn settings<'a>(words: &mut impl Iterator<Item = &'a str>) -> Result<Settings, Inert> {
    let mut settings = Settings {
        keepalive_time: Duration::from_secs(1),
        keepalive_count: 3,
        fast_failover: false,
        enabled: true,
        max_lag: 1 << 24,
        before_command: false,
        after_command: false,
        before_command_limit: Duration::ZERO,
        on_unknown_partner: OnUnknownPartner::Open,
        synchronous: false,
        on_standby_loss: OnStandbyLoss::Async,
        partner_generation: 1,
    };
    for word in words {
        match (word, word.split_once('=')) {
            ("no-partner", _) => return Err(Inert::NoPartner),
            ("bad", _) => return Err(Inert::BadSettings(vec!["pg_keeper.keepalive_time must be a time".to_owned()])),
            ("synchronous", _) => settings.synchronous = true,
            (_, Some(("on_unknown_partner", "open"))) => settings.on_unknown_partner = OnUnknownPartner::Open,
            (_, Some(("on_unknown_partner", "wait"))) => settings.on_unknown_partner = OnUnknownPartner::Wait,
            (_, Some(("on_standby_loss", "async"))) => settings.on_standby_loss = OnStandbyLoss::Async,
            (_, Some(("on_standby_loss", "wait"))) => settings.on_standby_loss = OnStandbyLoss::Wait,
            (_, Some(("before_command", limit))) => {
                settings.before_command = true;
                settings.before_command_limit = duration(limit);
            }
            ("fast_failover", _) => settings.fast_failover = true,
            ("disabled", _) => settings.enabled = false,
            ("before_command", None) => {
                settings.before_command = true;
                settings.before_command_limit = Duration::from_secs(30);
            }
            ("after_command", _) => settings.after_command = true,
            (_, Some(("time", value))) => settings.keepalive_time = duration(value),
            (_, Some(("count", value))) => settings.keepalive_count = value.parse().unwrap(),
            (_, Some(("max_lag", value))) => settings.max_lag = value.parse().unwrap(),
            (_, Some(("partner", value))) => settings.partner_generation = value.parse().unwrap(),
            _ => panic!("settings: {word}"),
        }
    }
    Ok(settings)
}

fn outcome<'a>(words: &mut impl Iterator<Item = &'a str>) -> CommandOutcome {
    match (words.next().unwrap(), words.next()) {
        ("exited", Some(code)) => CommandOutcome::Exited(code.parse().unwrap()),
        ("signalled", Some(signal)) => CommandOutcome::Signalled(signal.parse().unwrap()),
        ("timed-out", None) => CommandOutcome::TimedOut,
        ("not-started", Some(error)) => CommandOutcome::NotStarted(error.to_owned()),
        other => panic!("outcome: {other:?}"),
    }
}

fn reply<'a>(words: &mut impl Iterator<Item = &'a str>) -> Reply {
    let kind = words.next().unwrap();
    let mut rest = || words.by_ref().collect::<Vec<_>>().join(" ");
    match kind {
        "answer" => Reply::Complete(answer(words)),
        "error" => Reply::ServerError { sqlstate: SqlState::new(words.next().unwrap()), message: rest_of(words) },
        "connecting" => Reply::Transport { stage: Stage::Connecting, message: rest() },
        "startup" => Reply::Transport { stage: Stage::Startup, message: rest() },
        "asking" => Reply::Transport { stage: Stage::Asking, message: rest() },
        "unreadable" => Reply::Unreadable(rest()),
        "name-not-resolved" => Reply::NameNotResolved(rest()),
        "not-sent" => Reply::NotSent(rest()),
        other => panic!("reply: {other}"),
    }
}

fn rest_of<'a>(words: &mut impl Iterator<Item = &'a str>) -> String {
    words.collect::<Vec<_>>().join(" ")
}

fn answer<'a>(words: &mut impl Iterator<Item = &'a str>) -> Answer {
    let mut answer = Answer {
        system_identifier: SystemIdentifier(7),
        timeline: Timeline(1),
        lsn: Lsn(0x1000),
        history: History::of_first(Timeline(1)),
        report: Report {
            role: Role::Primary,
            instance: 2,
            node_name: "db01".to_owned(),
            enabled: true,
            keepalive_time: Duration::from_secs(1),
            keepalive_count: 3,
            parameters: parameters(),
            streaming: false,
            sight: Sight { state: PartnerState::Alive, sqlstate: String::new() },
            gate: GateKind::Open,
            before_command_limit: Duration::ZERO,
            synchronous: Synchronous::Unmanaged,
            // What an answering standby with these settings promises.
            promise: Duration::from_millis(2500),
            keeper_age: Duration::ZERO,
            version: keeper_core::Version::OURS,
            permit: Duration::ZERO,
            on_standby_loss: None,
        },
    };
    for word in words {
        match (word, word.split_once('=')) {
            ("primary", _) => answer.report.role = Role::Primary,
            ("standby", _) => answer.report.role = Role::Standby,
            ("streaming", _) => answer.report.streaming = true,
            ("disabled", _) => answer.report.enabled = false,
            (_, Some(("at", lsn))) => answer.lsn = lsn.parse().unwrap(),
            (_, Some(("timeline", number))) => (answer.timeline, answer.history) = history(number),
            (_, Some(("system", number))) => answer.system_identifier = SystemIdentifier(number.parse().unwrap()),
            (_, Some(("sees", state))) => answer.report.sight.state = PartnerState::parse(state).unwrap(),
            (_, Some(("gate", gate))) => answer.report.gate = GateKind::parse(gate).unwrap(),
            (_, Some(("promise", seconds))) => answer.report.promise = duration(seconds),
            (_, Some(("permit", seconds))) => answer.report.permit = duration(seconds),
            (_, Some(("keeper_age", seconds))) => answer.report.keeper_age = duration(seconds),
            (_, Some(("before_command", limit))) => answer.report.before_command_limit = duration(limit),
            (_, Some(("time", value))) => answer.report.keepalive_time = duration(value),
            (_, Some(("count", value))) => answer.report.keepalive_count = value.parse().unwrap(),
            (_, Some(("sync", "counts"))) => answer.report.synchronous = Synchronous::Counts { may_be_dropped: true },
            (_, Some(("sync", "counts-always"))) => {
                answer.report.synchronous = Synchronous::Counts { may_be_dropped: false };
            }
            (_, Some(("dropped", since))) => {
                answer.report.synchronous = Synchronous::Dropped { since: since.parse().unwrap() };
            }
            (_, Some(("instance", number))) => answer.report.instance = number.parse().unwrap(),
            (_, Some(("max_connections", number))) => {
                answer.report.parameters.max_connections = number.parse().unwrap()
            }
            _ => panic!("answer: {word}"),
        }
    }
    answer
}

fn describe(action: &Action) -> String {
    match action {
        Action::SendKeepalive => "send keepalive".to_owned(),
        Action::CloseConnection => "close connection".to_owned(),
        Action::SetSynchronousStandbyNames(SynchronousNames::Empty) => "empty synchronous_standby_names".to_owned(),
        Action::SetSynchronousStandbyNames(SynchronousNames::Wished) => {
            "set synchronous_standby_names as wished".to_owned()
        }
        Action::SetSynchronousStandbyNames(SynchronousNames::Other) => panic!("nobody wishes other names"),
        Action::SetGate(Gate::Closed) => "gate closed".to_owned(),
        Action::SetGate(Gate::Fenced) => "gate fenced".to_owned(),
        Action::SetGate(Gate::Open { until: Moment::NEVER }) => "gate open for good".to_owned(),
        Action::SetGate(Gate::Open { until }) if *until == Moment::default() => {
            "gate open, without a permit".to_owned()
        }
        Action::SetGate(Gate::Open { until }) => format!("gate open until {:.3}", seconds(*until)),
        Action::KeepFence(fence) => format!("keep fence: {fence}{}", if fence.lifted { "; lifted" } else { "" }),
        Action::SetFenceAside => "set the fence file aside".to_owned(),
        Action::EndClients => "end clients".to_owned(),
        Action::RunCommand(command) => format!("run {}", command.setting()),
        Action::TellRecorder(story) => format!(
            "tell recorder: from timeline {}, last answer {}, detected {:.3}, promoted {}, {} missed, {} void",
            story.from_timeline,
            story.last_answer.map_or("never".to_owned(), |at| format!("{:.3}", seconds(at))),
            seconds(story.detected),
            story.promoted.map_or("not yet".to_owned(), |at| format!("{:.3}", seconds(at))),
            story.keepalives_missed,
            story.attempts_void,
        ),
        Action::TakeBackStory => "take back the story".to_owned(),
        Action::Promote => "promote".to_owned(),
        Action::TellCommandOutcome(outcome) => format!("tell recorder: after_command {outcome}"),
        Action::Log(notice) => {
            let level = match notice.level {
                Level::Log => "LOG",
                Level::Warning => "WARNING",
            };
            [&notice.message, &notice.detail, &notice.hint]
                .into_iter()
                .filter(|text| !text.is_empty())
                .fold(format!("{level}:"), |line, text| format!("{line} {text}"))
        }
    }
}

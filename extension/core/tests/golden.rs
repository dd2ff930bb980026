//! Conversations with one node, as text files in `tests/golden/`.
//!
//! A line that begins with a time in seconds is something that happens; the indented lines below it are what the node wants done. The test
//! plays the file and demands the same text. After a wanted change, `UPDATE_GOLDEN=1 cargo test -p keeper-core` writes the files anew:
//! read the difference before you commit it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use keeper_core::{
    Action, Answer, Command, CommandOutcome, Event, Farewell, History, Level, Lsn, Moment, Node, Observation,
    Parameters, PartnerState, Reply, Report, Role, Settings, Sight, SqlState, Stage, SystemIdentifier, Timeline,
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
    node: Node,
    observation: Observation,
    text: String,
}

impl Play {
    fn new() -> Self {
        Play {
            node: Node::new(1, parameters(), None),
            observation: Observation {
                in_recovery: true,
                standby_signal: true,
                system_identifier: SystemIdentifier(7),
                timeline: Timeline(1),
                history: Some(History::of_first(Timeline(1))),
                received: Lsn(0),
                replayed: Lsn(0),
                streaming: false,
                synchronous: false,
                recorded: None,
            },
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
                "worker-restarted" => self.node = Node::new(1, parameters(), self.node.evidence()),
                "status" => {
                    let status = self.node.status();
                    let armed = if status.armed { "armed" } else { "not armed" };
                    let partner = status.partner_state.as_str();
                    writeln!(self.text, "    {}, partner {partner}, {armed}", status.state.as_str()).unwrap();
                    writeln!(self.text, "    {}", status.reason).unwrap();
                }
                word => {
                    let event = self.event(word, &mut words);
                    self.feed(at, event, false);
                }
            }
        }
        self.text
    }

    /// Wakes the node at each instant that it asks for.
    fn run_until(&mut self, end: Moment) {
        let mut now = end;
        while let Some(next) = self.node.next_deadline(now).filter(|next| *next <= end) {
            now = next;
            let look = Event::Observed(self.observation.clone());
            self.feed(now, look, true);
        }
    }

    fn feed(&mut self, at: Moment, event: Event, timed: bool) {
        let looked = matches!(event, Event::Observed(_));
        for action in self.node.step(at, event) {
            let time = if timed { format!("{:.3} ", seconds(at)) } else { String::new() };
            writeln!(self.text, "    {time}{}", describe(&action)).unwrap();
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
            "settings" => Event::SettingsRead(Ok(settings(words))),
            "look" => {
                for word in words {
                    match (word, word.split_once('=')) {
                        ("standby", _) => self.observation.in_recovery = true,
                        ("primary", _) => self.observation.in_recovery = false,
                        ("streaming", _) => self.observation.streaming = true,
                        ("not-streaming", _) => self.observation.streaming = false,
                        ("synchronous", _) => self.observation.synchronous = true,
                        ("asynchronous", _) => self.observation.synchronous = false,
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
            "refused-to-promote" => Event::PromotionRefused(words.collect::<Vec<_>>().join(" ")),
            other => Event::KeepaliveEnded(reply(&mut std::iter::once(other).chain(words))),
        }
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

fn seconds(moment: Moment) -> f64 {
    (moment.as_micros() - EPOCH) as f64 / 1e6
}

/// `2` is timeline 2 after a switch at 0/2000; `2@0/1000` names the switch.
fn history(text: &str) -> (Timeline, History) {
    let (number, at) = text.split_once('@').unwrap_or((text, "0/2000"));
    let timeline = Timeline(number.parse().unwrap());
    let lines: String = (1..timeline.0).map(|from| format!("{from}\t{at}\treason\n")).collect();
    (timeline, History::parse(timeline, &lines).unwrap())
}

fn settings<'a>(words: &mut impl Iterator<Item = &'a str>) -> Settings {
    let mut settings = Settings {
        keepalive_time: Duration::from_secs(1),
        keepalive_count: 3,
        fast_failover: false,
        enabled: true,
        max_lag: 1 << 24,
        before_command: false,
        after_command: false,
        partner_generation: 1,
    };
    for word in words {
        match (word, word.split_once('=')) {
            ("fast_failover", _) => settings.fast_failover = true,
            ("disabled", _) => settings.enabled = false,
            ("before_command", _) => settings.before_command = true,
            ("after_command", _) => settings.after_command = true,
            (_, Some(("time", value))) => settings.keepalive_time = Duration::from_secs_f64(value.parse().unwrap()),
            (_, Some(("count", value))) => settings.keepalive_count = value.parse().unwrap(),
            (_, Some(("max_lag", value))) => settings.max_lag = value.parse().unwrap(),
            (_, Some(("partner", value))) => settings.partner_generation = value.parse().unwrap(),
            _ => panic!("settings: {word}"),
        }
    }
    settings
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
        Action::EmptySynchronousStandbyNames => "empty synchronous_standby_names".to_owned(),
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

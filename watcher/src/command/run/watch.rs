//! What is known of both nodes, and what follows from it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use watcher_core::choose::{Choice, NodeId, Observation, Past, choose};
use watcher_core::config::Config;
use watcher_core::follow::{Active, Following, News};
use watcher_core::pace::Pace;

use crate::command::{describe, notify};
use crate::monitor::metrics;
use crate::node::{Failure, Question, Report};
use crate::state::Store;

/// What is known, and who is told.
pub(super) struct Watch<'a> {
    config: &'a Config,
    /// What is remembered, here so that a decision never waits for the disk. [`remember`] writes down what it is told.
    past: Past,
    remembered: watch::Sender<Past>,
    seen: [Seen; 2],
    choice: Option<Choice>,
    question: watch::Sender<Question>,
    /// Nobody while there is no evidence.
    active: watch::Sender<Option<Active>>,
    following: Following,
}

/// What is known of one node.
#[derive(Debug, Default)]
struct Seen {
    /// How its last attempt ended; `None` before the first.
    answer: Option<Result<Observation, Failure>>,
    /// An attempt takes longer than usual.
    late: bool,
}

impl Seen {
    /// What it is to the decision; nothing as long as the first attempt may still end well, however late it is.
    fn observation(&self) -> Option<Observation> {
        self.answer.as_ref().map(|answer| answer.as_ref().copied().unwrap_or(Observation::Unreachable))
    }

    fn describe(&self) -> String {
        self.answer.as_ref().map_or_else(|| "no answer yet".to_owned(), describe)
    }
}

impl<'a> Watch<'a> {
    /// Nothing is known yet.
    pub(super) fn new(
        config: &'a Config,
        past: watch::Sender<Past>,
        question: watch::Sender<Question>,
        active: watch::Sender<Option<Active>>,
    ) -> Self {
        let remembered = past;
        let past = remembered.borrow().clone();
        let following = Following::default();
        Self { config, past, remembered, seen: Default::default(), choice: None, question, active, following }
    }

    /// What was decided last.
    pub(super) fn choice(&self) -> Option<&Choice> {
        self.choice.as_ref()
    }

    /// Takes in news of a node and decides anew.
    pub(super) fn take(&mut self, node: NodeId, report: Report) {
        let name = &self.config.nodes[node.index()].name;
        let seen = &mut self.seen[node.index()];
        match report {
            Report::Late => seen.late = true,
            Report::Asked(answer) => {
                seen.late = false;
                let before = seen.answer.replace(answer);
                let now = seen.describe();
                if before.as_ref().map(describe).as_ref() != Some(&now) {
                    tracing::info!("{name}: {now}");
                }
            }
            Report::LogRow(Ok(Some((unixtime, host)))) => {
                tracing::info!("{name}: the newest row of failover_log: {host} since {unixtime}");
            }
            Report::LogRow(Ok(None)) => tracing::info!("{name}: failover_log has no row"),
            Report::LogRow(Err(failure)) => tracing::info!("{name}: failover_log is not read: {}", failure.message),
        }
        self.decide();
    }

    fn decide(&mut self) {
        let [Some(first), Some(second)] = self.seen.each_ref().map(Seen::observation) else {
            return;
        };
        let (observations, names) = ([first, second], self.config.node_names());
        let choice = choose(observations, names, &self.past);
        let before = self.past.clone();
        self.past.learn(observations, names, choice);
        if self.past != before {
            self.remembered.send_replace(self.past.clone());
        }
        if self.choice != Some(choice) {
            self.choice = Some(choice);
            self.announce(choice);
        }
        let late = matches!(choice, Choice::Active(node, _) if self.seen[node.index()].late);
        let pace = Pace::after(choice, late);
        self.question.send_if_modified(|question| std::mem::replace(&mut question.pace, pace) != pace);
    }

    fn announce(&mut self, choice: Choice) {
        let sentence = choice.describe(self.config.node_names()).to_string();
        match choice {
            Choice::Active(..) => tracing::info!("{sentence}"),
            Choice::Nobody(_) => tracing::warn!("{sentence}"),
            Choice::TwoPrimaries(_) => tracing::error!("{sentence}"),
        }
        let followed = self.following.take(choice);
        if followed.news == News::Node {
            metrics::active_node_changed();
        }
        self.active.send_replace(followed.active);
        if let (Some(active), News::Position | News::Node) = (followed.active, followed.news) {
            self.question.send_modify(|question| question.log_wanted = (question.log_wanted.0 + 1, active.node));
        }
        notify(&[sd_notify::NotifyState::Status(&sentence)]);
    }

    /// Says where things stand.
    pub(super) fn summarize(&self, troubles: &[String]) {
        let [first, second] = &self.seen;
        let names = self.config.node_names();
        let sentence = self
            .choice
            .as_ref()
            .map_or_else(|| "nothing known yet".to_owned(), |choice| choice.describe(names).to_string());
        tracing::info!("{sentence}; {}: {}; {}: {}", names[0], first.describe(), names[1], second.describe());
        for trouble in troubles {
            tracing::error!("not up to date: {trouble}");
        }
        let status = troubles.first().map_or(sentence, |trouble| format!("not up to date: {trouble}"));
        notify(&[sd_notify::NotifyState::Status(&status)]);
    }
}

/// Writes down what is remembered, again and again until it is on disk; ends when nobody remembers any more. A target that
/// changes its file because of it has written it down already.
pub(super) async fn remember(store: Arc<Store>, mut past: watch::Receiver<Past>) {
    while past.changed().await.is_ok() {
        let mut told = false;
        loop {
            let (store, latest) = (Arc::clone(&store), past.clone());
            // The latest is read when it is its turn to be written, so that it never overwrites a later one.
            let write = move || store.update(|memory| memory.past = latest.borrow().clone());
            let Ok(Err(error)) = tokio::task::spawn_blocking(write).await else { break };
            if !std::mem::replace(&mut told, true) {
                tracing::error!("{error:#}; it is tried again");
            }
            tokio::time::sleep(REMEMBER_AGAIN).await;
        }
        if told {
            tracing::info!("the state is written again");
        }
    }
}

const REMEMBER_AGAIN: Duration = Duration::from_secs(1);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use watcher_core::units::{SystemIdentifier, Timeline};

    use super::*;

    const CONFIG: &str = "nodes: {db01: {conninfo: host=a}, db02: {conninfo: host=b}}\n\
        targets: [{file: /f, set: {a: \"{host}\"}, restart: {command: [/bin/true]}}]\n";

    #[test]
    fn a_first_answer_that_is_late_is_waited_for() {
        let config = Config::parse(CONFIG).unwrap();
        let (active, followed) = watch::channel(None);
        let question = Question { pace: Pace::Outage, log_wanted: (0, NodeId::First) };
        let mut watch = Watch::new(&config, watch::channel(Past::default()).0, watch::channel(question).0, active);
        let primary = |timeline| {
            let system_identifier = SystemIdentifier(7);
            Report::Asked(Ok(Observation::Primary { system_identifier, timeline: Timeline(timeline), fenced: false }))
        };
        watch.take(NodeId::Second, Report::Late);
        watch.take(NodeId::First, primary(1));
        assert_eq!(*followed.borrow(), None);
        watch.take(NodeId::Second, primary(2));
        assert_eq!(followed.borrow().map(|active| active.node), Some(NodeId::Second));
    }
}

//! What is known of both nodes, and what follows from it.

use std::sync::Arc;

use tokio::sync::watch;
use watcher_core::choose::{Choice, Highest, NodeId, Observation, choose};
use watcher_core::config::Config;
use watcher_core::pace::Pace;

use super::notify;
use crate::command::describe;
use crate::node::{Failure, Question, Report};
use crate::state::Store;
use crate::target::Active;

/// What is known, and who is told.
pub(super) struct Watch<'a> {
    config: &'a Config,
    store: &'a Arc<Store>,
    /// What the store remembers, here so that a decision never waits for the disk.
    highest: Highest,
    seen: [Seen; 2],
    choice: Option<Choice>,
    question: watch::Sender<Question>,
    active: watch::Sender<Option<Active>>,
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
    /// What it is to the decision; nothing as long as the first attempt may still end well.
    fn observation(&self) -> Option<Observation> {
        match &self.answer {
            Some(answer) => Some(answer.as_ref().copied().unwrap_or(Observation::Unreachable)),
            None => self.late.then_some(Observation::Unreachable),
        }
    }

    fn describe(&self) -> String {
        self.answer.as_ref().map_or_else(|| "no answer yet".to_owned(), describe)
    }
}

impl<'a> Watch<'a> {
    /// Nothing is known yet.
    pub(super) fn new(
        config: &'a Config,
        store: &'a Arc<Store>,
        question: watch::Sender<Question>,
        active: watch::Sender<Option<Active>>,
    ) -> Self {
        let highest = store.memory().highest;
        Self { config, store, highest, seen: Default::default(), choice: None, question, active }
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
        let choice = choose([first, second], &self.highest);
        if self.choice != Some(choice) {
            self.choice = Some(choice);
            self.announce(choice);
        }
        // Where evidence contradicts itself somebody has to step in, and nothing is won by asking fast.
        let pace = match choice {
            Choice::Active(node, _) if self.seen[node.index()].late => Pace::Outage,
            Choice::Active(..) | Choice::TwoPrimaries(_) => Pace::Calm,
            Choice::Nobody(_) => Pace::Outage,
        };
        self.question.send_if_modified(|question| std::mem::replace(&mut question.pace, pace) != pace);
    }

    fn announce(&mut self, choice: Choice) {
        let sentence = choice.describe(self.config.node_names()).to_string();
        match choice {
            Choice::Active(node, position) => {
                let active = Active { node, position };
                let is_new = *self.active.borrow() != Some(active);
                tracing::info!("{sentence}");
                if is_new {
                    self.highest.insert(position.system_identifier, position.timeline);
                    self.active.send_replace(Some(active));
                    self.question.send_modify(|question| question.log_wanted = (question.log_wanted.0 + 1, node));
                    self.remember(active);
                }
            }
            Choice::Nobody(_) => tracing::warn!("{sentence}"),
            Choice::TwoPrimaries(_) => tracing::error!("{sentence}"),
        }
        notify(&[sd_notify::NotifyState::Status(&sentence)]);
    }

    /// Writes down who is active. A target that changes its file because of it has written it down already.
    fn remember(&self, active: Active) {
        let name = self.config.nodes[active.node.index()].name.clone();
        let store = Arc::clone(self.store);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = store.update(|memory| memory.note_active(&name, active.position)) {
                tracing::error!("{error:#}");
            }
        });
    }

    /// Says where things stand.
    pub(super) fn summarize(&self) {
        let [first, second] = &self.seen;
        let names = self.config.node_names();
        let sentence = self
            .choice
            .as_ref()
            .map_or_else(|| "nothing known yet".to_owned(), |choice| choice.describe(names).to_string());
        tracing::info!("{sentence}; {}: {}; {}: {}", names[0], first.describe(), names[1], second.describe());
    }
}

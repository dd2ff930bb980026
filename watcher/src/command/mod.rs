//! The commands, one a file.

mod check;
mod diff;
mod dropin;
mod manual;
mod once;
mod run;
mod status;

pub(crate) use check::check;
pub(crate) use diff::diff;
pub(crate) use dropin::dropin;
pub(crate) use manual::{completions, man};
pub(crate) use once::once;
pub(crate) use run::run;
pub(crate) use status::{nagios, status};

use std::pin::pin;
use std::time::Duration;

use sd_notify::NotifyState;
use watcher_core::choose::{Observation, Past};
use watcher_core::config::Config;

use crate::clock;
use crate::node::{Failure, ask_once};

/// What the other node gets to answer when the active one has. Who was promoted a moment ago answers within milliseconds.
const SECOND_OPINION: Duration = Duration::from_millis(200);

/// Asks both nodes at the same time, once.
async fn ask_both(config: &Config) -> [Result<Observation, Failure>; 2] {
    let [first, second] = &config.nodes;
    let limit = config.connection.timeout;
    let (first, second) = tokio::join!(ask_once(first, limit), ask_once(second, limit));
    [first, second]
}

/// The same for an application that is about to start, most often because the other node is silent: once the node that was active before
/// has answered as what it was, the other one is not waited for until its time is up.
async fn ask_until_known(config: &Config, past: &Past) -> [Result<Observation, Failure>; 2] {
    let [first, second] = &config.nodes;
    let limit = config.connection.timeout;
    let (mut one, mut other) = (pin!(ask_once(first, limit)), pin!(ask_once(second, limit)));
    let is_known = |answer: &Result<Observation, Failure>, name: &str| {
        answer.as_ref().is_ok_and(|observation| past.is_repeated_by(*observation, name))
    };
    tokio::select! {
        answer = &mut one => {
            let limit = if is_known(&answer, &first.name) { SECOND_OPINION } else { limit };
            [answer, clock::within(limit, other).await.unwrap_or_else(|| Err(Failure::silent(limit)))]
        }
        answer = &mut other => {
            let limit = if is_known(&answer, &second.name) { SECOND_OPINION } else { limit };
            [clock::within(limit, one).await.unwrap_or_else(|| Err(Failure::silent(limit))), answer]
        }
    }
}

/// What answers and failures are to the decision.
fn observations(answers: &[Result<Observation, Failure>; 2]) -> [Observation; 2] {
    answers.each_ref().map(|answer| answer.as_ref().copied().unwrap_or(Observation::Unreachable))
}

/// Tells systemd, if it started us.
pub(crate) fn notify(state: &[NotifyState<'_>]) {
    if std::env::var_os("NOTIFY_SOCKET").is_some()
        && let Err(error) = sd_notify::notify(state)
    {
        tracing::warn!("cannot tell systemd: {error}");
    }
}

/// An answer for people.
fn describe(answer: &Result<Observation, Failure>) -> String {
    match answer {
        Ok(Observation::Primary { timeline, fenced: false, .. }) => format!("primary on timeline {timeline}"),
        Ok(Observation::Primary { timeline, fenced: true, .. }) => format!("fenced primary on timeline {timeline}"),
        Ok(Observation::Standby { .. }) => "standby".to_owned(),
        Ok(Observation::Unreachable) => "unreachable".to_owned(),
        Err(failure) => format!("unreachable: {}", failure.message),
    }
}

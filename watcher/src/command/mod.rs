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

use sd_notify::NotifyState;
use watcher_core::choose::Observation;
use watcher_core::config::Config;

use crate::node::{Failure, ask_once};

/// Asks both nodes at the same time, once.
async fn ask_both(config: &Config) -> [Result<Observation, Failure>; 2] {
    let [first, second] = &config.nodes;
    let limit = config.connection.timeout;
    let (first, second) = tokio::join!(ask_once(first, limit), ask_once(second, limit));
    [first, second]
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

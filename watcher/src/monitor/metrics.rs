//! What is counted, for Prometheus. A process has one page of metrics, so whoever counts needs nothing handed to him.

use std::fmt;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry, Unit};
use watcher_core::choose::{Choice, NodeId, Observation};
use watcher_core::config::Config;
use watcher_core::pace::Ended;

use crate::node::Failure;
use crate::restart::CarriedOut;
use crate::state::Store;
use crate::target::Brought;

static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

type Label = (&'static str, String);

struct Metrics {
    registry: Registry,
    node_up: Family<[Label; 1], Gauge>,
    node_active: Family<[Label; 1], Gauge>,
    node_state: Family<[Label; 2], Gauge>,
    node_timeline: Family<[Label; 1], Gauge>,
    node_attempts: Family<[Label; 2], Counter>,
    node_last_answer: Family<[Label; 1], Gauge>,
    two_primaries: Gauge,
    active_node_changes: Counter,
    target_up_to_date: Family<[Label; 1], Gauge>,
    target_rewrites: Family<[Label; 1], Counter>,
    target_rewrite_failures: Family<[Label; 1], Counter>,
    target_restarts: Family<[Label; 2], Counter>,
    target_restart_duration: Family<[Label; 1], Histogram, fn() -> Histogram>,
    target_restart_pending: Family<[Label; 1], Gauge>,
    target_restart_failed_attempts: Family<[Label; 1], Gauge>,
    reload_successful: Gauge,
    log_lines_lost: Counter,
}

/// How a restart ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The application was restarted.
    Done,
    /// It was not running, so nothing was restarted.
    NotRunning,
    /// It is no longer waited for, as another one is due.
    Overtaken,
    /// It failed.
    Failed,
}

impl Outcome {
    const ALL: [Self; 4] = [Self::Done, Self::NotRunning, Self::Overtaken, Self::Failed];

    /// How it ended that was carried out, or failed.
    pub(crate) fn of(ended: &anyhow::Result<CarriedOut>) -> Self {
        match ended {
            Ok(CarriedOut::Restarted) => Self::Done,
            Ok(CarriedOut::NotRunning) => Self::NotRunning,
            Ok(CarriedOut::Overtaken) => Self::Overtaken,
            Ok(CarriedOut::Failed(_)) | Err(_) => Self::Failed,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::NotRunning => "not_running",
            Self::Overtaken => "overtaken",
            Self::Failed => "failed",
        }
    }
}

const STATES: [&str; 4] = ["primary", "fenced", "standby", "unreachable"];
const RESULTS: [&str; 4] = ["answered", "refused", "rejected", "silent"];

impl Metrics {
    fn new() -> Self {
        let mut registry = Registry::with_prefix("pg_keeper_watcher");
        registry.register("build", "The program", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        let r = &mut registry;
        let duration: fn() -> Histogram =
            || Histogram::new([0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0]);
        let metrics = Self {
            node_up: with(r, "node_up", "Whether the last attempt to ask the node was answered"),
            node_active: with(r, "node_active", "Whether the node is the active one"),
            node_state: with(r, "node_state", "What the node was seen to be last: 1 for that state, 0 for the others"),
            node_timeline: with(r, "node_timeline", "The timeline of a node that is primary"),
            node_attempts: with(r, "node_attempts", "Attempts to ask the node, by how they ended"),
            node_last_answer: {
                let gauge = Family::default();
                let help = "When the node answered last, in Unix time";
                r.register_with_unit("node_last_answer_timestamp", help, Unit::Seconds, gauge.clone());
                gauge
            },
            two_primaries: with(r, "two_primaries", "Whether two nodes might be primary, so that nothing is changed"),
            active_node_changes: with(r, "active_node_changes", "How often another node became the active one"),
            target_up_to_date: with(r, "target_up_to_date", "Whether the file was right when it was tried last"),
            target_rewrites: with(r, "target_rewrites", "Rewrites of the file"),
            target_rewrite_failures: with(
                r,
                "target_rewrite_failures",
                "Attempts to bring the file up to date that failed",
            ),
            target_restarts: with(r, "target_restarts", "Restarts of the application, by how they ended"),
            target_restart_duration: {
                let family = Family::new_with_constructor(duration);
                let help = "How long restarts of the application took that were carried out";
                r.register_with_unit("target_restart_duration", help, Unit::Seconds, family.clone());
                family
            },
            target_restart_pending: with(r, "target_restart_pending", "Whether a restart is owed to the application"),
            target_restart_failed_attempts: with(
                r,
                "target_restart_failed_attempts",
                "Attempts at the restart that is owed, or at seeing the application back, that failed",
            ),
            reload_successful: with(
                r,
                "config_last_reload_successful",
                "Whether the configuration was taken when read last",
            ),
            log_lines_lost: with(r, "log_lines_lost", "Lines of the log that were dropped as nobody read it"),
            registry,
        };
        metrics.reload_successful.set(1);
        metrics
    }
}

fn with<M: Metric + Default + Clone>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

fn node(name: &str) -> [Label; 1] {
    [("node", name.to_owned())]
}

fn target(name: &str) -> [Label; 1] {
    [("target", name.to_owned())]
}

fn and(one: [Label; 1], key: &'static str, value: &str) -> [Label; 2] {
    let [one] = one;
    [one, (key, value.to_owned())]
}

/// A configuration begins to be followed: its nodes and targets are there from the first scrape on, and no others.
pub(crate) fn begin(config: &Config) {
    let metrics = &*METRICS;
    for family in [&metrics.node_up, &metrics.node_active, &metrics.node_timeline, &metrics.node_last_answer] {
        family.clear();
    }
    for family in [&metrics.target_up_to_date, &metrics.target_restart_pending, &metrics.target_restart_failed_attempts]
    {
        family.clear();
    }
    metrics.node_state.clear();
    metrics.two_primaries.set(0);
    for name in config.node_names() {
        metrics.node_up.get_or_create(&node(name)).set(0);
        metrics.node_active.get_or_create(&node(name)).set(0);
        for result in RESULTS {
            drop(metrics.node_attempts.get_or_create(&and(node(name), "result", result)));
        }
    }
    for name in config.targets.iter().map(|target| &target.name) {
        drop(metrics.target_rewrites.get_or_create(&target(name)));
        drop(metrics.target_rewrite_failures.get_or_create(&target(name)));
        for outcome in Outcome::ALL {
            drop(metrics.target_restarts.get_or_create(&and(target(name), "result", outcome.label())));
        }
    }
}

/// An attempt to ask a node ended.
pub(crate) fn asked(name: &str, answer: &Result<Observation, Failure>) {
    let metrics = &*METRICS;
    let (state, timeline) = match answer {
        Ok(Observation::Primary { timeline, fenced: false, .. }) => ("primary", Some(*timeline)),
        Ok(Observation::Primary { timeline, fenced: true, .. }) => ("fenced", Some(*timeline)),
        Ok(Observation::Standby { .. }) => ("standby", None),
        Ok(Observation::Unreachable) | Err(_) => ("unreachable", None),
    };
    let result = match answer.as_ref().map_or_else(|failure| failure.ended, |_| Ended::Answered) {
        Ended::Answered => "answered",
        Ended::Refused => "refused",
        Ended::Rejected => "rejected",
        Ended::Silent => "silent",
    };
    metrics.node_attempts.get_or_create(&and(node(name), "result", result)).inc();
    metrics.node_up.get_or_create(&node(name)).set(i64::from(answer.is_ok()));
    for other in STATES {
        metrics.node_state.get_or_create(&and(node(name), "state", other)).set(i64::from(other == state));
    }
    if let Some(timeline) = timeline {
        metrics.node_timeline.get_or_create(&node(name)).set(i64::from(timeline.0));
    } else {
        metrics.node_timeline.remove(&node(name));
    }
    if answer.is_ok() {
        metrics.node_last_answer.get_or_create(&node(name)).set(unix_time());
    }
}

/// A choice was made, perhaps the same one as before.
pub(crate) fn chose(config: &Config, choice: &Choice) {
    let metrics = &*METRICS;
    let active = match choice {
        Choice::Active(node, _) => Some(*node),
        Choice::Nobody(_) | Choice::TwoPrimaries(_) => None,
    };
    for id in NodeId::ALL {
        let name = &config.nodes[id.index()].name;
        metrics.node_active.get_or_create(&node(name)).set(i64::from(active == Some(id)));
    }
    metrics.two_primaries.set(i64::from(matches!(choice, Choice::TwoPrimaries(_))));
}

/// Another node became the active one.
pub(crate) fn active_node_changed() {
    METRICS.active_node_changes.inc();
}

/// A target's file was rewritten.
pub(crate) fn rewrote(name: &str) {
    METRICS.target_rewrites.get_or_create(&target(name)).inc();
}

/// A target's file was found right or made right, or that failed.
pub(crate) fn tried_file(name: &str, brought: &anyhow::Result<Brought>) {
    let is_right = matches!(brought, Ok(Brought::UpToDate(_)));
    METRICS.target_up_to_date.get_or_create(&target(name)).set(i64::from(is_right));
    if brought.is_err() {
        METRICS.target_rewrite_failures.get_or_create(&target(name)).inc();
    }
}

/// A restart ended.
pub(crate) fn restarted(name: &str, outcome: Outcome, took: Duration) {
    METRICS.target_restarts.get_or_create(&and(target(name), "result", outcome.label())).inc();
    if outcome == Outcome::Done {
        METRICS.target_restart_duration.get_or_create(&target(name)).observe(took.as_secs_f64());
    }
}

/// The configuration was read again, and taken or refused.
pub(crate) fn reloaded(taken: bool) {
    METRICS.reload_successful.set(i64::from(taken));
}

/// All of it, as OpenMetrics; `targets` are the targets' names and the keys of their debts.
pub(super) fn page(targets: &[(String, PathBuf)], store: &Store) -> Result<String, fmt::Error> {
    let metrics = &*METRICS;
    let memory = store.memory();
    for (name, key) in targets {
        let debt = memory.debt(key);
        let pending = i64::from(debt.restart_pending() || debt.unverified);
        metrics.target_restart_pending.get_or_create(&target(name)).set(pending);
        metrics.target_restart_failed_attempts.get_or_create(&target(name)).set(i64::from(debt.attempts));
    }
    metrics.log_lines_lost.inner().store(crate::log::lines_lost(), Ordering::Relaxed);
    let mut text = String::new();
    encode(&mut text, &metrics.registry)?;
    Ok(text)
}

fn unix_time() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

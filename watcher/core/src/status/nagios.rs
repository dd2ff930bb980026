//! The status as a Nagios plugin tells it: one line, performance data, an exit code.
//!
//! CRITICAL: an application may be without its database now. WARNING: applications are served, and the next failure might
//! not be survived, or a failover is being followed at this moment.

use super::table::describe_restart;
use super::{FileState, NodeState, RestartState, State, Status, Target};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// All is well.
    Ok,
    /// Somebody should look at it by day.
    Warning,
    /// Somebody should look at it now.
    Critical,
    /// It cannot be told.
    Unknown,
}

impl Severity {
    /// The line of a plugin, without performance data.
    pub fn line(self, text: &str) -> String {
        let word = match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        };
        // A bar would begin the performance data, and a line's end the long output.
        let text: String = text.chars().map(|c| if c == '|' || c.is_control() { ' ' } else { c }).collect();
        format!("PG_KEEPER_WATCHER {word} - {text}")
    }
}

impl Status {
    /// How bad it is, and the line; `daemon_expected`: it is a finding if no daemon runs.
    pub fn to_nagios(&self, daemon_expected: bool) -> (Severity, String) {
        let findings = self.findings(daemon_expected);
        let severity = findings.iter().map(|(severity, _)| *severity).max().unwrap_or(Severity::Ok);
        let mut worst_first = findings;
        worst_first.sort_by_key(|(severity, _)| std::cmp::Reverse(*severity));
        let mut text: Vec<String> = worst_first.into_iter().map(|(_, finding)| finding).collect();
        if self.state == State::Active {
            text.push(self.sentence.clone());
        }
        (severity, format!("{} | {}", severity.line(&text.join("; ")), self.performance_data(daemon_expected)))
    }

    fn findings(&self, daemon_expected: bool) -> Vec<(Severity, String)> {
        let mut findings = Vec::new();
        match self.state {
            State::Active => {}
            State::NoActiveNode | State::TwoPrimaries => findings.push((Severity::Critical, self.sentence.clone())),
        }
        if daemon_expected && !self.daemon_running {
            findings.push((Severity::Warning, "no watcher is running".to_owned()));
        }
        for node in &self.nodes {
            match node.state {
                NodeState::Primary | NodeState::Standby => {}
                NodeState::Fenced => findings.push((Severity::Warning, format!("{} is fenced", node.name))),
                NodeState::Unreachable => findings.push((Severity::Warning, format!("{} is unreachable", node.name))),
            }
        }
        for target in &self.targets {
            let name = &target.name;
            match (target.file_state, &target.error) {
                (FileState::UpToDate | FileState::NotCompared, _) => {}
                (FileState::NotUpToDate, _) => {
                    findings.push((Severity::Critical, format!("{name}: the file is not up to date")));
                }
                (FileState::Unusable, error) => {
                    let error = error.as_deref().unwrap_or("the file cannot be used");
                    findings.push((Severity::Critical, format!("{name}: {error}")));
                }
            }
            match target.restart {
                RestartState::None => {}
                // It was just restarted; another look tells.
                RestartState::Unverified if target.failed_attempts == 0 => {
                    findings.push((Severity::Warning, format!("{name}: {}", describe_restart(target))));
                }
                RestartState::Pending | RestartState::Unverified => {
                    findings.push((Severity::Critical, format!("{name}: {}", describe_restart(target))));
                }
            }
        }
        findings
    }

    /// `label=value;warning;critical;least;most`, as plugins write it.
    fn performance_data(&self, daemon_expected: bool) -> String {
        let targets = self.targets.len();
        let count = |holds: fn(&Target) -> bool| self.targets.iter().filter(|target| holds(target)).count();
        let answering = self.nodes.iter().filter(|node| node.state != NodeState::Unreachable).count();
        let outdated = count(|target| matches!(target.file_state, FileState::NotUpToDate | FileState::Unusable));
        let pending = count(|target| target.restart != RestartState::None);
        let daemon = u8::from(self.daemon_running);
        let expected = if daemon_expected { "1:" } else { "" };
        let timeline = self.timeline.map(|timeline| format!(" timeline={timeline}")).unwrap_or_default();
        format!(
            "nodes_answering={answering};2:;1:;0;2 files_outdated={outdated};0;;0;{targets} \
             restarts_pending={pending};0;;0;{targets} daemon={daemon};{expected};;0;1{timeline}"
        )
    }
}

//! The status for people.

use super::{FileState, Node, NodeState, RestartState, Status, Target};

impl Status {
    /// As a table.
    pub fn to_table(&self) -> String {
        let nodes = self.nodes.iter().map(|node| [node.name.clone(), node.address.clone(), describe_node(node)]);
        let targets =
            self.targets.iter().map(|target| [target.name.clone(), describe_file(target), describe_restart(target)]);
        let daemon = if self.daemon_running { "a watcher is running" } else { "no watcher is running" };
        format!(
            "{}; {daemon}\n\n{}\n{}",
            self.sentence,
            aligned(["NODE", "ADDRESS", "STATE"], nodes),
            aligned(["TARGET", "FILE", "RESTART"], targets)
        )
    }
}

fn describe_node(node: &Node) -> String {
    let timeline = node.timeline.map(|timeline| format!(" on timeline {timeline}")).unwrap_or_default();
    match (node.state, &node.error) {
        (NodeState::Primary, _) => format!("primary{timeline}"),
        (NodeState::Fenced, _) => format!("fenced primary{timeline}"),
        (NodeState::Standby, _) => "standby".to_owned(),
        (NodeState::Unreachable, Some(error)) => format!("unreachable: {error}"),
        (NodeState::Unreachable, None) => "unreachable".to_owned(),
    }
}

fn describe_file(target: &Target) -> String {
    match (target.file_state, &target.error) {
        (FileState::UpToDate, _) => format!("{} is up to date", target.file),
        (FileState::NotUpToDate, _) => format!("{} is not up to date", target.file),
        (FileState::NotCompared, _) => format!("{} is not compared", target.file),
        // The error names the file.
        (FileState::Unusable, Some(error)) => error.clone(),
        (FileState::Unusable, None) => format!("{} cannot be used", target.file),
    }
}

/// What is owed, for people.
pub(super) fn describe_restart(target: &Target) -> String {
    let failed = match target.failed_attempts {
        0 => String::new(),
        1 => ", 1 attempt failed".to_owned(),
        count => format!(", {count} attempts failed"),
    };
    match target.restart {
        RestartState::None => "none pending".to_owned(),
        RestartState::Pending => format!("restart pending{failed}"),
        RestartState::Unverified => format!("restarted, not seen to be back{failed}"),
    }
}

/// Columns as wide as their widest cell; the last one ends where it ends.
fn aligned<const N: usize>(head: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let rows: Vec<[String; N]> = std::iter::once(head.map(str::to_owned)).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let mut text = String::new();
    for row in &rows {
        for (column, cell) in row.iter().enumerate() {
            text.push_str(cell);
            if column + 1 < N {
                text.extend(std::iter::repeat_n(' ', width(column) - cell.chars().count() + 2));
            }
        }
        text.push('\n');
    }
    text
}

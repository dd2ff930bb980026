//! Processes by the folder they work in: who they are, and signals to all of them.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Every living process whose working directory lies in the folder. A zombie has no working directory any more.
pub fn living_in(folder: &Path) -> Vec<Pid> {
    let works_in = |pid: &Pid| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|place| place.starts_with(folder));
    all().filter(works_in).collect()
}

fn all() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).map(Pid::from_raw)
}

/// SIGKILL to every process in the folder, until none is left.
pub fn kill_all_in(folder: &Path) -> Result<()> {
    until_none_left("kill", folder, Signal::SIGKILL, |_| true)
}

/// SIGSTOP to every process in the folder, until every one has stopped.
pub fn stop_all_in(folder: &Path) -> Result<()> {
    until_none_left("stop", folder, Signal::SIGSTOP, |pid| state(pid) != Some('T'))
}

/// SIGCONT to every process in the folder.
pub fn continue_all_in(folder: &Path) {
    for pid in living_in(folder) {
        let _ = kill(pid, Signal::SIGCONT);
    }
}

/// A process may fork while its siblings get the signal, so one pass is not enough.
fn until_none_left(what: &str, folder: &Path, signal: Signal, open: impl Fn(Pid) -> bool) -> Result<()> {
    let begun = Instant::now();
    loop {
        let left: Vec<Pid> = living_in(folder).into_iter().filter(|pid| open(*pid)).collect();
        if left.is_empty() {
            return Ok(());
        }
        ensure!(
            begun.elapsed() < Duration::from_secs(20),
            "could not {what} processes {left:?} in {}",
            folder.display()
        );
        for pid in left {
            // Gone in the meantime is what we want.
            let _ = kill(pid, signal);
        }
        sleep(Duration::from_millis(1));
    }
}

/// The one-letter state of a process, as in `ps`.
pub fn state(pid: Pid) -> Option<char> {
    // The name, in parentheses, may itself hold spaces and parentheses.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// The children of these processes, also one that is about to end, which works nowhere any more, and one that has ended and is not reaped. What
/// such a child spent is nobody's meanwhile.
pub fn children_of(parents: &[Pid]) -> Vec<Pid> {
    all().filter(|pid| parent(*pid).is_some_and(|parent| parents.contains(&parent))).collect()
}

fn parent(pid: Pid) -> Option<Pid> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, words) = stat.rsplit_once(") ")?;
    words.split_whitespace().nth(1)?.parse().ok().map(Pid::from_raw)
}

/// The command line of a process; PostgreSQL's say what they are in it.
pub fn title(pid: Pid) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ").trim().to_owned()
}

/// How long a process has been on a CPU so far, to the nanosecond.
pub fn cpu_time(pid: Pid) -> Result<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat"))?;
    let nanoseconds = text.split_whitespace().next().unwrap_or_default().parse()?;
    Ok(Duration::from_nanos(nanoseconds))
}

/// How long the children of a process that have ended were on a CPU, to a hundredth of a second.
pub fn cpu_time_of_ended_children(pid: Pid) -> Duration {
    /// `USER_HZ`, which Linux shows times in on every architecture that PostgreSQL is packaged for.
    const TICKS_PER_SECOND: u64 = 100;
    /// `cutime`, counted from the state, which is the first word after the name.
    const CUTIME: usize = 13;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let words = stat.rsplit_once(") ").map(|(_, words)| words).unwrap_or_default();
    let ticks = words.split_whitespace().skip(CUTIME).take(2).filter_map(|word| word.parse::<u64>().ok());
    Duration::from_millis(ticks.sum::<u64>() * 1000 / TICKS_PER_SECOND)
}

/// What all processes in a folder have spent so far, those that have ended among them.
pub fn cpu_time_in(folder: &Path) -> Duration {
    living_in(folder).into_iter().map(|pid| cpu_time(pid).unwrap_or_default() + cpu_time_of_ended_children(pid)).sum()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, id};

    use nix::sys::wait::{Id, WaitPidFlag, waitid};

    use super::*;

    #[test]
    fn an_unreaped_child_is_a_child_and_works_nowhere() {
        let mut child = Command::new("true").spawn().unwrap();
        let [pid, parent] = [child.id(), id()].map(|number| Pid::from_raw(number.cast_signed()));
        waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).unwrap();
        assert!(children_of(&[parent]).contains(&pid));
        assert!(!living_in(Path::new("/")).contains(&pid));
        child.wait().unwrap();
        assert!(!children_of(&[parent]).contains(&pid));
    }
}

//! Restart by a signal to the process in a pid file.

use std::path::Path;

use nix::errno::Errno;
use nix::sys::signal::{self, Signal as Unix};
use nix::unistd::Pid;
use watcher_core::config::Signal;

/// Sends the signal.
pub(super) fn send(name: &str, pid_file: &Path, signal: Signal) -> anyhow::Result<()> {
    let pid = process(pid_file).map_err(anyhow::Error::msg)?;
    let unix = match signal {
        Signal::Hup => Unix::SIGHUP,
        Signal::Int => Unix::SIGINT,
        Signal::Quit => Unix::SIGQUIT,
        Signal::Term => Unix::SIGTERM,
        Signal::Usr1 => Unix::SIGUSR1,
        Signal::Usr2 => Unix::SIGUSR2,
    };
    tracing::info!("{name}: restart issued: {unix} to process {pid}");
    signal::kill(pid, unix).map_err(|error| anyhow::anyhow!("cannot send {unix} to process {pid}: {}", error.desc()))
}

/// The process must be there, and ours to signal.
pub(super) fn check(pid_file: &Path) -> Result<(), String> {
    process(pid_file).map(|_| ())
}

fn process(pid_file: &Path) -> Result<Pid, String> {
    let at = pid_file.display();
    let text = std::fs::read_to_string(pid_file).map_err(|error| {
        format!("{at}: cannot read the pid file: {error}; start the application, or correct pid_file")
    })?;
    let first = text.lines().next().unwrap_or_default().trim();
    // Zero and below would mean groups of processes, and 1 is the init process.
    let pid = first
        .parse::<i32>()
        .ok()
        .filter(|pid| *pid > 1)
        .map(Pid::from_raw)
        .ok_or_else(|| format!("{at}: {first:?} is not the number of a process"))?;
    match signal::kill(pid, None) {
        Ok(()) => Ok(pid),
        Err(Errno::ESRCH) => Err(format!("{at}: process {pid} does not exist; start the application")),
        Err(error) => Err(format!("{at}: process {pid} cannot be signalled: {}", error.desc())),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_the_number_of_a_living_process_is_taken() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (text, taken) in [
            (format!("{}\n", std::process::id()), true),
            (format!("{}\nmore\n", std::process::id()), true),
            ("1\n".to_owned(), false),
            ("0\n".to_owned(), false),
            ("-5\n".to_owned(), false),
            (String::new(), false),
            ("x\n".to_owned(), false),
            ("2147483647\n".to_owned(), false),
            ("99999999999\n".to_owned(), false),
        ] {
            std::fs::write(file.path(), &text).unwrap();
            assert_eq!(process(file.path()).is_ok(), taken, "{text:?}");
        }
        assert!(process(Path::new("/nonexistent.pid")).unwrap_err().contains("cannot read the pid file"));
    }
}

//! Where a command's output goes.
//!
//! Not through the watcher: a daemon that a command leaves behind would lose its output, and perhaps its life, together with
//! the watcher. Under systemd it goes to the journal under the target's name, else to where the watcher's own log goes.

use std::io::Write;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use anyhow::Context;
use nix::sys::stat::fstat;

/// Where systemd's journal takes streams of lines.
const JOURNAL: &str = "/run/systemd/journal/stdout";

/// Both outputs of a command.
pub(super) struct Output {
    /// Its standard output.
    pub(super) stdout: Stdio,
    /// Its standard error.
    pub(super) stderr: Stdio,
}

impl Output {
    /// For the command of a target.
    pub(super) fn of_target(name: &str) -> anyhow::Result<Self> {
        let stream = if logs_to_journal() { journal(name).ok() } else { None };
        let both: OwnedFd = match stream {
            Some(stream) => stream,
            None => std::io::stderr().as_fd().try_clone_to_owned().context("duplicate stderr")?,
        };
        let second = both.try_clone().context("duplicate the output of a command")?;
        Ok(Self { stdout: both.into(), stderr: second.into() })
    }
}

/// The watcher's own log goes to the journal: systemd names the stream's device and inode.
fn logs_to_journal() -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else { return false };
    fstat(std::io::stderr()).is_ok_and(|stderr| named == format!("{}:{}", stderr.st_dev, stderr.st_ino))
}

/// A stream to the journal whose lines bear the name.
fn journal(name: &str) -> std::io::Result<OwnedFd> {
    let mut stream = UnixStream::connect(JOURNAL)?;
    stream.shutdown(Shutdown::Read)?;
    stream.write_all(header(name).as_bytes())?;
    Ok(stream.into())
}

/// What the journal wants to know first, a line each: identifier, unit (it knows that by itself), priority, whether lines may
/// begin with one of their own, and whether they go on to syslog, the kernel's log and the console.
fn header(name: &str) -> String {
    /// LOG_INFO
    const PRIORITY: u8 = 6;
    format!("{name}\n\n{PRIORITY}\n1\n0\n0\n0\n")
}

//! Restart by a signal to the process in a pid file.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use nix::errno::Errno;
use nix::sys::signal::{self, Signal as Unix};
use nix::unistd::{Pid, Uid};
use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};
use watcher_core::config::Signal;
use watcher_core::pid_file::{Asker, PidFile, Process, number};
use watcher_core::plan::Moment;
use watcher_core::wall_clock::WallClock;

use crate::clock::{both, now, wall};

/// A process that is known to be the right one.
#[derive(Debug)]
pub(crate) struct Ready {
    pid: Pid,
    /// Holds on to the process, so that no other one can be given its number between the look and the signal; nothing on
    /// kernels before 5.3.
    handle: Option<OwnedFd>,
    signal: Signal,
}

/// Finds the process and looks whether it is the right one.
pub(super) async fn prepare(pid_file: &Path, signal: Signal, clock: WallClock) -> anyhow::Result<Ready> {
    let (pid, handle) = find(pid_file, clock).await.map_err(anyhow::Error::msg)?;
    Ok(Ready { pid, handle, signal })
}

impl Ready {
    /// Sends the signal.
    pub(super) fn send(self, name: &str) -> anyhow::Result<()> {
        let (unix, safe) = match self.signal {
            Signal::Hup => (Unix::SIGHUP, rustix::process::Signal::HUP),
            Signal::Int => (Unix::SIGINT, rustix::process::Signal::INT),
            Signal::Quit => (Unix::SIGQUIT, rustix::process::Signal::QUIT),
            Signal::Term => (Unix::SIGTERM, rustix::process::Signal::TERM),
            Signal::Usr1 => (Unix::SIGUSR1, rustix::process::Signal::USR1),
            Signal::Usr2 => (Unix::SIGUSR2, rustix::process::Signal::USR2),
        };
        let pid = self.pid;
        tracing::info!("{name}: restart issued: {unix} to process {pid}");
        let sent = match self.handle {
            Some(handle) => pidfd_send_signal(handle, safe).map_err(|error| error.to_string()),
            None => signal::kill(pid, unix).map_err(|error| error.desc().to_owned()),
        };
        sent.map_err(|error| anyhow!("cannot send {unix} to process {pid}: {error}"))
    }
}

/// The process must be there, the right one, and ours to signal.
pub(super) async fn check(pid_file: &Path, clock: WallClock) -> Result<(), String> {
    find(pid_file, clock).await.map(drop)
}

/// Not on the thread that serves everything else: the pid file may lie on a file system that hangs.
async fn find(pid_file: &Path, clock: WallClock) -> Result<(Pid, Option<OwnedFd>), String> {
    let pid_file: PathBuf = pid_file.to_owned();
    tokio::task::spawn_blocking(move || {
        find_now(&pid_file, &clock).map_err(|problem| format!("{}: {problem}", pid_file.display()))
    })
    .await
    .map_err(|error| error.to_string())?
}

fn find_now(pid_file: &Path, clock: &WallClock) -> Result<(Pid, Option<OwnedFd>), String> {
    let (text, file) = read(pid_file, clock)?;
    let raw = number(&text)?;
    let pid = Pid::from_raw(raw);
    let not_there = || format!("process {pid} does not exist; start the application");
    // Taken before the look: it is the process that is looked at, or its number leads nowhere any more.
    let handle = match rustix::process::Pid::from_raw(raw).map(|pid| pidfd_open(pid, PidfdFlags::empty())) {
        Some(Ok(handle)) => Some(handle),
        Some(Err(rustix::io::Errno::SRCH)) => return Err(not_there()),
        // Kernels before 5.3 have none, and of a thread there is none.
        Some(Err(_)) | None => None,
    };
    let proc = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).map_err(|_| not_there());
    let (stat, status) = (proc("stat")?, proc("status")?);
    let process = Process::parse(raw, &stat, &status)
        .ok_or_else(|| format!("/proc/{pid} tells of the process in another form than is known here"))?;
    let asker = Asker {
        pid: i32::try_from(std::process::id()).unwrap_or_default(),
        user: Uid::effective().as_raw(),
        since_boot: now().since(Moment(0)),
    };
    process.belongs_to(file, asker)?;
    match signal::kill(pid, None) {
        Ok(()) => Ok((pid, handle)),
        Err(Errno::ESRCH) => Err(not_there()),
        Err(error) => Err(format!("process {pid} cannot be signalled: {}", error.desc())),
    }
}

/// More than any pid file has.
const LONGEST: u64 = 4096;

fn read(pid_file: &Path, clock: &WallClock) -> Result<(String, PidFile), String> {
    let read = || {
        // A pipe without a writer must not be waited for.
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits();
        let file = File::options().read(true).custom_flags(i32::try_from(nonblocking).unwrap_or(0)).open(pid_file)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(ErrorKind::InvalidInput.into());
        }
        let mut text = String::new();
        file.take(LONGEST).read_to_string(&mut text)?;
        Ok((text, metadata))
    };
    let (text, metadata) = read().map_err(|error: std::io::Error| {
        let kind = error.kind();
        if kind == ErrorKind::NotFound {
            "the pid file is not there; start the application, or correct pid_file".to_owned()
        } else if matches!(kind, ErrorKind::InvalidInput | ErrorKind::InvalidData) {
            "this is not a pid file; correct pid_file".to_owned()
        } else {
            format!("cannot read the pid file: {error}")
        }
    })?;
    let written = metadata.modified().map_err(|error| error.to_string())?;
    let age = clock.age(wall(written), both());
    Ok((text, PidFile { age, owner: metadata.uid(), is_world_writable: metadata.mode() & 0o002 != 0 }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::process::{Child, Command};

    use std::time::{Duration, SystemTime};

    use watcher_core::wall_clock::Now;

    use super::*;

    /// A process of the test's own, ended with it.
    struct Sleeper(Child);

    impl Sleeper {
        fn start() -> Self {
            Self(Command::new("sleep").arg("600").spawn().unwrap())
        }

        fn pid(&self) -> u32 {
            self.0.id()
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[tokio::test]
    async fn only_a_living_process_that_wrote_the_file_is_taken() {
        let mut sleeper = Sleeper::start();
        let file = tempfile::NamedTempFile::new().unwrap();
        let write = |text: String| std::fs::write(file.path(), text).unwrap();
        let judge = async |path: &Path| check(path, WallClock::default()).await;
        write(format!("{}\n", sleeper.pid()));
        judge(file.path()).await.unwrap();
        // It was written an hour before the process was started: the number is another's now.
        file.as_file().set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
        assert!(judge(file.path()).await.unwrap_err().contains("another one that was given the number"));
        // Or the clock was set forward by an hour since.
        let mut set = WallClock::default();
        let now = both();
        set.look(Now { moment: Moment(now.moment.0 - 1), wall: now.wall - 3_600_000 });
        check(file.path(), set).await.unwrap();
        write(format!("{}\n", std::process::id()));
        assert!(judge(file.path()).await.unwrap_err().contains("this watcher itself"));
        write("2147483647\n".to_owned());
        assert!(judge(file.path()).await.unwrap_err().contains("does not exist"));
        // Killed and not waited for, it is a zombie.
        write(format!("{}\n", sleeper.pid()));
        sleeper.0.kill().unwrap();
        let state = || std::fs::read_to_string(format!("/proc/{}/stat", sleeper.pid())).unwrap();
        while !state().contains(") Z ") {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(judge(file.path()).await.unwrap_err().contains("has ended"));
        assert!(judge(Path::new("/nonexistent.pid")).await.unwrap_err().contains("start the application"));
        assert!(judge(Path::new("/tmp")).await.unwrap_err().contains("not a pid file"));
    }
}

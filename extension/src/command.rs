//! Child processes that the keeper watches without ever waiting for them: an administrator's shell command, and the group that every
//! child of the keeper runs in.
//!
//! A child leads a process group of its own, so that what it started can be ended with it. The group's id is its process id, which
//! the kernel keeps reserved until the child is reaped: no signal is sent to a group whose leader has been reaped.

use keeper_core::{CommandOutcome, Moment};
use nix::libc;
use std::cell::RefCell;
use std::ffi::CString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The time a command has between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_millis(500);

/// A shell command that has been started and has not ended yet. Dropping it kills it.
pub(crate) struct Running {
    group: Group,
    deadline: Moment,
    /// Set when the time limit has passed and SIGTERM was sent: when SIGKILL follows.
    kill_at: Option<Moment>,
}

impl Running {
    /// Starts `command` with `sh -c`, in the server's working directory, its output going where the server's log goes. It is killed when
    /// it has run for `limit`.
    ///
    /// # Errors
    /// The operating system's, when there is no shell or no process to be had.
    pub(crate) fn start(
        command: &str,
        environment: &[(&str, String)],
        limit: Duration,
        now: Moment,
    ) -> Result<Running, io::Error> {
        let mut shell = Command::new("/bin/sh");
        shell.arg("-c").arg(command).stdin(Stdio::null());
        shell.envs(environment.iter().map(|(name, value)| (name, value)));
        let (group, _) = Group::spawn(&mut shell)?;
        Ok(Running { group, deadline: now + limit, kill_at: None })
    }

    /// How the command ended, once it has; returns at once.
    pub(crate) fn poll(&mut self, now: Moment) -> Option<CommandOutcome> {
        match self.kill_at {
            None => match self.group.poll() {
                Some(Ended::Exited(code)) => Some(CommandOutcome::Exited(code)),
                Some(Ended::Signalled(signal)) => Some(CommandOutcome::Signalled(signal)),
                Some(Ended::Lost(error)) => {
                    Some(CommandOutcome::NotStarted(format!("its exit status was lost: {error}")))
                }
                None if now >= self.deadline => {
                    self.group.signal(libc::SIGTERM);
                    self.kill_at = Some(now + GRACE);
                    None
                }
                None => None,
            },
            // Even when the shell is gone by now, what it started may not be, and only its unreaped leader keeps the group's id ours.
            Some(kill_at) if now >= kill_at => {
                self.group.abandon();
                Some(CommandOutcome::TimedOut)
            }
            Some(_) => None,
        }
    }
}

/// How a process ended.
pub(crate) enum Ended {
    /// With this exit code.
    Exited(i32),
    /// By this signal.
    Signalled(i32),
    /// Unknown: someone else took the exit status.
    Lost(io::Error),
}

/// A child process and whatever it starts. Dropping it kills them.
pub(crate) struct Group {
    /// The leader's process id, which is the group's id; `None` once the leader has been reaped or abandoned.
    leader: Option<libc::pid_t>,
}

thread_local! {
    /// The leaders whose exit status somebody will ask for. Every other child that ends is reaped by [`reap`].
    static LEADERS: RefCell<Vec<libc::pid_t>> = const { RefCell::new(Vec::new()) };
}

impl Group {
    /// Starts `command` in a process group of its own, with default signal handling and no descriptor of the server's but the standard
    /// three. The [`Child`] is only for its pipes.
    ///
    /// # Errors
    /// The operating system's.
    pub(crate) fn spawn(command: &mut Command) -> io::Result<(Group, Child)> {
        // SAFETY: the closure runs in the forked child before exec. It only makes system calls that are async-signal-safe, allocates
        // nothing and takes no lock.
        unsafe { command.pre_exec(shed_the_server) };
        Self::spawn_prepared(command)
    }

    fn spawn_prepared(command: &mut Command) -> io::Result<(Group, Child)> {
        reap();
        adopt_orphans();
        command.process_group(0);
        let child = command.spawn()?;
        let leader = libc::pid_t::try_from(child.id()).map_err(io::Error::other)?;
        LEADERS.with_borrow_mut(|leaders| leaders.push(leader));
        Ok((Group { leader: Some(leader) }, child))
    }

    /// The same for a program that needs nothing but its arguments, the first of which is its name. `command` says where its standard
    /// descriptors lead. Returns before the program has been loaded, which takes as long as the disk or a busy machine likes: the standard
    /// library waits for that. So a program that cannot be run is only seen to exit with code 127.
    ///
    /// # Errors
    /// The operating system's.
    pub(crate) fn spawn_unseen<const N: usize>(
        command: &mut Command,
        arguments: [CString; N],
    ) -> io::Result<(Group, Child)> {
        let become_it = move || {
            let mut pointers = [std::ptr::null(); MOST_ARGUMENTS];
            for (pointer, argument) in pointers.iter_mut().take(MOST_ARGUMENTS - 1).zip(&arguments) {
                *pointer = argument.as_ptr();
            }
            // SAFETY: async-signal-safe calls; `pointers` ends with a null and points to strings that live as long as this closure. What is
            // closed is nobody's any more: the child either becomes the program or ends here. The standard library's own pipe is among
            // it, and its end is what the parent takes for a program that has been loaded.
            unsafe {
                close_all_but_the_standard_three();
                libc::execvp(pointers[0], pointers.as_ptr());
                libc::_exit(127)
            }
        };
        // SAFETY: as above; it runs in the forked child and does not return.
        unsafe { command.pre_exec(shed_the_server).pre_exec(become_it) };
        Self::spawn_prepared(command)
    }

    /// How the leader ended, once it has; returns at once. `None` ever after.
    pub(crate) fn poll(&mut self) -> Option<Ended> {
        reap();
        let ended = wait(self.leader?)?;
        self.forget();
        Some(ended)
    }

    /// Kills the whole group and leaves it to be reaped whenever it has died: a killed process may take its time, and nobody waits for it
    /// here.
    pub(crate) fn abandon(&mut self) {
        self.signal(libc::SIGKILL);
        self.forget();
        reap();
    }

    fn forget(&mut self) {
        if let Some(leader) = self.leader.take() {
            LEADERS.with_borrow_mut(|leaders| leaders.retain(|other| *other != leader));
        }
    }

    fn signal(&self, signal: libc::c_int) {
        if let Some(leader) = self.leader {
            // SAFETY: kill touches no memory. The leader has not been reaped, so the id is still that of our child's group.
            unsafe { libc::kill(-leader, signal) };
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.abandon();
    }
}

/// Has orphans of the keeper's children handed to the keeper. They would go to process 1, and in a container that is often the postmaster,
/// which takes a stranger that died of a signal for a crashed server process, and restarts the whole server.
fn adopt_orphans() {
    #[cfg(target_os = "linux")]
    // SAFETY: sets a flag of this process and touches no memory.
    unsafe {
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    }
}

/// Reaps every child that has ended and that nobody will ask for: killed leaders, and orphans. Returns at once.
pub(crate) fn reap() {
    while let Some(child) = ended_child() {
        // Its group polls for it, and gets its exit status there; who stands behind it in the queue is reaped after that.
        if LEADERS.with_borrow(|leaders| leaders.contains(&child)) || wait(child).is_none() {
            return;
        }
    }
}

/// A child that has ended; it is not reaped by this.
fn ended_child() -> Option<libc::pid_t> {
    // SAFETY: `siginfo_t` is plain data for which zeroes are valid, and outlives the call; with WNOHANG the call returns at once and
    // leaves the process id at zero when no child has ended, and WNOWAIT leaves the child as it is.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        (libc::waitid(libc::P_ALL, 0, &raw mut info, flags) == 0).then(|| info.si_pid()).filter(|child| *child > 0)
    }
}

/// The exit status of a child, if it has ended; from then on its id is no longer ours.
fn wait(leader: libc::pid_t) -> Option<Ended> {
    let mut status = 0;
    // SAFETY: `status` outlives the call; WNOHANG returns at once. The server leaves SIGCHLD at its default in background workers, and
    // nothing else in this process waits for children.
    match unsafe { libc::waitpid(leader, &raw mut status, libc::WNOHANG) } {
        0 => None,
        id if id == leader && libc::WIFEXITED(status) => Some(Ended::Exited(libc::WEXITSTATUS(status))),
        id if id == leader => Some(Ended::Signalled(libc::WTERMSIG(status))),
        _ => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => None,
            error => Some(Ended::Lost(error)),
        },
    }
}

/// More arguments than any program of [`Group::spawn_unseen`] has, and the null at their end.
const MOST_ARGUMENTS: usize = 8;

/// # Safety
/// For a forked child that uses no other descriptor any more.
unsafe fn close_all_but_the_standard_three() {
    // SAFETY: the caller's.
    unsafe {
        #[cfg(target_os = "linux")]
        if libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) == 0 {
            return;
        }
        // A kernel older than Linux 5.9: one by one.
        for descriptor in 3..descriptor_limit() {
            libc::close(descriptor);
        }
    }
}

fn descriptor_limit() -> libc::c_int {
    // SAFETY: a plain structure for which zeroes are valid, and a call that fills it.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        libc::c_int::try_from(limit.rlim_cur).unwrap_or(libc::c_int::MAX).min(65_536)
    }
}

/// Undoes, in a forked child, what a program must not inherit of a server: blocked and ignored signals, and open descriptors (data files,
/// client sockets, the pipe by which processes notice the postmaster's death).
///
/// Descriptors are marked to be closed by exec instead of closed here: the standard library still needs one of them, to tell the
/// parent when exec fails.
fn shed_the_server() -> io::Result<()> {
    // SAFETY: every call is async-signal-safe and works on plain integers or on this function's own memory; `sigset_t` and `rlimit` are
    // plain data for which zeroes are valid. Signals that cannot be reset are refused by the kernel and left as they are.
    unsafe {
        for signal in 1..=libc::SIGRTMAX() {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());

        #[cfg(target_os = "linux")]
        if libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) == 0 {
            return Ok(());
        }
        // A kernel older than Linux 5.11: one by one.
        for descriptor in 3..descriptor_limit() {
            libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC);
        }
    }
    Ok(())
}

//! Child processes that the keeper watches without ever waiting for them: an administrator's shell command, and the group that every
//! child of the keeper runs in.
//!
//! A child leads a process group of its own, so that what it started can be ended with it. The group's id is its process id, which
//! the kernel keeps reserved until the child is reaped: no signal is sent to a group whose leader has been reaped.

use keeper_core::{CommandOutcome, Moment};
use nix::libc;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::{CString, OsString, c_char};
use std::io;
use std::os::unix::ffi::OsStrExt;
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
    /// The operating system's, when there is no process to be had.
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
    /// Returns before the program has been loaded, which takes as long as the disk or a busy machine likes: the standard library waits for
    /// that, so the child becomes the program by itself. One that cannot be run is only seen to exit with [`NOT_RUN`].
    ///
    /// # Errors
    /// The operating system's.
    pub(crate) fn spawn(command: &mut Command) -> io::Result<(Group, Child)> {
        let program = Program::of(command)?;
        let become_it = move || {
            shed_the_server();
            program.replace_this_process()
        };
        // SAFETY: the closure runs in the forked child and does not return. It only makes system calls that are async-signal-safe,
        // allocates nothing and takes no lock.
        unsafe { command.pre_exec(become_it) };
        reap();
        adopt_orphans();
        command.process_group(0);
        let child = command.spawn()?;
        let leader = libc::pid_t::try_from(child.id()).map_err(io::Error::other)?;
        LEADERS.with_borrow_mut(|leaders| leaders.push(leader));
        Ok((Group { leader: Some(leader) }, child))
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

/// The exit code of a program that could not be run, as a shell gives it.
pub(crate) const NOT_RUN: i32 = 127;

unsafe extern "C" {
    /// The C library's (`environ(7)`).
    static mut environ: *const *const c_char;
}

/// What exec takes, made before the fork, as the child may not allocate.
struct Program {
    /// Each list ends with a null. They point into `_strings`, whose texts stay where they are when this is moved.
    arguments: Vec<*const c_char>,
    environment: Vec<*const c_char>,
    _strings: Vec<CString>,
}

// SAFETY: nobody changes what the pointers point to, and it lives as long as they do.
unsafe impl Send for Program {}
// SAFETY: as above.
unsafe impl Sync for Program {}

impl Program {
    fn of(command: &Command) -> io::Result<Program> {
        let mut variables: BTreeMap<OsString, OsString> = std::env::vars_os().collect();
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => variables.insert(name.to_owned(), value.to_owned()),
                None => variables.remove(name),
            };
        }
        let arguments = std::iter::once(command.get_program()).chain(command.get_args());
        let arguments: Vec<Vec<u8>> = arguments.map(|argument| argument.as_bytes().to_vec()).collect();
        let pair = |(name, value): (&OsString, &OsString)| [name.as_bytes(), b"=", value.as_bytes()].concat();
        let environment: Vec<Vec<u8>> = variables.iter().map(pair).collect();
        let count = arguments.len();
        let strings = arguments.into_iter().chain(environment).map(CString::new);
        let strings: Vec<CString> = strings.collect::<Result<_, _>>().map_err(io::Error::other)?;
        let list = |part: &[CString]| part.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect();
        Ok(Program { arguments: list(&strings[..count]), environment: list(&strings[count..]), _strings: strings })
    }

    /// For a forked child, which ends here if the program cannot be run. What is closed is nobody's any more. The standard library's own
    /// pipe is among it, and its end is what the parent takes for a program that has been loaded.
    fn replace_this_process(&self) -> ! {
        // SAFETY: async-signal-safe calls, in a process that has one thread; the lists end with nulls and point to texts that live as
        // long as they do.
        unsafe {
            close_all_but_the_standard_three();
            environ = self.environment.as_ptr();
            libc::execvp(self.arguments[0], self.arguments.as_ptr());
            libc::_exit(NOT_RUN)
        }
    }
}

/// # Safety
/// For a forked child that uses no other descriptor any more.
unsafe fn close_all_but_the_standard_three() {
    // SAFETY: the caller's; the limit is a plain structure for which zeroes are valid.
    unsafe {
        #[cfg(target_os = "linux")]
        if libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) == 0 {
            return;
        }
        // A kernel older than Linux 5.9: one by one.
        let mut limit: libc::rlimit = std::mem::zeroed();
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        for descriptor in 3..libc::c_int::try_from(limit.rlim_cur).unwrap_or(libc::c_int::MAX).min(65_536) {
            libc::close(descriptor);
        }
    }
}

/// Undoes, in a forked child, what a program must not inherit of a server beside its descriptors: blocked and ignored signals.
fn shed_the_server() {
    // SAFETY: every call is async-signal-safe and works on plain integers or on this function's own memory; `sigset_t` is plain data for
    // which zeroes are valid. Signals that cannot be reset are refused by the kernel and left as they are.
    unsafe {
        for signal in 1..=libc::SIGRTMAX() {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

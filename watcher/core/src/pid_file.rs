//! Whether the process whose number a pid file holds is the one that the file was written for.
//!
//! A number is given to another process sooner or later, and a signal would then end a stranger.

use std::time::Duration;

/// What is known of a pid file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PidFile {
    /// How long ago it was written, as [`crate::wall_clock`] knows it; zero for a time to come.
    pub age: Duration,
    /// Whose it is.
    pub owner: u32,
    /// Everybody may write to it.
    pub is_world_writable: bool,
}

/// What is known of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// The process that it is a thread of; itself for a process.
    pub thread_of: i32,
    /// Its name, for people.
    pub name: String,
    /// Its state, as in `ps`.
    pub state: char,
    /// It is part of the kernel.
    pub is_kernel_thread: bool,
    /// Whose it is: the real and the effective user.
    pub users: [u32; 2],
    /// When it was started, counted from the start of the machine.
    pub started: Duration,
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asker {
    /// Its own process.
    pub pid: i32,
    /// Its user.
    pub user: u32,
    /// How long the machine runs.
    pub since_boot: Duration,
}

/// A process writes its pid file after its start. Clocks are coarse, and one that is set is seen to be so a little later.
const TOLERANCE: Duration = Duration::from_secs(10);

/// `USER_HZ`: Linux shows times in hundredths of a second on every architecture that PostgreSQL is packaged for.
const TICK: Duration = Duration::from_millis(10);

/// The number in a pid file's text: the first word of the first line.
pub fn number(text: &str) -> Result<i32, String> {
    let first = text.lines().next().unwrap_or_default().trim();
    // Zero and below would mean groups of processes, and 1 is the init process.
    first
        .parse::<i32>()
        .ok()
        .filter(|pid| *pid > 1)
        .ok_or_else(|| format!("{:?} is not the number of a process", first.chars().take(40).collect::<String>()))
}

impl Process {
    /// Reads `/proc/PID/stat` and `/proc/PID/status`; nothing if they are not as they are known here.
    pub fn parse(pid: i32, stat: &str, status: &str) -> Option<Self> {
        /// `PF_KTHREAD`
        const KERNEL_THREAD: u64 = 0x0020_0000;
        /// Counted from the state, which is the first word after the name.
        const FLAGS: usize = 6;
        const STARTED: usize = 19;
        // The name, in parentheses, may itself hold parentheses and spaces.
        let (before, after) = stat.rsplit_once(") ")?;
        let words: Vec<&str> = after.split_ascii_whitespace().collect();
        let flags: u64 = words.get(FLAGS)?.parse().ok()?;
        let ticks: u64 = words.get(STARTED)?.parse().ok()?;
        let line = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
        let mut users = line("Uid:")?.split_ascii_whitespace().map(str::parse);
        Some(Self {
            pid,
            thread_of: line("Tgid:")?.parse().ok()?,
            name: before.split_once('(')?.1.to_owned(),
            state: words.first()?.chars().next()?,
            is_kernel_thread: flags & KERNEL_THREAD != 0,
            users: [users.next()?.ok()?, users.next()?.ok()?],
            started: Duration::from_millis(ticks.checked_mul(u64::try_from(TICK.as_millis()).ok()?)?),
        })
    }

    /// Whether this is the file's process; the error says why it is not taken for it, and what to do.
    pub fn belongs_to(&self, file: PidFile, asker: Asker) -> Result<(), String> {
        let (pid, name) = (self.pid, &self.name);
        if pid == asker.pid {
            return Err(format!("process {pid} is this watcher itself; correct pid_file"));
        }
        if self.is_kernel_thread {
            return Err(format!("process {pid} ({name}) is part of the kernel; start the application"));
        }
        if self.thread_of != pid {
            return Err(format!("{pid} is a thread of process {} ({name}); correct pid_file", self.thread_of));
        }
        if matches!(self.state, 'Z' | 'X' | 'x') {
            return Err(format!("process {pid} ({name}) has ended; start the application"));
        }
        let age = asker.since_boot.saturating_sub(self.started);
        if age + TOLERANCE < file.age {
            return Err(format!(
                "process {pid} ({name}) was started {} s after the file was written, so it is another one that was given \
                 the number (or the clock was set before a watcher was there to see it); start the application, or write \
                 the number anew",
                (file.age - age).as_secs()
            ));
        }
        // root would signal on behalf of others what they may not signal themselves.
        if asker.user == 0 && file.owner != 0 && !self.users.contains(&file.owner) {
            return Err(format!(
                "the file belongs to user {} and process {pid} ({name}) to user {}; give the file to root or to that user",
                file.owner, self.users[0]
            ));
        }
        if file.is_world_writable {
            return Err("everybody may write to the file; run chmod o-w on it".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const STAT: &str = "4711 (shop (old) ) S 1 4711 4711 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 99 88 77 66";
    const STATUS: &str = "Name:\tshop\nTgid:\t4711\nPid:\t4711\nUid:\t1000\t1001\t1000\t1000\n";

    fn process() -> Process {
        Process::parse(4711, STAT, STATUS).unwrap()
    }

    #[test]
    fn proc_is_read() {
        let expected = Process {
            pid: 4711,
            thread_of: 4711,
            name: "shop (old) ".to_owned(),
            state: 'S',
            is_kernel_thread: false,
            users: [1000, 1001],
            started: Duration::from_millis(123_450),
        };
        assert_eq!(process(), expected);
        assert_eq!(Process::parse(4711, "4711 (x) S", STATUS), None);
    }

    #[test]
    fn only_the_number_of_a_process_is_taken() {
        for (text, taken) in [
            ("4711\n", Some(4711)),
            (" 4711 \nmore\n", Some(4711)),
            ("1\n", None),
            ("0\n", None),
            ("-5\n", None),
            ("", None),
            ("x\n", None),
            ("99999999999\n", None),
        ] {
            assert_eq!(number(text).ok(), taken, "{text:?}");
        }
    }

    #[test]
    fn a_strangers_process_is_refused() {
        let seconds = Duration::from_secs;
        // It was started 123 s after the machine, so that it is 100 s old.
        let asker = Asker { pid: 99, user: 0, since_boot: seconds(223) };
        let file = PidFile { age: seconds(100), owner: 0, is_world_writable: false };
        let refusal = |process: Process, file, asker| process.belongs_to(file, asker).err().unwrap_or_default();
        assert_eq!(refusal(process(), file, asker), "");
        assert_eq!(refusal(process(), PidFile { age: seconds(0), ..file }, asker), "");
        // Within the clocks' tolerance, and beyond it.
        assert_eq!(refusal(process(), PidFile { age: seconds(109), ..file }, asker), "");
        assert!(refusal(process(), PidFile { age: seconds(160), ..file }, asker).contains("60 s after the file"));
        assert!(refusal(Process { state: 'Z', ..process() }, file, asker).contains("has ended"));
        assert!(refusal(Process { thread_of: 5, ..process() }, file, asker).contains("a thread of process 5"));
        assert!(refusal(Process { is_kernel_thread: true, ..process() }, file, asker).contains("kernel"));
        assert!(refusal(process(), file, Asker { pid: 4711, ..asker }).contains("this watcher itself"));
        assert!(refusal(process(), PidFile { is_world_writable: true, ..file }, asker).contains("chmod o-w"));
        // The application's own users may name their processes, and no one else's.
        for (owner, user, taken) in [(1000, 0, true), (1001, 0, true), (5, 0, false), (5, 1000, true)] {
            let refused = refusal(process(), PidFile { owner, ..file }, Asker { user, ..asker });
            assert_eq!(refused.is_empty(), taken, "{owner} {user}: {refused}");
        }
    }
}

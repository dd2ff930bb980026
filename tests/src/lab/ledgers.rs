//! What an application was told, as it is told: follows the ledger of an application host.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};

use super::host::Host;
use crate::ledger::{Entry, parse};

/// Where the sample application keeps what was acknowledged.
const LEDGER: &str = "/var/lib/shop/ledger";

/// Between two tries to reach a host that is down.
const PAUSE: Duration = Duration::from_millis(200);

/// A thread that reads along, until this is dropped.
#[derive(Debug)]
pub struct Follower {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    entries: Mutex<Vec<Entry>>,
    /// A line that is no entry.
    complaint: Mutex<Option<String>>,
    reader: Mutex<Option<Child>>,
    ends: AtomicBool,
}

impl Follower {
    /// Begins at the ledger's beginning.
    pub fn start(host: &Host) -> Self {
        let shared = Arc::new(Shared::default());
        let (host, theirs) = (host.clone(), Arc::clone(&shared));
        let thread = thread::spawn(move || {
            while !theirs.ends.load(Ordering::Relaxed) {
                // The host may be down; what went wrong shows as entries that do not come.
                let _ = theirs.read_along(&host);
                thread::sleep(PAUSE);
            }
        });
        Self { shared, thread: Some(thread) }
    }

    /// How many entries there are so far.
    pub fn count(&self) -> usize {
        lock(&self.shared.entries).len()
    }

    /// The entries from a place on.
    pub fn since(&self, place: usize) -> Vec<Entry> {
        lock(&self.shared.entries).get(place..).unwrap_or_default().to_vec()
    }

    /// The last entry.
    pub fn last(&self) -> Option<Entry> {
        lock(&self.shared.entries).last().cloned()
    }

    /// A line of the ledger that is no entry, if there was one.
    pub fn complaint(&self) -> Option<String> {
        lock(&self.shared.complaint).clone()
    }
}

impl Shared {
    /// Reads until the host or the one who asks is gone.
    fn read_along(&self, host: &Host) -> Result<()> {
        // Ends with its standard input, as nobody ends what «docker exec» has started when that is gone.
        let script = format!(
            "tail -n +{} -F {LEDGER} 2>/dev/null & tail=$!; cat >/dev/null; kill $tail",
            lock(&self.entries).len() + 1
        );
        let mut command = Command::new("docker");
        command.args(["exec", "--interactive", host.container(), "sh", "-c", &script]);
        let mut reader =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().context("follow")?;
        let lines = BufReader::new(reader.stdout.take().context("its output")?).lines();
        *lock(&self.reader) = Some(reader);
        for line in lines.map_while(Result::ok) {
            match parse(&line) {
                Some(entry) => lock(&self.entries).push(entry),
                None => *lock(&self.complaint) = Some(line),
            }
            if self.ends.load(Ordering::Relaxed) {
                break;
            }
        }
        self.end_reader();
        Ok(())
    }

    fn end_reader(&self) {
        if let Some(mut reader) = lock(&self.reader).take() {
            let _ = reader.kill();
            let _ = reader.wait();
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::Relaxed);
        self.shared.end_reader();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

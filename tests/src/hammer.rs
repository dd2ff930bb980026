//! A client that writes to one server without a pause, whatever that server says, and keeps what was acknowledged.
//!
//! What an application does at its worst: it never reads a new configuration, connects anew after every error, and believes every
//! acknowledgement. Two of them, one on each server, show whether both ever took writes.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::clock::{self, Micros};
use crate::node::Node;
use crate::pair::Pair;
use crate::sql::{Address, Session, SqlError};
use crate::state::has_replayed;

/// The database that is written to.
const DATABASE: &str = "postgres";
/// The role that writes: anyone's, with no privilege.
pub const ROLE: &str = "hammer";
/// How long a connection or a write may take before the client gives up and connects anew.
const LIMIT: Duration = Duration::from_secs(20);
/// Between two tries that failed.
const PAUSE: Duration = Duration::from_millis(2);

/// Numbers are given once in a process, so that a row tells where it came from.
static NEXT: AtomicI64 = AtomicI64::new(1);

/// An acknowledged write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acknowledged {
    /// The row's number.
    pub number: i64,
    /// When the acknowledgement arrived.
    pub at: Micros,
}

#[derive(Debug, Default)]
struct Book {
    acknowledged: Vec<Acknowledged>,
    /// How often each SQLSTATE came, `none` for a connection that broke or was refused.
    refused: BTreeMap<String, usize>,
    last_error: String,
}

/// The client, which ends when this is dropped.
#[derive(Debug)]
pub struct Hammer {
    book: Arc<Mutex<Book>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Makes the role and its table on the primary, once, and waits until the standby has them: a fault may follow at once.
pub fn prepare(pair: &Pair) -> Result<()> {
    pair.primary.sql(DATABASE, &format!("create role {ROLE} login"))?;
    pair.primary.sql(DATABASE, "create table hammered (number bigint primary key)")?;
    pair.primary.sql(DATABASE, &format!("alter table hammered owner to {ROLE}"))?;
    pair.wait_until("the table on the standby", || has_replayed(&pair.primary, &pair.standby))
}

/// The numbers that a server holds.
pub fn held_by(node: &Node) -> Result<HashSet<i64>> {
    let rows = node.sql(DATABASE, "select number from hammered")?;
    Ok(rows.iter().filter_map(|row| row.first()?.parse().ok()).collect())
}

/// When a server committed a write that it holds, by the machine's clock.
pub fn committed_at(node: &Node, number: i64) -> Result<Micros> {
    let sql =
        "select (extract(epoch from pg_xact_commit_timestamp(xmin)) * 1000000)::bigint from hammered where number =";
    Ok(node.sql_value(DATABASE, &format!("{sql} {number}"))?.parse()?)
}

impl Hammer {
    /// Begins to write to the server.
    pub fn start(node: &Node) -> Self {
        let address = Address::Tcp(node.host().to_owned(), node.port());
        let book = Arc::new(Mutex::new(Book::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let (kept, stopped) = (Arc::clone(&book), Arc::clone(&stop));
        let thread = thread::spawn(move || write_until_told(&address, &kept, &stopped));
        Self { book, stop, thread: Some(thread) }
    }

    /// What was acknowledged so far.
    pub fn acknowledged(&self) -> Vec<Acknowledged> {
        self.book().acknowledged.clone()
    }

    /// What was acknowledged after an instant.
    pub fn acknowledged_after(&self, instant: Micros) -> Vec<Acknowledged> {
        self.book().acknowledged.iter().copied().filter(|write| write.at > instant).collect()
    }

    /// How often the server refused with this SQLSTATE; `none` counts connections that broke.
    pub fn refused_with(&self, code: &str) -> usize {
        self.book().refused.get(code).copied().unwrap_or_default()
    }

    /// What it has been told, for the message of a failed test.
    pub fn story(&self) -> String {
        let book = self.book();
        let last = book.acknowledged.last();
        format!(
            "{} acknowledged, the last {last:?}; refused: {:?}; last error: {}",
            book.acknowledged.len(),
            book.refused,
            book.last_error
        )
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Drop for Hammer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn write_until_told(address: &Address, book: &Mutex<Book>, stop: &AtomicBool) {
    let mut session = None;
    while !stop.load(Ordering::Relaxed) {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let outcome = write(&mut session, address, number);
        let at = clock::now();
        let mut book = book.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        match outcome {
            Ok(()) => book.acknowledged.push(Acknowledged { number, at }),
            Err(error) => {
                session = None;
                let code = error.downcast_ref::<SqlError>().and_then(|error| error.code.clone());
                *book.refused.entry(code.unwrap_or_else(|| "none".to_owned())).or_default() += 1;
                book.last_error = format!("{error:#}");
                drop(book);
                thread::sleep(PAUSE);
            }
        }
    }
}

fn write(session: &mut Option<Session>, address: &Address, number: i64) -> Result<()> {
    let open = match session {
        Some(open) => open,
        None => session.insert(Session::connect(address, DATABASE, ROLE, LIMIT).context("connect")?),
    };
    open.rows(&format!("insert into hammered values ({number})"))?;
    Ok(())
}

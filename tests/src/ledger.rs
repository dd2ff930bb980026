//! What a database has acknowledged to the sample application: one line per row, appended, never rewritten.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};

use crate::clock::{self, Micros};

/// One acknowledged row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The row's number.
    pub number: i64,
    /// When the acknowledgement arrived.
    pub at: Micros,
    /// Which server gave it, as host:port.
    pub server: String,
}

/// The ledger, open for writing.
#[derive(Debug)]
pub struct Ledger {
    file: File,
}

impl Ledger {
    /// Opens it at its end.
    pub fn open(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        Ok(Self { file: file.with_context(|| format!("open the ledger {}", path.display()))? })
    }

    /// Enters a row that has been acknowledged just now.
    pub fn enter(&mut self, number: i64, server: &str) -> Result<()> {
        // One write, so that a reader or a SIGKILL never meets half a line.
        let line = format!("{number} {} {server}\n", clock::now());
        self.file.write_all(line.as_bytes()).context("write the ledger")
    }
}

/// Everything in the ledger, in the order of entry. No file means that nothing was acknowledged yet.
pub fn read(path: &Path) -> Result<Vec<Entry>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("read the ledger {}", path.display())),
    };
    text.lines().map(|line| parse(line).with_context(|| format!("a bad line in the ledger: {line}"))).collect()
}

/// A line of the ledger.
pub(crate) fn parse(line: &str) -> Option<Entry> {
    let mut words = line.split(' ');
    let number = words.next()?.parse().ok()?;
    let at = words.next()?.parse().ok()?;
    Some(Entry { number, at, server: words.next()?.to_owned() })
}

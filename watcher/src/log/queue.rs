//! The queue between those who log and the thread that writes.
//!
//! A line that finds the queue full is dropped and counted. Whoever reads the log is told as soon as he reads again.

use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

/// Enough for a busy failover of many targets, and some hundred kilobytes at most.
const CAPACITY: usize = 4096;
/// How long the end of the program waits for a slow reader.
const FINISH_WITHIN: Duration = Duration::from_secs(1);

static LOST: AtomicU64 = AtomicU64::new(0);

/// How many lines were dropped so far because nobody read.
pub(crate) fn lines_lost() -> u64 {
    LOST.load(Ordering::Relaxed)
}

enum Message {
    Line(Vec<u8>),
    /// Everything before it has been written.
    End(SyncSender<()>),
}

/// Where lines are put.
#[derive(Clone)]
pub(super) struct Queue(SyncSender<Message>);

/// The log that was started.
pub(crate) struct Log(SyncSender<Message>);

impl Queue {
    /// Starts the thread that writes.
    pub(super) fn start() -> (Self, Log) {
        let (sender, receiver) = sync_channel(CAPACITY);
        let started = thread::Builder::new().name("log".to_owned()).spawn(move || write_lines(&receiver));
        if let Err(error) = started {
            // Without the thread nothing is logged; it is better to say that once than not to run.
            let _ = writeln!(io::stderr(), "cannot start the thread that writes the log: {error}");
        }
        (Self(sender.clone()), Log(sender))
    }
}

impl Write for Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.0.try_send(Message::Line(line.to_vec())).is_err() {
            LOST.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Log {
    /// Waits until everything is written, but not for ever.
    pub(crate) fn finish(self) {
        let end = Instant::now() + FINISH_WITHIN;
        let (done, is_done) = sync_channel(1);
        let mut message = Message::End(done);
        while let Err(TrySendError::Full(back)) = self.0.try_send(message) {
            if Instant::now() >= end {
                return;
            }
            message = back;
            thread::sleep(Duration::from_millis(5));
        }
        let _ = is_done.recv_timeout(end.saturating_duration_since(Instant::now()));
    }
}

fn write_lines(lines: &Receiver<Message>) {
    let mut told = 0;
    for message in lines {
        match message {
            Message::Line(line) => put(&line),
            Message::End(done) => {
                let _ = done.try_send(());
            }
        }
        let lost = lines_lost();
        if lost > told {
            told = lost;
            tracing::warn!("{lost} lines of this log have been lost since the start: its reader did not read");
        }
    }
}

/// Writes a line to stderr. What cannot be written, because the disk is full or the reader is gone, has no better place.
fn put(mut line: &[u8]) {
    let mut stderr = io::stderr();
    while !line.is_empty() {
        match stderr.write(line) {
            Ok(0) => return,
            Ok(written) => line = &line[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Somebody who shares stderr has made it non-blocking.
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(20)),
            Err(_) => return,
        }
    }
}

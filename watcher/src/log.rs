//! The log: lines on stderr, for a journal or a terminal.

use std::fmt;

use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

/// Starts logging. systemd's journal writes down the time by itself.
pub(crate) fn start() {
    let builder = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(tracing::Level::INFO)
        .with_target(false)
        .with_ansi(false)
        // A full disk or a closed pipe under stderr must not end a watcher; a reader that stalls still holds it up.
        .log_internal_errors(false);
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        builder.without_time().init();
    } else {
        builder.with_timer(Milliseconds).init();
    }
}

/// UTC to the millisecond, like `2026-01-31T12:34:56.789Z`.
struct Milliseconds;

impl FormatTime for Milliseconds {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let mut microseconds = String::new();
        SystemTime.format_time(&mut Writer::new(&mut microseconds))?;
        match microseconds.get(..23) {
            Some(milliseconds) => write!(writer, "{milliseconds}Z"),
            None => writer.write_str(&microseconds),
        }
    }
}

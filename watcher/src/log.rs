//! The log: lines on stderr, for a journal or a terminal.
//!
//! Lines go through a bounded queue to a thread of their own ([`queue`]), so that nobody who reads stderr slowly, or has
//! stopped reading, holds up the watcher.

mod queue;

use std::fmt;

use nix::sys::stat::fstat;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{Compact, Format, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use self::queue::Queue;

pub(crate) use self::queue::{Log, lines_lost};

/// Starts logging.
pub(crate) fn start() -> Log {
    let (queue, log) = Queue::start();
    let builder = tracing_subscriber::fmt()
        .with_writer(queue)
        .with_max_level(Level::INFO)
        .with_ansi(false)
        // A full disk or a closed pipe under stderr must not end a watcher.
        .log_internal_errors(false);
    let plain = tracing_subscriber::fmt::format().with_target(false).with_ansi(false);
    if is_journal(std::env::var("JOURNAL_STREAM").ok().as_deref()) {
        builder.event_format(Journal(plain.with_level(false).without_time().compact())).init();
    } else {
        builder.event_format(plain.with_timer(Milliseconds)).init();
    }
    log
}

/// True if stderr goes to systemd's journal. The variable alone does not say so: children inherit it, and send their
/// stderr elsewhere.
fn is_journal(journal_stream: Option<&str>) -> bool {
    let Some((device, inode)) = journal_stream.and_then(|stream| stream.split_once(':')) else {
        return false;
    };
    fstat(std::io::stderr())
        .is_ok_and(|stderr| device.parse() == Ok(stderr.st_dev) && inode.parse() == Ok(stderr.st_ino))
}

/// Lines for the journal, which writes down the time by itself and takes the priority from the beginning of each line.
struct Journal(Format<Compact, ()>);

impl<S, N> FormatEvent<S, N> for Journal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut text = String::new();
        self.0.format_event(context, Writer::new(&mut text), event)?;
        let priority = priority(*event.metadata().level());
        text.lines().try_for_each(|line| writeln!(writer, "<{priority}>{line}"))
    }
}

/// As syslog counts.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
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

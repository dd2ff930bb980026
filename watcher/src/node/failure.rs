//! How an attempt fails.

use std::error::Error as _;
use std::io;
use std::time::Duration;

use watcher_core::pace::Ended;

/// An attempt that gave no observation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// In what way.
    pub(crate) ended: Ended,
    /// Why, for people.
    pub(crate) message: String,
    /// The server's own word for it, if it was the server that failed it.
    pub(super) sqlstate: Option<String>,
    /// Something other than a server's word ended an attempt that had reached a server.
    pub(super) broke: bool,
}

impl Failure {
    fn new(ended: Ended, message: String) -> Self {
        Self { ended, message, sqlstate: None, broke: false }
    }

    /// The node cannot be asked like this, or its answer cannot be used.
    pub(super) fn unusable(message: String) -> Self {
        Self::new(Ended::Rejected, message)
    }

    /// The time was up.
    pub(crate) fn silent(limit: Duration) -> Self {
        Self::new(Ended::Silent, format!("no answer within {} ms", limit.as_millis()))
    }

    /// One of several was given its part of the time.
    pub(super) fn silent_too_long() -> Self {
        Self::new(Ended::Silent, "no answer".to_owned())
    }

    /// The name has no address, or the resolver does not say.
    pub(super) fn not_resolved(error: io::Error) -> Self {
        Self::new(Ended::Silent, format!("the name is not resolved: {error}"))
    }

    /// Nothing was reached.
    pub(super) fn not_connected(error: io::Error) -> Self {
        use io::ErrorKind::{ConnectionRefused, NotFound, TimedOut};
        let ended = if matches!(error.kind(), ConnectionRefused | NotFound) {
            Ended::Refused
        } else if error.kind() == TimedOut {
            Ended::Silent
        } else {
            Ended::Rejected
        };
        Self::new(ended, format!("cannot connect: {error}"))
    }

    /// None of one or more ways led to an answer; each has its place.
    pub(super) fn all_of(failures: Vec<(String, Self)>) -> Self {
        let ended = failures.iter().map(|(_, failure)| failure.ended).max().unwrap_or(Ended::Silent);
        let message = match failures.as_slice() {
            [(_, single)] => single.message.clone(),
            several => several
                .iter()
                .map(|(place, failure)| format!("{place}: {}", failure.message))
                .collect::<Vec<_>>()
                .join("; "),
        };
        Self::new(ended, message)
    }

    /// The same, after the server refused another way of coming in.
    pub(super) fn after(self, first: &Self) -> Self {
        if !first.is_refused_entry() || self.message == first.message {
            return self;
        }
        Self { message: format!("{}; before that: {}", self.message, first.message), ..self }
    }

    /// There was no time for an answer, or the server was not given enough.
    pub(super) fn is_lack_of_time(&self) -> bool {
        self.ended == Ended::Silent || self.sqlstate.as_deref() == Some("57014")
    }

    /// The server lets nobody in like this, and may in another way.
    pub(super) fn is_refused_entry(&self) -> bool {
        self.sqlstate.as_ref().is_some_and(|code| code.starts_with("28"))
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        if let Some(db) = error.as_db_error() {
            let code = db.code().code();
            let message = format!("{} ({code})", db.message());
            return Self { sqlstate: Some(code.to_owned()), ..Self::new(Ended::Rejected, message) };
        }
        let io = error.source().and_then(|source| source.downcast_ref::<io::Error>());
        let timed_out = io.is_some_and(|io| io.kind() == io::ErrorKind::TimedOut);
        let message = match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        Self { broke: true, ..Self::new(if timed_out { Ended::Silent } else { Ended::Rejected }, message) }
    }
}

//! What an answer is: one table from everything that can come back from a partner to what it means.
//!
//! A mistake here is the worst that pg_keeper can make. Whoever takes a living server for a dead one makes two primaries; whoever takes
//! a dead one for alive never fails over.

use crate::report::Answer;
use alloc::string::String;
use core::fmt;

/// Everything that can come of an attempt before its time is over.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
// One at a time, a few a second: a box would save nothing.
#[allow(clippy::large_enum_variant)]
pub enum Reply {
    /// All questions were answered.
    Complete(Answer),
    /// The partner's server answered with an error.
    ServerError {
        /// Its class and code.
        sqlstate: SqlState,
        /// Its text, in the partner's language.
        message: String,
    },
    /// The partner's report is not one that this version can read; the text says what is wrong with it.
    Unreadable(String),
    /// libpq gave up without a word from the server.
    Transport {
        /// How far the attempt had come.
        stage: Stage,
        /// libpq's own message, in English (the keeper runs with `lc_messages = C`).
        message: String,
    },
    /// No address is known for the partner's host name; the text is the resolver's.
    NameNotResolved(String),
    /// Nothing was sent, because there is nobody to send it to; the text says why.
    NotSent(String),
}

/// How far an attempt had come when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// No TCP (or Unix socket) connection yet.
    Connecting,
    /// The connection stands, and the start-up, with TLS and authentication, is under way.
    Startup,
    /// Logged in; a question is outstanding.
    Asking,
}

/// A five-character error code (SQL standard; PostgreSQL, appendix A).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SqlState(pub [u8; 5]);

impl SqlState {
    /// The code in `text`; `XX000` (internal error) when it is no code.
    pub fn new(text: &str) -> Self {
        SqlState(text.as_bytes().try_into().unwrap_or(*b"XX000"))
    }
}

impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(core::str::from_utf8(&self.0).unwrap_or("XX000"))
    }
}

/// The last words of a server before it closed a connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Farewell {
    /// 57P01 for a shutdown, but also for a backend that found its postmaster dead.
    pub sqlstate: SqlState,
    /// The C function that raised the message; it tells those two apart in every language.
    pub routine: String,
}

impl Farewell {
    /// Whether these are the words of a server that an administrator is shutting down, or of a session that he ended: not a crash.
    ///
    /// A backend that finds its postmaster dead says 57P01 as well, but raises it while waiting on the socket or in a wait for
    /// something else; an administrator's command is always raised by `ProcessInterrupts` (PostgreSQL 13 to 18, `postgres.c`).
    /// 57P02 is the message of an immediate shutdown and of the crash of another process.
    pub fn is_orderly(&self) -> bool {
        &self.sqlstate.0 == b"57P01" && self.routine == "ProcessInterrupts"
    }
}

/// What a reply means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Alive, and it told all it was asked.
    Answered,
    /// Alive, and it did not tell: never «lost», and never a reason to act alone.
    Unhelpful(Unhelpful),
    /// No sign of a working server.
    Missed(Miss),
    /// Nothing was learnt of the partner, by a fault on our side: neither an answer nor a miss.
    NotAsked(OurFault),
}

/// Why a living partner did not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unhelpful {
    /// `53300`, and the other shortages of class 53.
    NoConnectionLeft,
    /// Class 28: pg_hba.conf or a password, or a password that we were asked for and do not have.
    AccessRefused,
    /// `42501`: the role lacks REPLICATION.
    NotPrivileged,
    /// `3D000`
    NoSuchDatabase,
    /// `42704`: its server does not know our setting; pg_keeper is not loaded there, or is an older one.
    NoKeeper,
    /// TLS could not be agreed on, or a certificate was not accepted.
    Tls,
    /// Any other error of a server that speaks.
    OtherError,
}

/// Why there was no sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Miss {
    /// Nothing came in time.
    Silence,
    /// `57P03`: starting up, shutting down or recovering. Not proof of death, but no service either.
    NotAccepting,
    /// The host itself refused the connection: no server listens there.
    ConnectionRefused,
    /// The connection was cut.
    ConnectionLost,
    /// No way to the host.
    Unreachable,
}

/// Why the partner was not asked at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OurFault {
    /// Its name is not known to the resolver, and no address that worked before is.
    NameNotResolved,
    /// Our own machine would not make the connection: out of descriptors, memory or ports, or a rule of our own firewall.
    LocalFailure,
}

impl Reply {
    /// The table.
    pub fn verdict(&self) -> Verdict {
        match self {
            Reply::Complete(_) => Verdict::Answered,
            Reply::ServerError { sqlstate, .. } => of_sqlstate(*sqlstate),
            Reply::Unreadable(_) => Verdict::Unhelpful(Unhelpful::NoKeeper),
            Reply::Transport { stage, message } => of_transport(*stage, message),
            Reply::NameNotResolved(_) => Verdict::NotAsked(OurFault::NameNotResolved),
            Reply::NotSent(_) => Verdict::NotAsked(OurFault::LocalFailure),
        }
    }
}

fn of_sqlstate(sqlstate: SqlState) -> Verdict {
    match &sqlstate.0 {
        b"57P03" => Verdict::Missed(Miss::NotAccepting),
        // Sessions ended by a shutdown, a crash or an administrator: the connection is gone, and whether a server is left is seen next.
        [b'5', b'7', b'P', ..] => Verdict::Missed(Miss::ConnectionLost),
        [b'5', b'3', ..] => Verdict::Unhelpful(Unhelpful::NoConnectionLeft),
        [b'2', b'8', ..] => Verdict::Unhelpful(Unhelpful::AccessRefused),
        b"3D000" => Verdict::Unhelpful(Unhelpful::NoSuchDatabase),
        b"42501" => Verdict::Unhelpful(Unhelpful::NotPrivileged),
        b"42704" => Verdict::Unhelpful(Unhelpful::NoKeeper),
        _ => Verdict::Unhelpful(Unhelpful::OtherError),
    }
}

/// Words of libpq and of the C library (English) and what they mean; the first row all of whose words are there decides.
const TRANSPORT: &[(&[&str], Verdict)] = &[
    // A postmaster that cannot start a process for us speaks all the same.
    (&["could not fork"], Verdict::Unhelpful(Unhelpful::NoConnectionLeft)),
    (&["could not translate host name"], Verdict::NotAsked(OurFault::NameNotResolved)),
    (&["could not parse network address"], Verdict::NotAsked(OurFault::NameNotResolved)),
    (&["could not create socket"], Verdict::NotAsked(OurFault::LocalFailure)),
    (&["Too many open files"], Verdict::NotAsked(OurFault::LocalFailure)),
    (&["Cannot assign requested address"], Verdict::NotAsked(OurFault::LocalFailure)),
    (&["No buffer space available"], Verdict::NotAsked(OurFault::LocalFailure)),
    (&["Operation not permitted"], Verdict::NotAsked(OurFault::LocalFailure)),
    (&["Permission denied"], Verdict::NotAsked(OurFault::LocalFailure)),
    (&["out of memory"], Verdict::NotAsked(OurFault::LocalFailure)),
    (&["definition of service"], Verdict::NotAsked(OurFault::LocalFailure)),
    (&["service file"], Verdict::NotAsked(OurFault::LocalFailure)),
    (&["requirepeer"], Verdict::Unhelpful(Unhelpful::AccessRefused)),
    (&["Connection refused"], Verdict::Missed(Miss::ConnectionRefused)),
    // The socket file of a server on this machine is gone. A missing certificate file has the same last words, but no socket in them.
    (&["socket", "No such file or directory"], Verdict::Missed(Miss::ConnectionRefused)),
    (&["No route to host"], Verdict::Missed(Miss::Unreachable)),
    (&["Network is unreachable"], Verdict::Missed(Miss::Unreachable)),
    (&["Host is down"], Verdict::Missed(Miss::Unreachable)),
    (&["Connection timed out"], Verdict::Missed(Miss::Silence)),
    (&["Connection reset by peer"], Verdict::Missed(Miss::ConnectionLost)),
    (&["server closed the connection unexpectedly"], Verdict::Missed(Miss::ConnectionLost)),
    (&["Broken pipe"], Verdict::Missed(Miss::ConnectionLost)),
    (&["EOF detected"], Verdict::Missed(Miss::ConnectionLost)),
    (&["unexpected eof"], Verdict::Missed(Miss::ConnectionLost)),
    (&["connection has been closed unexpectedly"], Verdict::Missed(Miss::ConnectionLost)),
    (&["no password supplied"], Verdict::Unhelpful(Unhelpful::AccessRefused)),
    (&["password authentication failed"], Verdict::Unhelpful(Unhelpful::AccessRefused)),
    (&["SSL"], Verdict::Unhelpful(Unhelpful::Tls)),
    (&["certificate"], Verdict::Unhelpful(Unhelpful::Tls)),
];

/// libpq puts the troubles of all the places it tried into one message, one after the other. A place that speaks outweighs one that does
/// not, and the host is only said to refuse when every place does.
fn of_transport(stage: Stage, message: &str) -> Verdict {
    let known = message.split("; ").filter_map(|part| {
        TRANSPORT.iter().find(|(words, _)| words.iter().all(|word| part.contains(word))).map(|(_, verdict)| *verdict)
    });
    known.reduce(weightier).unwrap_or(match stage {
        Stage::Connecting => Verdict::Missed(Miss::Unreachable),
        // libpq complains of what the other side said, so the other side speaks.
        Stage::Startup | Stage::Asking => Verdict::Unhelpful(Unhelpful::OtherError),
    })
}

fn weightier(one: Verdict, other: Verdict) -> Verdict {
    let refused = Verdict::Missed(Miss::ConnectionRefused);
    match (one, other) {
        (Verdict::Answered | Verdict::Unhelpful(_), _) => one,
        (_, Verdict::Answered | Verdict::Unhelpful(_)) => other,
        (Verdict::NotAsked(_), Verdict::NotAsked(_)) => one,
        // One place was not tried at all, so what the other says is not all there is to know.
        (Verdict::NotAsked(_), missed) | (missed, Verdict::NotAsked(_)) if missed == refused => {
            Verdict::Missed(Miss::Unreachable)
        }
        (Verdict::NotAsked(_), missed) | (missed, Verdict::NotAsked(_)) => missed,
        (Verdict::Missed(_), Verdict::Missed(_)) if one == refused => other,
        (Verdict::Missed(_), Verdict::Missed(_)) => one,
    }
}

impl fmt::Display for Unhelpful {
    /// What to do about it: sentences for a hint.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unhelpful::NoConnectionLeft => {
                "Raise max_wal_senders on the partner: a keepalive needs one walsender there, beside those of replication."
            }
            Unhelpful::AccessRefused => {
                "Let this server in on the partner: a line \"host replication USER ADDRESS METHOD\" in its pg_hba.conf and a reload, \
                 and here the password in a passfile that the server's operating system user can read."
            }
            Unhelpful::NotPrivileged => "Give the role REPLICATION on the partner: ALTER ROLE name REPLICATION.",
            Unhelpful::NoSuchDatabase => "Correct dbname in pg_keeper.partner_conninfo.",
            Unhelpful::NoKeeper => {
                "Install the same version of pg_keeper on the partner, add it to shared_preload_libraries there and restart it."
            }
            Unhelpful::Tls => "Make sslmode and the certificates in pg_keeper.partner_conninfo agree with the partner's.",
            Unhelpful::OtherError => "Look into the partner's log.",
        })
    }
}

impl fmt::Display for OurFault {
    /// What to do about it: sentences for a hint.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OurFault::NameNotResolved => {
                "Correct the host in pg_keeper.partner_conninfo, or name its number with hostaddr=. A name that is not resolved never \
                 counts as the partner's death."
            }
            OurFault::LocalFailure => {
                "Something on this machine keeps the connection from being made: descriptors, memory, ports, or a rule of the firewall."
            }
        })
    }
}

impl fmt::Display for Miss {
    /// A phrase that ends «partner missed a keepalive: ».
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Miss::Silence => "no answer in time",
            Miss::NotAccepting => "not accepting connections",
            Miss::ConnectionRefused => "connection refused",
            Miss::ConnectionLost => "connection lost",
            Miss::Unreachable => "host unreachable",
        })
    }
}

impl Reply {
    /// What went wrong, in the words in which it came; empty for a complete answer.
    pub fn text(&self) -> &str {
        match self {
            Reply::Complete(_) => "",
            Reply::ServerError { message, .. } | Reply::Transport { message, .. } => message,
            Reply::Unreadable(text) | Reply::NameNotResolved(text) | Reply::NotSent(text) => text,
        }
    }

    /// The SQLSTATE of the partner's error, if it answered with one.
    pub fn sqlstate(&self) -> Option<SqlState> {
        match self {
            Reply::ServerError { sqlstate, .. } => Some(*sqlstate),
            Reply::Complete(_)
            | Reply::Unreadable(_)
            | Reply::Transport { .. }
            | Reply::NameNotResolved(_)
            | Reply::NotSent(_) => None,
        }
    }
}

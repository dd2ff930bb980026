//! A connection of libpq's behind safe functions, none of which waits.

use crate::libpq::{self as pq, Libpq};
use keeper_core::one_line;
use keeper_core::{Farewell, SqlState, Stage};
use nix::libc;
use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::ptr::{self, NonNull};
use std::rc::Rc;

// `libpq-fe.h`: numbers that keep their meaning in every libpq to come.
const CONNECTION_OK: c_uint = 0;
const CONNECTION_BAD: c_uint = 1;
const CONNECTION_STARTED: c_uint = 2;
const CONNECTION_NEEDED: c_uint = 8;
/// Since libpq 17: nothing has been done yet.
const CONNECTION_ALLOCATED: c_uint = 14;
const POLLING_READING: c_uint = 1;
const POLLING_WRITING: c_uint = 2;
const POLLING_OK: c_uint = 3;
const TUPLES_OK: c_uint = 2;
const BAD_RESPONSE: c_uint = 5;
const FATAL_ERROR: c_uint = 7;
const ERRORS_VERBOSE: c_int = 2;

// `postgres_ext.h`: the fields of a server's message.
const SEVERITY: u8 = b'V';
const SQLSTATE: u8 = b'C';
const MESSAGE_PRIMARY: u8 = b'M';
const SOURCE_FUNCTION: u8 = b'R';

/// A value that no libpq takes for `target_session_attrs`: with it, libpq expands and checks all options and stops before it connects.
const STOP_BEFORE_CONNECTING: &CStr = c"none-expand-only";

/// Keyword and value. Values are bytes: a password or a path need not be UTF-8.
pub(super) type ConnectionOption = (Vec<u8>, Vec<u8>);

/// All options of a connection, as libpq completes them from `conninfo`, service file, environment and defaults, without touching the
/// network.
pub(super) fn expand(conninfo: &CStr) -> Result<Vec<ConnectionOption>, String> {
    let libpq = pq::kept()?;
    check_syntax(libpq, conninfo)?;
    // A conninfo string is only recognised by its "=" or its scheme; an empty one would be taken for a database name.
    let conninfo = if conninfo.is_empty() { c"dbname=''" } else { conninfo };
    let keywords = [c"dbname".as_ptr(), c"target_session_attrs".as_ptr(), ptr::null()];
    let values = [conninfo.as_ptr(), STOP_BEFORE_CONNECTING.as_ptr(), ptr::null()];
    // SAFETY: both arrays end with a null pointer and outlive the call, as do the strings they point to.
    let conn = unsafe { (libpq.PQconnectStartParams)(keywords.as_ptr(), values.as_ptr(), 1) };
    let Some(conn) = NonNull::new(conn) else {
        return Err("out of memory".into());
    };
    // SAFETY: `conn` is a live connection object; the message is a C string that lives as long as the object and is copied at once.
    let message = text_at(unsafe { (libpq.PQerrorMessage)(conn.as_ptr()) });
    let expanded = if message.contains(&*STOP_BEFORE_CONNECTING.to_string_lossy()) {
        // SAFETY: `conn` is live.
        options_at(libpq, unsafe { (libpq.PQconninfo)(conn.as_ptr()) })
    } else {
        Err(one_line(&message))
    };
    // SAFETY: `conn` came from PQconnectStartParams, is not used again, and has no socket that could make this wait.
    unsafe { (libpq.PQfinish)(conn.as_ptr()) };
    expanded
}

fn check_syntax(libpq: &Libpq, conninfo: &CStr) -> Result<(), String> {
    let mut error: *mut c_char = ptr::null_mut();
    // SAFETY: `conninfo` is a C string and `error` a place for a pointer; both outlive the call.
    let options = unsafe { (libpq.PQconninfoParse)(conninfo.as_ptr(), &raw mut error) };
    if !options.is_null() {
        // SAFETY: `options` came from PQconninfoParse and is not used again.
        unsafe { (libpq.PQconninfoFree)(options) };
        return Ok(());
    }
    let message = if error.is_null() { "out of memory".into() } else { one_line(&text_at(error)) };
    // SAFETY: `error` is null or was allocated by libpq for its caller; PQfreemem takes both.
    unsafe { (libpq.PQfreemem)(error.cast()) };
    Err(message)
}

/// Copies and frees an option array of libpq's.
fn options_at(libpq: &Libpq, options: *mut pq::PQconninfoOption) -> Result<Vec<ConnectionOption>, String> {
    if options.is_null() {
        return Err("out of memory".into());
    }
    let mut copied = Vec::new();
    let mut next = options;
    // SAFETY: the array ends with an element whose keyword is null, so `next` stays inside; keywords and values that are not null are C
    // strings that live until the array is freed, after the last copy.
    unsafe {
        while let Some(option) = next.as_ref().filter(|option| !option.keyword.is_null()) {
            if !option.val.is_null() {
                let bytes = |text: *const c_char| CStr::from_ptr(text).to_bytes().to_vec();
                copied.push((bytes(option.keyword), bytes(option.val)));
            }
            next = next.add(1);
        }
        (libpq.PQconninfoFree)(options);
    }
    Ok(copied)
}

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Read,
    Write,
}

/// How far a connection has come.
pub(super) enum Progress {
    /// It waits for its socket.
    Waiting(Direction),
    /// It can be used.
    Open,
    /// It failed; the session has the message.
    Failed,
}

/// What came back for a query.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The first row; empty when there is none.
    Row(Vec<String>),
    /// The server's error.
    Error { sqlstate: SqlState, message: String, routine: String, fatal: bool },
    /// libpq's own error: the connection is of no use any more.
    Broken(String),
    /// Nothing that was asked for.
    Unexpected,
}

/// A connection of libpq's that never blocks. Dropping it closes it.
pub(super) struct Session {
    libpq: &'static Libpq,
    conn: NonNull<pq::PGconn>,
    /// Written by [`take_notice`] from inside libpq's calls: shared, so that no exclusive reference to it can exist meanwhile.
    farewell: Rc<RefCell<Option<Farewell>>>,
}

impl Session {
    /// Starts to connect. [`Session::connect`] goes on with it, once the socket is ready for writing.
    pub(super) fn start(conninfo: &CStr) -> Result<Session, String> {
        let libpq = pq::kept()?;
        // SAFETY: called on the server's only thread, and no object of libpq's is held if it raises an error.
        if !unsafe { pgrx::pg_sys::AcquireExternalFD() } {
            return Err("could not create socket: Too many open files in this server process".into());
        }
        // SAFETY: `conninfo` is a C string. All hosts in it have numeric addresses, so nothing is resolved.
        let Some(conn) = NonNull::new(unsafe { (libpq.PQconnectStart)(conninfo.as_ptr()) }) else {
            // SAFETY: gives back what was acquired above.
            unsafe { pgrx::pg_sys::ReleaseExternalFD() };
            return Err("out of memory".into());
        };
        let farewell = Rc::new(RefCell::new(None));
        // SAFETY: `conn` is live. The pointer handed over stays valid as long as `conn` lives: `Drop` frees `conn` before the field
        // `farewell` lets go of its share. Non-blocking comes first: nothing that is sent later, the good-bye included, may wait for a
        // partner that does not read. On a connection that has failed already it has no effect, and is not needed.
        unsafe {
            (libpq.PQsetnonblocking)(conn.as_ptr(), 1);
            (libpq.PQsetErrorVerbosity)(conn.as_ptr(), ERRORS_VERBOSE);
            (libpq.PQsetNoticeReceiver)(conn.as_ptr(), Some(take_notice), Rc::as_ptr(&farewell).cast_mut().cast());
        }
        Ok(Session { libpq, conn, farewell })
    }

    /// Goes on connecting. To be called only when the socket [is ready](Session::is_ready): libpq takes a call as a sign that it is.
    pub(super) fn connect(&mut self) -> Progress {
        // SAFETY: `conn` is live. libpq has made its socket non-blocking.
        match unsafe { (self.libpq.PQconnectPoll)(self.conn.as_ptr()) } {
            POLLING_READING => Progress::Waiting(Direction::Read),
            POLLING_WRITING => Progress::Waiting(Direction::Write),
            POLLING_OK => Progress::Open,
            _ => Progress::Failed,
        }
    }

    /// How far it has come; to be asked before going on with it.
    pub(super) fn stage(&self) -> Stage {
        match self.status() {
            // A connection that is bad before it was gone on with: the operating system refused it at once.
            CONNECTION_NEEDED | CONNECTION_STARTED | CONNECTION_ALLOCATED | CONNECTION_BAD => Stage::Connecting,
            CONNECTION_OK => Stage::Asking,
            _ => Stage::Startup,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.status() == CONNECTION_OK
    }

    fn status(&self) -> c_uint {
        // SAFETY: `conn` is live.
        unsafe { (self.libpq.PQstatus)(self.conn.as_ptr()) }
    }

    /// The socket, which may be another one after every call: libpq goes from host to host.
    pub(super) fn socket(&self) -> Option<c_int> {
        // SAFETY: `conn` is live.
        Some(unsafe { (self.libpq.PQsocket)(self.conn.as_ptr()) }).filter(|socket| *socket >= 0)
    }

    /// Whether the socket is ready now.
    pub(super) fn is_ready(&self, direction: Direction) -> bool {
        let Some(fd) = self.socket() else { return true };
        let events = match direction {
            Direction::Read => libc::POLLIN,
            Direction::Write => libc::POLLOUT,
        };
        let mut entry = libc::pollfd { fd, events, revents: 0 };
        // SAFETY: `entry` is one valid element and outlives the call; a timeout of zero returns at once.
        unsafe { libc::poll(&raw mut entry, 1, 0) > 0 }
    }

    /// Sends a query; whether that was possible.
    pub(super) fn send(&mut self, query: &CStr) -> bool {
        // SAFETY: `conn` is live and non-blocking, `query` is a C string.
        unsafe { (self.libpq.PQsendQuery)(self.conn.as_ptr(), query.as_ptr()) == 1 }
    }

    /// Sends what is left to be sent; whether something still is.
    pub(super) fn flush(&mut self) -> bool {
        // SAFETY: `conn` is live and non-blocking. A failure to send shows when reading, together with what the server said before.
        unsafe { (self.libpq.PQflush)(self.conn.as_ptr()) == 1 }
    }

    /// Reads what has come; whether the connection still stands.
    pub(super) fn receive(&mut self) -> bool {
        // SAFETY: `conn` is live and non-blocking. PQisBusy parses what was read before the connection was found closed, so that the
        // server's last words are heard.
        unsafe {
            let received = (self.libpq.PQconsumeInput)(self.conn.as_ptr()) == 1;
            (self.libpq.PQisBusy)(self.conn.as_ptr());
            received && self.is_open()
        }
    }

    /// The next result of the query: `None` when it is not there yet, `Some(None)` when there are no more.
    pub(super) fn next_result(&mut self) -> Option<Option<Outcome>> {
        // SAFETY: `conn` is live. PQgetResult waits only while PQisBusy is true.
        let result = unsafe {
            if (self.libpq.PQisBusy)(self.conn.as_ptr()) != 0 {
                return None;
            }
            (self.libpq.PQgetResult)(self.conn.as_ptr())
        };
        let Some(result) = NonNull::new(result) else {
            return Some(None);
        };
        let outcome = outcome_of(self.libpq, result);
        // SAFETY: `result` is ours to free and is not used again.
        unsafe { (self.libpq.PQclear)(result.as_ptr()) };
        Some(Some(outcome))
    }

    /// What the server said of its own accord before it closed the connection.
    pub(super) fn farewell(&self) -> Option<Farewell> {
        self.farewell.try_borrow().ok().and_then(|farewell| farewell.clone())
    }

    /// libpq's message about what went wrong, as it is.
    pub(super) fn error_message(&self) -> String {
        // SAFETY: `conn` is live, and the message is copied before anything else is done with it.
        text_at(unsafe { (self.libpq.PQerrorMessage)(self.conn.as_ptr()) })
    }

    /// Host, numeric address (empty for a Unix socket) and port of the place that is being tried or was reached.
    pub(super) fn place(&self) -> (String, String, String) {
        let conn = self.conn.as_ptr();
        // SAFETY: `conn` is live, and each text is copied at once.
        unsafe {
            (
                text_at((self.libpq.PQhost)(conn)),
                text_at((self.libpq.PQhostaddr)(conn)),
                text_at((self.libpq.PQport)(conn)),
            )
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: `conn` came from PQconnectStart and is not used again. The connection is non-blocking, so its good-bye is sent as far
        // as the socket takes it. One external descriptor was acquired for it.
        unsafe {
            (self.libpq.PQfinish)(self.conn.as_ptr());
            pgrx::pg_sys::ReleaseExternalFD();
        }
    }
}

/// libpq's notice receiver: keeps the last error that came unasked. A server that closes an idle connection says why in this way.
///
/// Must not panic, as C is calling.
unsafe extern "C" fn take_notice(arg: *mut c_void, result: *const pq::PGresult) {
    // SAFETY: `arg` is what `Session::start` handed over, which lives at least as long as the connection that is calling.
    let Some(farewell) = (unsafe { arg.cast_const().cast::<RefCell<Option<Farewell>>>().as_ref() }) else {
        return;
    };
    // Whoever calls this has been loaded.
    let Ok(libpq) = pq::kept() else { return };
    if matches!(field(libpq, result, SEVERITY).as_str(), "ERROR" | "FATAL" | "PANIC")
        && let Ok(mut farewell) = farewell.try_borrow_mut()
    {
        let sqlstate = SqlState::new(&field(libpq, result, SQLSTATE));
        *farewell = Some(Farewell { sqlstate, routine: field(libpq, result, SOURCE_FUNCTION) });
    }
}

fn outcome_of(libpq: &Libpq, result: NonNull<pq::PGresult>) -> Outcome {
    let result = result.as_ptr().cast_const();
    // SAFETY: `result` is live.
    match unsafe { (libpq.PQresultStatus)(result) } {
        TUPLES_OK => Outcome::Row(first_row(libpq, result)),
        FATAL_ERROR | BAD_RESPONSE => {
            let sqlstate = field(libpq, result, SQLSTATE);
            if sqlstate.is_empty() {
                // SAFETY: `result` is live, and the message is copied at once.
                return Outcome::Broken(one_line(&text_at(unsafe { (libpq.PQresultErrorMessage)(result) })));
            }
            Outcome::Error {
                sqlstate: SqlState::new(&sqlstate),
                message: one_line(&field(libpq, result, MESSAGE_PRIMARY)),
                routine: field(libpq, result, SOURCE_FUNCTION),
                fatal: field(libpq, result, SEVERITY) != "ERROR",
            }
        }
        _ => Outcome::Unexpected,
    }
}

fn first_row(libpq: &Libpq, result: *const pq::PGresult) -> Vec<String> {
    // SAFETY: `result` is live. Row 0 exists when there are rows, columns are counted by libpq, and a value is as long as PQgetlength
    // says (a history file arrives as plain text of that length); it is copied at once.
    unsafe {
        if (libpq.PQntuples)(result) < 1 {
            return Vec::new();
        }
        let value = |column| {
            let length = usize::try_from((libpq.PQgetlength)(result, 0, column)).unwrap_or(0);
            let start = (libpq.PQgetvalue)(result, 0, column).cast_const().cast::<u8>();
            let bytes = if start.is_null() { &[] } else { std::slice::from_raw_parts(start, length) };
            String::from_utf8_lossy(bytes).into_owned()
        };
        (0..(libpq.PQnfields)(result)).map(value).collect()
    }
}

/// A field of a server's message; empty when it has none.
fn field(libpq: &Libpq, result: *const pq::PGresult, code: u8) -> String {
    // SAFETY: every caller has a live result, and the text is copied at once.
    text_at(unsafe { (libpq.PQresultErrorField)(result, c_int::from(code)) })
}

/// Copies one of libpq's texts. The server's messages come in its own encoding; what is not UTF-8 is replaced.
fn text_at(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: libpq hands out null or C strings, and every caller copies before it touches the object that owns the text.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

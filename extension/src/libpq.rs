//! The system's libpq, loaded by the process that talks to the partner.
//!
//! It is not linked. Whatever the postmaster has mapped, each new session maps again, and leaves again at its end: libpq would be five
//! mappings and three page faults more for each. So the keeper loads it for itself, and whoever only reads a connection string unloads
//! it afterwards.

use libloading::Library;
use std::ffi::{c_char, c_int, c_uint, c_void};
use std::sync::OnceLock;

/// The name by which the system knows every libpq of the last twenty years.
const NAME: &str = "libpq.so.5";

/// A connection, which only libpq looks into.
#[repr(C)]
pub(crate) struct PGconn([u8; 0]);

/// A result, which only libpq looks into.
#[repr(C)]
pub(crate) struct PGresult([u8; 0]);

/// An option of a connection, as `libpq-fe.h` lays it out.
#[repr(C)]
pub(crate) struct PQconninfoOption {
    /// Its name; null in the entry that ends an array.
    pub(crate) keyword: *mut c_char,
    envvar: *mut c_char,
    compiled: *mut c_char,
    /// Its value, or null.
    pub(crate) val: *mut c_char,
    label: *mut c_char,
    dispchar: *mut c_char,
    dispsize: c_int,
}

/// Called with notices and with what a server says of its own accord.
pub(crate) type NoticeReceiver = Option<unsafe extern "C" fn(*mut c_void, *const PGresult)>;

macro_rules! libpq {
    ($($name:ident($($argument:ty),*) $(-> $result:ty)?;)*) => {
        /// The functions of libpq that are used here, under their own names. Enums come as numbers: libpq may be newer than what this was
        /// built with, and a Rust enum must never hold a value that it does not know.
        #[allow(non_snake_case)]
        pub(crate) struct Libpq {
            $(pub(crate) $name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
            /// Closed last: the functions are in it.
            _library: Library,
        }

        impl Libpq {
            /// Loads it, until this is dropped.
            ///
            /// # Errors
            /// The dynamic linker's words.
            pub(crate) fn open() -> Result<Libpq, String> {
                let told = |error: libloading::Error| format!("libpq cannot be loaded: {error}");
                // SAFETY: it is the system's own library, and what it and those it needs run when they are loaded and unloaded is what
                // they would run in any program that is linked with them.
                let library = unsafe { Library::new(NAME) }.map_err(told)?;
                Ok(Libpq {
                    // SAFETY: the types are those of libpq's header, which has kept them since this library bears its number.
                    $($name: *unsafe { library.get(stringify!($name).as_bytes()) }.map_err(told)?,)*
                    _library: library,
                })
            }
        }
    };
}

libpq! {
    PQclear(*mut PGresult);
    PQconnectPoll(*mut PGconn) -> c_uint;
    PQconnectStart(*const c_char) -> *mut PGconn;
    PQconnectStartParams(*const *const c_char, *const *const c_char, c_int) -> *mut PGconn;
    PQconninfo(*mut PGconn) -> *mut PQconninfoOption;
    PQconninfoFree(*mut PQconninfoOption);
    PQconninfoParse(*const c_char, *mut *mut c_char) -> *mut PQconninfoOption;
    PQconsumeInput(*mut PGconn) -> c_int;
    PQerrorMessage(*const PGconn) -> *mut c_char;
    PQfinish(*mut PGconn);
    PQflush(*mut PGconn) -> c_int;
    PQfreemem(*mut c_void);
    PQgetResult(*mut PGconn) -> *mut PGresult;
    PQgetlength(*const PGresult, c_int, c_int) -> c_int;
    PQgetvalue(*const PGresult, c_int, c_int) -> *mut c_char;
    PQhost(*const PGconn) -> *mut c_char;
    PQhostaddr(*const PGconn) -> *mut c_char;
    PQisBusy(*mut PGconn) -> c_int;
    PQnfields(*const PGresult) -> c_int;
    PQntuples(*const PGresult) -> c_int;
    PQport(*const PGconn) -> *mut c_char;
    PQresultErrorField(*const PGresult, c_int) -> *mut c_char;
    PQresultErrorMessage(*const PGresult) -> *mut c_char;
    PQresultStatus(*const PGresult) -> c_uint;
    PQsendQuery(*mut PGconn, *const c_char) -> c_int;
    PQsetErrorVerbosity(*mut PGconn, c_int) -> c_int;
    PQsetNoticeReceiver(*mut PGconn, NoticeReceiver, *mut c_void) -> NoticeReceiver;
    PQsetnonblocking(*mut PGconn, c_int) -> c_int;
    PQsocket(*const PGconn) -> c_int;
    PQstatus(*const PGconn) -> c_uint;
}

/// The one of this process, loaded for as long as it lives: for those who hold connections.
///
/// # Errors
/// Those of [`Libpq::open`].
pub(crate) fn kept() -> Result<&'static Libpq, String> {
    static KEPT: OnceLock<Libpq> = OnceLock::new();
    if let Some(libpq) = KEPT.get() {
        return Ok(libpq);
    }
    let libpq = Libpq::open()?;
    Ok(KEPT.get_or_init(|| libpq))
}

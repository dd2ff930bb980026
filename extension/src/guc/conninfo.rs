//! Connection strings as libpq reads them.

use crate::libpq::{Libpq, PQconninfoOption};
use keeper_core::conninfo;
use std::ffi::{CStr, CString, c_char};
use std::ptr;

/// Why a connection string is not taken. None of the texts repeats any of its values.
pub(crate) struct Refusal {
    /// What is wrong: the rest of a sentence that begins with the setting's name.
    pub(crate) what: String,
    /// What is allowed, in whole sentences.
    pub(crate) allowed: &'static str,
    /// What to write instead, in whole sentences.
    pub(crate) hint: &'static str,
    /// Whether a secret was found in it, so that the statement it came with must not be logged either.
    pub(crate) secret: bool,
}

const ALLOWED: &str = "A libpq connection string is allowed: keyword=value pairs separated by spaces, values with spaces in single quotes, or a URI.";
const EXAMPLE: &str = "For example: 'host=10.0.0.12 port=5432 user=keeper passfile=/var/lib/postgresql/.pgpass'.";
const NO_SECRET: &str =
    "Settings are written to the server's log and shown in views, so a secret has no place in them.";

/// The options that are set in `text`, or `None` when libpq does not accept it or is not there.
pub(crate) fn parse(text: &CStr) -> Option<Vec<(String, String)>> {
    parse_with(&Libpq::open().ok()?, text)
}

fn parse_with(libpq: &Libpq, text: &CStr) -> Option<Vec<(String, String)>> {
    let mut error: *mut c_char = ptr::null_mut();
    // SAFETY: both pointers are valid; what libpq returns is freed below.
    let options = unsafe { (libpq.PQconninfoParse)(text.as_ptr(), &mut error) };
    // The complaint may quote a part of a password: it is dropped unread.
    // SAFETY: libpq allocated it, or it is null, which PQfreemem takes.
    unsafe { (libpq.PQfreemem)(error.cast()) };
    if options.is_null() {
        return None;
    }
    // SAFETY: an array of options made by libpq, not freed yet.
    let found = unsafe { collect(options) };
    // SAFETY: made by libpq, freed once.
    unsafe { (libpq.PQconninfoFree)(options) };
    Some(found.into_iter().filter_map(|(keyword, value)| Some((keyword, value?))).collect())
}

/// Every option's keyword, with its value if it has one.
///
/// # Safety
/// `option` is an array of options as libpq returns it: it ends with an entry that has no keyword.
unsafe fn collect(mut option: *const PQconninfoOption) -> Vec<(String, Option<String>)> {
    let mut found = Vec::new();
    // SAFETY: libpq's array ends with an entry without a keyword, where this stops; its strings end in a zero byte.
    unsafe {
        while !(*option).keyword.is_null() {
            let text = |pointer: *mut c_char| CStr::from_ptr(pointer).to_string_lossy().into_owned();
            let value = (!(*option).val.is_null()).then(|| text((*option).val));
            found.push((text((*option).keyword), value));
            option = option.add(1);
        }
    }
    found
}

/// The keywords that libpq knows.
fn known_keywords(libpq: &Libpq) -> Vec<String> {
    // SAFETY: an empty string sets no option; the array is freed below.
    let options = unsafe { (libpq.PQconninfoParse)(c"".as_ptr(), ptr::null_mut()) };
    if options.is_null() {
        return Vec::new();
    }
    // SAFETY: an array of options made by libpq, not freed yet.
    let found = unsafe { collect(options) };
    // SAFETY: made by libpq, freed once.
    unsafe { (libpq.PQconninfoFree)(options) };
    found.into_iter().map(|(keyword, _)| keyword).collect()
}

/// What is wrong with a connection string, if anything is.
pub(crate) fn refusal(text: &CStr) -> Option<Refusal> {
    let libpq = match Libpq::open() {
        Ok(libpq) => libpq,
        Err(error) => {
            let what = format!("cannot be read: {error}");
            return Some(Refusal {
                what,
                allowed: "The server needs libpq to read it.",
                hint: "Install libpq.",
                secret: true,
            });
        }
    };
    let Some(options) = parse_with(&libpq, text) else {
        let text = text.to_string_lossy();
        let what = match conninfo::unknown_keyword(&text, &known_keywords(&libpq)) {
            Some(keyword) => format!("has the option \"{keyword}\", which libpq does not know"),
            None => "is not a connection string".to_owned(),
        };
        // What cannot be read cannot be cleared of holding a secret.
        return Some(Refusal { what, allowed: ALLOWED, hint: EXAMPLE, secret: true });
    };
    options.iter().find_map(|(keyword, value)| refuse_option(keyword, value))
}

fn refuse_option(keyword: &str, value: &str) -> Option<Refusal> {
    if conninfo::SECRETS.contains(&keyword) {
        let hint = match keyword {
            "password" => {
                "Put the password into a file of mode 0600 that belongs to the server's user, one line \
                 host:port:*:user:password, and name that file with the option passfile."
            }
            "sslpassword" => {
                "Use a key file without passphrase that only the server's user may read, or authenticate with a passfile."
            }
            _ => "Authenticate with a passfile or with a client certificate.",
        };
        let what = format!("must not contain the option \"{keyword}\"");
        return Some(Refusal { what, allowed: NO_SECRET, hint, secret: true });
    }
    match keyword {
        "port" if !conninfo::ports_are_valid(value) => Some(Refusal {
            what: "has a port that is not a number from 1 to 65535".to_owned(),
            allowed: ALLOWED,
            hint: EXAMPLE,
            secret: false,
        }),
        // libpq takes a connection string in the place of a database name.
        "dbname" if value.contains('=') || value.contains("://") => {
            CString::new(value).ok().and_then(|text| refusal(&text))
        }
        _ => None,
    }
}

//! Reads the configuration files as the server would at a reload, and applies nothing.
//!
//! The server keeps only what it took over. What an administrator wrote, misspelt names and refused values included, is in the files
//! alone, and only the server's own parser reads them as a reload does (includes, quoting, the last of several wins).

use pgrx::{PgMemoryContexts, pg_sys};
use std::ffi::{CStr, CString, c_char, c_int};
use std::path::Path;

/// One line of the files that names a setting. It has no `Debug`: a value may be secret.
pub(crate) struct Entry {
    /// As written.
    pub(crate) name: String,
    /// Without its quotes.
    pub(crate) value: CString,
    /// The file it stands in.
    pub(crate) file: String,
    /// The line in it.
    pub(crate) line: i32,
}

impl Entry {
    /// Whether the entry is for this setting; the server does not tell upper from lower case either.
    pub(crate) fn is_for(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

/// Why the files cannot be read as a whole; the server takes nothing from them until that is mended.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    /// The server's own words.
    pub(crate) message: String,
    /// Where, as `file:line`; empty when the parser does not say.
    pub(crate) place: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.place.as_str() {
            "" => f.write_str(&self.message),
            place => write!(f, "{place}: {}", self.message),
        }
    }
}

/// The last value that the files give to a setting.
pub(crate) fn last<'a>(entries: &'a [Entry], name: &str) -> Option<&'a Entry> {
    entries.iter().rfind(|entry| entry.is_for(name))
}

/// All entries of postgresql.conf, what it includes, and postgresql.auto.conf, in the order in which they count.
///
/// # Errors
/// The first fault of the files.
pub(crate) fn read() -> Result<Vec<Entry>, Fault> {
    let mut context = PgMemoryContexts::new("pg_keeper configuration files");
    // SAFETY: the closure copies all it returns out of the context, which is deleted, with everything that the parser allocated, when
    // `context` goes out of scope; an ERROR of the parser unwinds through here as a panic and deletes it too.
    unsafe { context.switch_to(|_| parse_all()) }
}

fn parse_all() -> Result<Vec<Entry>, Fault> {
    let mut head: *mut pg_sys::ConfigVariable = std::ptr::null_mut();
    let mut tail: *mut pg_sys::ConfigVariable = std::ptr::null_mut();
    let mut parse = |file: *const c_char, strict: bool| {
        // At a debugging level the parser stops at a file's first fault, which is enough, and writes nothing to the log.
        const SILENT: c_int = pg_sys::DEBUG5 as c_int;
        // SAFETY: `file` is a C string; head and tail are the ends of one list that only the parser changes.
        unsafe { pg_sys::ParseConfigFile(file, strict, std::ptr::null(), 0, 0, SILENT, &mut head, &mut tail) }
    };
    // SAFETY: set once, before any library is loaded, and never changed.
    let main_file = unsafe { pg_sys::ConfigFileName };
    let mut good = main_file.is_null() || parse(main_file, true);
    // The server works in its data directory. Without this look the parser would log that it skips a missing file.
    let automatic = pg_sys::PG_AUTOCONF_FILENAME;
    if Path::new(&*automatic.to_string_lossy()).exists() {
        good &= parse(automatic.as_ptr(), false);
    }
    // SAFETY: the list is as the parser left it, in a memory context that lives until this function's caller has the copies.
    unsafe { copy_list(head, good) }
}

/// Copies the parser's list. `good` is what the parser said of the files as a whole.
///
/// # Safety
/// `item` is null or the head of a list made by `ParseConfigFile`.
unsafe fn copy_list(mut item: *mut pg_sys::ConfigVariable, good: bool) -> Result<Vec<Entry>, Fault> {
    let mut entries = Vec::new();
    // SAFETY: the caller vouches for the list; each node's `next` is null or another node.
    while let Some(variable) = unsafe { item.as_ref() } {
        item = variable.next;
        let (file, line) = (lossy(variable.filename), variable.sourceline);
        if !variable.errmsg.is_null() {
            let place = if file.is_empty() { String::new() } else { format!("{file}:{line}") };
            return Err(Fault { message: lossy(variable.errmsg), place });
        }
        if !variable.name.is_null() && !variable.value.is_null() {
            // SAFETY: the parser's strings end in a zero byte.
            let value = unsafe { CStr::from_ptr(variable.value) }.to_owned();
            entries.push(Entry { name: lossy(variable.name), value, file, line });
        }
    }
    if good {
        Ok(entries)
    } else {
        Err(Fault { message: "the configuration files cannot be read".to_owned(), place: String::new() })
    }
}

fn lossy(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: not null, and the parser's strings end in a zero byte.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

//! Any text, and any of its scalars: the edit does what it says or refuses, and never crashes.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/common/oracle.rs"]
mod oracle;

// The first byte chooses the scalar, the second one the value that it gets.
fuzz_target!(|data: &[u8]| {
    if let [which, value, text @ ..] = data
        && let Ok(text) = std::str::from_utf8(text)
    {
        oracle::edit_one(text, usize::from(*which), usize::from(*value));
    }
});

//! Reading libpq's messages.

use alloc::string::String;
use alloc::vec::Vec;

/// The SQLSTATE and the text of the last server error in one of libpq's messages, which must be verbose
/// (`PQERRORS_VERBOSE`): «…: FATAL:  28000: no pg_hba.conf entry …».
///
/// libpq offers the fields of an error only for queries; of a start-up that the server refused it keeps the formatted text alone. The
/// severity may be in any language, so it is the code between a colon with two spaces and a colon with one that is looked for. With several
/// hosts the message has a part for each, and the last one was asked last.
pub fn sqlstate_in(message: &str) -> Option<([u8; 5], &str)> {
    let at_code = |(at, _)| {
        let (code, rest) = message.get(at + ":  ".len()..)?.split_at_checked(5)?;
        let text = rest.strip_prefix(": ")?.lines().next().unwrap_or_default();
        let is_code = code.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
        Some((<[u8; 5]>::try_from(code.as_bytes()).ok().filter(|_| is_code)?, text.trim()))
    };
    message.match_indices(":  ").filter_map(at_code).last()
}

/// One of libpq's messages on one line, without hints (indented lines) and places in the source (`LOCATION`).
pub fn one_line(message: &str) -> String {
    let lines = message.lines().filter(|line| !line.starts_with(['\t', ' ']) && !line.starts_with("LOCATION:"));
    lines.map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSED: &str = "connection to server at \"10.0.0.11\", port 5432 failed: FATAL:  28000: no pg_hba.conf entry for \
        replication connection\nLOCATION:  ClientAuthentication, auth.c:533\n";

    #[test]
    fn the_code_of_a_refused_start_up_is_found_in_any_language() {
        let text = "no pg_hba.conf entry for replication connection";
        assert_eq!(sqlstate_in(REFUSED), Some((*b"28000", text)));
        assert_eq!(
            sqlstate_in("x failed: SCHWERWIEGEND:  57P03: das System startet\n"),
            Some((*b"57P03", "das System startet"))
        );
        assert_eq!(sqlstate_in("致命错误:  53300: 太多了"), Some((*b"53300", "太多了")));
        assert_eq!(sqlstate_in("a failed: FATAL:  28000: one\nb failed: FATAL:  57P03: two"), Some((*b"57P03", "two")));
        for none in ["", "Connection refused", "FATAL:  text", "FATAL:  abcde: text", "FATAL:  2800", "a:  12345"] {
            assert_eq!(sqlstate_in(none), None, "{none}");
        }
    }

    #[test]
    fn a_message_is_put_on_one_line() {
        let text = "could not connect: refused\n\tIs the server running?\nsecond try failed\nLOCATION:  here\n";
        assert_eq!(one_line(text), "could not connect: refused; second try failed");
    }
}

//! Texts as a shell, a connection string and a configuration file take them: whatever a path or a name holds, it stays one value.

use alloc::format;
use alloc::string::{String, ToString};

/// A word of a POSIX shell. Bare, in single or in double quotes, whichever reads best.
pub(super) fn word(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+:,@%".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) {
        return text.to_string();
    }
    if !text.contains('\'') {
        return format!("'{text}'");
    }
    // Within double quotes these mean something, "!" in interactive shells alone.
    if !text.contains(['"', '$', '`', '\\', '!']) {
        return format!("\"{text}\"");
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A value of a `keyword=value` connection string.
pub(super) fn option(value: &str) -> String {
    if !value.is_empty() && !value.contains(|letter: char| letter.is_whitespace() || letter == '\'' || letter == '\\') {
        return value.to_string();
    }
    format!("'{}'", value.replace('\\', r"\\").replace('\'', r"\'"))
}

/// A value of a line in a configuration file.
pub(super) fn setting(value: &str) -> String {
    format!("'{}'", value.replace('\\', r"\\").replace('\'', "''"))
}

/// A comment, on one line whatever the text holds.
pub(super) fn comment(text: &str) -> String {
    format!("# {}", text.replace(char::is_control, " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_stays_one_word() {
        for (text, expected) in [
            ("/srv/pg/15", "/srv/pg/15"),
            ("", "''"),
            ("/srv/my data", "'/srv/my data'"),
            ("~/x", "'~/x'"),
            ("a=b", "'a=b'"),
            ("/srv/o'brien", "\"/srv/o'brien\""),
            ("it's $5", r"'it'\''s $5'"),
            ("it's over!", r"'it'\''s over!'"),
            ("#x;rm -rf *", "'#x;rm -rf *'"),
        ] {
            assert_eq!(word(text), expected);
        }
    }

    #[test]
    fn a_value_stays_one_value() {
        assert_eq!(option("10.0.0.12"), "10.0.0.12");
        assert_eq!(option(""), "''");
        assert_eq!(option(r"it's C:\x"), r"'it\'s C:\\x'");
        assert_eq!(setting(r"passfile='it\'s'"), r"'passfile=''it\\''s'''");
        assert_eq!(comment("a\nrm -rf b"), "# a rm -rf b");
    }
}

//! What is wrong with a libpq connection string, told without repeating anything that may be secret in it.
//!
//! libpq decides whether a string is good. Its own complaint may quote a part of a password, so it is never passed on; this file looks
//! again and names only the keyword at fault.

/// Options whose value is a secret. Whatever holds such a value is copied to logs and views, so pg_keeper does not take it.
pub const SECRETS: &[&str] =
    &["password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"];

/// Parts of words that let one suspect that a string holds a secret somewhere, perhaps under a misspelt keyword.
const SUSPICIOUS: &[&str] = &["pas", "pw", "secret", "key", "@"];

/// The first keyword of `text` that is not among `known`, unless `text` may hold a secret or cannot be read that far.
pub fn unknown_keyword<'a>(text: &'a str, known: &[impl AsRef<str>]) -> Option<&'a str> {
    let lower = text.to_ascii_lowercase();
    if SUSPICIOUS.iter().any(|part| lower.contains(part)) || text.contains("://") {
        return None;
    }
    Keywords { rest: text }.find(|keyword| !known.iter().any(|name| name.as_ref() == *keyword))
}

/// The keywords of a `keyword = value` list, up to the first that has no value.
struct Keywords<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Keywords<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let (keyword, after) = self.rest.split_once('=')?;
        let keyword = keyword.trim();
        let is_word = !keyword.is_empty() && keyword.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !is_word {
            return None;
        }
        self.rest = after_value(after.trim_start());
        Some(keyword)
    }
}

/// What follows the value at the start of `text`. Quotes group, a backslash takes the next character as it is.
fn after_value(text: &str) -> &str {
    let quoted = text.starts_with('\'');
    let mut escaped = false;
    for (index, character) in text.char_indices().skip(usize::from(quoted)) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '\'' if quoted => return &text[index + 1..],
            _ if !quoted && character.is_ascii_whitespace() => return &text[index..],
            _ => {}
        }
    }
    ""
}

/// Whether every port of a `port` option (a list, as libpq takes it) is a TCP port or left out.
pub fn ports_are_valid(list: &str) -> bool {
    list.split(',').map(str::trim).all(|port| port.is_empty() || port.parse::<u16>().is_ok_and(|number| number > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[&str] = &["host", "port", "user", "dbname", "options"];

    #[test]
    fn the_first_unknown_keyword_is_found() {
        for (text, expected) in [
            ("host=a port=5432", None),
            ("hots=a", Some("hots")),
            ("host = 'a b' prot=1", Some("prot")),
            (r"options='-c it=\'s' usr=x", Some("usr")),
            (r"host=a\ b=c colour=red", Some("colour")),
            ("host", None),
            ("host=a nonsense", None),
            ("", None),
        ] {
            assert_eq!(unknown_keyword(text, KNOWN), expected, "{text}");
        }
    }

    #[test]
    fn nothing_is_repeated_from_a_string_that_may_hold_a_secret() {
        for text in
            ["host=a pasword=my hunter=2", "pwd=x", "password=my hunter2=x", "postgresql://a/?hunter2=x", "secret=1"]
        {
            assert_eq!(unknown_keyword(text, KNOWN), None, "{text}");
        }
    }

    #[test]
    fn a_port_is_a_number_that_tcp_knows() {
        assert!(["5432", "", "5432,5433", "1, 65535"].iter().all(|list| ports_are_valid(list)));
        assert!(["0", "65536", "-1", "x", "5432,x"].iter().all(|list| !ports_are_valid(list)));
    }
}

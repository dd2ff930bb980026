//! How a value is written as a scalar.

use super::tree::Style;

/// Writes a value in the style of the scalar that it replaces.
///
/// A plain scalar becomes a quoted one where readers of YAML 1.1 and of YAML 1.2 would not both read the same string
/// from it. A decimal number stays plain: it is what a port is wanted as.
pub(super) fn render(value: &str, style: Style) -> String {
    match style {
        Style::SingleQuoted if value.chars().all(|c| !c.is_control()) => format!("'{}'", value.replace('\'', "''")),
        Style::Plain if plain_number(value) || plain_string(value) => value.to_owned(),
        Style::Plain | Style::SingleQuoted | Style::DoubleQuoted | Style::Block => double_quoted(value),
    }
}

fn double_quoted(value: &str) -> String {
    let mut out = String::from("\"");
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                out.push_str(&format!("\\U{:08X}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A decimal integer that every reader takes for the same number: no sign, no leading zero.
fn plain_number(value: &str) -> bool {
    value.bytes().all(|b| b.is_ascii_digit())
        && value.len() <= 18
        && (value == "0" || !value.starts_with('0'))
        && !value.is_empty()
}

/// True if every reader takes the unquoted text for this very string.
fn plain_string(value: &str) -> bool {
    let Some(first) = value.chars().next() else {
        return false;
    };
    let only_harmless = value.chars().all(|c| c.is_ascii_alphanumeric() || "._-:/@=&?%+~".contains(c));
    let starts_well = first.is_ascii_alphanumeric() || first == '/';
    only_harmless
        && starts_well
        && !value.ends_with(':')
        && !is_word(value)
        && (dotted_quad(value) || !number_like(value))
}

/// Words that one of the two YAML versions takes for something else than a string.
fn is_word(value: &str) -> bool {
    const WORDS: [&str; 9] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
    WORDS.iter().any(|word| value.eq_ignore_ascii_case(word))
}

/// Anything that could be a number in some base, base 60 among them, or a date: wider than it need be, since a quote
/// too many harms nobody.
fn number_like(value: &str) -> bool {
    value.starts_with(|c: char| c.is_ascii_digit())
        && value.chars().all(|c| c.is_ascii_hexdigit() || "+-_.:xXoOtTzZ".contains(c))
}

/// An IPv4 address, with or without a port: no reader takes it for a number.
fn dotted_quad(value: &str) -> bool {
    let (host, port) = value.split_once(':').unwrap_or((value, "1"));
    host.parse::<std::net::Ipv4Addr>().is_ok() && port.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_value_is_quoted_only_where_readers_would_disagree() {
        for (value, want) in [
            ("db02:5432", "db02:5432"),
            ("10.0.0.11", "10.0.0.11"),
            ("10.0.0.11:5432", "10.0.0.11:5432"),
            ("5432", "5432"),
            ("0", "0"),
            ("05432", "\"05432\""),
            ("10:30", "\"10:30\""),
            ("1e3", "\"1e3\""),
            ("0x1f", "\"0x1f\""),
            ("2026-01-01", "\"2026-01-01\""),
            ("1db.example.com", "1db.example.com"),
            ("[::1]:5432", "\"[::1]:5432\""),
            ("fe80::1", "fe80::1"),
            ("::1", "\"::1\""),
            ("no", "\"no\""),
            ("ON", "\"ON\""),
            ("null", "\"null\""),
            ("", "\"\""),
            ("db02:", "\"db02:\""),
            ("-db", "\"-db\""),
            ("a b", "\"a b\""),
            ("主系", "\"主系\""),
            ("jdbc:postgresql://db02:5432/shop", "jdbc:postgresql://db02:5432/shop"),
        ] {
            assert_eq!(render(value, Style::Plain), want);
        }
    }

    #[test]
    fn quotes_are_kept() {
        assert_eq!(render("it's", Style::SingleQuoted), "'it''s'");
        assert_eq!(render("5432", Style::SingleQuoted), "'5432'");
        assert_eq!(render("a\"b\\c", Style::DoubleQuoted), "\"a\\\"b\\\\c\"");
        assert_eq!(render("a\nb", Style::SingleQuoted), "\"a\\U0000000Ab\"");
    }
}

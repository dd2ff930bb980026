//! A path into a YAML document: `db_master[0].address`, `"a.b"[0]`.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A path from the top of a document to one of its nodes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path(Vec<Segment>);

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Segment {
    /// The value of a key of a mapping.
    Key(String),
    /// An item of a sequence, counted from 0.
    Index(usize),
}

/// A text that is no path.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not a path: {1}; write it like db_master[0].address or \"a.b\"[0]")]
pub struct PathError(String, &'static str);

impl Path {
    /// The steps, from the top.
    pub fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// The path up to, not including, step `end`, as text.
    pub fn prefix(&self, end: usize) -> String {
        Self(self.0.iter().take(end).cloned().collect()).to_string()
    }
}

impl FromStr for Path {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        let error = |reason| PathError(text.to_owned(), reason);
        let mut segments = Vec::new();
        let mut rest = text;
        // True where a key must follow: at the start and after a dot.
        let mut key_wanted = true;
        while key_wanted || !rest.is_empty() {
            if let Some(after) = rest.strip_prefix('[') {
                if key_wanted && !segments.is_empty() {
                    return Err(error("a key is missing after a dot"));
                }
                let (digits, after) = after.split_once(']').ok_or_else(|| error("a ] is missing"))?;
                if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                    return Err(error("between [ and ] stands a number from 0"));
                }
                segments.push(Segment::Index(digits.parse().map_err(|_| error("the index is too large"))?));
                rest = after;
                key_wanted = false;
            } else if key_wanted {
                let (key, after) = if let Some(after) = rest.strip_prefix('"') {
                    quoted(after).ok_or_else(|| error("a closing \" is missing"))?
                } else {
                    let end = rest.find(['.', '[', ']', '"']).unwrap_or(rest.len());
                    if end == 0 {
                        return Err(error("a key is missing"));
                    }
                    (rest[..end].to_owned(), &rest[end..])
                };
                segments.push(Segment::Key(key));
                rest = after;
                key_wanted = false;
            } else if let Some(after) = rest.strip_prefix('.') {
                rest = after;
                key_wanted = true;
            } else {
                return Err(error("a key is followed by a dot, by [ or by nothing"));
            }
        }
        Ok(Self(segments))
    }
}

/// The text up to the closing quote, unescaped, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut key = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((key, &text[at + 1..])),
            '\\' => key.push(chars.next()?.1),
            other => key.push(other),
        }
    }
    None
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Key(key) => {
                    if at > 0 {
                        f.write_str(".")?;
                    }
                    if key.is_empty() || key.contains(['.', '[', ']', '"', '\\']) {
                        write!(f, "\"{}\"", key.replace('\\', "\\\\").replace('"', "\\\""))?;
                    } else {
                        f.write_str(key)?;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::Segment::{Index, Key};
    use super::*;

    fn key(text: &str) -> Segment {
        Key(text.to_owned())
    }

    #[test]
    fn paths_are_read_and_written_alike() {
        for (text, segments) in [
            ("a", vec![key("a")]),
            ("db_master[0].address", vec![key("db_master"), Index(0), key("address")]),
            ("\"a.b\"[0]", vec![key("a.b"), Index(0)]),
            ("[2][1].x", vec![Index(2), Index(1), key("x")]),
            ("データ.接続 先", vec![key("データ"), key("接続 先")]),
            (r#""say \"hi\"".x"#, vec![key("say \"hi\""), key("x")]),
        ] {
            let path: Path = text.parse().unwrap();
            assert_eq!(path.segments(), segments);
            assert_eq!(path.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for text in ["", ".", "a.", ".a", "a..b", "a[", "a[]", "a[-1]", "a[x]", "a]", "\"a", "a\"b\"", "a[0]b", "a.[0]"]
        {
            assert!(text.parse::<Path>().is_err(), "{text:?}");
        }
        assert!("a[99999999999999999999999]".parse::<Path>().is_err());
    }
}

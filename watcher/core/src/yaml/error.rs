//! Why an edit is refused.

use thiserror::Error;

use super::path::Path;
use super::tree::SyntaxError;

/// An edit that is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}{kind}", .line.map(|line| format!("line {line}: ")).unwrap_or_default())]
pub struct EditError {
    /// The line, counted from 1, where there is one.
    pub line: Option<usize>,
    /// Why.
    pub kind: EditErrorKind,
}

/// Why an edit is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EditErrorKind {
    /// The bytes are no UTF-8.
    #[error("not UTF-8 text; save the file as UTF-8")]
    NotUtf8,
    /// The text is not YAML, or a key stands twice in it.
    #[error("{0}")]
    Syntax(String),
    /// The text holds several documents, and none is named.
    #[error("a second YAML document begins here; write in the target which one is meant: {}", .0.advice())]
    SeveralDocuments(Documents),
    /// The document that is named does not exist.
    #[error("there is no document {named}: the file has {count}; correct document in the target")]
    NoSuchDocument {
        /// The number in the configuration.
        named: usize,
        /// How many there are.
        count: usize,
    },
    /// The text holds nothing.
    #[error("the file is empty, so it has no {0}")]
    Empty(String),
    /// A key of the path does not exist.
    #[error("{path} is not there: no key {key:?} here; add it to the file, or correct the path under set")]
    MissingKey {
        /// The path.
        path: Path,
        /// The key that is missing.
        key: String,
    },
    /// The key comes in by a merge (`<<`).
    #[error(
        "{path} is merged in (<<) from the mapping on line {from_line}; write key {key:?} out here, so that it can be changed alone"
    )]
    Merged {
        /// The path.
        path: Path,
        /// The key that is not there by itself.
        key: String,
        /// Where the mapping with the key stands, and its anchor.
        from_line: usize,
    },
    /// An index lies beyond the sequence.
    #[error("{path} is not there: the sequence has {len} items, counted from 0")]
    IndexOutOfRange {
        /// The path.
        path: Path,
        /// The number of items.
        len: usize,
    },
    /// A step of the path does not fit what stands there.
    #[error("{path} is not there: {at} is {found}, not {expected}")]
    WrongKind {
        /// The path.
        path: Path,
        /// The part of the path that was found.
        at: String,
        /// What stands there.
        found: &'static str,
        /// What the path needs.
        expected: &'static str,
    },
    /// The path leads through or to an alias.
    #[error(
        "{at} is an alias of the anchor on line {anchor_line}; write the value out here, so that it can be changed alone"
    )]
    Alias {
        /// The part of the path that is the alias.
        at: String,
        /// Where the anchor stands.
        anchor_line: usize,
    },
    /// The scalar, or what it stands in, bears an anchor that is repeated elsewhere.
    #[error(
        "{path} would change on line {alias_line} too: {at} bears the anchor on line {anchor_line}, which is repeated there; write the values out"
    )]
    Anchored {
        /// The path.
        path: Path,
        /// The part of the path that bears the anchor.
        at: String,
        /// Where the anchor stands.
        anchor_line: usize,
        /// Where the first alias stands.
        alias_line: usize,
    },
    /// The target is a collection.
    #[error("{path} is {found}, not a single value; let the path lead to one value")]
    NotScalar {
        /// The path.
        path: Path,
        /// What stands there.
        found: &'static str,
    },
    /// The target is a `|` or `>` block.
    #[error("{path} is a block scalar (| or >); write it on one line, in quotes")]
    Block {
        /// The path.
        path: Path,
    },
    /// The target has no value at all.
    #[error("{path} has no value; write one, for example \"\"")]
    NoValue {
        /// The path.
        path: Path,
    },
    /// The target bears a tag of the application's own.
    #[error("{path} bears the tag {tag}, whose meaning is unknown here; remove the tag")]
    Tagged {
        /// The path.
        path: Path,
        /// The tag.
        tag: String,
    },
    /// The target is written by a template engine.
    #[error("{path} holds the template mark {mark}; let the watcher edit the file that the template makes")]
    Template {
        /// The path.
        path: Path,
        /// The mark.
        mark: &'static str,
    },
    /// The second parser does not agree.
    #[error("{0}; the file is left as it was")]
    Verification(String),
}

/// The documents of a text in which none is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Documents {
    /// How many there are.
    pub count: usize,
    /// The numbers of those that have all the paths, counted from 1.
    pub fitting: Vec<usize>,
}

impl Documents {
    /// What to write in the configuration.
    fn advice(&self) -> String {
        match self.fitting.as_slice() {
            [] => format!("document: 1 up to document: {}; none of them has all the paths under set", self.count),
            [one] => format!("document: {one}, which alone has the paths under set"),
            several => {
                let numbers: Vec<String> = several.iter().map(|number| format!("document: {number}")).collect();
                format!("{}; these have the paths under set", numbers.join(" or "))
            }
        }
    }
}

impl From<SyntaxError> for EditError {
    fn from(error: SyntaxError) -> Self {
        Self { line: Some(error.line), kind: EditErrorKind::Syntax(error.reason) }
    }
}

//! The edit of an application's YAML file: addressed scalars get new values, byte for byte nothing else changes.
//!
//! One parser says where a scalar stands, the text is spliced there, and another parser reads the result. What cannot be
//! edited safely is refused with its line, and the text stays as it was.

use std::collections::HashMap;
use std::num::NonZeroUsize;

use super::error::{Documents, EditError, EditErrorKind};
use super::find::{Target, walk};
use super::parse::{is_readable, parse_all};
use super::path::Path;
use super::quote::render;
use super::tree::Document;
use super::verify::verify;

/// What a text is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Values {
    /// Which of several documents, counted from 1; needed only where there are several.
    pub document: Option<NonZeroUsize>,
    /// The values at the paths.
    pub set: Vec<(Path, String)>,
}

/// A text after its edit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited {
    /// The new text; the old one if everything was right already.
    pub text: String,
    /// What was replaced, in the order of the text.
    pub replaced: Vec<Replaced>,
}

/// One replaced scalar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replaced {
    /// Where it is in the document.
    pub path: Path,
    /// Where it is in the text.
    pub line: usize,
    /// The value before.
    pub from: String,
    /// The value now.
    pub to: String,
}

/// The bytes of a file as text.
pub fn decode(bytes: &[u8]) -> Result<&str, EditError> {
    std::str::from_utf8(bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or(bytes);
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        EditError { line: Some(line), kind: EditErrorKind::NotUtf8 }
    })
}

/// Gives the scalars at the paths their wanted values.
pub fn edit(text: &str, wanted: &Values) -> Result<Edited, EditError> {
    let documents = parse_all(text)?;
    let document = choose(&documents, wanted)?;
    let mut targets = Vec::with_capacity(wanted.set.len());
    for (path, value) in &wanted.set {
        targets.push((Target::find(text, document, path)?, path, value.as_str()));
    }
    targets.sort_by_key(|(target, ..)| target.node.span.start);

    let mut out = String::with_capacity(text.len() + 64);
    let mut done = 0;
    let mut replaced = Vec::new();
    let mut new_at = HashMap::new();
    for (target, path, value) in &targets {
        if target.value == *value {
            continue;
        }
        let span = &target.node.span;
        out.push_str(text.get(done..span.start).unwrap_or_default());
        out.push_str(&render(value, target.style));
        done = span.end;
        new_at.insert(span.start, *value);
        replaced.push(Replaced {
            path: (*path).clone(),
            line: target.node.line,
            from: target.value.to_owned(),
            to: (*value).to_owned(),
        });
    }
    out.push_str(text.get(done..).unwrap_or_default());

    // Also when nothing is replaced: a file that could not be edited is to be known before a failover needs it.
    verify(&out, &documents, &new_at)?;
    if !replaced.is_empty() {
        // What the first parser cannot read could not be edited at the next failover.
        is_readable(&out).map_err(|error| {
            let reason = format!("the edited text would be {}", error.reason);
            EditError { line: Some(error.line), kind: EditErrorKind::Verification(reason) }
        })?;
    }
    Ok(Edited { text: out, replaced })
}

/// The document that is meant.
fn choose<'d>(documents: &'d [Document], wanted: &Values) -> Result<&'d Document, EditError> {
    let whole = |kind| EditError { line: None, kind };
    let empty = || {
        let path = wanted.set.first().map(|(path, _)| path.to_string()).unwrap_or_default();
        whole(EditErrorKind::Empty(path))
    };
    match (wanted.document, documents) {
        (_, []) => Err(empty()),
        (None, [document]) => Ok(document),
        (None, [_, second, ..]) => {
            let fits = |document: &Document| wanted.set.iter().all(|(path, _)| walk(document, path).is_ok());
            let fitting = documents.iter().zip(1..).filter(|(document, _)| fits(document)).map(|(_, number)| number);
            let documents = Documents { count: documents.len(), fitting: fitting.collect() };
            Err(EditError { line: Some(second.line), kind: EditErrorKind::SeveralDocuments(documents) })
        }
        (Some(number), _) => documents
            .get(number.get() - 1)
            .ok_or_else(|| whole(EditErrorKind::NoSuchDocument { named: number.get(), count: documents.len() })),
    }
}

#[cfg(test)]
#[path = "edit_tests.rs"]
mod tests;

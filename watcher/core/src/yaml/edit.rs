//! The edit of an application's YAML file: addressed scalars get new values, byte for byte nothing else changes.
//!
//! One parser says where a scalar stands, the text is spliced there, and another parser reads the result. What cannot be
//! edited safely is refused with its line, and the text stays as it was.

use super::error::{EditError, EditErrorKind};
use super::path::{Path, Segment};
use super::quote::render;
use super::tree::{Content, Document, Node, Style, parse};
use super::verify::{load, only_wanted_changed};

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
pub fn edit(text: &str, wanted: &[(Path, String)]) -> Result<Edited, EditError> {
    let document = parse(text)?;
    load(text)
        .map_err(|reason| EditError { line: None, kind: EditErrorKind::Syntax(format!("not valid YAML: {reason}")) })?;

    let mut splices = Vec::new();
    for (path, value) in wanted {
        let target = Target::find(text, &document, path)?;
        if target.value != value {
            splices.push((target, path, value));
        }
    }
    splices.sort_by_key(|(target, ..)| target.node.span.start);

    let mut out = String::with_capacity(text.len() + 64);
    let mut done = 0;
    for (target, _, value) in &splices {
        let span = &target.node.span;
        out.push_str(text.get(done..span.start).unwrap_or_default());
        out.push_str(&render(value, target.style));
        done = span.end;
    }
    out.push_str(text.get(done..).unwrap_or_default());

    if !splices.is_empty() {
        only_wanted_changed(text, &out, wanted)
            .map_err(|reason| EditError { line: None, kind: EditErrorKind::Verification(reason) })?;
    }
    let replaced = splices
        .into_iter()
        .map(|(target, path, value)| Replaced {
            path: path.clone(),
            line: target.node.line,
            from: target.value.to_owned(),
            to: value.clone(),
        })
        .collect();
    Ok(Edited { text: out, replaced })
}

/// A scalar that may be replaced.
struct Target<'d> {
    node: &'d Node,
    value: &'d str,
    style: Style,
}

impl<'d> Target<'d> {
    fn find(text: &str, document: &'d Document, path: &Path) -> Result<Self, EditError> {
        let node = walk(text, document, path)?;
        let refuse = |kind| Err(EditError { line: Some(node.line), kind });
        let path = path.clone();
        let (value, style) = match &node.content {
            Content::Scalar { value, style } => (value, *style),
            Content::Alias { anchor } => return refuse(alias(document, path.to_string(), *anchor)),
            Content::Sequence(_) | Content::Mapping(_) => {
                if let Some(mark) =
                    template_mark(text.get(node.span.start..).unwrap_or_default().get(..2).unwrap_or_default())
                {
                    return refuse(EditErrorKind::Template { path, mark });
                }
                return refuse(EditErrorKind::NotScalar { path, found: kind_of(node) });
            }
        };
        if style == Style::Block {
            return refuse(EditErrorKind::Block { path });
        }
        if node.span.is_empty() {
            return refuse(EditErrorKind::NoValue { path });
        }
        if let Some(tag) = node.tag.as_ref().filter(|tag| *tag != "!!str") {
            return refuse(EditErrorKind::Tagged { path, tag: tag.clone() });
        }
        if let Some(alias) = node.anchor.and_then(|anchor| document.alias_of(anchor)) {
            return refuse(EditErrorKind::Anchored { path, alias_line: alias.line });
        }
        let raw = text.get(node.span.clone()).unwrap_or_default();
        if let Some(mark) = template_mark(raw) {
            return refuse(EditErrorKind::Template { path, mark });
        }
        if !span_fits(raw, value, style) {
            return refuse(EditErrorKind::Verification(format!(
                "the place of {path} in the text is not certain: {raw:?}"
            )));
        }
        Ok(Self { node, value, style })
    }
}

/// Follows a path from the top.
fn walk<'d>(text: &str, document: &'d Document, path: &Path) -> Result<&'d Node, EditError> {
    let mut node =
        document.root.as_ref().ok_or_else(|| EditError { line: None, kind: EditErrorKind::Empty(path.clone()) })?;
    for (at, segment) in path.segments().iter().enumerate() {
        let refuse = |kind| Err(EditError { line: Some(node.line), kind });
        let here = || {
            if at == 0 { "the top of the file".to_owned() } else { path.prefix(at) }
        };
        node = match (&node.content, segment) {
            (Content::Alias { anchor }, _) => return refuse(alias(document, here(), *anchor)),
            (Content::Mapping(entries), Segment::Key(key)) => {
                match entries.iter().find(|(k, _)| matches!(&k.content, Content::Scalar { value, .. } if value == key))
                {
                    Some((_, value)) => value,
                    None if entries.iter().any(|(k, _)| is_merge(k)) => {
                        return refuse(EditErrorKind::Merged { path: path.clone() });
                    }
                    None => {
                        return refuse(EditErrorKind::MissingKey { path: path.clone(), key: key.clone() });
                    }
                }
            }
            (Content::Sequence(items), Segment::Index(index)) => match items.get(*index) {
                Some(item) => item,
                None => {
                    return refuse(EditErrorKind::IndexOutOfRange { path: path.clone(), len: items.len() });
                }
            },
            (Content::Scalar { .. } | Content::Sequence(_) | Content::Mapping(_), _) => {
                let raw = text.get(node.span.start..).unwrap_or_default();
                if let Some(mark) = template_mark(raw.get(..2).unwrap_or_default()) {
                    return refuse(EditErrorKind::Template { path: path.clone(), mark });
                }
                return refuse(EditErrorKind::WrongKind {
                    path: path.clone(),
                    at: here(),
                    found: kind_of(node),
                    expected: match segment {
                        Segment::Key(_) => "a mapping",
                        Segment::Index(_) => "a sequence",
                    },
                });
            }
        };
    }
    Ok(node)
}

fn alias(document: &Document, at: String, anchor: usize) -> EditErrorKind {
    EditErrorKind::Alias { at, anchor_line: document.anchor_line(anchor).unwrap_or(0) }
}

fn is_merge(key: &Node) -> bool {
    matches!(&key.content, Content::Scalar { value, style: Style::Plain } if value == "<<")
}

fn kind_of(node: &Node) -> &'static str {
    match node.content {
        Content::Scalar { .. } => "a single value",
        Content::Alias { .. } => "an alias",
        Content::Sequence(_) => "a sequence",
        Content::Mapping(_) => "a mapping",
    }
}

fn template_mark(raw: &str) -> Option<&'static str> {
    ["{{", "{%", "<%", "${"].into_iter().find(|mark| raw.contains(mark))
}

/// The text at the span must look like the scalar that the parser says it is.
fn span_fits(raw: &str, value: &str, style: Style) -> bool {
    let enclosed = |quote| raw.len() >= 2 && raw.starts_with(quote) && raw.ends_with(quote);
    match style {
        Style::Plain => raw == value || raw.contains(['\n', '\r']),
        Style::SingleQuoted => enclosed('\''),
        Style::DoubleQuoted => enclosed('"'),
        Style::Block => false,
    }
}

#[cfg(test)]
#[path = "edit_tests.rs"]
mod tests;

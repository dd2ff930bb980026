//! From a path to the scalar that may be replaced.

use std::collections::HashMap;

use super::error::{EditError, EditErrorKind};
use super::path::{Path, Segment};
use super::template::template_mark;
use super::tree::{Content, Document, Node, Style};

/// Merges that lead further than this lead in a circle.
const MERGE_LIMIT: usize = 10;

/// A scalar that may be replaced.
pub(super) struct Target<'d> {
    /// Its place.
    pub(super) node: &'d Node,
    /// Its text, unquoted.
    pub(super) value: &'d str,
    /// How it is written.
    pub(super) style: Style,
}

impl<'d> Target<'d> {
    /// The scalar at a path.
    pub(super) fn find(text: &str, document: &'d Document, path: &Path) -> Result<Self, EditError> {
        let (node, above) = walk(document, path).map_err(|lost| {
            // Where a template stands instead of what the path needs, that is the reason.
            match template_at(text, lost.node) {
                Some(mark)
                    if matches!(
                        lost.error.kind,
                        EditErrorKind::WrongKind { .. } | EditErrorKind::MissingKey { .. }
                    ) =>
                {
                    EditError { kind: EditErrorKind::Template { path: path.clone(), mark }, ..lost.error }
                }
                Some(_) | None => lost.error,
            }
        })?;
        let refuse = |kind| Err(EditError { line: Some(node.line), kind });
        let owned = path.clone();
        let (value, style) = match &node.content {
            Content::Scalar { value, style } => (value, *style),
            Content::Alias { anchor } => return refuse(alias(document, path.to_string(), *anchor)),
            Content::Sequence(_) | Content::Mapping(_) => {
                return refuse(match template_at(text, Some(node)) {
                    Some(mark) => EditErrorKind::Template { path: owned, mark },
                    None => EditErrorKind::NotScalar { path: owned, found: kind_of(node) },
                });
            }
        };
        if style == Style::Block {
            return refuse(EditErrorKind::Block { path: owned });
        }
        if node.span.is_empty() || (value.is_empty() && style == Style::Plain) {
            return refuse(EditErrorKind::NoValue { path: owned });
        }
        if let Some(tag) = node.tag.as_ref().filter(|tag| *tag != "!!str") {
            return refuse(EditErrorKind::Tagged { path: owned, tag: tag.clone() });
        }
        if let Some(kind) = repeated(document, path, above.iter().chain([&node])) {
            return refuse(kind);
        }
        let raw = text.get(node.span.clone()).unwrap_or_default();
        if let Some(mark) = template_mark(raw) {
            return refuse(EditErrorKind::Template { path: owned, mark });
        }
        if !span_fits(raw, value, style) {
            return refuse(EditErrorKind::Verification(format!(
                "the place of {path} in the text is not certain: {raw:?}"
            )));
        }
        Ok(Self { node, value, style })
    }
}

/// A path that leads nowhere.
pub(super) struct Lost<'d> {
    error: EditError,
    /// The last node that was reached.
    node: Option<&'d Node>,
}

/// Follows a path from the top: the node, and the nodes that it stands in.
pub(super) fn walk<'d>(document: &'d Document, path: &Path) -> Result<(&'d Node, Vec<&'d Node>), Lost<'d>> {
    let mut node = document.root.as_ref().ok_or_else(|| Lost {
        error: EditError { line: None, kind: EditErrorKind::Empty(path.to_string()) },
        node: None,
    })?;
    let mut above = Vec::with_capacity(path.segments().len());
    for (at, segment) in path.segments().iter().enumerate() {
        let here = || {
            if at == 0 { "the top of the file".to_owned() } else { path.prefix(at) }
        };
        let next = match (&node.content, segment) {
            (Content::Alias { anchor }, _) => Err(alias(document, here(), *anchor)),
            (Content::Mapping(entries), Segment::Key(key)) => {
                value_of(entries, key).ok_or_else(|| match merged(&document.by_anchor(), entries, key, MERGE_LIMIT) {
                    Some(from) => EditErrorKind::Merged { path: path.clone(), key: key.clone(), from_line: from.line },
                    None => EditErrorKind::MissingKey { path: path.clone(), key: key.clone() },
                })
            }
            (Content::Sequence(items), Segment::Index(index)) => {
                items.get(*index).ok_or_else(|| EditErrorKind::IndexOutOfRange { path: path.clone(), len: items.len() })
            }
            (Content::Scalar { .. } | Content::Sequence(_) | Content::Mapping(_), _) => Err(EditErrorKind::WrongKind {
                path: path.clone(),
                at: here(),
                found: kind_of(node),
                expected: match segment {
                    Segment::Key(_) => "a mapping",
                    Segment::Index(_) => "a sequence",
                },
            }),
        };
        above.push(node);
        node = next.map_err(|kind| Lost { error: EditError { line: Some(node.line), kind }, node: Some(node) })?;
    }
    Ok((node, above))
}

fn value_of<'d>(entries: &'d [(Node, Node)], key: &str) -> Option<&'d Node> {
    let is_it = |node: &Node| matches!(&node.content, Content::Scalar { value, .. } if value == key);
    entries.iter().find(|(key, _)| is_it(key)).map(|(_, value)| value)
}

/// The mapping that gives a key by a merge (`<<`).
fn merged<'d>(
    anchored: &HashMap<usize, &'d Node>,
    entries: &'d [(Node, Node)],
    key: &str,
    limit: usize,
) -> Option<&'d Node> {
    let is_merge =
        |node: &Node| matches!(&node.content, Content::Scalar { value, style: Style::Plain } if value == "<<");
    let sources = entries.iter().filter(|(key, _)| is_merge(key)).flat_map(|(_, value)| match &value.content {
        Content::Sequence(items) => items.iter().collect(),
        Content::Scalar { .. } | Content::Alias { .. } | Content::Mapping(_) => vec![value],
    });
    sources
        .filter_map(|source| match &source.content {
            Content::Alias { anchor } => anchored.get(anchor).copied(),
            Content::Scalar { .. } | Content::Sequence(_) | Content::Mapping(_) => Some(source),
        })
        .find_map(|source| match &source.content {
            Content::Mapping(entries) if value_of(entries, key).is_some() => Some(source),
            Content::Mapping(entries) if limit > 0 => merged(anchored, entries, key, limit - 1),
            Content::Mapping(_) | Content::Scalar { .. } | Content::Alias { .. } | Content::Sequence(_) => None,
        })
}

/// Whether one of the nodes on the way is repeated elsewhere by an alias.
fn repeated<'d>(document: &Document, path: &Path, nodes: impl Iterator<Item = &'d &'d Node>) -> Option<EditErrorKind> {
    nodes.enumerate().find_map(|(at, node)| {
        let anchor = node.anchor?;
        let alias = document.alias_of(anchor)?;
        Some(EditErrorKind::Anchored {
            path: path.clone(),
            at: if at == 0 { "the top of the file".to_owned() } else { path.prefix(at) },
            anchor_line: document.anchor_line(anchor).unwrap_or(node.line),
            alias_line: alias.line,
        })
    })
}

fn alias(document: &Document, at: String, anchor: usize) -> EditErrorKind {
    EditErrorKind::Alias { at, anchor_line: document.anchor_line(anchor).unwrap_or(0) }
}

fn kind_of(node: &Node) -> &'static str {
    match node.content {
        Content::Scalar { .. } => "a single value",
        Content::Alias { .. } => "an alias",
        Content::Sequence(_) => "a sequence",
        Content::Mapping(_) => "a mapping",
    }
}

/// The template mark that a node begins with: to YAML, `{{ x }}` is a mapping in a mapping.
fn template_at(text: &str, node: Option<&Node>) -> Option<&'static str> {
    text.get(node?.span.start..)?.get(..2).and_then(template_mark)
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

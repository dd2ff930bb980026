//! A YAML document as a tree in which every node knows its line and its bytes.
//!
//! The parser counts characters; here everything is in bytes of the text that was handed in.

use std::borrow::Cow;
use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};
use thiserror::Error;

/// Deeper nesting is refused, so that a hostile file cannot exhaust the stack.
const DEPTH_LIMIT: usize = 100;

/// The one document of a YAML text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The top of the document; `None` for a text that holds nothing.
    pub root: Option<Node>,
    /// Where aliases stand, with the anchor each of them means.
    pub aliases: Vec<Alias>,
    /// The line of each anchor, by its number.
    pub anchors: Vec<(usize, usize)>,
}

/// One `*alias` in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alias {
    /// The number of the anchor it repeats.
    pub anchor: usize,
    /// The line it stands on.
    pub line: usize,
}

/// A node and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The line, counted from 1.
    pub line: usize,
    /// The bytes of the node without its anchor and tag; of a collection only its first mark.
    pub span: Range<usize>,
    /// The number of the anchor that stands before it.
    pub anchor: Option<usize>,
    /// The tag that stands before it.
    pub tag: Option<String>,
    /// What it is.
    pub content: Content,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A scalar, as text: what it means is the reader's affair.
    Scalar {
        /// The text, unquoted and unescaped.
        value: String,
        /// How it is written.
        style: Style,
    },
    /// A repetition of the anchored node.
    Alias {
        /// The anchor's number.
        anchor: usize,
    },
    /// A sequence.
    Sequence(Vec<Node>),
    /// A mapping, in the order of the text.
    Mapping(Vec<(Node, Node)>),
}

/// How a scalar is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Without quotes.
    Plain,
    /// In `'`.
    SingleQuoted,
    /// In `"`.
    DoubleQuoted,
    /// As a `|` or `>` block.
    Block,
}

/// A text that is not one YAML document.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{reason}")]
pub struct SyntaxError {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong there.
    pub reason: String,
}

impl Document {
    /// The line on which an anchor stands.
    pub fn anchor_line(&self, anchor: usize) -> Option<usize> {
        self.anchors.iter().find(|(id, _)| *id == anchor).map(|(_, line)| *line)
    }

    /// The first alias that repeats an anchor.
    pub fn alias_of(&self, anchor: usize) -> Option<Alias> {
        self.aliases.iter().copied().find(|alias| alias.anchor == anchor)
    }
}

/// Parses a text that holds one document. Keys that stand twice in one mapping are an error.
pub fn parse(text: &str) -> Result<Document, SyntaxError> {
    let body = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut builder = Builder {
        text,
        parser: Parser::new_from_str(body),
        offsets: Offsets::new(body, text.len() - body.len()),
        aliases: Vec::new(),
        anchors: Vec::new(),
    };
    let root = builder.stream()?;
    Ok(Document { root, aliases: builder.aliases, anchors: builder.anchors })
}

/// Byte offsets by character number.
enum Offsets {
    /// Every character is one byte.
    Ascii { shift: usize, len: usize },
    /// Looked up.
    Table(Vec<usize>),
}

impl Offsets {
    fn new(body: &str, shift: usize) -> Self {
        if body.is_ascii() {
            return Self::Ascii { shift, len: body.len() };
        }
        Self::Table(body.char_indices().map(|(at, _)| at + shift).chain([body.len() + shift]).collect())
    }

    fn byte(&self, index: usize) -> usize {
        match self {
            Self::Ascii { shift, len } => index.min(*len) + shift,
            Self::Table(table) => table.get(index).or(table.last()).copied().unwrap_or(0),
        }
    }

    fn span(&self, span: Span) -> Range<usize> {
        let start = self.byte(span.start.index());
        start..self.byte(span.end.index()).max(start)
    }
}

struct Builder<'t> {
    text: &'t str,
    parser: Parser<'t, saphyr_parser::StrInput<'t>>,
    offsets: Offsets,
    aliases: Vec<Alias>,
    anchors: Vec<(usize, usize)>,
}

impl<'t> Builder<'t> {
    fn stream(&mut self) -> Result<Option<Node>, SyntaxError> {
        let mut root = None;
        let mut documents = 0;
        while let Some((event, span)) = self.event()? {
            match event {
                Event::Nothing | Event::StreamStart | Event::DocumentEnd => {}
                Event::StreamEnd => break,
                Event::DocumentStart(_) => {
                    documents += 1;
                    if documents > 1 {
                        return Err(SyntaxError {
                            line: span.start.line(),
                            reason: "a second YAML document begins here; only files with one document are supported"
                                .to_owned(),
                        });
                    }
                }
                Event::Alias(_)
                | Event::Scalar(..)
                | Event::SequenceStart(..)
                | Event::SequenceEnd
                | Event::MappingStart(..)
                | Event::MappingEnd => root = Some(self.node(event, span, 0)?),
            }
        }
        Ok(root)
    }

    fn event(&mut self) -> Result<Option<(Event<'t>, Span)>, SyntaxError> {
        match self.parser.next() {
            None => Ok(None),
            Some(Ok(next)) => Ok(Some(next)),
            Some(Err(error)) => {
                let line = error.marker().line();
                let reason = if self.tab_indented(line) {
                    "a tab is used for indentation, which YAML forbids; use spaces".to_owned()
                } else if self.line(line).is_some_and(|line| line.contains('\t')) {
                    format!("not valid YAML: {}; the line holds a tab, use spaces", error.info())
                } else {
                    format!("not valid YAML: {}", error.info())
                };
                Err(SyntaxError { line, reason })
            }
        }
    }

    fn line(&self, line: usize) -> Option<&'t str> {
        self.text.lines().nth(line.saturating_sub(1))
    }

    fn tab_indented(&self, line: usize) -> bool {
        self.line(line).is_some_and(|line| line.chars().take_while(|c| c.is_ascii_whitespace()).any(|c| c == '\t'))
    }

    fn node(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Node, SyntaxError> {
        let line = span.start.line();
        if depth > DEPTH_LIMIT {
            return Err(SyntaxError { line, reason: format!("nested deeper than {DEPTH_LIMIT} levels") });
        }
        let (anchor, tag, content) = match event {
            Event::Alias(anchor) => {
                self.aliases.push(Alias { anchor, line });
                (0, None, Content::Alias { anchor })
            }
            Event::Scalar(value, style, anchor, tag) => {
                (anchor, tag, Content::Scalar { value: value.into_owned(), style: style.into() })
            }
            Event::SequenceStart(anchor, tag) => {
                self.anchor(anchor, line);
                (anchor, tag, Content::Sequence(self.items(depth)?))
            }
            Event::MappingStart(anchor, tag) => {
                self.anchor(anchor, line);
                (anchor, tag, Content::Mapping(self.entries(depth)?))
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::SequenceEnd
            | Event::MappingEnd => {
                return Err(SyntaxError { line, reason: "not valid YAML: a value is missing here".to_owned() });
            }
        };
        if matches!(content, Content::Scalar { .. }) {
            self.anchor(anchor, line);
        }
        let mut span = self.offsets.span(span);
        if anchor > 0 || tag.is_some() {
            span.start = after_properties(self.text, &span);
        }
        if let Content::Scalar { style: Style::SingleQuoted | Style::DoubleQuoted, .. } = content {
            span.end = closing_quote(self.text, &span);
        }
        Ok(Node { line, span, anchor: (anchor > 0).then_some(anchor), tag: tag.map(name_of_tag), content })
    }

    fn anchor(&mut self, anchor: usize, line: usize) {
        if anchor > 0 {
            self.anchors.push((anchor, line));
        }
    }

    fn items(&mut self, depth: usize) -> Result<Vec<Node>, SyntaxError> {
        let mut items = Vec::new();
        while let Some((event, span)) = self.event()? {
            if matches!(event, Event::SequenceEnd) {
                break;
            }
            items.push(self.node(event, span, depth + 1)?);
        }
        Ok(items)
    }

    fn entries(&mut self, depth: usize) -> Result<Vec<(Node, Node)>, SyntaxError> {
        let mut entries = Vec::new();
        let mut seen = std::collections::BTreeMap::new();
        while let Some((event, span)) = self.event()? {
            if matches!(event, Event::MappingEnd) {
                break;
            }
            let key = self.node(event, span, depth + 1)?;
            if let Content::Scalar { value, .. } = &key.content
                && let Some(first) = seen.insert(value.clone(), key.line)
            {
                return Err(SyntaxError {
                    line: key.line,
                    reason: format!("key {value:?} stands twice in one mapping, first on line {first}"),
                });
            }
            let Some((event, span)) = self.event()? else { break };
            let value = self.node(event, span, depth + 1)?;
            entries.push((key, value));
        }
        Ok(entries)
    }
}

/// Where a node begins behind its anchor and tag, which the parser counts among its bytes.
fn after_properties(text: &str, span: &Range<usize>) -> usize {
    let mut rest = text.get(span.clone()).unwrap_or_default();
    while rest.starts_with(['&', '!']) {
        rest = rest.find(char::is_whitespace).map_or("", |end| rest.split_at(end).1).trim_start();
        while rest.starts_with('#') {
            rest = rest.find(['\n', '\r']).map_or("", |end| rest.split_at(end).1).trim_start();
        }
    }
    span.end - rest.len()
}

/// Where a quoted scalar ends: the parser counts blanks and a comment behind it among its bytes.
fn closing_quote(text: &str, span: &Range<usize>) -> usize {
    let raw = text.get(span.clone()).unwrap_or_default();
    let Some(quote) = raw.chars().next() else {
        return span.end;
    };
    let mut chars = raw.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c == '\\' && quote == '"' {
            chars.next();
        } else if c == quote {
            if quote == '\'' && chars.next_if(|(_, next)| *next == '\'').is_some() {
                continue;
            }
            return span.start + at + 1;
        }
    }
    span.end
}

fn name_of_tag(tag: Cow<'_, Tag>) -> String {
    if tag.is_yaml_core_schema() { format!("!!{}", tag.suffix) } else { tag.to_string() }
}

impl From<ScalarStyle> for Style {
    fn from(style: ScalarStyle) -> Self {
        match style {
            ScalarStyle::Plain => Self::Plain,
            ScalarStyle::SingleQuoted => Self::SingleQuoted,
            ScalarStyle::DoubleQuoted => Self::DoubleQuoted,
            ScalarStyle::Literal | ScalarStyle::Folded => Self::Block,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn scalars(text: &str) -> Vec<(String, String, usize)> {
        fn walk(node: &Node, text: &str, out: &mut Vec<(String, String, usize)>) {
            match &node.content {
                Content::Scalar { value, .. } => {
                    out.push((value.clone(), text[node.span.clone()].to_owned(), node.line));
                }
                Content::Alias { .. } => {}
                Content::Sequence(items) => items.iter().for_each(|item| walk(item, text, out)),
                Content::Mapping(entries) => entries.iter().for_each(|(key, value)| {
                    walk(key, text, out);
                    walk(value, text, out);
                }),
            }
        }
        let mut out = Vec::new();
        if let Some(root) = parse(text).unwrap().root {
            walk(&root, text, &mut out);
        }
        out
    }

    #[test]
    fn a_span_is_the_scalar_and_nothing_else() {
        let text = "\u{feff}名前: 東京  # 主\r\nb: \"x\\\"y\"\r\nc: ['it''s', {d: e f , g: !!str &a h}]\r\ni:   j k   \r\nl: m";
        let got: Vec<(String, String)> = scalars(text).into_iter().map(|(value, raw, _)| (value, raw)).collect();
        let want = [
            ("名前", "名前"),
            ("東京", "東京"),
            ("b", "b"),
            ("x\"y", "\"x\\\"y\""),
            ("c", "c"),
            ("it's", "'it''s'"),
            ("d", "d"),
            ("e f", "e f"),
            ("g", "g"),
            ("h", "h"),
            ("i", "i"),
            ("j k", "j k"),
            ("l", "l"),
            ("m", "m"),
        ];
        assert_eq!(got, want.map(|(value, raw)| (value.to_owned(), raw.to_owned())));
    }

    #[test]
    fn what_is_not_one_document_is_refused_with_its_line() {
        for (text, line, part) in [
            ("a: 1\n---\nb: 2\n", 2, "second YAML document"),
            ("a:\n  b: 1\n  c: 2\n  b: 3\n", 4, "key \"b\" stands twice in one mapping, first on line 2"),
            ("a:\n\tb: 1\n", 2, "tab"),
            ("a: [1, 2\nb: 3\n", 2, "not valid YAML"),
            ("a: \"x\nb: 3\n", 1, "not valid YAML"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.reason.contains(part), "{text:?}: {error:?}");
            assert_eq!(error.line, line, "{text:?}: {error:?}");
        }
    }

    #[test]
    fn a_hostile_depth_is_an_error_and_not_a_crash() {
        assert!(parse(&"[".repeat(100_000)).is_err());
        assert!(parse(&"- ".repeat(100_000)).is_err());
    }
}

//! From a text to its documents as trees.
//!
//! The parser counts characters; here everything is in bytes of the text that was handed in.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};

use super::template::template_mark;
use super::tree::{Alias, Content, Document, Node, Style, SyntaxError};

/// Deeper nesting is refused, so that a hostile file cannot exhaust the stack.
const DEPTH_LIMIT: usize = 100;

/// Parses a text that holds one document. Keys that stand twice in one mapping are an error.
pub fn parse(text: &str) -> Result<Document, SyntaxError> {
    let mut documents = parse_all(text)?;
    match documents.get(1) {
        Some(second) => Err(SyntaxError {
            line: second.line,
            reason: "a second YAML document begins here; write all into one".to_owned(),
        }),
        None => Ok(documents.pop().unwrap_or_default()),
    }
}

/// Parses a text that may hold several documents. One that holds nothing has none.
pub fn parse_all(text: &str) -> Result<Vec<Document>, SyntaxError> {
    let body = text.strip_prefix('\u{feff}').unwrap_or(text);
    let builder = Builder {
        text,
        parser: Parser::new_from_str(body),
        offsets: Offsets::new(body, text.len() - body.len()),
        document: Document::default(),
        scalars: HashMap::new(),
    };
    builder.documents()
}

/// Whether the parser can read a text at all.
pub(super) fn is_readable(text: &str) -> Result<(), SyntaxError> {
    let body = text.strip_prefix('\u{feff}').unwrap_or(text);
    match Parser::new_from_str(body).find_map(Result::err) {
        None => Ok(()),
        Some(error) => Err(explain(text, error.marker().line(), error.info())),
    }
}

/// What is wrong with a line that a parser refuses, in words that say what to do where that is known.
pub(super) fn explain(text: &str, line: usize, info: &str) -> SyntaxError {
    let is_indented_by_tab = |line: &str| line.chars().take_while(|c| c.is_ascii_whitespace()).any(|c| c == '\t');
    // Of a tab in a value's second line, the parser tells where the value begins.
    let look_at = if info.contains("tab") { usize::MAX } else { 1 };
    let mut lines = text.lines().zip(1..).skip(line.saturating_sub(1)).take(look_at);
    if let Some((_, line)) = lines.find(|(line, _)| is_indented_by_tab(line)) {
        let reason = "a tab is used for indentation, which YAML forbids; use spaces".to_owned();
        return SyntaxError { line, reason };
    }
    let shown = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    let reason = if let Some(mark) = template_mark(shown) {
        format!(
            "not valid YAML: {info}; the line holds the template mark {mark}: let the watcher edit the file that the \
             template makes"
        )
    } else if shown.contains('\t') {
        format!("not valid YAML: {info}; the line holds a tab, use spaces")
    } else {
        format!("not valid YAML: {info}")
    };
    SyntaxError { line, reason }
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
    /// The document that is being read.
    document: Document,
    /// Scalars by the number of their anchor: an alias may be a key.
    scalars: HashMap<usize, String>,
}

impl<'t> Builder<'t> {
    fn documents(mut self) -> Result<Vec<Document>, SyntaxError> {
        let mut documents = Vec::new();
        while let Some((event, span)) = self.event()? {
            match event {
                Event::Nothing | Event::StreamStart => {}
                Event::StreamEnd => break,
                Event::DocumentStart(_) => self.document.line = span.start.line(),
                Event::DocumentEnd => documents.push(std::mem::take(&mut self.document)),
                Event::Alias(_)
                | Event::Scalar(..)
                | Event::SequenceStart(..)
                | Event::SequenceEnd
                | Event::MappingStart(..)
                | Event::MappingEnd => self.document.root = Some(self.node(event, span, 0)?),
            }
        }
        Ok(documents)
    }

    fn event(&mut self) -> Result<Option<(Event<'t>, Span)>, SyntaxError> {
        match self.parser.next() {
            None => Ok(None),
            Some(Ok(next)) => Ok(Some(next)),
            Some(Err(error)) => Err(explain(self.text, error.marker().line(), error.info())),
        }
    }

    fn node(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Node, SyntaxError> {
        let line = span.start.line();
        if depth > DEPTH_LIMIT {
            return Err(SyntaxError { line, reason: format!("nested deeper than {DEPTH_LIMIT} levels") });
        }
        let (anchor, tag, content) = match event {
            Event::Alias(anchor) => {
                self.document.aliases.push(Alias { anchor, line });
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
        if let Content::Scalar { value, .. } = &content
            && anchor > 0
        {
            self.anchor(anchor, line);
            self.scalars.insert(anchor, value.clone());
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
            self.document.anchors.push((anchor, line));
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
        while let Some((event, span)) = self.event()? {
            if matches!(event, Event::MappingEnd) {
                break;
            }
            let key = self.node(event, span, depth + 1)?;
            let Some((event, span)) = self.event()? else { break };
            let value = self.node(event, span, depth + 1)?;
            entries.push((key, value));
        }
        self.no_key_twice(&entries)?;
        Ok(entries)
    }

    fn no_key_twice(&self, entries: &[(Node, Node)]) -> Result<(), SyntaxError> {
        let mut seen = HashMap::with_capacity(entries.len());
        for (key, _) in entries {
            let name = match &key.content {
                Content::Scalar { value, .. } => Some(value),
                Content::Alias { anchor } => self.scalars.get(anchor),
                Content::Sequence(_) | Content::Mapping(_) => None,
            };
            if let Some(name) = name
                && let Some(first) = seen.insert(name.as_str(), key.line)
            {
                return Err(SyntaxError {
                    line: key.line,
                    reason: format!("key {name:?} stands twice in one mapping, first on line {first}"),
                });
            }
        }
        Ok(())
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
    if tag.is_yaml_core_schema() {
        format!("!!{}", tag.suffix)
    } else if tag.handle.is_empty() {
        tag.suffix.clone()
    } else {
        tag.to_string()
    }
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
            ("a: 1\n---\nb: 2\n", 2, "a second YAML document begins here"),
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

//! The second opinion on an edit: another parser reads the new text, and must find in it the documents that the first
//! parser found in the old one, with the wanted values in their places and otherwise alike to the last character.

use std::cell::Cell;
use std::collections::HashMap;

use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_yaml::Value;

use super::error::{EditError, EditErrorKind};
use super::parse::explain;
use super::tree::{Content, Document, Node, Style};

/// The wanted values, by where the old one stood in the old text.
pub(super) type Wanted<'v> = HashMap<usize, &'v str>;

/// Compares a new text with the documents of the old one.
pub(super) fn verify(text: &str, documents: &[Document], wanted: &Wanted<'_>) -> Result<(), EditError> {
    let body = text.strip_prefix('\u{feff}').unwrap_or(text);
    let line = Cell::new(0);
    let mut read = serde_yaml::Deserializer::from_str(body);
    for document in documents {
        line.set(document.line);
        let anchored = document.by_anchor();
        let compared = match (read.next(), &document.root) {
            (Some(read), Some(root)) => Like { node: root, anchored: &anchored, wanted, line: &line }.deserialize(read),
            (Some(read), None) => IgnoredAny::deserialize(read).map(|_| ()),
            (None, _) => Err(Error::custom("a document is missing")),
        };
        compared.map_err(|error| refusal(text, body, line.get(), &error.to_string()))?;
    }
    match read.next() {
        None => Ok(()),
        Some(_) => Err(refusal(text, body, line.get(), "there is a document too many")),
    }
}

/// Why a text did not pass: it may be no YAML to the second parser at all.
fn refusal(text: &str, body: &str, line: usize, difference: &str) -> EditError {
    let error = serde_yaml::Deserializer::from_str(body).find_map(|read| IgnoredAny::deserialize(read).err());
    if let Some(error) = error {
        let place = error.location();
        let line = place.as_ref().map_or(1, |place| place.line());
        let text_of_it = error.to_string();
        // The line is told before the reason, once.
        let at = place.map(|place| format!(" at line {} column {}", place.line(), place.column())).unwrap_or_default();
        return explain(text, line, &text_of_it.replacen(&at, "", 1)).into();
    }
    let reason = format!("two parsers do not read the edited text alike: {difference}");
    EditError { line: Some(line), kind: EditErrorKind::Verification(reason) }
}

/// Reads a node that must be like one of the old text.
#[derive(Clone, Copy)]
struct Like<'d> {
    node: &'d Node,
    anchored: &'d HashMap<usize, &'d Node>,
    wanted: &'d Wanted<'d>,
    /// Where the comparison has come to.
    line: &'d Cell<usize>,
}

impl<'d> Like<'d> {
    fn at(self, node: &'d Node) -> Self {
        Self { node, ..self }
    }
}

impl<'de> DeserializeSeed<'de> for Like<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, read: D) -> Result<(), D::Error> {
        self.line.set(self.node.line);
        match &self.node.content {
            Content::Scalar { .. } => match self.wanted.get(&self.node.span.start) {
                Some(value) if !self.node.span.is_empty() => same_string(read, value),
                Some(_) | None => read.deserialize_str(self),
            },
            Content::Sequence(_) => read.deserialize_seq(self),
            Content::Mapping(_) => read.deserialize_map(self),
            Content::Alias { anchor } => match self.anchored.get(anchor) {
                Some(node) if matches!(node.content, Content::Scalar { .. }) => self.at(node).deserialize(read),
                // What is repeated has been compared where it stands; to follow it each time could take for ever.
                Some(_) | None => IgnoredAny::deserialize(read).map(|_| ()),
            },
        }
    }
}

/// A new value is also looked at as what it means: not every text is read as itself.
fn same_string<'de, D: Deserializer<'de>>(read: D, wanted: &str) -> Result<(), D::Error> {
    let found = text_of(Value::deserialize(read)?);
    match found {
        Some(found) if found == wanted => Ok(()),
        Some(_) | None => Err(Error::custom(format!("{wanted:?} is read back as {found:?}"))),
    }
}

fn text_of(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Tagged(tagged) => text_of(tagged.value),
        Value::Null | Value::Sequence(_) | Value::Mapping(_) => None,
    }
}

impl<'de> Visitor<'de> for Like<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.node.content {
            Content::Scalar { .. } => "a single value",
            Content::Alias { .. } => "an alias",
            Content::Sequence(_) => "a sequence",
            Content::Mapping(_) => "a mapping",
        })
    }

    fn visit_str<E: Error>(self, found: &str) -> Result<(), E> {
        match &self.node.content {
            Content::Scalar { value, .. } if value == found => Ok(()),
            // Where the text ends in a block without a line end, one parser adds it, the other one does not.
            Content::Scalar { value, style: Style::Block }
                if value.trim_end_matches('\n') == found.trim_end_matches('\n') =>
            {
                Ok(())
            }
            Content::Scalar { value, .. } => Err(E::custom(format!("{value:?} would become {found:?}"))),
            Content::Alias { .. } | Content::Sequence(_) | Content::Mapping(_) => {
                Err(E::custom(format!("{found:?} stands in another place")))
            }
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut read: A) -> Result<(), A::Error> {
        let Content::Sequence(items) = &self.node.content else {
            return Err(Error::custom("a sequence stands in another place"));
        };
        for item in items {
            read.next_element_seed(self.at(item))?.ok_or_else(|| Error::custom("an item would be gone"))?;
        }
        match read.next_element::<IgnoredAny>()? {
            None => Ok(()),
            Some(_) => Err(Error::custom("an item would be added")),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut read: A) -> Result<(), A::Error> {
        let Content::Mapping(entries) = &self.node.content else {
            return Err(Error::custom("a mapping stands in another place"));
        };
        for (key, value) in entries {
            read.next_key_seed(self.at(key))?.ok_or_else(|| Error::custom("a key would be gone"))?;
            read.next_value_seed(self.at(value))?;
        }
        match read.next_key::<IgnoredAny>()? {
            None => Ok(()),
            Some(_) => Err(Error::custom("a key would be added")),
        }
    }
}

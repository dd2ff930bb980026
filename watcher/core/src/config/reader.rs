//! Reading a YAML tree key by key, so that every error knows its key and line.

use std::time::Duration;

use super::ConfigError;
use crate::units::parse_duration;
use crate::yaml::{Content, Node};

/// A mapping whose keys are taken one after the other; what is left over is unknown.
pub(super) struct Section<'n> {
    /// The key that leads here, for messages.
    path: String,
    line: usize,
    entries: Vec<Field<'n>>,
}

/// A key with its value.
#[derive(Clone)]
pub(super) struct Field<'n> {
    /// The whole path of the key.
    pub(super) path: String,
    /// The key itself.
    pub(super) key: &'n str,
    /// The line of the key.
    pub(super) line: usize,
    node: &'n Node,
}

impl<'n> Section<'n> {
    /// A mapping; `path` is empty for the whole file.
    pub(super) fn new(path: &str, node: &'n Node) -> Result<Self, ConfigError> {
        let Content::Mapping(entries) = &node.content else {
            return Err(wrong_kind(path, node, "a mapping of keys to values"));
        };
        let mut fields = Vec::new();
        for (key, value) in entries {
            let Content::Scalar { value: name, .. } = &key.content else {
                return Err(wrong_kind(path, key, "a plain key"));
            };
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            fields.push(Field { path, key: name, line: key.line, node: value });
        }
        Ok(Self { path: path.to_owned(), line: node.line, entries: fields })
    }

    /// Takes an optional key.
    pub(super) fn take(&mut self, key: &str) -> Option<Field<'n>> {
        let at = self.entries.iter().position(|field| field.key == key)?;
        Some(self.entries.remove(at))
    }

    /// Takes a key that must be there.
    pub(super) fn require(&mut self, key: &str, example: &str) -> Result<Field<'n>, ConfigError> {
        self.take(key).ok_or_else(|| {
            let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
            self.error(format!("{path} is missing; write {example}"))
        })
    }

    /// Takes an optional duration.
    pub(super) fn duration(&mut self, key: &str, default: Duration) -> Result<Duration, ConfigError> {
        self.take(key).map_or(Ok(default), |field| field.duration())
    }

    /// Takes an optional duration that must not be zero.
    pub(super) fn positive_duration(&mut self, key: &str, default: Duration) -> Result<Duration, ConfigError> {
        let Some(field) = self.take(key) else {
            return Ok(default);
        };
        let duration = field.duration()?;
        if duration.is_zero() { Err(field.error("must be longer than 0".to_owned())) } else { Ok(duration) }
    }

    /// All keys that were not taken, in the order of the text.
    pub(super) fn rest(self) -> Vec<Field<'n>> {
        self.entries
    }

    /// Refuses keys that were not taken.
    pub(super) fn finish(self, known: &[&str]) -> Result<(), ConfigError> {
        match self.entries.first() {
            None => Ok(()),
            Some(field) => Err(ConfigError {
                line: Some(field.line),
                message: format!("{} is unknown; known here: {}", field.path, known.join(", ")),
            }),
        }
    }

    /// An error about the section as a whole.
    pub(super) fn error(&self, message: String) -> ConfigError {
        ConfigError { line: Some(self.line), message }
    }
}

impl<'n> Field<'n> {
    /// The value as a mapping.
    pub(super) fn section(&self) -> Result<Section<'n>, ConfigError> {
        let mut section = Section::new(&self.path, self.node)?;
        section.line = self.line;
        Ok(section)
    }

    /// The value as text that is not empty.
    pub(super) fn text(&self) -> Result<&'n str, ConfigError> {
        match &self.node.content {
            Content::Scalar { value, .. } if value.is_empty() => Err(self.error("is empty; write a value".to_owned())),
            Content::Scalar { value, .. } => Ok(value),
            Content::Alias { .. } | Content::Sequence(_) | Content::Mapping(_) => {
                Err(wrong_kind(&self.path, self.node, "a single value"))
            }
        }
    }

    /// The value as a list.
    pub(super) fn items(&self) -> Result<Vec<Field<'n>>, ConfigError> {
        let Content::Sequence(items) = &self.node.content else {
            return Err(wrong_kind(&self.path, self.node, "a list"));
        };
        let field = |(at, node): (usize, &'n Node)| Field {
            path: format!("{}[{at}]", self.path),
            key: self.key,
            line: node.line,
            node,
        };
        Ok(items.iter().enumerate().map(field).collect())
    }

    /// The value as a duration.
    pub(super) fn duration(&self) -> Result<Duration, ConfigError> {
        self.read(parse_duration)
    }

    /// The value as an absolute path.
    pub(super) fn absolute_path(&self) -> Result<std::path::PathBuf, ConfigError> {
        self.read(|text| {
            let path = std::path::PathBuf::from(text);
            if path.is_absolute() {
                Ok(path)
            } else {
                Err(format!("{text:?} is not an absolute path; begin it with /"))
            }
        })
    }

    /// The value through a function that says what is wrong with it.
    pub(super) fn read<T>(&self, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<T, ConfigError> {
        parse(self.text()?).map_err(|message| self.error(message))
    }

    /// An error about this key.
    pub(super) fn error(&self, message: String) -> ConfigError {
        ConfigError { line: Some(self.line), message: format!("{}: {message}", self.path) }
    }
}

fn wrong_kind(path: &str, node: &Node, expected: &str) -> ConfigError {
    let path = if path.is_empty() { "the file" } else { path };
    let found = match node.content {
        Content::Scalar { .. } => "a single value",
        Content::Alias { .. } => "an alias, which is not supported here",
        Content::Sequence(_) => "a list",
        Content::Mapping(_) => "a mapping",
    };
    ConfigError { line: Some(node.line), message: format!("{path} must be {expected}, and is {found}") }
}

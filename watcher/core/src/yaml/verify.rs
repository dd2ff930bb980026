//! The second opinion on an edit: another parser reads the text before and after.

use serde_yaml::Value;

use super::path::{Path, Segment};

/// True if the text after holds the wanted values at their paths and is otherwise what it was before.
pub(super) fn only_wanted_changed(before: &str, after: &str, wanted: &[(Path, String)]) -> Result<(), String> {
    let mut before = load(before)?;
    let after = load(after)?;
    for (path, value) in wanted {
        let found = at(&after, path).ok_or_else(|| format!("{path} would be gone after the edit"))?;
        if text_of(found).as_deref() != Some(value.as_str()) {
            return Err(format!("{path} would not be read back as {value:?} after the edit"));
        }
        *at_mut(&mut before, path).ok_or_else(|| format!("{path} is not found by the second parser"))? = found.clone();
    }
    if before == after { Ok(()) } else { Err("the edit would change more than the paths under set".to_owned()) }
}

/// Reads a text, a byte order mark before it or not.
pub(super) fn load(text: &str) -> Result<Value, String> {
    let body = text.strip_prefix('\u{feff}').unwrap_or(text);
    serde_yaml::from_str(body).map_err(|error| error.to_string())
}

fn at<'v>(mut value: &'v Value, path: &Path) -> Option<&'v Value> {
    for segment in path.segments() {
        value = match (value, segment) {
            (Value::Mapping(mapping), Segment::Key(key)) => {
                mapping.iter().find(|(k, _)| text_of(k).as_ref() == Some(key)).map(|(_, v)| v)?
            }
            (Value::Sequence(items), Segment::Index(index)) => items.get(*index)?,
            _ => return None,
        };
    }
    Some(value)
}

fn at_mut<'v>(mut value: &'v mut Value, path: &Path) -> Option<&'v mut Value> {
    for segment in path.segments() {
        value = match (value, segment) {
            (Value::Mapping(mapping), Segment::Key(key)) => {
                mapping.iter_mut().find(|(k, _)| text_of(k).as_ref() == Some(key)).map(|(_, v)| v)?
            }
            (Value::Sequence(items), Segment::Index(index)) => items.get_mut(*index)?,
            _ => return None,
        };
    }
    Some(value)
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Tagged(tagged) => text_of(&tagged.value),
        Value::Null | Value::Sequence(_) | Value::Mapping(_) => None,
    }
}

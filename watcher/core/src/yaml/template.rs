//! The marks of template engines.

/// The first mark in a text.
///
/// Marks cannot be told from YAML in general, so they are looked for only where a value is to be replaced, and where a
/// text is no YAML.
pub(super) fn template_mark(text: &str) -> Option<&'static str> {
    ["{{", "{%", "<%", "${"].into_iter().find(|mark| text.contains(mark))
}

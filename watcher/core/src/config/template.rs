//! What a value is set to: text with `{address}`, `{host}`, `{port}`, `{name}` in it.

use super::NodeConfig;

/// A text with placeholders for facts of the active node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Address,
    Host,
    Port,
    Name,
}

impl Template {
    /// Whether it is a placeholder without any text around it.
    pub fn is_one_placeholder(&self) -> bool {
        matches!(self.0.as_slice(), [Part::Address | Part::Host | Part::Port | Part::Name])
    }

    /// Reads a template. A brace that does not belong to a placeholder is refused.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} holds a brace that is none of {{address}}, {{host}}, {{port}}, {{name}}");
        if text.chars().any(char::is_control) {
            return Err("holds a line end or another control character; write it on one line".to_owned());
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, after) = rest.split_at(at);
            let (name, after) = after.strip_prefix('{').and_then(|after| after.split_once('}')).ok_or_else(wrong)?;
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(match name {
                "address" => Part::Address,
                "host" => Part::Host,
                "port" => Part::Port,
                "name" => Part::Name,
                _ => return Err(wrong()),
            });
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        if parts.iter().all(|part| matches!(part, Part::Text(_))) {
            return Err(format!(
                "{text:?} is the same whichever node is active; use {{address}}, {{host}}, {{port}} or {{name}}"
            ));
        }
        Ok(Self(parts))
    }

    /// The text for a node.
    pub fn render(&self, node: &NodeConfig) -> String {
        self.0
            .iter()
            .map(|part| match part {
                Part::Text(text) => text.clone(),
                Part::Address => node.address.address.clone(),
                Part::Host => node.address.host.clone(),
                Part::Port => node.address.port.to_string(),
                Part::Name => node.name.clone(),
            })
            .collect()
    }
}

//! The connection service file of libpq: `[name]`, then a `keyword=value` a line.

use thiserror::Error;

use super::Pairs;

/// A service file that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ServiceError {
    /// A line of the service is not `keyword=value`.
    #[error("line {0} is not keyword=value")]
    Syntax(usize),
    /// The service names another service.
    #[error("line {0} names another service, which a service cannot")]
    Nested(usize),
}

/// What the file says of a service; nothing if it is not in there. The first value of a keyword counts.
pub fn find(text: &str, service: &str) -> Result<Option<Pairs>, ServiceError> {
    let mut found: Option<Pairs> = None;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(rest) = line.strip_prefix('[') {
            if found.is_some() {
                break;
            }
            if rest.strip_prefix(service).is_some_and(|rest| rest.starts_with(']')) {
                found = Some(Pairs::new());
            }
        } else if let Some(pairs) = &mut found {
            let (key, value) = line.split_once('=').ok_or(ServiceError::Syntax(number))?;
            if matches!(key, "service" | "servicefile") {
                return Err(ServiceError::Nested(number));
            }
            if !value.is_empty() {
                pairs.entry(key.to_owned()).or_insert_with(|| value.to_owned());
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_read_as_libpq_reads_it() {
        let text = "# ours\nhost=nowhere\n[other]\nhost=other\n\n  [db01] \nhost=10.0.0.1\n# port=1\n port=5433 \r\nhost=late\n\
                    user=\n[db01]\nport=9\n";
        let pairs = find(text, "db01").unwrap().unwrap();
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("host", "10.0.0.1"), ("port", "5433")]);
        assert_eq!(find(text, "db0"), Ok(None));
        assert_eq!(find("[a]\nhost=x\n[b]\nnonsense\n", "a").unwrap().unwrap().len(), 1);
        assert_eq!(find("[a]\nnonsense\n", "a"), Err(ServiceError::Syntax(2)));
        assert_eq!(find("[a]\nservice=b\n", "a"), Err(ServiceError::Nested(2)));
    }
}

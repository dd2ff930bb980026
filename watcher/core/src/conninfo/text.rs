//! The two forms of a connection string, as pairs of keyword and value.

use std::collections::BTreeMap;

/// Keywords and their values.
pub type Pairs = BTreeMap<String, String>;

/// Reads either form. An error never repeats a value that could be a password.
pub(super) fn pairs(text: &str) -> Result<Pairs, String> {
    match text.strip_prefix("postgresql://").or_else(|| text.strip_prefix("postgres://")) {
        Some(rest) => uri(rest),
        None => keyword_value(text),
    }
}

/// `key = value key='quoted \' value'`.
fn keyword_value(text: &str) -> Result<Pairs, String> {
    let mut pairs = Pairs::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.peek().is_none() {
            return Ok(pairs);
        }
        let mut key = String::new();
        while let Some(c) = chars.next_if(|c| *c != '=' && !c.is_whitespace()) {
            key.push(c);
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.next_if_eq(&'=').is_none() {
            // The word may be a piece of a password with a blank in it, so it is not repeated.
            return Err("an = is missing after a keyword; quote values that hold blanks with '".to_owned());
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let mut value = String::new();
        if chars.next_if_eq(&'\'').is_some() {
            loop {
                match chars.next() {
                    None => return Err(format!("the value of {key} has no closing '")),
                    Some('\'') => break,
                    Some('\\') => value.extend(chars.next()),
                    Some(c) => value.push(c),
                }
            }
        } else {
            while let Some(c) = chars.next_if(|c| !c.is_whitespace()) {
                if c == '\\' { value.extend(chars.next()) } else { value.push(c) }
            }
        }
        pairs.insert(key, value);
    }
}

/// `user@host:port,host:port/dbname?key=value`, after the scheme.
fn uri(text: &str) -> Result<Pairs, String> {
    let mut pairs = Pairs::new();
    let (rest, query) = text.split_once('?').map_or((text, None), |(rest, query)| (rest, Some(query)));
    let (authority, dbname) = rest.split_once('/').map_or((rest, ""), |(authority, dbname)| (authority, dbname));
    let (credentials, host_port) = authority.split_once('@').map_or(("", authority), |(user, host)| (user, host));
    let (user, password) = credentials.split_once(':').map_or((credentials, ""), |(user, password)| (user, password));
    let places: Vec<(&str, &str)> = host_port.split(',').map(host_and_port).collect::<Result<_, _>>()?;
    let (hosts, ports): (Vec<&str>, Vec<&str>) = places.into_iter().unzip();
    let host = hosts.join(",");
    // One port for all need not be repeated, and none at all is the default.
    let port = if ports.iter().all(|port| port.is_empty()) { String::new() } else { ports.join(",") };
    let (host, port) = (host.as_str(), port.as_str());
    for (key, value) in [("user", user), ("password", password), ("host", host), ("port", port), ("dbname", dbname)] {
        pairs.insert(key.to_owned(), percent_decode(value)?);
    }
    for parameter in query.into_iter().flat_map(|query| query.split('&')) {
        let (key, value) = parameter.split_once('=').ok_or("an = is missing in the URI's query")?;
        let (key, value) = (percent_decode(key)?, percent_decode(value)?);
        match (key.as_str(), value.as_str()) {
            ("ssl", "true") => pairs.insert("sslmode".to_owned(), "require".to_owned()),
            _ => pairs.insert(key, value),
        };
    }
    Ok(pairs)
}

/// `host:port` or `[v6]:port`.
fn host_and_port(text: &str) -> Result<(&str, &str), String> {
    let Some(rest) = text.strip_prefix('[') else {
        return Ok(text.split_once(':').unwrap_or((text, "")));
    };
    let (host, rest) = rest.split_once(']').ok_or("a ] is missing after the IPv6 address")?;
    match rest.strip_prefix(':') {
        Some(port) => Ok((host, port)),
        None if rest.is_empty() => Ok((host, "")),
        None => Err("a : is missing between the IPv6 address and the port".to_owned()),
    }
}

fn percent_decode(text: &str) -> Result<String, String> {
    let wrong = || "a % in the URI is not followed by two hexadecimal digits of UTF-8 text".to_owned();
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16)).ok_or_else(wrong);
            let value = digit()? * 16 + digit()?;
            bytes.push(u8::try_from(value).ok().filter(|byte| *byte != 0).ok_or_else(wrong)?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

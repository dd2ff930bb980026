//! Small values that are written in configuration files: durations, limits, addresses, and what servers are known by.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What all servers of one cluster have in common, as `pg_control_system()` tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SystemIdentifier(pub u64);

/// A timeline; every promotion begins a new one with a higher number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Timeline(pub u32);

impl Timeline {
    /// The timeline in the name of a WAL file, which is its first eight hexadecimal digits.
    pub fn from_walfile_name(name: &str) -> Option<Self> {
        u32::from_str_radix(name.get(..8)?, 16).ok().filter(|number| *number > 0).map(Self)
    }
}

impl fmt::Display for SystemIdentifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// At most so many restarts in so long a time, written `3 per 10m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// How many.
    pub count: NonZeroU32,
    /// In how long.
    pub window: Duration,
}

/// Reads `500ms`, `1s`, `2m`, `1h`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration; write a whole number with a unit, like 500ms, 1s, 2m or 1h");
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (digits, unit) = text.split_at(split);
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    // A day is far beyond every sensible setting, and keeps all later arithmetic from overflowing.
    number
        .checked_mul(milliseconds)
        .filter(|total| *total <= 86_400_000)
        .map(Duration::from_millis)
        .ok_or_else(|| format!("{text:?} is more than a day"))
}

/// Reads `3 per 10m`.
pub fn parse_limit(text: &str) -> Result<Limit, String> {
    let wrong = || format!("{text:?} is not a limit; write it like \"3 per 10m\"");
    let (count, window) = text.split_once(" per ").ok_or_else(wrong)?;
    let count = count.trim().parse().map_err(|_| wrong())?;
    let window = parse_duration(window.trim()).map_err(|_| wrong())?;
    if window.is_zero() { Err(wrong()) } else { Ok(Limit { count, window }) }
}

/// What an application is told: `{address}`, `{host}` and `{port}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The whole, as it is written for the application.
    pub address: String,
    /// The host alone, an IPv6 address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Address {
    /// From a host and a port.
    pub fn from_parts(host: &str, port: u16) -> Self {
        let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        Self { address, host: host.to_owned(), port }
    }

    /// From `host:port`, `[v6]:port`, or a host alone, whose port is then the given one.
    pub fn parse(text: &str, port: u16) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not an address; write it like db01:5432, [fd00::1]:5432 or db01");
        if text.is_empty() || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(wrong());
        }
        let parse_port = |digits: &str| digits.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(wrong);
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, rest) = rest.split_once(']').ok_or_else(wrong)?;
            let port = match rest.strip_prefix(':') {
                Some(digits) => parse_port(digits)?,
                None if rest.is_empty() => port,
                None => return Err(wrong()),
            };
            (host, port)
        } else if text.matches(':').count() == 1 {
            let (host, digits) = text.split_once(':').ok_or_else(wrong)?;
            (host, parse_port(digits)?)
        } else {
            (text, port)
        };
        if host.is_empty() {
            return Err(wrong());
        }
        Ok(Self { address: text.to_owned(), host: host.to_owned(), port })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("0s"), Ok(Duration::ZERO));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_duration("1h"), Ok(Duration::from_secs(3600)));
        for text in ["", "5", "s", "-1s", "1.5s", "1 s", "1S", "1d", "99999999999999999999s", "25h"] {
            assert!(parse_duration(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn limits_are_read() {
        let limit = parse_limit("3 per 10m").unwrap();
        assert_eq!((limit.count.get(), limit.window), (3, Duration::from_secs(600)));
        for text in ["3", "3 per", "0 per 10m", "3 per 0s", "3 in 10m", "-1 per 1s"] {
            assert!(parse_limit(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn addresses_give_host_and_port() {
        for (text, host, port) in [
            ("db01:5433", "db01", 5433),
            ("db01", "db01", 5432),
            ("[fd00::1]:5433", "fd00::1", 5433),
            ("[fd00::1]", "fd00::1", 5432),
            ("fd00::1", "fd00::1", 5432),
        ] {
            let address = Address::parse(text, 5432).unwrap();
            assert_eq!((address.address.as_str(), address.host.as_str(), address.port), (text, host, port));
        }
        for text in ["", ":5432", "db01:", "db01:x", "db01:0", "db01:70000", "[fd00::1", "[fd00::1]x", "a b:1", "a\n:1"]
        {
            assert!(Address::parse(text, 5432).is_err(), "{text:?}");
        }
        assert_eq!(Address::from_parts("fd00::1", 5432).address, "[fd00::1]:5432");
        assert_eq!(Address::from_parts("db01", 5432).address, "db01:5432");
    }

    #[test]
    fn the_timeline_is_in_the_name_of_a_wal_file() {
        assert_eq!(Timeline::from_walfile_name("0000000A0000000000000003"), Some(Timeline(10)));
        assert_eq!(Timeline::from_walfile_name("00000000"), None);
        assert_eq!(Timeline::from_walfile_name("x"), None);
    }
}

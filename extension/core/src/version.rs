//! Versions of pg_keeper.

use core::fmt;

/// A version: its three numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub [u16; 3]);

impl Version {
    /// The first one, which does not tell its partner which it is.
    pub const FIRST: Version = Version([0, 1, 0]);

    /// The one that this is.
    pub const OURS: Version = Version([
        number(env!("CARGO_PKG_VERSION_MAJOR")),
        number(env!("CARGO_PKG_VERSION_MINOR")),
        number(env!("CARGO_PKG_VERSION_PATCH")),
    ]);

    /// Reads what [`Version`]'s `Display` wrote; `None` for anything else.
    pub fn parse(text: &str) -> Option<Version> {
        let mut numbers = text.split('.').map(|digits| digits.parse().ok());
        let version = Version([numbers.next()??, numbers.next()??, numbers.next()??]);
        numbers.next().is_none().then_some(version)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Version([major, minor, patch]) = self;
        write!(f, "{major}.{minor}.{patch}")
    }
}

/// Cargo's digits as a number, while this is compiled.
const fn number(digits: &str) -> u16 {
    let (mut number, mut at) = (0, 0);
    while at < digits.len() {
        number = number * 10 + (digits.as_bytes()[at] - b'0') as u16;
        at += 1;
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_version_reads_back_and_compares_by_its_numbers() {
        assert_eq!(Version::OURS.to_string(), env!("CARGO_PKG_VERSION"));
        assert_eq!(Version::parse(env!("CARGO_PKG_VERSION")), Some(Version::OURS));
        assert!(Version::parse("0.9.0") < Version::parse("0.10.0"));
        assert_eq!([Version::parse("1.0"), Version::parse("1.0.0.0"), Version::parse("new")], [None; 3]);
    }
}

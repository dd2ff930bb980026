//! A libpq connection string, `keyword=value` or `postgresql://` URI, as far as the watcher needs it.
//!
//! Settings that could weaken or redirect a connection and are not supported are refused, never ignored.

use std::collections::BTreeMap;

/// Where one node is and as whom it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conninfo {
    /// The host's name or address, or the folder of a Unix socket.
    pub host: Option<String>,
    /// The address, so that no name is resolved.
    pub hostaddr: Option<std::net::IpAddr>,
    /// The port.
    pub port: u16,
    /// The database; libpq's default is the user's name.
    pub dbname: Option<String>,
    /// The role; libpq's default is the name of the operating system's user.
    pub user: Option<String>,
    /// The password file.
    pub passfile: Option<String>,
    /// How TLS is used.
    pub sslmode: Option<SslMode>,
    /// The certificates of the authorities that are trusted.
    pub sslrootcert: Option<String>,
    /// What `pg_stat_activity` shows.
    pub application_name: Option<String>,
    /// Command-line options for the session.
    pub options: Option<String>,
    /// An upper limit of one attempt, in whole seconds.
    pub connect_timeout: Option<u32>,
}

/// How TLS is used, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    /// Never.
    Disable,
    /// Only if the server insists; here never.
    Allow,
    /// If the server can; here never, since it protects against nobody who can answer in the server's place.
    Prefer,
    /// Always, whoever the server is, unless authorities are given: then as [`SslMode::VerifyCa`].
    Require,
    /// Always, with a server that one of our authorities vouches for.
    VerifyCa,
    /// Always, with a server whose name one of our authorities vouches for.
    VerifyFull,
}

impl std::str::FromStr for SslMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "disable" => Self::Disable,
            "allow" => Self::Allow,
            "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => {
                return Err(format!(
                    "sslmode {text:?} is unknown; it is disable, allow, prefer, require, verify-ca or verify-full"
                ));
            }
        })
    }
}

impl Conninfo {
    /// Reads a connection string. An error never repeats a value that could be a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        let pairs = if let Some(rest) = text.strip_prefix("postgresql://").or_else(|| text.strip_prefix("postgres://"))
        {
            uri(rest)?
        } else {
            keyword_value(text)?
        };
        Self::from_pairs(pairs)
    }

    fn from_pairs(mut pairs: BTreeMap<String, String>) -> Result<Self, String> {
        // libpq takes an empty value for one that is not given.
        pairs.retain(|_, value| !value.is_empty());
        if pairs.contains_key("password") {
            return Err(
                "password is not taken from the configuration; put it into a file and name that file with passfile"
                    .to_owned(),
            );
        }
        let mut take = |key: &str| pairs.remove(key);
        let single = |key: &str, value: Option<String>| match value {
            Some(value) if value.contains(',') => {
                Err(format!("{key} names several servers; a node is one server, so name one"))
            }
            value => Ok(value),
        };
        let host = single("host", take("host"))?;
        let hostaddr = single("hostaddr", take("hostaddr"))?
            .map(|text| text.parse().map_err(|_| format!("hostaddr {text:?} is not an IP address")))
            .transpose()?;
        let port = match single("port", take("port"))? {
            None => 5432,
            Some(text) => text
                .parse()
                .ok()
                .filter(|port| *port > 0)
                .ok_or_else(|| format!("port {text:?} is not a port; it is a number from 1 to 65535"))?,
        };
        let connect_timeout = match take("connect_timeout") {
            None => None,
            Some(text) => {
                let seconds: i64 =
                    text.trim().parse().map_err(|_| format!("connect_timeout {text:?} is not a number of seconds"))?;
                u32::try_from(seconds).ok().filter(|seconds| *seconds > 0)
            }
        };
        let sslmode = take("sslmode").map(|text| text.parse()).transpose()?;
        let fallback = take("fallback_application_name");
        let conninfo = Self {
            host,
            hostaddr,
            port,
            dbname: take("dbname"),
            user: take("user"),
            passfile: take("passfile"),
            sslmode,
            sslrootcert: take("sslrootcert"),
            application_name: take("application_name").or(fallback),
            options: take("options"),
            connect_timeout,
        };
        if conninfo.host.is_none() && conninfo.hostaddr.is_none() {
            return Err("host is missing; name the node's host, like host=10.0.0.10".to_owned());
        }
        if conninfo.host.as_ref().is_some_and(|host| host.starts_with('@')) {
            return Err("host names an abstract socket, which is not supported; use a socket's folder".to_owned());
        }
        // What cannot change where a connection goes or how safe it is may be ignored.
        for key in [
            "client_encoding",
            "keepalives",
            "keepalives_idle",
            "keepalives_interval",
            "keepalives_count",
            "tcp_user_timeout",
            "sslcompression",
            "sslsni",
            "krbsrvname",
            "gsslib",
        ] {
            pairs.remove(key);
        }
        for (key, harmless) in [
            ("target_session_attrs", ["any", "any"]),
            ("gssencmode", ["disable", "prefer"]),
            ("channel_binding", ["disable", "prefer"]),
            ("load_balance_hosts", ["disable", "disable"]),
            ("sslnegotiation", ["postgres", "postgres"]),
        ] {
            if pairs.get(key).is_some_and(|value| harmless.contains(&value.as_str())) {
                pairs.remove(key);
            }
        }
        match pairs.into_iter().next() {
            None => Ok(conninfo),
            Some((key, _)) if KNOWN_BUT_UNSUPPORTED.contains(&key.as_str()) => {
                Err(format!("{key} is not supported here; remove it"))
            }
            Some((key, _)) => Err(format!("keyword {key:?} is unknown; correct or remove it")),
        }
    }

    /// The folder of the Unix socket, if the host is one.
    pub fn socket_folder(&self) -> Option<&str> {
        self.host.as_deref().filter(|host| self.hostaddr.is_none() && host.starts_with('/'))
    }
}

const KNOWN_BUT_UNSUPPORTED: [&str; 21] = [
    "service",
    "replication",
    "sslcert",
    "sslkey",
    "sslpassword",
    "sslcertmode",
    "sslcrl",
    "sslcrldir",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
    "min_protocol_version",
    "max_protocol_version",
    "requirepeer",
    "require_auth",
    "gssdelegation",
    "gssencmode",
    "channel_binding",
    "target_session_attrs",
    "load_balance_hosts",
    "sslnegotiation",
    "sslkeylogfile",
];

/// `key = value key='quoted \' value'`.
fn keyword_value(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut pairs = BTreeMap::new();
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

/// `user@host:port/dbname?key=value`, after the scheme.
fn uri(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut pairs = BTreeMap::new();
    let (rest, query) = text.split_once('?').map_or((text, None), |(rest, query)| (rest, Some(query)));
    let (authority, dbname) = rest.split_once('/').map_or((rest, ""), |(authority, dbname)| (authority, dbname));
    let (credentials, host_port) = authority.split_once('@').map_or(("", authority), |(user, host)| (user, host));
    let (user, password) = credentials.split_once(':').map_or((credentials, ""), |(user, password)| (user, password));
    let (host, port) = if let Some(rest) = host_port.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or("a ] is missing after the IPv6 address")?;
        match rest.strip_prefix(':') {
            Some(port) => (host, port),
            None if rest.is_empty() => (host, ""),
            None => return Err("a : is missing between the IPv6 address and the port".to_owned()),
        }
    } else {
        host_port.split_once(':').unwrap_or((host_port, ""))
    };
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn keywords_and_uris_say_the_same() {
        let want = Conninfo {
            host: Some("fd00::1".to_owned()),
            hostaddr: None,
            port: 5433,
            dbname: Some("pg state".to_owned()),
            user: Some("keeper'watch".to_owned()),
            passfile: Some("/etc/p".to_owned()),
            sslmode: Some(SslMode::Disable),
            sslrootcert: None,
            application_name: None,
            options: None,
            connect_timeout: Some(3),
        };
        for text in [
            r"host=fd00::1 port = 5433  dbname='pg state' user=keeper\'watch passfile=/etc/p sslmode=disable connect_timeout=3",
            "postgresql://keeper'watch@[fd00::1]:5433/pg%20state?passfile=/etc/p&sslmode=disable&connect_timeout=3",
            "postgres://keeper%27watch@[fd00::1]:5433/pg%20state?passfile=%2Fetc%2Fp&sslmode=disable&connect_timeout=3",
        ] {
            assert_eq!(Conninfo::parse(text), Ok(want.clone()), "{text}");
        }
    }

    #[test]
    fn defaults_are_those_of_libpq() {
        let got = Conninfo::parse("host=db01 user='' connect_timeout=0 target_session_attrs=any").unwrap();
        assert_eq!((got.port, got.user, got.dbname, got.connect_timeout), (5432, None, None, None));
        assert_eq!(
            Conninfo::parse("postgresql:///x?host=/run/postgresql").unwrap().socket_folder(),
            Some("/run/postgresql")
        );
        assert_eq!(Conninfo::parse("host=db01 hostaddr=10.0.0.1").unwrap().socket_folder(), None);
    }

    #[test]
    fn what_is_wrong_is_named_and_secrets_are_not() {
        for (text, part) in [
            ("", "host is missing"),
            ("dbname=x", "host is missing"),
            ("host=a password=s3cret", "passfile"),
            ("postgresql://u:s3cret@a/x", "passfile"),
            ("host=a password=my s3cret", "an = is missing"),
            ("host=a password='my s3cret", "no closing '"),
            ("host=a,b", "several servers"),
            ("host=a port=0", "is not a port"),
            ("host=a port=5432x", "is not a port"),
            ("host=a hostaddr=x", "is not an IP address"),
            ("host=a sslmode=yes", "sslmode \"yes\" is unknown"),
            ("host=a service=x", "service is not supported here"),
            ("host=a target_session_attrs=read-write", "target_session_attrs is not supported here"),
            ("host=a hots=b", "keyword \"hots\" is unknown"),
            ("postgresql://[::1/x", "a ] is missing"),
            ("postgresql://a/x%zz", "hexadecimal"),
        ] {
            let error = Conninfo::parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
            assert!(!error.contains("s3cret"), "{text}: {error}");
        }
    }
}

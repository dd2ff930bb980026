//! What a connection is made with, once everything is known.

use std::fmt;
use std::net::IpAddr;

use super::Pairs;

/// Where one node is and as whom it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameters {
    /// The ways to the node, tried in turn; at least one.
    pub endpoints: Vec<Endpoint>,
    /// The database; libpq's default is the user's name.
    pub dbname: Option<String>,
    /// The role; libpq's default is the name of the operating system's user.
    pub user: Option<String>,
    /// The password, which only a service may give.
    pub password: Option<Secret>,
    /// The password file.
    pub passfile: Option<String>,
    /// How TLS is used.
    pub sslmode: SslMode,
    /// The certificates of the authorities that are trusted; libpq's default is a file in the user's home folder.
    pub sslrootcert: Option<SslRootCert>,
    /// The file with our own certificate; libpq's default is one in the user's home folder.
    pub sslcert: Option<String>,
    /// The file with its key; libpq's default is one in the user's home folder.
    pub sslkey: Option<String>,
    /// Whether our own certificate is shown if there is one.
    pub shows_certificate: bool,
    /// What `pg_stat_activity` shows.
    pub application_name: Option<String>,
    /// Command-line options for the session.
    pub options: Option<String>,
    /// How long one address may take, in whole seconds.
    pub connect_timeout: Option<u32>,
}

/// One way to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The host's name or address, or the folder of a Unix socket.
    pub host: Option<String>,
    /// The address, so that no name is resolved.
    pub hostaddr: Option<IpAddr>,
    /// The port.
    pub port: u16,
}

/// A text that nobody may read in a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Which authorities are trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SslRootCert {
    /// Those in this file.
    File(String),
    /// Those that the operating system trusts.
    System,
}

/// How TLS is used, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    /// Never.
    Disable,
    /// Only if the server refuses a connection without it.
    Allow,
    /// If the server can. It protects against nobody who can answer in the server's place.
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

impl fmt::Display for SslMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disable => "disable",
            Self::Allow => "allow",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        })
    }
}

/// The port where a connection string names none.
pub(super) const DEFAULT_PORT: u16 = 5432;

impl Endpoint {
    /// The folder of the Unix socket, if the host is one.
    pub fn socket_folder(&self) -> Option<&str> {
        self.host.as_deref().filter(|host| self.hostaddr.is_none() && host.starts_with('/'))
    }

    /// The name that a certificate is compared with, and applications are told.
    pub fn name(&self) -> String {
        match (&self.host, self.hostaddr) {
            (Some(host), _) => host.clone(),
            (None, Some(address)) => address.to_string(),
            (None, None) => String::new(),
        }
    }

    /// The name that a password file knows it by.
    pub fn name_in_passfile(&self) -> String {
        match &self.host {
            Some(host) if DEFAULT_SOCKET_FOLDERS.contains(&host.as_str()) => "localhost".to_owned(),
            Some(_) | None => self.name(),
        }
    }
}

/// The folders that builds of libpq use when no host is given.
const DEFAULT_SOCKET_FOLDERS: [&str; 3] = ["/tmp", "/run/postgresql", "/var/run/postgresql"];

impl Parameters {
    pub(super) fn from_pairs(mut pairs: Pairs) -> Result<Self, String> {
        pairs.retain(|_, value| !value.is_empty());
        let endpoints = endpoints(&mut pairs)?;
        if endpoints.is_empty() {
            return Err("host is missing; name the node's host, like host=10.0.0.10".to_owned());
        }
        let mut take = |key: &str| pairs.remove(key);
        let connect_timeout = match take("connect_timeout") {
            None => None,
            Some(text) => {
                let seconds: i64 =
                    text.trim().parse().map_err(|_| format!("connect_timeout {text:?} is not a number of seconds"))?;
                u32::try_from(seconds).ok().filter(|seconds| *seconds > 0)
            }
        };
        let sslrootcert = match take("sslrootcert") {
            Some(text) if text == "system" => Some(SslRootCert::System),
            text => text.map(|text| absolute("sslrootcert", text)).transpose()?.map(SslRootCert::File),
        };
        let sslmode = match (take("sslmode").map(|text| text.parse()).transpose()?, &sslrootcert) {
            (None | Some(SslMode::VerifyFull), Some(SslRootCert::System)) => SslMode::VerifyFull,
            // Anybody can have a certificate of one of those.
            (Some(weak), Some(SslRootCert::System)) => {
                return Err(format!("sslmode {weak} is too weak for sslrootcert=system; use verify-full"));
            }
            (None, Some(SslRootCert::File(_)) | None) => SslMode::Prefer,
            (Some(mode), Some(SslRootCert::File(_)) | None) => mode,
        };
        let shows_certificate = match take("sslcertmode").as_deref() {
            None | Some("allow") => true,
            Some("disable") => false,
            Some(other) => return Err(format!("sslcertmode {other:?} is not supported here; it is allow or disable")),
        };
        let fallback = take("fallback_application_name");
        let complete = Self {
            endpoints,
            dbname: take("dbname"),
            user: take("user"),
            password: take("password").map(Secret),
            passfile: take("passfile"),
            sslmode,
            sslrootcert,
            sslcert: take("sslcert").map(|text| absolute("sslcert", text)).transpose()?,
            sslkey: take("sslkey").map(|text| absolute("sslkey", text)).transpose()?,
            shows_certificate,
            application_name: take("application_name").or(fallback),
            options: take("options"),
            connect_timeout,
        };
        refuse_the_rest(pairs)?;
        Ok(complete)
    }
}

/// Refuses what is wrong in pairs that a service will add to.
pub(super) fn check(mut pairs: Pairs) -> Result<(), String> {
    if !pairs.contains_key("host") && !pairs.contains_key("hostaddr") {
        // How many there must be is known with the hosts; each must be one.
        if let Some(ports) = pairs.remove("port") {
            ports.split(',').try_for_each(|text| port(text).map(drop))?;
        }
        pairs.insert("host".to_owned(), "unknown".to_owned());
    }
    Parameters::from_pairs(pairs).map(drop)
}

/// A daemon's own folder is nobody's business.
fn absolute(key: &str, text: String) -> Result<String, String> {
    if text.starts_with('/') {
        Ok(text)
    } else {
        Err(format!("{key} {text:?} is not an absolute path; begin it with /"))
    }
}

/// Takes host, hostaddr and port, each of which may be a list.
fn endpoints(pairs: &mut Pairs) -> Result<Vec<Endpoint>, String> {
    let mut list = |key: &str| -> Vec<String> {
        pairs.remove(key).map_or_else(Vec::new, |text| text.split(',').map(|item| item.trim().to_owned()).collect())
    };
    let (hosts, addresses, ports) = (list("host"), list("hostaddr"), list("port"));
    let count = if addresses.is_empty() { hosts.len() } else { addresses.len() };
    if !hosts.is_empty() && hosts.len() != count {
        return Err(format!("there are {} hosts and {count} addresses in hostaddr; name as many", hosts.len()));
    }
    if ports.len() > 1 && ports.len() != count {
        return Err(format!("there are {} ports for {count} hosts; name one, or one for each", ports.len()));
    }
    let ports: Vec<u16> = ports.iter().map(|text| port(text)).collect::<Result<_, _>>()?;
    (0..count)
        .map(|at| {
            let host = hosts.get(at).filter(|host| !host.is_empty()).cloned();
            if host.as_ref().is_some_and(|host| host.starts_with('@')) {
                return Err("host names an abstract socket, which is not supported; use a socket's folder".to_owned());
            }
            let hostaddr = match addresses.get(at).filter(|text| !text.is_empty()) {
                None => None,
                Some(text) => Some(text.parse().map_err(|_| format!("hostaddr {text:?} is not an IP address"))?),
            };
            if host.is_none() && hostaddr.is_none() {
                return Err("a host in the list is empty; name it or remove it".to_owned());
            }
            let port = ports.get(at).or(ports.first()).copied().unwrap_or(DEFAULT_PORT);
            Ok(Endpoint { host, hostaddr, port })
        })
        .collect()
}

fn port(text: &str) -> Result<u16, String> {
    if text.is_empty() {
        return Ok(DEFAULT_PORT);
    }
    text.parse()
        .ok()
        .filter(|port| *port > 0)
        .ok_or_else(|| format!("port {text:?} is not a port; it is a number from 1 to 65535"))
}

/// What cannot change where a connection goes or how safe it is may be ignored.
fn refuse_the_rest(mut pairs: Pairs) -> Result<(), String> {
    pairs.retain(|key, value| {
        let harmless = HARMLESS.contains(&key.as_str())
            || HARMLESS_VALUES.iter().any(|(name, values)| key == name && values.contains(&value.as_str()));
        !harmless
    });
    match pairs.into_iter().next() {
        None => Ok(()),
        Some((key, _)) if UNSUPPORTED.contains(&key.as_str()) => Err(format!("{key} is not supported here; remove it")),
        Some((key, _)) => Err(format!("keyword {key:?} is unknown; correct or remove it")),
    }
}

const HARMLESS: [&str; 12] = [
    // Taken before.
    "service",
    "servicefile",
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
];

const HARMLESS_VALUES: [(&str, &[&str]); 5] = [
    ("target_session_attrs", &["any"]),
    ("gssencmode", &["disable", "prefer"]),
    ("channel_binding", &["disable", "prefer"]),
    ("load_balance_hosts", &["disable"]),
    ("sslnegotiation", &["postgres"]),
];

const UNSUPPORTED: [&str; 17] = [
    "replication",
    "sslpassword",
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

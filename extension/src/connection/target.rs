//! Whom to ask: `pg_keeper.partner_conninfo`, taken apart once for every change of settings.
//!
//! libpq itself expands it, with service file, environment and defaults. What comes out is put together again for every connection, with
//! numeric addresses in place of what libpq would resolve, so that making a connection reads no service file and asks no name server.

use super::session;
use crate::resolve::{Lookup, Resolver};
use keeper_core::Moment;
use std::ffi::{CStr, CString};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv6Addr};

/// Options that the keeper decides itself, whatever the administrator wrote.
const OURS: &[(&str, &str)] = &[
    // Asked over a walsender, which needs neither a database nor one of the slots under max_connections.
    ("replication", "true"),
    // What pg_hba.conf ignores for such a connection, but a passfile does not: the same word as for streaming.
    ("dbname", "replication"),
    // Its handshake reads without a time limit, and may talk to a ticket server.
    ("gssencmode", "disable"),
    ("target_session_attrs", "any"),
    // The keeper has its own time limits.
    ("connect_timeout", "0"),
    ("client_encoding", "UTF8"),
    ("fallback_application_name", "pg_keeper"),
];

/// Options that are replaced for every connection, or have done their work when the others are known.
const REPLACED: &[&str] = &["host", "hostaddr", "port", "service", "servicefile"];

/// Whom to ask, and how.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    /// All options but the hosts, as a conninfo string.
    options: Vec<u8>,
    hosts: Vec<Host>,
}

/// One of the hosts, as the administrator wrote it; any part may be empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Host {
    host: String,
    hostaddr: String,
    port: String,
}

/// A place to connect to, with no name left to resolve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The name, for certificates and passfiles, or the folder of a Unix socket.
    pub(super) host: String,
    /// The numeric address; empty for a Unix socket.
    pub(super) hostaddr: String,
    /// The port; empty for libpq's default.
    pub(super) port: String,
}

/// Where a target can be reached now.
pub(super) enum Places {
    /// There: never empty.
    Known(Vec<Place>),
    /// No name is resolved yet, and at least one is being asked for.
    Pending,
    /// No name can be resolved; the text says why.
    Unknown(String),
}

impl Target {
    /// Takes a conninfo string or URI apart, without touching the network.
    ///
    /// # Errors
    /// libpq's message, when it would not connect with these settings.
    pub(crate) fn parse(conninfo: &CStr) -> Result<Target, String> {
        let expanded = session::expand(conninfo)?;
        let value = |keyword: &str| {
            let found = expanded.iter().find(|(name, _)| name.as_slice() == keyword.as_bytes());
            let bytes = found.map(|(_, value)| value.clone()).unwrap_or_default();
            String::from_utf8(bytes).map_err(|_| format!("\"{keyword}\" is not valid UTF-8"))
        };
        let hosts = hosts_of(&value("host")?, &value("hostaddr")?, &value("port")?);
        let mut options = Vec::new();
        for (keyword, value) in &expanded {
            let replaced = REPLACED.iter().chain(OURS.iter().map(|(name, _)| name));
            if !replaced.into_iter().any(|name| name.as_bytes() == keyword.as_slice()) {
                push_option(&mut options, keyword, value);
            }
        }
        for (keyword, value) in OURS {
            push_option(&mut options, keyword.as_bytes(), value.as_bytes());
        }
        Ok(Target { options, hosts })
    }

    /// A number that changes when whom to ask, or how, does.
    pub(crate) fn fingerprint(&self) -> u32 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish() as u32
    }

    /// Where it can be reached now, in the administrator's order. A name that is not resolved is left out as long as there is another way.
    pub(super) fn places(&self, resolver: &mut Resolver, now: Moment) -> Places {
        let mut places = Vec::new();
        let mut pending = false;
        let mut failure = String::new();
        for Host { host, hostaddr, port } in &self.hosts {
            let mut add = |hostaddr: String| places.push(Place { host: host.clone(), hostaddr, port: port.clone() });
            if !hostaddr.is_empty() || is_local(host) {
                add(hostaddr.clone());
            } else if is_numeric(host) {
                add(host.clone());
            } else {
                match resolver.lookup(host, now) {
                    Lookup::Known(addresses) => addresses.iter().for_each(|address| add(address.to_string())),
                    Lookup::Pending => pending = true,
                    Lookup::Failed(text) => failure = text,
                }
            }
        }
        match (places.is_empty(), pending) {
            (false, _) => Places::Known(places),
            (true, true) => Places::Pending,
            (true, false) => Places::Unknown(failure),
        }
    }

    /// The conninfo string for a connection to the first of `places` that answers.
    pub(super) fn conninfo(&self, places: &[Place]) -> Result<CString, String> {
        let list = |part: fn(&Place) -> &str| places.iter().map(part).collect::<Vec<_>>().join(",");
        let mut conninfo = self.options.clone();
        push_option(&mut conninfo, b"host", list(|place| &place.host).as_bytes());
        // Named even when empty, or PGHOSTADDR would take its place.
        push_option(&mut conninfo, b"hostaddr", list(|place| &place.hostaddr).as_bytes());
        push_option(&mut conninfo, b"port", list(|place| &place.port).as_bytes());
        CString::new(conninfo).map_err(|error| error.to_string())
    }
}

/// Appends `keyword='value' `. Empty values count too: they keep libpq from looking into the environment.
fn push_option(conninfo: &mut Vec<u8>, keyword: &[u8], value: &[u8]) {
    conninfo.extend_from_slice(keyword);
    conninfo.extend_from_slice(b"='");
    for byte in value {
        if matches!(byte, b'\'' | b'\\') {
            conninfo.push(b'\\');
        }
        conninfo.push(*byte);
    }
    conninfo.extend_from_slice(b"' ");
}

/// Pairs the comma lists up as libpq does; it has checked that their lengths agree.
fn hosts_of(host: &str, hostaddr: &str, port: &str) -> Vec<Host> {
    let hosts: Vec<&str> = host.split(',').collect();
    let addresses: Vec<&str> = hostaddr.split(',').collect();
    let ports: Vec<&str> = port.split(',').collect();
    let count = if hostaddr.is_empty() { hosts.len() } else { addresses.len() };
    let item = |list: &[&str], index: usize| list.get(index).copied().unwrap_or_default().trim().to_string();
    (0..count)
        .map(|index| Host {
            host: item(&hosts, index),
            hostaddr: item(&addresses, index),
            // One port serves all hosts.
            port: item(&ports, if ports.len() == 1 { 0 } else { index }),
        })
        .collect()
}

/// Whether libpq takes it for the folder of a Unix socket: the default one, a path, or a name in the abstract namespace.
fn is_local(host: &str) -> bool {
    host.is_empty() || host.starts_with(['/', '@'])
}

/// Whether it is an address already, perhaps with the interface of a link-local one.
fn is_numeric(host: &str) -> bool {
    let scoped = || host.split_once('%').is_some_and(|(address, _)| address.parse::<Ipv6Addr>().is_ok());
    host.parse::<IpAddr>().is_ok() || scoped()
}

//! A libpq connection string, `keyword=value` or `postgresql://` URI, as far as the watcher needs it.
//!
//! Settings that could weaken or redirect a connection and are not supported are refused, never ignored.

mod parameters;
mod service;
mod text;

use crate::units::Address;

use parameters::DEFAULT_PORT;
pub use parameters::{Endpoint, Parameters, Secret, SslMode, SslRootCert};
pub use service::{ServiceError, find as find_service};
pub use text::Pairs;

/// A connection string as it was written, with the defaults that the configuration gives to both nodes.
///
/// What a service adds is known only when a connection is made: its file is read anew for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conninfo {
    written: Pairs,
    defaults: Pairs,
}

impl Conninfo {
    /// Reads a connection string. An error never repeats a value that could be a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::with_defaults(text, Pairs::new())
    }

    /// Reads a connection string; `defaults` hold where neither it nor its service says anything.
    pub fn with_defaults(text: &str, defaults: Pairs) -> Result<Self, String> {
        let mut written = text::pairs(text)?;
        // libpq takes an empty value for one that is not given.
        written.retain(|_, value| !value.is_empty());
        if written.contains_key("password") {
            return Err(
                "password is not taken from the configuration; put it into a file and name that file with passfile"
                    .to_owned(),
            );
        }
        let conninfo = Self { written, defaults };
        match conninfo.service() {
            None => drop(conninfo.complete(&Pairs::new())?),
            Some(_) => parameters::check(conninfo.merged(&Pairs::new()))?,
        }
        Ok(conninfo)
    }

    /// The service that the rest is to be taken from.
    pub fn service(&self) -> Option<&str> {
        self.written.get("service").map(String::as_str)
    }

    /// The file that defines the service, if the string names one.
    pub fn service_file(&self) -> Option<&str> {
        self.written.get("servicefile").map(String::as_str)
    }

    /// All that a connection is made with; `service` is what the service says, nothing if there is none.
    pub fn complete(&self, service: &Pairs) -> Result<Parameters, String> {
        Parameters::from_pairs(self.merged(service))
    }

    /// True if both certainly lead to one server.
    pub fn is_same_server(&self, other: &Self) -> bool {
        let endpoints = |conninfo: &Self| conninfo.complete(&Pairs::new()).map(|complete| complete.endpoints).ok();
        match (endpoints(self), endpoints(other)) {
            (Some(one), Some(two)) => one.iter().any(|endpoint| two.contains(endpoint)),
            (None, None) => self.written == other.written,
            (Some(_), None) | (None, Some(_)) => false,
        }
    }

    /// What applications are told unless the configuration says it: host and port, where there is one host.
    pub fn address(&self) -> Option<Address> {
        match self.complete(&Pairs::new()).ok()?.endpoints.as_slice() {
            [endpoint] if endpoint.socket_folder().is_none() => {
                Some(Address::from_parts(&endpoint.name(), endpoint.port))
            }
            _ => None,
        }
    }

    /// The port of an address that names none.
    pub fn port(&self) -> u16 {
        let complete = self.complete(&Pairs::new());
        complete.ok().and_then(|complete| complete.endpoints.first().map(|first| first.port)).unwrap_or(DEFAULT_PORT)
    }

    /// What is written goes before the service, and that before the defaults.
    fn merged(&self, service: &Pairs) -> Pairs {
        let mut pairs = self.defaults.clone();
        pairs.extend(service.clone());
        pairs.extend(self.written.clone());
        pairs
    }
}

#[cfg(test)]
mod tests;

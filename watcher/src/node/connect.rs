//! A new connection to a node: its addresses in turn, and TLS where and how it is asked for.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode as Negotiation;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;
use watcher_core::conninfo::{Conninfo, Endpoint, Parameters, SslMode};
use watcher_core::plan::Moment;

use super::{Failure, password, service, tls};
use crate::clock;

/// The task that moves a connection's bytes. It ends with the session, and so closes the socket of one that is silent.
#[derive(Debug)]
pub(super) struct Driver(JoinHandle<()>);

impl Driver {
    fn start<S, T>(connection: tokio_postgres::Connection<S, T>) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // Why a connection ended is told by the next attempt.
        Self(tokio::spawn(async { drop(connection.await) }))
    }

    /// Returns when the connection has ended.
    pub(super) async fn ended(&mut self) {
        let _ = (&mut self.0).await;
    }

    /// The connection has ended.
    pub(super) fn is_over(&self) -> bool {
        self.0.is_finished()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Connects. Each of several addresses has its part of the time limit, so that one that is silent leaves time for the others; a
/// single one has all of it, and the caller ends it.
pub(super) async fn connect(conninfo: &Conninfo, limit: Duration) -> Result<(Client, Driver), Failure> {
    let parameters = service::complete(conninfo).map_err(Failure::unusable)?;
    let mut time = Shares::new(limit, parameters.connect_timeout);
    let mut failures = Vec::new();
    for (at, endpoint) in parameters.endpoints.iter().enumerate() {
        let entry = Entry::new(&parameters, endpoint)?;
        let others = parameters.endpoints.len() - at - 1;
        let places = match time.share(1 + others, places(endpoint)).await {
            Ok(places) => places,
            Err(failure) => {
                failures.push((endpoint.name(), failure));
                continue;
            }
        };
        for (at, place) in places.iter().enumerate() {
            match time.share(places.len() - at + others, entry.enter(place)).await {
                Ok(connected) => return Ok(connected),
                // A server that answers is the node, by whatever address, and answers no better by another one.
                Err(failure) if failure.sqlstate.is_some() => return Err(failure),
                Err(failure) => failures.push((place.to_string(), failure)),
            }
        }
    }
    Err(Failure::all_of(failures))
}

/// A time limit that is shared out.
struct Shares {
    end: Moment,
    longest: Option<Duration>,
    is_shared: bool,
}

impl Shares {
    fn new(limit: Duration, connect_timeout: Option<u32>) -> Self {
        // What is left at the end is for telling how each of them failed.
        let end = clock::now().after(limit - limit / 20);
        Self { end, longest: connect_timeout.map(|seconds| Duration::from_secs(seconds.into())), is_shared: false }
    }

    /// Gives an attempt its share where there are others to come or were others before.
    async fn share<T>(&mut self, of: usize, attempt: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        self.is_shared |= of > 1;
        let share = self.is_shared.then(|| self.end.since(clock::now()) / u32::try_from(of).unwrap_or(u32::MAX).max(1));
        match share.into_iter().chain(self.longest).min() {
            Some(limit) => clock::within(limit, attempt).await.unwrap_or_else(|| Err(Failure::silent_too_long())),
            None => attempt.await,
        }
    }
}

/// Where a server may be.
enum Place {
    Address(SocketAddr),
    Socket(String),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Socket(path) => path.fmt(f),
        }
    }
}

/// Resolves the name anew.
async fn places(endpoint: &Endpoint) -> Result<Vec<Place>, Failure> {
    if let Some(folder) = endpoint.socket_folder() {
        let path = Path::new(folder).join(format!(".s.PGSQL.{}", endpoint.port));
        return Ok(vec![Place::Socket(path.display().to_string())]);
    }
    if let Some(address) = endpoint.hostaddr {
        return Ok(vec![Place::Address((address, endpoint.port).into())]);
    }
    let name = endpoint.name();
    let resolved = tokio::net::lookup_host((name.as_str(), endpoint.port)).await;
    let places: Vec<Place> = resolved.map_err(Failure::not_resolved)?.map(Place::Address).collect();
    if places.is_empty() { Err(Failure::not_resolved(io::ErrorKind::NotFound.into())) } else { Ok(places) }
}

/// Everything that is said to a server before the first question.
struct Entry<'a> {
    parameters: &'a Parameters,
    endpoint: &'a Endpoint,
    config: Config,
    connector: Option<MakeRustlsConnect>,
}

impl<'a> Entry<'a> {
    fn new(parameters: &'a Parameters, endpoint: &'a Endpoint) -> Result<Self, Failure> {
        let encrypts = parameters.sslmode != SslMode::Disable && endpoint.socket_folder().is_none();
        let connector = encrypts.then(|| tls::connector(parameters)).transpose().map_err(Failure::unusable)?;
        Ok(Self { parameters, endpoint, config: config(parameters, endpoint)?, connector })
    }

    /// As libpq does it, `allow` and `prefer` have a second try where the first way is not the server's.
    async fn enter(&self, place: &Place) -> Result<(Client, Driver), Failure> {
        let (address, connector) = match (place, &self.connector) {
            (Place::Socket(path), _) => {
                return self.plain(UnixStream::connect(path).await.map_err(Failure::not_connected)?).await;
            }
            (Place::Address(address), None) => return self.plain(tcp(*address).await?).await,
            (Place::Address(address), Some(connector)) => (*address, connector),
        };
        match self.parameters.sslmode {
            SslMode::Disable => self.plain(tcp(address).await?).await,
            SslMode::Allow => match self.plain(tcp(address).await?).await {
                Err(first) if first.is_refused_entry() => {
                    let second = self.encrypted(address, connector, Negotiation::Require).await;
                    second.map_err(|second| second.after(&first))
                }
                outcome => outcome,
            },
            SslMode::Prefer => match self.encrypted(address, connector, Negotiation::Prefer).await {
                Err(first) if first.is_refused_entry() || first.broke => {
                    self.plain(tcp(address).await?).await.map_err(|second| second.after(&first))
                }
                outcome => outcome,
            },
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => {
                self.encrypted(address, connector, Negotiation::Require).await
            }
        }
    }

    async fn plain<S>(&self, stream: S) -> Result<(Client, Driver), Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut config = self.config.clone();
        let (client, connection) = config.ssl_mode(Negotiation::Disable).connect_raw(stream, NoTls).await?;
        Ok((client, Driver::start(connection)))
    }

    async fn encrypted(
        &self,
        address: SocketAddr,
        connector: &MakeRustlsConnect,
        negotiation: Negotiation,
    ) -> Result<(Client, Driver), Failure> {
        // A name that no certificate can bear is no obstacle where names do not matter.
        let mut name = self.endpoint.name();
        if self.parameters.sslmode != SslMode::VerifyFull && ServerName::try_from(name.as_str()).is_err() {
            name = address.ip().to_string();
        }
        let tls = MakeTlsConnect::<TcpStream>::make_tls_connect(&mut connector.clone(), &name)
            .map_err(|error| Failure::unusable(error.to_string()))?;
        let stream = tcp(address).await?;
        let mut config = self.config.clone();
        let (client, connection) = config.ssl_mode(negotiation).connect_raw(stream, tls).await?;
        Ok((client, Driver::start(connection)))
    }
}

async fn tcp(address: SocketAddr) -> Result<TcpStream, Failure> {
    let stream = TcpStream::connect(address).await.map_err(Failure::not_connected)?;
    stream.set_nodelay(true).map_err(Failure::not_connected)?;
    Ok(stream)
}

fn config(parameters: &Parameters, endpoint: &Endpoint) -> Result<Config, Failure> {
    let user = match &parameters.user {
        Some(user) => user.clone(),
        None => nix::unistd::User::from_uid(nix::unistd::geteuid())
            .ok()
            .flatten()
            .map(|user| user.name)
            .ok_or_else(|| Failure::unusable("conninfo has no user, and this user has no name".to_owned()))?,
    };
    let dbname = parameters.dbname.clone().unwrap_or_else(|| user.clone());
    let mut config = Config::new();
    if let Some(password) = password::find(parameters, endpoint, &dbname, &user).map_err(Failure::unusable)? {
        config.password(password);
    }
    config.user(user).dbname(dbname);
    config.application_name(parameters.application_name.as_deref().unwrap_or("pg-keeper-watcher"));
    if let Some(options) = &parameters.options {
        config.options(options);
    }
    Ok(config)
}

//! One connection to a node, and the question that is asked over it.

use std::error::Error as _;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage, SimpleQueryRow, Statement};
use watcher_core::choose::Observation;
use watcher_core::config::NodeConfig;
use watcher_core::pace::Ended;
use watcher_core::units::{SystemIdentifier, Timeline};

use super::{password, tls};

/// What a server is does not change while a connection to it lives, but an extension may come or go.
const LOOK_FOR_FENCE_EVERY: Duration = Duration::from_secs(60);

/// The cluster, and the name of the extension's view if it is there and this role may read the fence in it.
const ABOUT: &str = "select (pg_catalog.pg_control_system()).system_identifier, \
    (select pg_catalog.format('%I.%I', n.nspname, c.relname) \
       from pg_catalog.pg_extension e \
       join pg_catalog.pg_depend d on d.refclassid = 'pg_catalog.pg_extension'::regclass and d.refobjid = e.oid \
            and d.classid = 'pg_catalog.pg_class'::regclass and d.deptype = 'e' \
       join pg_catalog.pg_class c on c.oid = d.objid \
       join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
       join pg_catalog.pg_attribute a on a.attrelid = c.oid \
      where e.extname = 'pg_keeper' and c.relname = 'status' and a.attname = 'fence' \
        and pg_catalog.has_schema_privilege(n.oid, 'usage') and pg_catalog.has_table_privilege(c.oid, 'select') \
      limit 1)";

/// The WAL file that is being written: its name begins with the timeline. Null in recovery, where asking for it is an
/// error; its arguments are volatile, so that it is not evaluated beforehand.
const WALFILE: &str = "case when pg_catalog.pg_is_in_recovery() then null \
    else pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()) end";

/// The row that a promotion leaves. Only its first two columns are sure to exist.
const FAILOVER_LOG: &str = "select * from public.failover_log order by unixtime desc limit 1";

/// An attempt that gave no observation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// In what way.
    pub(crate) ended: Ended,
    /// Why, for people.
    pub(crate) message: String,
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct Session {
    client: Client,
    driver: Driver,
    question: Statement,
    system_identifier: SystemIdentifier,
    status_view: Option<String>,
    looked: Instant,
}

impl Session {
    /// Connects. The caller sets the time limit.
    pub(crate) async fn open(node: &NodeConfig) -> Result<Self, Failure> {
        let (client, driver) = connect(node).await?;
        let about = about(&client).await?;
        let question = prepare(&client, about.status_view.as_deref()).await?;
        Ok(Self {
            client,
            driver,
            question,
            system_identifier: about.system_identifier,
            status_view: about.status_view,
            looked: Instant::now(),
        })
    }

    /// Asks what the node is: one round trip, but for a second one now and then.
    pub(crate) async fn ask(&mut self) -> Result<Observation, Failure> {
        if self.looked.elapsed() > LOOK_FOR_FENCE_EVERY {
            let about = about(&self.client).await?;
            if about.status_view != self.status_view {
                self.question = prepare(&self.client, about.status_view.as_deref()).await?;
                self.status_view = about.status_view;
            }
            self.looked = Instant::now();
        }
        let system_identifier = self.system_identifier;
        let row = self.client.query_one(&self.question, &[]).await?;
        let walfile: Option<&str> = row.try_get(0)?;
        let fence: Option<&str> = row.try_get(1)?;
        let Some(walfile) = walfile else {
            return Ok(Observation::Standby { system_identifier });
        };
        let timeline = Timeline::from_walfile_name(walfile)
            .ok_or_else(|| Failure::unusable(format!("{walfile:?} is not the name of a WAL file")))?;
        Ok(Observation::Primary { system_identifier, timeline, fenced: fence != Some("none") })
    }

    /// Reads the newest row of failover_log: when, and which host. Whatever types the columns have, both come as text.
    pub(crate) async fn failover_log(&self) -> Result<Option<(String, String)>, Failure> {
        let messages = self.client.simple_query(FAILOVER_LOG).await?;
        Ok(rows(&messages).find_map(|row| Some((row.try_get(0).ok()??.to_owned(), row.try_get(1).ok()??.to_owned()))))
    }

    /// Returns when the connection has ended.
    pub(crate) async fn ended(&mut self) {
        let _ = (&mut self.driver.0).await;
    }

    /// The connection has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.driver.0.is_finished()
    }
}

/// The task that moves a connection's bytes. It ends with the session, and so closes the socket of one that is silent.
#[derive(Debug)]
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn connect(node: &NodeConfig) -> Result<(Client, Driver), Failure> {
    let mut config = client_config(node)?;
    // Why a connection ended is told by the next attempt.
    match tls::connector(&node.conninfo).map_err(Failure::unusable)? {
        None => {
            let (client, connection) = config.ssl_mode(SslMode::Disable).connect(NoTls).await?;
            Ok((client, Driver(tokio::spawn(async { drop(connection.await) }))))
        }
        Some(connector) => {
            let (client, connection) = config.ssl_mode(SslMode::Require).connect(connector).await?;
            Ok((client, Driver(tokio::spawn(async { drop(connection.await) }))))
        }
    }
}

struct About {
    system_identifier: SystemIdentifier,
    status_view: Option<String>,
}

async fn about(client: &Client) -> Result<About, Failure> {
    let messages = client.simple_query(ABOUT).await?;
    let row = rows(&messages).next().ok_or_else(|| Failure::unusable("pg_control_system() gave no row".to_owned()))?;
    let text = row.try_get(0)?.unwrap_or_default();
    // The server shows the unsigned number as a signed one.
    let identifier: i64 =
        text.parse().map_err(|_| Failure::unusable(format!("{text:?} is not a system identifier")))?;
    Ok(About {
        system_identifier: SystemIdentifier(identifier.cast_unsigned()),
        status_view: row.try_get(1)?.map(str::to_owned),
    })
}

async fn prepare(client: &Client, status_view: Option<&str>) -> Result<Statement, Failure> {
    let fence = match status_view {
        Some(view) => format!("(select s.fence::text from {view} s limit 1)"),
        None => "'none'::text".to_owned(),
    };
    Ok(client.prepare(&format!("select {WALFILE}, {fence}")).await?)
}

fn rows(messages: &[SimpleQueryMessage]) -> impl Iterator<Item = &SimpleQueryRow> {
    messages.iter().filter_map(|message| if let SimpleQueryMessage::Row(row) = message { Some(row) } else { None })
}

fn client_config(node: &NodeConfig) -> Result<tokio_postgres::Config, Failure> {
    let conninfo = &node.conninfo;
    let user = match &conninfo.user {
        Some(user) => user.clone(),
        None => nix::unistd::User::from_uid(nix::unistd::geteuid())
            .ok()
            .flatten()
            .map(|user| user.name)
            .ok_or_else(|| Failure::unusable("conninfo has no user, and this user has no name".to_owned()))?,
    };
    let dbname = conninfo.dbname.clone().unwrap_or_else(|| user.clone());
    let mut config = tokio_postgres::Config::new();
    if let Some(password) = password::find(conninfo, &dbname, &user).map_err(Failure::unusable)? {
        config.password(password);
    }
    config.user(user).dbname(dbname).port(conninfo.port);
    config.application_name(conninfo.application_name.as_deref().unwrap_or("pg-keeper-watcher"));
    if let Some(host) = &conninfo.host {
        config.host(host);
    }
    if let Some(address) = conninfo.hostaddr {
        config.hostaddr(address);
        if conninfo.host.is_none() {
            // It is also the name that a certificate is compared with.
            config.host(address.to_string());
        }
    }
    if let Some(options) = &conninfo.options {
        config.options(options);
    }
    if let Some(seconds) = conninfo.connect_timeout {
        config.connect_timeout(Duration::from_secs(seconds.into()));
    }
    Ok(config)
}

impl Failure {
    /// The node cannot be asked like this, or its answer cannot be used.
    fn unusable(message: String) -> Self {
        Self { ended: Ended::Rejected, message }
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        use std::io::ErrorKind::{ConnectionRefused, NotFound, TimedOut};
        if let Some(db) = error.as_db_error() {
            return Self { ended: Ended::Rejected, message: format!("{} ({})", db.message(), db.code().code()) };
        }
        let io = error.source().and_then(|source| source.downcast_ref::<std::io::Error>());
        let ended = match io.map(std::io::Error::kind) {
            Some(ConnectionRefused | NotFound) => Ended::Refused,
            Some(TimedOut) => Ended::Silent,
            // The resolver's own errors bear no kind.
            Some(_) if io.is_some_and(|io| io.raw_os_error().is_none()) => Ended::Silent,
            Some(_) | None => Ended::Rejected,
        };
        let message = match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        Self { ended, message }
    }
}

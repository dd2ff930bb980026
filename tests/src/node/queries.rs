//! SQL on a server, over connections that are kept open while it lives.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::Node;
use crate::install::install;
use crate::sql::{Address, Row, Session, SqlError};

/// How long one query may take.
const QUERY_LIMIT: Duration = Duration::from_secs(10);

impl Node {
    /// Runs SQL as superuser; a connection that broke since the last time is opened anew.
    pub fn sql(&self, database: &str, sql: &str) -> Result<Vec<Row>> {
        if let Some(session) = self.take_session(database) {
            match session.rows(sql) {
                Ok(rows) => {
                    self.keep_session(database, session);
                    return Ok(rows);
                }
                Err(error) if error.code.as_deref().is_some_and(|code| !code.starts_with("57P")) => {
                    self.keep_session(database, session);
                    return Err(self.failed(database, sql, error));
                }
                // The connection is gone, perhaps with a server that has been replaced by its next start.
                Err(_) => {}
            }
        }
        let session = self.connect(database, "postgres")?;
        match session.rows(sql) {
            Ok(rows) => {
                self.keep_session(database, session);
                Ok(rows)
            }
            Err(error) => Err(self.failed(database, sql, error)),
        }
    }

    /// The first column of the only row.
    pub fn sql_value(&self, database: &str, sql: &str) -> Result<String> {
        let rows = self.sql(database, sql)?;
        let [row] = rows.as_slice() else { bail!("{} rows instead of one from {}: {sql}", rows.len(), self.name) };
        Ok(row.first().unwrap_or_default().to_owned())
    }

    /// A new connection of anyone's, through the Unix socket.
    pub fn connect(&self, database: &str, user: &str) -> Result<Session> {
        self.connect_within(QUERY_LIMIT, database, user)
    }

    /// As [`Node::connect`], with another limit for the connection and its queries.
    pub fn connect_within(&self, limit: Duration, database: &str, user: &str) -> Result<Session> {
        let address = Address::Socket(self.folder.clone(), self.port());
        Session::connect(&address, database, user, limit)
            .with_context(|| format!("connect to {} as {user}, database {database}", self.name))
    }

    /// Closes the standing connections.
    pub fn disconnect(&self) {
        self.sessions.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clear();
    }

    /// psql, connected as superuser through the Unix socket, that stops at the first error.
    pub fn psql(&self, database: &str) -> Result<Command> {
        let mut psql = install()?.tool("psql");
        psql.args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--username=postgres"]);
        psql.arg("--host").arg(&self.folder).arg("--port").arg(self.port().to_string()).arg("--dbname").arg(database);
        Ok(psql)
    }

    fn failed(&self, database: &str, sql: &str, error: SqlError) -> anyhow::Error {
        anyhow::Error::new(error).context(format!("{} ({database}): {sql}", self.name))
    }

    fn take_session(&self, database: &str) -> Option<Session> {
        self.sessions.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).remove(database)
    }

    fn keep_session(&self, database: &str, session: Session) {
        let mut sessions = self.sessions.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        sessions.insert(database.to_owned(), session);
    }
}

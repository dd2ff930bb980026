//! SQL with a time limit on everything, as half of the servers asked here are dying.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::runtime::Runtime;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

/// Where a server listens.
#[derive(Debug, Clone)]
pub enum Address {
    /// The folder of its Unix socket, and its port. Reaches a server in another network namespace too.
    Socket(PathBuf, u16),
    /// Host and port.
    Tcp(String, u16),
}

/// An open connection.
pub struct Session {
    runtime: Runtime,
    client: Client,
    limit: Duration,
}

/// One row, every value as text.
#[derive(Debug, Clone)]
pub struct Row(Vec<(String, Option<String>)>);

/// What a server or the connection to it answered instead of rows.
#[derive(Debug, Clone)]
pub struct SqlError {
    /// SQLSTATE, when it came from the server.
    pub code: Option<String>,
    /// Message, detail and hint.
    pub text: String,
}

impl Session {
    /// Connects; `limit` holds for this and for every query later.
    pub fn connect(address: &Address, database: &str, user: &str, limit: Duration) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("make a runtime")?;
        let mut config = Config::new();
        config.dbname(database).user(user).application_name("pg_keeper tests");
        match address {
            Address::Socket(folder, port) => config.host_path(folder).port(*port),
            Address::Tcp(host, port) => config.host(host).port(*port),
        };
        let client = runtime.block_on(async {
            let (client, connection) = tokio::time::timeout(limit, config.connect(NoTls))
                .await
                .map_err(|_| SqlError::late("connect", limit))?
                .map_err(SqlError::from)?;
            tokio::spawn(connection);
            Ok::<_, SqlError>(client)
        })?;
        Ok(Self { runtime, client, limit })
    }

    /// The rows of the last statement.
    pub fn rows(&self, sql: &str) -> Result<Vec<Row>, SqlError> {
        let query = async { tokio::time::timeout(self.limit, self.client.simple_query(sql)).await };
        let messages = self.runtime.block_on(query).map_err(|_| SqlError::late(sql, self.limit))??;
        let mut rows = Vec::new();
        for message in messages {
            if let SimpleQueryMessage::RowDescription(_) = message {
                rows.clear();
            } else if let SimpleQueryMessage::Row(row) = message {
                let name = |index: usize| row.columns()[index].name().to_owned();
                rows.push(Row((0..row.len()).map(|i| (name(i), row.get(i).map(str::to_owned))).collect()));
            }
        }
        Ok(rows)
    }
}

impl Row {
    /// The value of a column; an error names the columns that are there.
    pub fn get(&self, column: &str) -> Result<Option<&str>> {
        let found = self.0.iter().find(|(name, _)| name == column);
        found.map(|(_, value)| value.as_deref()).with_context(|| format!("no column {column} in {self}"))
    }

    /// A value that is not null.
    pub fn text(&self, column: &str) -> Result<&str> {
        self.get(column)?.with_context(|| format!("{column} is null in {self}"))
    }

    /// A whole number that is not null.
    pub fn integer(&self, column: &str) -> Result<i64> {
        self.text(column)?.parse().with_context(|| format!("{column} is not a whole number in {self}"))
    }

    /// The value of the first column.
    pub fn first(&self) -> Option<&str> {
        self.0.first().and_then(|(_, value)| value.as_deref())
    }

    /// The value of a column by its place, as a program reads that knows only a table's first columns.
    pub fn nth(&self, place: usize) -> Option<&str> {
        self.0.get(place).and_then(|(_, value)| value.as_deref())
    }

    /// Names and values, in order.
    pub fn columns(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_deref()))
    }
}

impl fmt::Display for Row {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, value)) in self.columns().enumerate() {
            let space = if index == 0 { "" } else { " | " };
            write!(out, "{space}{name}: {}", value.unwrap_or("∅"))?;
        }
        Ok(())
    }
}

impl SqlError {
    fn late(what: &str, limit: Duration) -> Self {
        Self { code: None, text: format!("no answer within {limit:?} to: {what}") }
    }
}

impl From<tokio_postgres::Error> for SqlError {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(answer) = error.as_db_error() else {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            return Self { code: None, text: format!("{error}{cause}") };
        };
        let part = |name: &str, text: Option<&str>| text.map(|text| format!("\n{name}: {text}")).unwrap_or_default();
        Self {
            code: Some(answer.code().code().to_owned()),
            text: format!(
                "{}: {}{}{}",
                answer.severity(),
                answer.message(),
                part("DETAIL", answer.detail()),
                part("HINT", answer.hint())
            ),
        }
    }
}

impl fmt::Display for SqlError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.code {
            Some(code) => write!(out, "{code} {}", self.text),
            None => out.write_str(&self.text),
        }
    }
}

impl std::error::Error for SqlError {}

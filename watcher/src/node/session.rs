//! One connection to a node, and the question that is asked over it.

use std::time::Duration;

use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow, Statement};
use watcher_core::choose::Observation;
use watcher_core::conninfo::Conninfo;
use watcher_core::plan::Moment;
use watcher_core::units::{SystemIdentifier, Timeline};

use super::Failure;
use super::connect::{Driver, connect};
use crate::clock;

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

/// How long the server may work on the newest row of failover_log: short against the interval between two questions, which it
/// must not hold up.
const LOG_WITHIN: Duration = Duration::from_millis(100);

/// An open connection.
#[derive(Debug)]
pub(crate) struct Session {
    client: Client,
    driver: Driver,
    question: Statement,
    system_identifier: SystemIdentifier,
    status_view: Option<String>,
    looked: Moment,
}

impl Session {
    /// Connects, within a time limit that holds for each later question on the server's side as well: one that waits for a lock
    /// does not outlive us there.
    pub(crate) async fn open(conninfo: &Conninfo, limit: Duration) -> Result<Self, Failure> {
        let (client, driver) = connect(conninfo, limit).await?;
        client.batch_execute(&format!("set statement_timeout = {}", limit.as_millis())).await?;
        let about = about(&client).await?;
        let question = prepare(&client, about.status_view.as_deref()).await?;
        Ok(Self {
            client,
            driver,
            question,
            system_identifier: about.system_identifier,
            status_view: about.status_view,
            looked: clock::now(),
        })
    }

    /// Asks what the node is: one round trip, but for a second one now and then.
    pub(crate) async fn ask(&mut self) -> Result<Observation, Failure> {
        if clock::now().since(self.looked) > LOOK_FOR_FENCE_EVERY {
            let about = about(&self.client).await?;
            if about.status_view != self.status_view {
                self.question = prepare(&self.client, about.status_view.as_deref()).await?;
                self.status_view = about.status_view;
            }
            self.looked = clock::now();
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
        // One message is one transaction, so that the setting ends with it, whatever becomes of the query.
        let limited = format!("set local statement_timeout = {}; {FAILOVER_LOG}", LOG_WITHIN.as_millis());
        let answer = clock::within(LOG_WITHIN * 2, self.client.simple_query(&limited)).await;
        let messages = answer.ok_or_else(|| Failure::silent(LOG_WITHIN * 2))??;
        Ok(rows(&messages).find_map(|row| Some((row.try_get(0).ok()??.to_owned(), row.try_get(1).ok()??.to_owned()))))
    }

    /// Returns when the connection has ended.
    pub(crate) async fn ended(&mut self) {
        self.driver.ended().await;
    }

    /// The connection has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.driver.is_over()
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

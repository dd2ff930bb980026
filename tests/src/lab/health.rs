//! What both servers say of themselves, and when that is what it should be.

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::host::Host;
use crate::replication::Replication;

/// What is asked of a server. One row, one column, so that a name that is new or gone shows here.
pub const QUESTION: &str = "select json_build_object('in_recovery', pg_is_in_recovery(), \
     'streamers', (select count(*) from pg_stat_replication where state = 'streaming' and application_name <> 'pg_keeper'), \
     'status', (select row_to_json(s) from pg_keeper.status s))";

/// A server's answer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Server {
    /// Whether it is a standby.
    pub in_recovery: bool,
    /// How many standbys stream from it.
    pub streamers: u32,
    /// What its keeper says.
    pub status: Status,
}

/// The row of pg_keeper.status, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Status {
    /// What the keeper is doing.
    pub state: String,
    /// Why, in a sentence.
    pub reason: String,
    /// What is known of the partner.
    pub partner_state: Option<String>,
    /// The server's timeline.
    pub timeline: Option<i64>,
    /// How it replicates.
    pub sync: Option<String>,
    /// Whether it would take over.
    pub armed: Option<bool>,
    /// What keeps it from taking writes.
    pub fence: Option<String>,
}

impl Server {
    /// Asks a server, over its Unix socket.
    pub fn ask(host: &Host) -> Result<Self> {
        Self::parse(&sql(host, "pg_state", QUESTION)?).with_context(|| format!("what {} says", host.name()))
    }

    fn parse(text: &str) -> Result<Self> {
        serde_json::from_str(text).with_context(|| text.to_owned())
    }

    /// Whether it was replaced and knows it.
    pub fn is_fenced(&self) -> bool {
        self.status.state == "fenced"
    }
}

/// Which server is active, if everything is as it should be: one primary that nothing holds back, one standby that streams and would take
/// over. An error says what is not.
pub fn active(servers: [&Server; 2], sync: Replication) -> Result<usize> {
    let primaries: Vec<usize> = (0..2).filter(|place| !servers[*place].in_recovery).collect();
    ensure!(primaries.len() == 1, "there are {} primaries: {servers:?}", primaries.len());
    let active = primaries[0];
    let (primary, standby) = (servers[active], servers[1 - active]);
    let is = |value: &Option<String>, wanted: &str| value.as_deref() == Some(wanted);
    ensure!(
        primary.status.state == "watching"
            && is(&primary.status.fence, "none")
            && is(&primary.status.partner_state, "alive")
            && primary.streamers == 1,
        "the primary is not well: {primary:?}"
    );
    ensure!(
        standby.status.state == "watching"
            && standby.status.armed == Some(true)
            && is(&standby.status.partner_state, "alive")
            && standby.status.timeline == primary.status.timeline,
        "the standby is not well: {standby:?}"
    );
    let wanted = match sync {
        Replication::Off => "not managed",
        Replication::Async | Replication::Wait => "synchronous",
    };
    for server in servers {
        ensure!(is(&server.status.sync, wanted), "replication is to be «{wanted}»: {server:?}");
    }
    Ok(active)
}

/// Runs a statement as superuser on a server, over its Unix socket, and returns what psql prints.
pub fn sql(host: &Host, database: &str, statement: &str) -> Result<String> {
    let quoted = statement.replace('\'', r"'\''");
    host.sh_as("postgres", &format!("PGCONNECT_TIMEOUT=10 psql -XAtqw -v ON_ERROR_STOP=1 -d {database} -c '{quoted}'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(in_recovery: bool) -> Server {
        let text = format!(
            r#"{{"in_recovery" : {in_recovery}, "streamers" : {}, "status" : {{"node_name":"db01","role":"primary","state":"watching",
               "reason":"x","partner":"db02","partner_state":"alive","keepalives_missed":0,"last_answer_age":"00:00:00.2",
               "timeline":1,"lsn":"0/3000148","partner_timeline":1,"partner_lsn":"0/3000148","lag_bytes":null,
               "sync":"synchronous","armed":{},"fence":{}}}}}"#,
            u32::from(!in_recovery),
            in_recovery,
            "\"none\"",
        );
        Server::parse(&text).unwrap()
    }

    #[test]
    fn a_healthy_pair_has_one_active_server() {
        assert_eq!(active([&server(false), &server(true)], Replication::Wait).unwrap(), 0);
        assert_eq!(active([&server(true), &server(false)], Replication::Async).unwrap(), 1);
    }

    #[test]
    fn whatever_is_not_well_is_named() {
        let spoil = |change: fn(&mut Server, &mut Server), sync| {
            let (mut primary, mut standby) = (server(false), server(true));
            change(&mut primary, &mut standby);
            active([&primary, &standby], sync).unwrap_err().to_string()
        };
        assert!(spoil(|_, _| (), Replication::Off).starts_with("replication is to be «not managed»"));
        assert!(spoil(|_, other| other.in_recovery = false, Replication::Wait).starts_with("there are 2 primaries"));
        assert!(spoil(|one, _| one.in_recovery = true, Replication::Wait).starts_with("there are 0 primaries"));
        assert!(spoil(|one, _| one.streamers = 0, Replication::Wait).starts_with("the primary is not well"));
        assert!(
            spoil(|one, _| one.status.fence = Some("guarded".into()), Replication::Wait).starts_with("the primary")
        );
        assert!(spoil(|_, other| other.status.armed = Some(false), Replication::Wait).starts_with("the standby"));
        assert!(spoil(|one, _| one.status.timeline = Some(2), Replication::Wait).starts_with("the standby"));
        assert!(
            spoil(|_, other| other.status.sync = None, Replication::Wait)
                .starts_with("replication is to be «synchronous»")
        );
    }
}

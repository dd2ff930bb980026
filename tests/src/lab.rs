//! The laboratory of docker/: two database hosts and two application hosts in containers, what can befall them, and what came of it.
//!
//! [`host`] reaches into one of them, [`ledgers`] follows what the applications were told, [`health`] is what both servers say of
//! themselves. [`case`] is the table of everything that is tried, [`fault`] how it is done and undone, [`expect`] what must come of it.
//! [`run`] carries one case through, from a healthy pair to a healthy pair; [`account`] turns the ledgers into figures, and [`report`] those
//! into a table.
//!
//! The containers share the machine's clock, so that instants of different hosts can be compared.

pub mod account;
pub mod case;
pub mod expect;
pub mod fault;
pub mod health;
pub mod host;
pub mod ledgers;
pub mod report;
pub mod run;

mod disk;
mod hung;

use std::time::Duration;

use anyhow::{Context, Result};

use crate::environment::variable;
use host::Host;
use ledgers::Follower;

/// The database hosts' names.
pub const DATABASES: [&str; 2] = ["db01", "db02"];
/// The application hosts' names.
pub const APPLICATIONS: [&str; 2] = ["app01", "app02"];

/// `pg_keeper.keepalive_time` of the laboratory.
pub const KEEPALIVE_TIME: Duration = Duration::from_secs(1);
/// `pg_keeper.keepalive_count` of the laboratory.
pub const KEEPALIVE_COUNT: u32 = 3;
/// A partner that does not answer is lost after this.
pub const WINDOW: Duration = Duration::from_secs(3);

/// The four hosts.
#[derive(Debug)]
pub struct Lab {
    /// The database hosts, in the order of [`DATABASES`].
    pub databases: [Host; 2],
    /// The application hosts, in the order of [`APPLICATIONS`].
    pub applications: [Host; 2],
    /// What each application was told.
    pub ledgers: [Follower; 2],
    /// PostgreSQL's major version.
    pub major: String,
}

impl Lab {
    /// The laboratory that is up on this machine.
    pub fn find() -> Result<Self> {
        let project = variable("COMPOSE_PROJECT_NAME", "pgkeeper-lab".to_owned())?;
        let host = |name: &str| Host::find(&project, name);
        let databases = [host(DATABASES[0])?, host(DATABASES[1])?];
        let applications = [host(APPLICATIONS[0])?, host(APPLICATIONS[1])?];
        let ledgers = [Follower::start(&applications[0]), Follower::start(&applications[1])];
        let major = databases[0].sh("ls /etc/postgresql")?.lines().next().context("no cluster on db01")?.to_owned();
        Ok(Self { databases, applications, ledgers, major })
    }

    /// The systemd unit of the server.
    pub fn unit(&self) -> String {
        format!("postgresql@{}-main.service", self.major)
    }

    /// The data directory.
    pub fn data(&self) -> String {
        format!("/var/lib/postgresql/{}/main", self.major)
    }

    /// All hosts.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.databases.iter().chain(&self.applications)
    }

    /// What every host says, for the message of a failed case.
    pub fn evidence(&self) -> String {
        let server = format!(
            "runuser -u postgres -- psql -XAtq -x -d pg_state -c 'select * from pg_keeper.status' 2>&1 | grep -v '|$'; \
             tail -n 40 /var/log/postgresql/postgresql-{}-main.log",
            self.major
        );
        let application = "pg-keeper-watcher status 2>&1; head -c 2000 /srv/shop/env.yaml; systemctl --no-pager status shop.service 2>&1 \
                           | head -n 8; journalctl --no-pager -o short-precise -n 30 -u pg-keeper-watcher -u shop 2>&1";
        let of = |host: &Host, script: &str| {
            let told = host.sh(script).unwrap_or_else(|error| format!("{error:#}"));
            format!("--- {}:\n{told}\n", host.name())
        };
        let servers: String = self.databases.iter().map(|host| of(host, &server)).collect();
        let applications: String = self.applications.iter().map(|host| of(host, application)).collect();
        servers + &applications
    }
}

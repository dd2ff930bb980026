//! A harness that starts real PostgreSQL servers with pg_keeper in them, breaks them, and looks at what happens.
//!
//! From the bottom up: [`install`] finds PostgreSQL and the account that may run it, [`folder`] holds everything a
//! run leaves on disk and the processes that live in it, [`node`] is one server, [`pair`] a primary with its standby,
//! [`state`] what they say of themselves,
//! [`fault`] what can befall a server, [`application`] and [`watcher`] the programs of an application host, and
//! [`scenario`] a whole outage from the last acknowledged write to the first one on the new primary.
//!
//! Which process belongs to a run is decided by its working directory alone: servers, their workers, the commands
//! that those start, watcher and application all live inside the run's folder. That finds them also after their parent
//! has died, which is what these tests do to parents.

pub mod application;
pub mod authority;
pub mod clock;
pub mod configured;
pub mod cycles;
pub mod environment;
pub mod fault;
pub mod fleet;
pub mod folder;
pub mod gate;
pub mod hammer;
pub mod host;
pub mod install;
pub mod lab;
pub mod ledger;
pub mod load;
pub mod mounts;
pub mod netns;
pub mod node;
pub mod pair;
pub mod ports;
pub mod process;
pub mod proxy;
pub mod quiet;
pub mod replication;
pub mod scenario;
pub mod segments;
pub mod site;
pub mod sql;
pub mod state;
pub mod stats;
pub mod systemd;
pub mod template;
pub mod timeline;
pub mod wait;
pub mod watcher;

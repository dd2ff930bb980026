//! The decisions of `pg-keeper-watcher`, without files, sockets or a clock.
//!
//! The binary observes, hands what it saw in here together with the time, and acts on the answer:
//! - [`config`]: the YAML configuration becomes types with no bad values;
//! - [`choose`]: which of the two nodes is active;
//! - [`pace`]: when a node is asked again;
//! - [`yaml`]: the edit of an application's YAML file, text to text;
//! - [`health`]: whether the daemon does what it is there for;
//! - [`status`]: what people and monitoring are told;
//! - [`dropin`]: what systemd's units need;
//! - [`follow`]: whom applications' files follow;
//! - [`plan`]: which restart is due, and when it is tried again;
//! - [`repairs`]: how often a file is put right that another program changes back;
//! - [`journal`]: what must be known of a file that is being written to in place;
//! - [`mod@unit`]: what the states of a systemd unit mean for its restart;
//! - [`pid_file`]: whether a process is the one that a pid file was written for;
//! - [`wall_clock`]: how long ago a file was written, whoever set the clock since;
//! - [`memory`]: what must survive a crash of the watcher.
#![forbid(unsafe_code)]

pub mod choose;
pub mod config;
pub mod conninfo;
pub mod dropin;
pub mod follow;
pub mod health;
pub mod journal;
pub mod memory;
pub mod pace;
pub mod passfile;
pub mod pid_file;
pub mod plan;
pub mod repairs;
pub mod status;
pub mod unit;
pub mod units;
pub mod wall_clock;
pub mod yaml;

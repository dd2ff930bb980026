//! The decisions of pg_keeper.
//!
//! [`Node::step`] takes the time and one [`Event`] and answers with a list of [`Action`]s, in the order in which they must happen. The
//! crate reads no clock, opens no socket and knows nothing of PostgreSQL's memory: the extension does that, feeds in what it saw
//! and carries out what is asked for. So two nodes can be run against each other in a test, or in a model checker, exactly as they run
//! in production.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod answer;
mod arming;
pub mod check;
pub mod conninfo;
mod event;
mod fence;
mod gate;
mod history;
mod ident;
mod node;
mod partner;
mod promotion;
pub mod rejoin;
mod report;
mod schedule;
mod settings;
mod status;
mod synchronous;
mod telling;
mod time;
mod version;
mod words;

pub use answer::{Farewell, Reply, SqlState, Stage, Verdict};
pub use arming::NotArmed;
pub use event::{Action, Command, CommandOutcome, Event, Level, Notice, Observation, Parameters, SynchronousNames};
pub use fence::{Binding, FENCE_FILE, Fence, Kept};
pub use gate::{Gate, GateKind};
pub use history::{Branch, History, HistoryError, Relation, Switch};
pub use ident::{Lsn, ParseLsnError, SystemIdentifier, Timeline};
pub use node::{Node, Start};
pub use partner::Evidence;
pub use promotion::Story;
pub use report::{Answer, AtAnswer, Identity, Report, ReportError, Role, Sight, Synchronous};
pub use settings::{Inert, OnStandbyLoss, OnUnknownPartner, Settings};
pub use status::{PartnerState, State, Status};
pub use time::Moment;
pub use version::Version;
pub use words::{one_line, sqlstate_in};

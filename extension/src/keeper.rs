//! The keeper: the background worker that keepalives the partner and promotes the standby.
//!
//! It waits in one place and decides nothing: it turns what happened into events, feeds them to the node, and carries out what the node
//! asks for. It is connected to no database and depends on no table, so a missing log table cannot stop a failover. Its end is always
//! exit code 1, which makes the postmaster start it again; its memory is rebuilt from the server and from the partner's next answer.

use crate::command::Running;
use crate::connection::{Connection, Target};
use crate::observe::{self, Observer};
use crate::resolve::Resolver;
use crate::shared::{self, Published, SharedStory, now};
use crate::wait::Wait;
use crate::{fence, gate, guc, log, names};
use keeper_core::{
    Action, Command, CommandOutcome, Event, FENCE_FILE, Inert, Level, Moment, Node, Notice, Reply, Settings, Start,
};
use pgrx::bgworkers::{BackgroundWorker, SignalWakeFlags};
use pgrx::direct_function_call;
use pgrx::prelude::*;
use std::collections::VecDeque;
use std::ffi::CStr;
use std::time::Duration;

/// How often a child process that has no descriptor to wait for is looked at.
const CHILD_POLL: Duration = Duration::from_millis(10);
/// What a commit waits for its permit beyond the window and a keepalive.
const SETTLING: Duration = Duration::from_secs(5);
/// The longest sleep: status stays fresh, and a deadline that was missed is not missed for ever.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// The worker's entry, named in its registration.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn pg_keeper_main(_argument: pg_sys::Datum) {
    BackgroundWorker::attach_signal_handlers(SignalWakeFlags::SIGHUP | SignalWakeFlags::SIGTERM);
    BackgroundWorker::connect_worker_to_spi(None, None);
    settle_session();
    let mut keeper = Keeper::new();
    loop {
        keeper.wake();
        keeper.sleep();
    }
}

struct Keeper {
    node: Node,
    observer: Observer,
    connection: Connection,
    resolver: Resolver,
    target: Option<Target>,
    command: Option<(Command, Running)>,
    events: VecDeque<Event>,
    wait: Wait,
}

impl Keeper {
    fn new() -> Self {
        let mut keeper = Keeper {
            node: Node::new(Start {
                instance: shared::instance(),
                parameters: observe::parameters(),
                evidence: shared::evidence(),
                gate: gate::gate(),
                fence: fence::read(),
                promised: gate::promised(),
                promotion_asked: shared::story().is_some(),
            }),
            observer: Observer::default(),
            connection: Connection::new(),
            resolver: Resolver::default(),
            target: None,
            command: None,
            events: VecDeque::new(),
            wait: Wait::new(),
        };
        gate::enter_keeper();
        // The postmaster's list of bad values is as old as the server.
        guc::recheck();
        keeper.read_settings();
        keeper
    }

    /// Everything that one wake brings, in this order: what lies in the socket, what became of a command, new settings, and last the look
    /// at the server, by which time silence is judged.
    fn wake(&mut self) {
        if BackgroundWorker::sighup_received() {
            // SAFETY: called between two steps, with no lock held and no pointer into settings kept.
            unsafe { pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP) };
            guc::recheck();
            self.read_settings();
        }
        self.events.extend(gate::take_requests());
        self.advance();
        self.poll_command();
        self.drain();
        let observation = self.observer.look();
        self.events.push_back(Event::Observed(observation));
        self.drain();
        self.publish();
    }

    fn advance(&mut self) {
        let Some(target) = &self.target else { return };
        while let Some(event) = self.connection.advance(target, &mut self.resolver, now()) {
            self.events.push_back(event);
        }
    }

    fn poll_command(&mut self) {
        let Some((command, running)) = &mut self.command else { return };
        if let Some(outcome) = running.poll(now()) {
            self.events.push_back(Event::CommandEnded(*command, outcome));
            self.command = None;
        }
    }

    fn drain(&mut self) {
        while let Some(event) = self.events.pop_front() {
            let actions = self.node.step(now(), event);
            // A promise that has ended is told before what it would forbid is done.
            gate::speak(self.node.promised(), self.node.offered());
            for action in actions {
                if let Some(failure) = self.run(action) {
                    self.events.push_back(failure);
                    break;
                }
            }
        }
    }

    /// Carries out one action. What comes back is its failure, which ends the list that it stood in.
    fn run(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::SendKeepalive => {
                let Some(target) = &self.target else {
                    let why = "pg_keeper.partner_conninfo leads nowhere".to_owned();
                    return Some(Event::KeepaliveEnded(Reply::NotSent(why)));
                };
                // Half of an attempt's time for a name, so that a slow name server shows as one and not as a silent partner.
                let patience = guc::keepalives().0 / 4;
                self.connection.ask(target, &mut self.resolver, now(), patience);
            }
            Action::CloseConnection => self.connection.close(),
            Action::SetSynchronousStandbyNames(names) => {
                return names::set(names).err().map(Event::SynchronousNamesNotSet);
            }
            Action::SetGate(gate) => gate::set(gate),
            Action::KeepFence(fence) => {
                return fence::keep(&fence).err().map(|error| Event::FenceNotKept(error.to_string()));
            }
            Action::SetFenceAside => run_set_fence_aside(),
            Action::EndClients => {
                // Those who ask why are told the reason of now.
                self.publish();
                fence::end_clients();
            }
            Action::RunCommand(command) => return self.run_command(command),
            Action::TellRecorder(story) => {
                shared::tell_story(SharedStory::new(&story, guc::after_command().is_some()));
            }
            Action::TakeBackStory => shared::take_back_story(),
            Action::Promote => return run_promote().err().map(Event::PromotionRefused),
            Action::TellCommandOutcome(outcome) => shared::tell_outcome(&outcome),
            Action::Log(notice) => log::write(&notice),
        }
        None
    }

    fn run_command(&mut self, command: Command) -> Option<Event> {
        let text = match command {
            Command::Before => guc::before_command(),
            Command::After => guc::after_command(),
        };
        let status = self.node.status();
        let environment = [
            ("PG_KEEPER_NODE_NAME", guc::node_name()),
            ("PG_KEEPER_PARTNER_NAME", status.partner),
            ("PG_KEEPER_TIMELINE", status.timeline.to_string()),
            ("PG_KEEPER_LSN", status.lsn.to_string()),
            ("PG_KEEPER_PARTNER_TIMELINE", status.partner_timeline.to_string()),
            ("PG_KEEPER_PARTNER_LSN", status.partner_lsn.to_string()),
            ("PG_KEEPER_LAST_ERROR", status.last_error),
        ];
        let started = text.ok_or_else(|| "it is not set any more".to_owned()).and_then(|text| {
            Running::start(&text.to_string_lossy(), &environment, guc::command_timeout(), now())
                .map_err(|error| error.to_string())
        });
        match started {
            Ok(running) => {
                self.command = Some((command, running));
                None
            }
            Err(error) => Some(Event::CommandEnded(command, CommandOutcome::NotStarted(error))),
        }
    }

    fn read_settings(&mut self) {
        let settings = guc::settings();
        let target = guc::partner_conninfo().map(|conninfo| Target::parse(&conninfo));
        let settings = match &target {
            // A service file can change without the setting: what counts is where it leads.
            Some(Ok(target)) => {
                settings.map(|settings| Settings { partner_generation: target.fingerprint(), ..settings })
            }
            Some(Err(error)) => {
                settings.and(Err(Inert::BadSettings(vec![format!("pg_keeper.partner_conninfo: {error}")])))
            }
            None => settings,
        };
        self.target = target.and_then(Result::ok);
        // A server that has been away waits for a whole window; what waits for it waits a little longer.
        let (time, count) = guc::keepalives();
        gate::set_patience(time.saturating_mul(count.saturating_add(1)) + SETTLING);
        self.events.push_back(Event::SettingsRead(settings));
    }

    fn publish(&self) {
        let report = self.node.report(&guc::node_name());
        let closed = self.node.closed_reason();
        let published = Published::new(&self.node.status(), closed.as_deref(), &report);
        shared::publish(&published, self.node.evidence().as_ref());
    }

    /// The one wait.
    fn sleep(&mut self) {
        let timeout = self.timeout(now());
        let postmaster_gone = self.wait.wait(self.connection.interest(), timeout);
        pgrx::check_for_interrupts!();
        if BackgroundWorker::sigterm_received() || postmaster_gone {
            // What still runs on an administrator's behalf ends with the keeper: proc_exit runs no destructors.
            self.command = None;
            self.connection.close();
            // Code 0 would end the keeper for good.
            // SAFETY: ends the process by the server's own way out; no Rust value needs its destructor before that.
            unsafe { pg_sys::proc_exit(1) }
        }
    }

    /// Milliseconds to sleep, rounded up: waking a little late is harmless, spinning before a deadline is not.
    fn timeout(&self, now: Moment) -> i64 {
        let mut span =
            self.node.next_deadline(now).map_or(LONGEST_SLEEP, |deadline| deadline.since(now)).min(LONGEST_SLEEP);
        if self.command.is_some() || self.connection.needs_polling() {
            span = span.min(CHILD_POLL);
        }
        i64::try_from(span.as_micros().div_ceil(1000)).unwrap_or(1000)
    }
}

/// Asks the server to promote. An ERROR (the signal file cannot be written) becomes an event: a keeper that died of it would have
/// forgotten the primary it heard, and never promote.
fn run_promote() -> Result<(), String> {
    PgTryBuilder::new(|| {
        // SAFETY: pg_promote(wait => false, wait_seconds => 1) takes these two arguments, touches no table and needs no transaction.
        let promoted: Option<bool> =
            unsafe { direct_function_call(pg_sys::pg_promote, &[false.into_datum(), 1_i32.into_datum()]) };
        match promoted {
            Some(true) => Ok(()),
            Some(false) | None => Err("the postmaster could not be signalled".to_owned()),
        }
    })
    .catch_others(|caught| Err(describe(caught)))
    .execute()
}

fn run_set_fence_aside() {
    let (level, message) = match fence::set_aside() {
        Ok(path) => (Level::Log, format!("the file {FENCE_FILE} is now {}", path.display())),
        Err(error) => (Level::Warning, format!("the file {FENCE_FILE} could not be given another name: {error}")),
    };
    log::write(&Notice { level, message, detail: String::new(), hint: String::new() });
}

pub(crate) fn describe(caught: pg_sys::panic::CaughtError) -> String {
    use pg_sys::panic::CaughtError;
    match caught {
        CaughtError::PostgresError(report) | CaughtError::ErrorReport(report) => report.message().to_owned(),
        CaughtError::RustPanic { ereport, .. } => ereport.message().to_owned(),
    }
}

/// What this session has whatever is set for others.
///
/// Texts of libpq and of the C library are told apart by their words, so this process has them in English. What the log says of the keeper's
/// own is English in any case. And it waits for no lock that a client may hold: a keeper that waits is none.
fn settle_session() {
    let settings: [(&CStr, &CStr); 2] = [(c"lc_messages", c"C"), (c"lock_timeout", c"200ms")];
    for (name, value) in settings {
        // SAFETY: both are terminated texts; an own session's value outlasts reloads.
        unsafe {
            pg_sys::SetConfigOption(
                name.as_ptr(),
                value.as_ptr(),
                pg_sys::GucContext::PGC_SUSET,
                pg_sys::GucSource::PGC_S_SESSION,
            );
        }
    }
}

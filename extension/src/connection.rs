//! The conversation with the partner: a walsender connection that is kept open, and the questions of a keepalive on it.
//!
//! Nothing here waits. The worker waits for [`Connection::interest`] in its one place and then calls [`Connection::advance`] until
//! it has no more to say. What happened comes out as events; that nothing happens in time is the node's to notice.

mod session;
mod target;

pub(crate) use target::Target;

use crate::resolve::Resolver;
use crate::wait::Interest;
use keeper_core::{Answer, Event, Farewell, History, Identity, Moment, Reply, Report, SqlState, Stage};
use pgrx::pg_sys;
use session::{Direction, Outcome, Progress, Session};
use std::borrow::Cow;
use std::ffi::CString;
use std::time::Duration;
use target::{Place, Places};

/// One conversation with the partner. Dropping it closes it.
pub(crate) struct Connection {
    phase: Phase,
    session: Option<Session>,
    /// How many there have been.
    sessions: u64,
    /// Whether a keepalive on this session has come to its end before: from then on its loss is told as [`Event::ConnectionLost`], for a
    /// connection that stood idle says nothing about the server of now.
    kept: bool,
    /// The partner's report says on this session what the system's question asks for, so the report is asked for alone.
    report_identifies: bool,
    /// The history that this session has fetched.
    history: Option<History>,
    /// An end that is known without any exchange.
    ended: Option<Event>,
    /// The places that the session tries in turn.
    places: Vec<Place>,
    /// Where to begin next time: where the last connection stood, or behind a place that kept silent. libpq goes on by itself after a
    /// refusal, but a silent place uses up the whole attempt, and the same one must not use up the next one too.
    first: Option<Place>,
}

/// What is being done.
enum Phase {
    Closed,
    /// No address is known yet; given up at the given time.
    Resolving(Moment),
    Connecting(Direction),
    Asking(Box<Exchange>),
    /// Open, nothing outstanding.
    Idle,
}

/// A keepalive on its way.
struct Exchange {
    question: Question,
    /// Whether the question is not wholly sent yet.
    unsent: bool,
    /// What has come back for the question so far.
    received: Option<Outcome>,
}

/// The questions, in their order, each with what was learnt before it.
enum Question {
    System,
    Report(Option<Identity>),
    History(Identity, Report),
}

/// What follows from an answer to a question.
enum Next {
    Ask(Question),
    End(Reply),
}

impl Connection {
    pub(crate) fn new() -> Self {
        Connection {
            phase: Phase::Closed,
            session: None,
            sessions: 0,
            kept: false,
            report_identifies: false,
            history: None,
            ended: None,
            places: Vec::new(),
            first: None,
        }
    }

    /// Begins a keepalive: on the open connection if it is idle, else over a new one. What comes of it is told by
    /// [`Connection::advance`], which must be called next.
    ///
    /// When no address of the partner is known yet, the resolver has `patience` to find one. It must be well below the time the attempt has, so that
    /// a slow name server shows as such and not as a silent partner.
    pub(crate) fn ask(&mut self, target: &Target, resolver: &mut Resolver, now: Moment, patience: Duration) {
        if matches!(self.phase, Phase::Idle) && self.session.is_some() {
            self.put(if self.report_identifies { Question::Report(None) } else { Question::System });
            return;
        }
        self.close();
        self.phase = Phase::Resolving(now + patience);
        self.try_to_connect(target, resolver, now);
    }

    /// Closes the connection at once and forgets what is outstanding.
    pub(crate) fn close(&mut self) {
        if matches!(self.phase, Phase::Connecting(_)) {
            self.first = self.current().and_then(|index| self.places.get((index + 1) % self.places.len())).cloned();
        }
        self.hang_up();
        self.ended = None;
    }

    /// The socket to wait for, and for what. To be asked anew before every wait.
    pub(crate) fn interest(&self) -> Option<Interest> {
        let events = match &self.phase {
            Phase::Closed | Phase::Resolving(_) => return None,
            Phase::Connecting(Direction::Read) | Phase::Idle => pg_sys::WL_SOCKET_READABLE,
            Phase::Connecting(Direction::Write) => pg_sys::WL_SOCKET_WRITEABLE,
            Phase::Asking(exchange) if exchange.unsent => pg_sys::WL_SOCKET_READABLE | pg_sys::WL_SOCKET_WRITEABLE,
            Phase::Asking(_) => pg_sys::WL_SOCKET_READABLE,
        };
        // While it connects, libpq goes from socket to socket.
        let session = (!matches!(self.phase, Phase::Connecting(_))).then_some(self.sessions);
        Some(Interest { socket: self.session.as_ref()?.socket()?, events, session })
    }

    /// Whether [`Connection::advance`] must be called every few milliseconds, as there is no socket that would wake the worker.
    pub(crate) fn needs_polling(&self) -> bool {
        matches!(self.phase, Phase::Resolving(_)) || self.ended.is_some()
    }

    /// Does what can be done without waiting, and tells at most one thing that happened; to be called again until there is none.
    pub(crate) fn advance(&mut self, target: &Target, resolver: &mut Resolver, now: Moment) -> Option<Event> {
        resolver.poll(now);
        if matches!(self.phase, Phase::Resolving(_)) {
            self.try_to_connect(target, resolver, now);
        }
        if self.ended.is_none() && matches!(self.phase, Phase::Connecting(_)) {
            self.go_on_connecting();
        }
        if self.ended.is_none() {
            match &self.phase {
                Phase::Asking(_) => self.go_on_asking(),
                Phase::Idle => self.look_whether_it_stands(),
                Phase::Closed | Phase::Resolving(_) | Phase::Connecting(_) => {}
            }
        }
        self.ended.take()
    }

    fn try_to_connect(&mut self, target: &Target, resolver: &mut Resolver, now: Moment) {
        let Phase::Resolving(until) = self.phase else { return };
        let mut places = match target.places(resolver, now) {
            Places::Known(places) => places,
            Places::Pending if now < until => return,
            Places::Pending => {
                return self.end(Reply::NameNotResolved("the system's resolver has not answered yet".into()));
            }
            Places::Unknown(reason) => return self.end(Reply::NameNotResolved(reason)),
        };
        let first = self.first.as_ref().and_then(|first| places.iter().position(|place| place == first));
        places.rotate_left(first.unwrap_or(0));
        match target.conninfo(&places).and_then(|conninfo| Session::start(&conninfo)) {
            Ok(session) => {
                self.places = places;
                self.session = Some(session);
                self.sessions += 1;
                self.phase = Phase::Connecting(Direction::Write);
            }
            Err(message) => self.end(Reply::Transport { stage: Stage::Connecting, message }),
        }
    }

    fn go_on_connecting(&mut self) {
        while let (Phase::Connecting(direction), Some(session)) = (&self.phase, &mut self.session) {
            if !session.is_ready(*direction) {
                return;
            }
            let stage = session.stage();
            match session.connect() {
                Progress::Waiting(direction) => self.phase = Phase::Connecting(direction),
                Progress::Open => {
                    self.first = self.current().and_then(|index| self.places.get(index)).cloned();
                    self.put(Question::System);
                }
                Progress::Failed => {
                    let message = session.error_message();
                    let reply = match keeper_core::sqlstate_in(&message) {
                        Some((code, text)) => {
                            Reply::ServerError { sqlstate: SqlState(code), message: text.to_string() }
                        }
                        None => Reply::Transport { stage, message: self.explain(&keeper_core::one_line(&message)) },
                    };
                    self.hang_up();
                    self.end(reply);
                }
            }
        }
    }

    /// libpq's message with the place it is about: being made non-blocking, a connection forgets the first one.
    fn explain(&self, message: &str) -> String {
        match self.places.first() {
            Some(place) if !message.starts_with("connection to server") => {
                let Place { host, hostaddr, port } = place;
                let at =
                    if hostaddr == host || hostaddr.is_empty() { host.clone() } else { format!("{host} ({hostaddr})") };
                format!("connection to server at {at}, port {port} failed: {message}")
            }
            Some(_) | None => message.to_string(),
        }
    }

    /// The place in [`Connection::places`] that the session tries or has reached.
    fn current(&self) -> Option<usize> {
        let (host, hostaddr, port) = self.session.as_ref()?.place();
        self.places.iter().position(|place| {
            let here = if hostaddr.is_empty() { place.host == host } else { place.hostaddr == hostaddr };
            here && (place.port == port || place.port.is_empty())
        })
    }

    /// Sends a question on the open session.
    fn put(&mut self, question: Question) {
        let Some(session) = &mut self.session else { return };
        let text = match &question {
            Question::System => Cow::Borrowed(c"IDENTIFY_SYSTEM"),
            Question::Report(_) => Cow::Borrowed(c"SHOW pg_keeper.report"),
            Question::History(identity, _) => {
                Cow::Owned(CString::new(format!("TIMELINE_HISTORY {}", identity.timeline)).unwrap_or_default())
            }
        };
        if !session.send(&text) {
            // Words of the server may lie unread in the socket.
            session.receive();
            return self.lose(None);
        }
        let unsent = session.flush();
        self.phase = Phase::Asking(Box::new(Exchange { question, unsent, received: None }));
    }

    fn go_on_asking(&mut self) {
        let mut stands = true;
        while let (Phase::Asking(exchange), Some(session)) = (&mut self.phase, &mut self.session) {
            exchange.unsent = session.flush();
            stands = session.receive() && stands;
            match session.next_result() {
                None if stands => return,
                None => return self.lose(None),
                Some(Some(error @ Outcome::Error { fatal: true, .. })) => return self.lose(Some(error)),
                Some(Some(Outcome::Broken(message))) => return self.lose(Some(Outcome::Broken(message))),
                // The first result counts; a server sends no second one.
                Some(Some(outcome)) => exchange.received = exchange.received.take().or(Some(outcome)),
                Some(None) => self.take_answer(),
            }
        }
    }

    /// The question has been answered wholly.
    fn take_answer(&mut self) {
        let Phase::Asking(exchange) = std::mem::replace(&mut self.phase, Phase::Idle) else {
            return;
        };
        let exchange = *exchange;
        let next = match exchange.received {
            None => return self.lose(None),
            Some(Outcome::Row(row)) => self.digest(exchange.question, &row),
            Some(Outcome::Error { sqlstate, message, .. }) => Next::End(Reply::ServerError { sqlstate, message }),
            Some(broken @ Outcome::Broken(_)) => return self.lose(Some(broken)),
            Some(Outcome::Unexpected) => Next::End(Reply::Unreadable("it does not answer with a row".into())),
        };
        match next {
            Next::Ask(question) => self.put(question),
            Next::End(reply) => {
                self.kept = true;
                self.ended = Some(Event::KeepaliveEnded(reply));
            }
        }
    }

    fn digest(&mut self, question: Question, row: &[String]) -> Next {
        let (identity, report) = match question {
            Question::System => {
                return match Identity::parse(row) {
                    Some(identity) => Next::Ask(Question::Report(Some(identity))),
                    None => Next::End(Reply::Unreadable("its answer to IDENTIFY_SYSTEM is not understood".into())),
                };
            }
            Question::Report(asked) => {
                let text = row.first().map_or("", String::as_str);
                let reported = Identity::in_report(text);
                self.report_identifies = reported.is_some();
                match (reported.or(asked), Report::parse(text)) {
                    (Some(identity), Ok(report)) => (identity, report),
                    (_, Err(error)) => return Next::End(Reply::Unreadable(error.to_string())),
                    (None, Ok(_)) => return Next::Ask(Question::System),
                }
            }
            Question::History(identity, report) => {
                match History::parse(identity.timeline, row.get(1).map_or("", String::as_str)) {
                    Ok(history) => self.history = Some(history),
                    Err(error) => return Next::End(Reply::Unreadable(error.to_string())),
                }
                (identity, report)
            }
        };
        let Identity { system_identifier, timeline, lsn } = identity;
        let history = match &self.history {
            Some(history) if history.timeline() == timeline => history.clone(),
            // The first timeline has no history file.
            _ if timeline.0 <= 1 => History::of_first(timeline),
            _ => return Next::Ask(Question::History(identity, report)),
        };
        Next::End(Reply::Complete(Answer { system_identifier, timeline, lsn, history, report }))
    }

    fn look_whether_it_stands(&mut self) {
        if self.session.as_mut().is_some_and(|session| !session.receive()) {
            self.lose(None);
        }
    }

    /// The session is at its end, with these last words if any were an answer to the question.
    fn lose(&mut self, last: Option<Outcome>) {
        let Some(session) = &self.session else { return };
        let mut farewell = session.farewell();
        let mut message = keeper_core::one_line(&session.error_message());
        let last = match (last, std::mem::replace(&mut self.phase, Phase::Closed)) {
            (None, Phase::Asking(exchange)) => exchange.received,
            (last, _) => last,
        };
        let mut refusal = None;
        match last {
            Some(Outcome::Error { sqlstate, message, routine, .. }) => {
                farewell = Some(Farewell { sqlstate, routine });
                refusal = Some(Reply::ServerError { sqlstate, message });
            }
            Some(Outcome::Broken(text)) if !text.is_empty() => message = text,
            Some(Outcome::Broken(_) | Outcome::Row(_) | Outcome::Unexpected) | None => {}
        }
        let kept = self.kept;
        self.hang_up();
        if kept {
            self.ended = Some(Event::ConnectionLost { farewell });
        } else {
            self.end(refusal.unwrap_or(Reply::Transport { stage: Stage::Asking, message }));
        }
    }

    fn hang_up(&mut self) {
        self.phase = Phase::Closed;
        self.session = None;
        self.kept = false;
        self.report_identifies = false;
        self.history = None;
    }

    fn end(&mut self, reply: Reply) {
        self.phase = Phase::Closed;
        self.ended = Some(Event::KeepaliveEnded(reply));
    }
}

//! One node of the pair: everything it decides.
//!
//! [`Node::step`] is the only way in. A step takes in one fact, and then lets four questions be answered in a fixed order: is a keepalive
//! due, is the partner lost, may this server promote itself, and what does an administrator need to be told.

use crate::answer::{Farewell, Miss, Reply, Verdict};
use crate::arming::NotArmed;
use crate::event::{Action, Command, CommandOutcome, Event, Level, Notice, Observation, Parameters, earliest};
use crate::fence::Kept;
use crate::gate::{Gate, Gatekeeper};
use crate::history::Relation;
use crate::ident::Lsn;
use crate::promotion::{PROMOTION_PATIENCE, Promotion, RECORD_PATIENCE, Story};
use crate::report::{Answer, Role, Synchronous};
use crate::schedule::{Due, Schedule};
use crate::settings::{Inert, OnStandbyLoss, Settings};
use crate::status::PartnerState;
use crate::synchronous::SynchronousKeeper;
use crate::telling::{Told, log};
use crate::time::Moment;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// A node's memory. It is lost when the worker ends, and rebuilt from the server and the partner's next answer; what was heard before may
/// be handed in again as [`Evidence`], so that a worker that is restarted while the primary is dead still promotes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Node {
    /// The time of the last step.
    pub(crate) now: Moment,
    pub(crate) instance: u64,
    pub(crate) parameters: Parameters,
    pub(crate) settings: Result<Settings, Inert>,
    pub(crate) schedule: Option<Schedule>,
    pub(crate) seen: Option<Seen>,
    pub(crate) partner: Partner,
    pub(crate) promotion: Promotion,
    pub(crate) gatekeeper: Gatekeeper,
    pub(crate) synchronous: SynchronousKeeper,
    pub(crate) told: Told,
    evidence: Option<Evidence>,
}

/// What a worker that starts is handed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Start {
    /// A random number, new at each start of the server.
    pub instance: u64,
    /// The server's settings that a standby must not undercut.
    pub parameters: Parameters,
    /// What [`Node::evidence`] said to an earlier worker of the same start of the server.
    pub evidence: Option<Evidence>,
    /// What the hooks obey now: [`Gate::Closed`] since the server's start, or what an earlier worker said.
    pub gate: Gate,
    /// The fence on disk.
    pub fence: Kept,
    /// What [`Node::promised`] said to an earlier worker of the same start of the server.
    pub promised: Moment,
    /// An earlier worker has asked the server to promote, and nothing has come of it yet.
    pub promotion_asked: bool,
}

/// What was heard of the primary that this standby follows. It holds for as long as the server runs and the setting that named the partner
/// stays.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Evidence {
    /// [`Settings::partner_generation`] at that time.
    pub partner_generation: u32,
    /// The primary's last answer.
    pub answer: Answer,
    /// When it last answered.
    pub last_answer: Option<Moment>,
}

/// The last look at our own server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Seen {
    pub(crate) at: Moment,
    pub(crate) observation: Observation,
}

/// What is known of the partner.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Partner {
    pub(crate) state: PartnerState,
    pub(crate) answer: Option<Answer>,
    pub(crate) last_answer: Option<Moment>,
    /// It answered as a primary that we follow, while we were streaming. From then on its silence means something.
    pub(crate) heard_as_primary: bool,
    /// Why the last attempt went wrong, empty since an answer.
    pub(crate) last_error: String,
    pub(crate) refused_with: String,
    /// What to do about a partner that does not tell.
    pub(crate) hint: String,
}

impl Default for Partner {
    fn default() -> Self {
        Partner {
            state: PartnerState::Unknown,
            answer: None,
            last_answer: None,
            heard_as_primary: false,
            last_error: String::new(),
            refused_with: String::new(),
            hint: String::new(),
        }
    }
}

impl Node {
    /// A node whose worker has just started.
    pub fn new(start: Start) -> Self {
        let Start { instance, parameters, evidence, gate, fence, promised, promotion_asked } = start;
        Node {
            now: Moment::default(),
            instance,
            parameters,
            settings: Err(Inert::NoPartner),
            schedule: None,
            seen: None,
            partner: Partner::default(),
            promotion: Promotion::None,
            gatekeeper: Gatekeeper::new(gate, fence, promised, promotion_asked),
            synchronous: SynchronousKeeper::default(),
            told: Told::default(),
            evidence,
        }
    }

    /// What the next worker needs to know if this one ends; `None` while there is no primary that this standby follows.
    pub fn evidence(&self) -> Option<Evidence> {
        let settings = self.settings.as_ref().ok()?;
        let answer = self.partner.answer.clone().filter(|_| self.partner.heard_as_primary)?;
        Some(Evidence {
            partner_generation: settings.partner_generation,
            answer,
            last_answer: self.partner.last_answer,
        })
    }

    /// Takes in what happened and says what must be done, in this order; the first action that fails ends the list, and its failure is
    /// the next event.
    pub fn step(&mut self, now: Moment, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        self.now = now;
        if let (Some(schedule), Ok(settings)) = (&mut self.schedule, &self.settings)
            && schedule.woke(now, settings)
            && self.gatekeeper.stood_still(now)
        {
            schedule.begin_anew(now, settings);
        }
        match event {
            Event::SettingsRead(settings) => self.take_settings(now, settings, &mut actions),
            Event::Observed(observation) => self.look(now, observation, &mut actions),
            Event::KeepaliveEnded(reply) => self.take_reply(now, reply, &mut actions),
            Event::ConnectionLost { farewell } => self.lose_connection(farewell, &mut actions),
            Event::CommandEnded(command, outcome) => self.end_command(now, command, outcome, &mut actions),
            Event::PromotionRefused(error) => {
                actions.push(Action::TakeBackStory);
                self.put_off(now, format!("the server refused to promote: {error}"), &mut actions);
            }
            Event::CommitWaits => self.hasten(now),
            Event::AskedByPartner => {
                self.gatekeeper.asked(now);
                // In the calm our own question comes soon enough.
                if self.partner.state != PartnerState::Alive || matches!(self.gate(), Gate::Closed) {
                    self.hasten(now);
                }
            }
            Event::LiftRequested => self.lift(now, &mut actions),
            Event::FenceNotKept(error) => self.keep_fence_again(now, &error, &mut actions),
            Event::SynchronousNamesNotSet(error) => self.synchronous.not_set(error, &mut actions),
        }
        self.promise(now);
        self.tell_changes(&mut actions);
        // Upkeep that can fail comes last: a failure ends the list, and nothing else is to wait for a disk that is full.
        actions.sort_by_key(|action| matches!(action, Action::KeepFence(_) | Action::SetSynchronousStandbyNames(_)));
        let until = self.next_deadline(now);
        if let Some(schedule) = &mut self.schedule {
            schedule.sleeps(until);
        }
        actions
    }

    /// The instant by which the worker must look again; `None` when only an event can change anything.
    pub fn next_deadline(&self, now: Moment) -> Option<Moment> {
        let keepalive = match (&self.schedule, &self.settings) {
            (Some(schedule), Ok(settings)) => Some(schedule.next_deadline(settings)),
            _ => None,
        };
        // A promotion that only its promise holds back.
        let promised = Some(self.promised()).filter(|promised| {
            *promised > now && self.partner_state() == PartnerState::Lost && self.not_armed().is_none()
        });
        earliest([
            keepalive,
            self.promotion.next_deadline(now),
            promised,
            self.gate_deadline(now),
            self.synchronous_deadline(now),
        ])
    }

    pub(crate) fn hasten(&mut self, now: Moment) {
        if let (Some(schedule), Ok(settings)) = (&mut self.schedule, &self.settings) {
            schedule.hasten(now, settings);
        }
    }

    /// Why this server would not promote itself if the partner were lost now; `None` when it would.
    pub fn not_armed(&self) -> Option<NotArmed> {
        let settings = match &self.settings {
            Ok(settings) => settings,
            Err(inert) => return Some(NotArmed::Inert(inert.clone())),
        };
        let Some(Seen { observation, .. }) = &self.seen else {
            return Some(NotArmed::NotHeard(String::new()));
        };
        if !observation.in_recovery {
            return Some(NotArmed::Primary);
        }
        if !settings.enabled {
            return Some(NotArmed::DisabledHere);
        }
        if !observation.standby_signal {
            return Some(NotArmed::NoStandbySignal);
        }
        let Some(answer) = &self.partner.answer else {
            return Some(NotArmed::NotHeard(self.partner.last_error.clone()));
        };
        if let Some(finding) = self.against_following(observation, answer) {
            return Some(finding);
        }
        if !answer.report.enabled {
            return Some(NotArmed::DisabledThere);
        }
        if !self.partner.heard_as_primary {
            return Some(NotArmed::NotStreaming);
        }
        if let Some((name, ours, theirs)) = self.parameters.first_smaller(&answer.report.parameters) {
            return Some(NotArmed::ParameterTooSmall { name, ours, theirs });
        }
        if let Some(finding) = self.against_counting(settings) {
            return Some(finding);
        }
        let lag = answer.lsn.bytes_since(observation.end_of_wal());
        if lag > settings.max_lag {
            return Some(NotArmed::TooFarBehind { lag, max_lag: settings.max_lag, primary: answer.lsn });
        }
        None
    }

    /// What the primary's word on synchronous replication forbids.
    fn against_counting(&self, settings: &Settings) -> Option<NotArmed> {
        match self.synchronous.told() {
            Some(Synchronous::Counts { .. }) => self.may_be_dropped().then_some(NotArmed::MayBeDropped),
            Some(Synchronous::Dropped { .. } | Synchronous::Unmanaged) | None => {
                let strict = settings.synchronous && settings.on_standby_loss == OnStandbyLoss::Wait;
                strict.then_some(NotArmed::NotSynchronous)
            }
        }
    }

    /// Why the answer is not from the partner at all.
    pub(crate) fn stranger(&self, observation: &Observation, answer: &Answer) -> Option<NotArmed> {
        if answer.report.instance == self.instance {
            return Some(NotArmed::PartnerIsOurself);
        }
        (answer.system_identifier != observation.system_identifier)
            .then_some(NotArmed::OtherSystem { ours: observation.system_identifier, theirs: answer.system_identifier })
    }

    /// What speaks against this answer coming from the primary that this standby follows.
    fn against_following(&self, observation: &Observation, answer: &Answer) -> Option<NotArmed> {
        if let Some(stranger) = self.stranger(observation, answer) {
            return Some(stranger);
        }
        if answer.report.role != Role::Primary {
            return Some(NotArmed::PartnerNotPrimary);
        }
        let Some(history) = &observation.history else {
            return Some(NotArmed::HistoryUnknown);
        };
        match answer.relation_to(history, observation.end_of_wal()) {
            // A descendant is a timeline that the standby has yet to follow: streaming brings it there.
            Relation::Same | Relation::Ancestor | Relation::Descendant => None,
            Relation::Forked { .. } => Some(NotArmed::NotOnItsHistory),
        }
    }

    fn take_settings(&mut self, now: Moment, settings: Result<Settings, Inert>, actions: &mut Vec<Action>) {
        let generation =
            |settings: &Result<Settings, Inert>| settings.as_ref().ok().map(|settings| settings.partner_generation);
        if generation(&self.settings) != generation(&settings) {
            // Another partner: what was heard so far was not from it.
            actions.push(Action::CloseConnection);
            self.partner = Partner::default();
            self.gatekeeper.forget_partner();
            self.synchronous.forget_partner();
            if let Some(evidence) =
                self.evidence.take_if(|evidence| Some(evidence.partner_generation) == generation(&settings))
            {
                self.synchronous.remember(&evidence.answer);
                self.partner.answer = Some(evidence.answer);
                self.partner.last_answer = evidence.last_answer;
                self.partner.heard_as_primary = true;
            }
            self.schedule = settings.as_ref().ok().map(|settings| Schedule::starting(now, settings));
        } else if let (Some(schedule), Ok(new), Ok(old)) = (&mut self.schedule, &settings, &self.settings)
            && new.keepalive_time != old.keepalive_time
        {
            schedule.rebase(now, new);
        }
        self.gatekeeper.settings_changed();
        self.settings = settings;
    }

    fn look(&mut self, now: Moment, observation: Observation, actions: &mut Vec<Action>) {
        let before = self.seen.replace(Seen { at: now, observation: observation.clone() });
        if let Some(schedule) = &mut self.schedule {
            schedule.streaming(observation.in_recovery && observation.streaming);
            schedule.be_eager(!observation.in_recovery);
        }
        let streamed = before.filter(|before| {
            observation.in_recovery && observation.streaming && observation.received > before.observation.received
        });
        if let (Some(before), true, Some(schedule), Ok(settings)) =
            (streamed, self.partner.heard_as_primary, &mut self.schedule, &self.settings)
        {
            // It came in at some time since the last look; that look is the time that can be vouched for.
            schedule.heard(before.at, settings);
            self.partner.last_answer = self.partner.last_answer.max(Some(before.at));
            if self.partner.state == PartnerState::Missed {
                self.partner.state = PartnerState::Alive;
            }
        }
        self.keep_alive(now, actions);
        self.go_on_promoting(now, &observation, actions);
        self.tend_gate(now, &observation, actions);
        self.tend_synchronous(now, &observation, actions);
        self.consider_promotion(now, &observation, actions);
    }

    pub(crate) fn keep_alive(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let (Some(schedule), Ok(settings)) = (&mut self.schedule, &self.settings) else {
            return;
        };
        loop {
            match schedule.due(now, settings) {
                Due::Nothing => return,
                Due::Send { fresh } => {
                    if fresh {
                        actions.push(Action::CloseConnection);
                    }
                    actions.push(Action::SendKeepalive);
                }
                Due::Silence => {
                    actions.push(Action::CloseConnection);
                    if let Some(sent) = schedule.failed(now, settings, Miss::Silence) {
                        self.gatekeeper.missed(sent);
                    }
                    self.partner.last_error = format!("no answer within {:?}", settings.limit());
                    self.partner.refused_with.clear();
                    if self.partner.state != PartnerState::Unknown {
                        self.partner.state = PartnerState::Missed;
                    }
                }
                Due::Stale => actions.push(Action::CloseConnection),
            }
        }
    }

    fn take_reply(&mut self, now: Moment, reply: Reply, actions: &mut Vec<Action>) {
        let (Some(schedule), Ok(settings)) = (&mut self.schedule, &self.settings) else {
            return;
        };
        let text = reply.text().to_string();
        let sqlstate = reply.sqlstate().map(|sqlstate| sqlstate.to_string()).unwrap_or_default();
        let verdict = reply.verdict();
        match verdict {
            Verdict::Answered => {
                let sent = schedule.answered(now, settings);
                self.gatekeeper.answered(sent);
                self.partner.last_answer = Some(now);
                self.partner.state = PartnerState::Alive;
                self.partner.last_error.clear();
                self.partner.refused_with.clear();
                if let Reply::Complete(answer) = reply {
                    self.synchronous.heard(now, sent, &answer);
                    self.take_answer(answer);
                }
            }
            Verdict::Unhelpful(why) => {
                schedule.answered(now, settings);
                self.gatekeeper.unanswered();
                self.partner.last_answer = Some(now);
                self.partner.state = PartnerState::Unhelpful;
                self.partner.last_error = text;
                self.partner.refused_with = sqlstate;
                self.partner.hint = why.to_string();
            }
            Verdict::Missed(miss) => {
                if let Some(sent) = schedule.failed(now, settings, miss) {
                    self.gatekeeper.missed(sent);
                }
                if self.partner.state != PartnerState::Unknown {
                    self.partner.state = PartnerState::Missed;
                }
                self.partner.last_error = if text.is_empty() { miss.to_string() } else { text };
                self.partner.refused_with.clear();
                actions.push(Action::CloseConnection);
            }
            Verdict::NotAsked(fault) => {
                schedule.not_asked(now, settings);
                self.gatekeeper.unanswered();
                self.partner.state = PartnerState::NotAsked;
                self.partner.last_error = text;
                self.partner.refused_with.clear();
                self.partner.hint = fault.to_string();
                actions.push(Action::CloseConnection);
            }
        }
    }

    fn take_answer(&mut self, answer: Answer) {
        let follows = self.seen.as_ref().is_some_and(|seen| {
            seen.observation.in_recovery && self.against_following(&seen.observation, &answer).is_none()
        });
        let streams = self.seen.as_ref().is_some_and(|seen| seen.observation.streaming);
        // Once heard it stays so while the answers agree: the WAL receiver of a standby whose primary dies is gone before the primary is
        // lost.
        self.partner.heard_as_primary = follows && (streams || self.partner.heard_as_primary);
        if follows {
            self.gatekeeper.relied_upon(self.now, &answer);
        }
        self.partner.answer = Some(answer);
    }

    fn lose_connection(&mut self, farewell: Option<Farewell>, actions: &mut Vec<Action>) {
        let (Some(schedule), Ok(settings)) = (&mut self.schedule, &self.settings) else {
            return;
        };
        let orderly = farewell.as_ref().is_some_and(Farewell::is_orderly);
        actions.push(Action::CloseConnection);
        // A standby that was stopped in order is as dead as one that was killed, for all that commits wait for it.
        let primary = self.seen.as_ref().is_some_and(|seen| !seen.observation.in_recovery);
        let probe = if primary { settings.synchronous } else { settings.fast_failover && !orderly };
        if schedule.connection_lost(probe) {
            actions.push(Action::SendKeepalive);
        }
    }

    fn consider_promotion(&mut self, now: Moment, observation: &Observation, actions: &mut Vec<Action>) {
        let (Some(schedule), Ok(settings)) = (&self.schedule, &self.settings) else {
            return;
        };
        if !observation.in_recovery || !schedule.is_lost(settings) {
            if let Promotion::PutOff { .. } = self.promotion {
                self.promotion = Promotion::None;
            }
            return;
        }
        let free = match &self.promotion {
            Promotion::None => true,
            Promotion::PutOff { until, .. } => now >= *until,
            Promotion::BeforeCommand(_)
            | Promotion::Asked { .. }
            | Promotion::Recording { .. }
            | Promotion::AfterCommand => false,
        };
        // The partner was told that nothing happens before that instant. A dead one does not rely on it.
        let promised = now < self.promised() && !schedule.is_proven_dead(settings);
        if !free || promised || self.not_armed().is_some() {
            return;
        }
        let story = Story {
            from_timeline: observation.timeline,
            last_answer: self.partner.last_answer,
            detected: now,
            promoted: None,
            keepalives_missed: schedule.missed(),
            attempts_void: schedule.void(),
            last_error: self.partner.last_error.clone(),
        };
        let before_command = settings.before_command;
        self.gatekeeper.withdraw_promise(now);
        // The log says «lost» before it says what follows from it.
        self.tell_changes(actions);
        if before_command {
            actions.push(log(Level::Log, "running pg_keeper.before_command".to_string()));
            actions.push(Action::RunCommand(Command::Before));
            self.promotion = Promotion::BeforeCommand(story);
        } else {
            self.promote(now, story, actions);
        }
    }

    fn promote(&mut self, now: Moment, story: Story, actions: &mut Vec<Action>) {
        actions.push(log(Level::Log, format!("promoting this standby, which is on timeline {}", story.from_timeline)));
        actions.push(Action::TellRecorder(story.clone()));
        actions.push(Action::Promote);
        self.promotion = Promotion::Asked { story, since: now, complained: false };
    }

    fn go_on_promoting(&mut self, now: Moment, observation: &Observation, actions: &mut Vec<Action>) {
        match &mut self.promotion {
            Promotion::Asked { story, since, complained } => {
                if !observation.in_recovery {
                    let mut story = story.clone();
                    story.promoted = Some(now);
                    actions.push(log(
                        Level::Log,
                        format!("promoted to timeline {} in {:?}", observation.timeline, now.since(*since)),
                    ));
                    actions.push(Action::TellRecorder(story));
                    self.promotion = Promotion::Recording { since: now };
                } else if !*complained && now.since(*since) >= PROMOTION_PATIENCE {
                    *complained = true;
                    actions.push(Action::Log(Notice {
                        level: Level::Warning,
                        message: format!("promotion has not finished after {PROMOTION_PATIENCE:?}"),
                        detail: "The request has been made, and it is carried out once replay lets go.".to_string(),
                        hint: "Look at the wait_event of the startup process in pg_stat_activity, at processes that do not react, and at \
                               restore_command."
                            .to_string(),
                    }));
                }
            }
            Promotion::Recording { since } => {
                let recorded = observation.recorded == Some(observation.timeline);
                if recorded {
                    actions
                        .push(log(Level::Log, format!("recorded timeline {} in failover_log", observation.timeline)));
                } else if now.since(*since) < RECORD_PATIENCE {
                    return;
                } else {
                    actions.push(Action::Log(Notice {
                        level: Level::Warning,
                        message: format!("timeline {} has no row in failover_log yet", observation.timeline),
                        detail: "This server is the primary all the same, and the recorder goes on trying.".to_string(),
                        hint: "Look for errors of \"pg_keeper recorder\" in the log; sql/setup.sql makes the database and the table."
                            .to_string(),
                    }));
                }
                self.promotion = Promotion::None;
                if self.settings.as_ref().is_ok_and(|settings| settings.after_command) {
                    actions.push(log(Level::Log, "running pg_keeper.after_command".to_string()));
                    actions.push(Action::RunCommand(Command::After));
                    self.promotion = Promotion::AfterCommand;
                }
            }
            Promotion::None | Promotion::BeforeCommand(_) | Promotion::PutOff { .. } | Promotion::AfterCommand => {}
        }
    }

    fn end_command(&mut self, now: Moment, command: Command, outcome: CommandOutcome, actions: &mut Vec<Action>) {
        let succeeded = outcome == CommandOutcome::Exited(0);
        let level = if succeeded { Level::Log } else { Level::Warning };
        actions.push(log(level, format!("{} {outcome}", command.setting())));
        match command {
            Command::Before => {
                let Promotion::BeforeCommand(story) = core::mem::replace(&mut self.promotion, Promotion::None) else {
                    return;
                };
                let lost = match (&self.schedule, &self.settings) {
                    (Some(schedule), Ok(settings)) => schedule.is_lost(settings),
                    _ => false,
                };
                let heard = !lost && self.partner.state == PartnerState::Alive;
                if !succeeded {
                    self.put_off(now, format!("pg_keeper.before_command {outcome}"), actions);
                } else if heard {
                    let message = "the partner answered again, so this server is not promoted";
                    actions.push(log(Level::Log, message.to_string()));
                } else if !lost {
                    let message = "while the command ran this server stood still or its settings changed, so the partner is asked again first";
                    actions.push(log(Level::Warning, message.to_string()));
                } else if let Some(reason) = self.not_armed() {
                    self.put_off(now, reason.to_string(), actions);
                } else {
                    self.promote(now, story, actions);
                }
            }
            Command::After => {
                actions.push(Action::TellCommandOutcome(outcome));
                self.promotion = Promotion::None;
            }
        }
    }

    /// Leaves the promotion for now, and comes back to it after one more window of silence.
    fn put_off(&mut self, now: Moment, reason: String, actions: &mut Vec<Action>) {
        let Ok(settings) = &self.settings else { return };
        actions.push(Action::Log(Notice {
            level: Level::Warning,
            message: "this server is not promoted".to_string(),
            detail: format!("Reason: {reason}."),
            hint: format!("It is tried again in {:?} if the partner is still lost.", settings.window()),
        }));
        self.promotion = Promotion::PutOff { until: now + settings.window(), reason };
    }
}

impl Observation {
    /// The end of the WAL that this server has.
    pub fn end_of_wal(&self) -> Lsn {
        self.received.max(self.replayed)
    }
}

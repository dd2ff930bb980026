//! A promotion on its way: before_command, the request, the row, after_command, in this order.

use crate::event::{Action, Command, CommandOutcome, Level, Notice, Observation};
use crate::ident::Timeline;
use crate::node::Node;
use crate::status::PartnerState;
use crate::telling::log;
use crate::time::Moment;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

/// How often a promotion under way is looked at.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_millis(2);
/// How often one that takes long is looked at.
const SLOW_LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// When a promotion counts as taking long. Replay may wait for a process that ignores a barrier, or for a hung restore_command.
pub(crate) const PROMOTION_PATIENCE: Duration = Duration::from_secs(10);
/// How long after_command waits for the row. It runs without it rather than not at all.
pub(crate) const RECORD_PATIENCE: Duration = Duration::from_secs(5);

/// What led to a promotion: the recorder writes it into failover_log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Story {
    /// The timeline that the server was on before.
    pub from_timeline: Timeline,
    /// When the primary last answered.
    pub last_answer: Option<Moment>,
    /// When it was lost.
    pub detected: Moment,
    /// When recovery was seen to have ended.
    pub promoted: Option<Moment>,
    /// Keepalives that went without an answer in a row.
    pub keepalives_missed: u32,
    /// Attempts that did not count because this worker itself stalled.
    pub attempts_void: u32,
    /// What went wrong with the last attempt.
    pub last_error: String,
}

/// Where the promotion is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Promotion {
    /// None under way.
    None,
    /// before_command runs.
    BeforeCommand(Story),
    /// It did not go ahead; it is tried again at this instant if the partner is still lost.
    PutOff { until: Moment, reason: String },
    /// The server has been asked.
    Asked { story: Story, since: Moment, complained: bool },
    /// The server is a primary; the row is awaited.
    Recording { since: Moment },
    /// after_command runs.
    AfterCommand,
}

impl Promotion {
    pub(crate) fn next_deadline(&self, now: Moment) -> Option<Moment> {
        match self {
            Promotion::None | Promotion::BeforeCommand(_) | Promotion::AfterCommand => None,
            // Once past, the next keepalive that fails brings it up.
            Promotion::PutOff { until, .. } => Some(*until).filter(|until| *until > now),
            Promotion::Asked { since, .. } | Promotion::Recording { since } => {
                let slow = now.since(*since) > Duration::from_secs(1);
                Some(now + if slow { SLOW_LOOK_INTERVAL } else { LOOK_INTERVAL })
            }
        }
    }
}

impl Node {
    pub(crate) fn consider_promotion(&mut self, now: Moment, observation: &Observation, actions: &mut Vec<Action>) {
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

    pub(crate) fn go_on_promoting(&mut self, now: Moment, observation: &Observation, actions: &mut Vec<Action>) {
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

    pub(crate) fn end_command(
        &mut self,
        now: Moment,
        command: Command,
        outcome: CommandOutcome,
        actions: &mut Vec<Action>,
    ) {
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
    pub(crate) fn put_off(&mut self, now: Moment, reason: String, actions: &mut Vec<Action>) {
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

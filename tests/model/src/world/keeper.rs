//! A keeper's wake, as `extension/src/keeper.rs` does it: what happened, then the look at the server, then what it publishes.

use super::World;
use super::server::{Who, Worker};
use super::wire::{Call, SYSTEM};
use crate::scenario::Scenario;
use keeper_core::{Action, Event, Kept, Moment, Observation, PartnerState, SynchronousNames};
use std::sync::Arc;

impl World {
    /// Whether there is something for a keeper to do at this instant.
    pub(super) fn keeper_is_due(&self, scenario: &Scenario, who: Who) -> bool {
        let server = self.server(who);
        let Some(memory) = server.running() else { return false };
        match memory.worker {
            Worker::Stopped => false,
            // A server that starts begins with its keeper. One whose keeper was killed waits for the next one.
            Worker::Gone => memory.spoken == Moment::default(),
            Worker::Runs => {
                let clock = server.clock.reads(self.now);
                memory.asked
                    || memory.wakes.is_some_and(|wakes| wakes <= clock)
                    || self.has_received(who)
                    || self.commit_waits(scenario, who)
            }
        }
    }

    /// Whether a commit has just found the permit ended.
    fn commit_waits(&self, scenario: &Scenario, who: Who) -> bool {
        let server = self.server(who);
        scenario.busy
            && !server.disk.standby
            && server.running().is_some_and(|memory| {
                let ended = memory.permit_end().is_some_and(|until| until <= server.clock.reads(self.now));
                ended && memory.reminded != self.now
            })
    }

    /// One wake.
    pub(super) fn wake(&mut self, scenario: &Scenario, who: Who) {
        if self.server(who).memory().is_some_and(|memory| memory.worker == Worker::Gone) {
            self.server_mut(who).start_keeper();
            self.feed(scenario, who, Event::SettingsRead(Ok(scenario.settings.clone())));
        }
        while let Some(event) = self.receive(who) {
            self.feed(scenario, who, event);
        }
        let waits = self.commit_waits(scenario, who);
        let now = self.now;
        let Some(memory) = self.server_mut(who).memory_mut() else { return };
        let asked = std::mem::take(&mut memory.asked);
        if waits {
            memory.reminded = now;
        }
        if asked {
            self.feed(scenario, who, Event::AskedByPartner);
        }
        if waits {
            self.feed(scenario, who, Event::CommitWaits);
        }
        let observation = self.observe(who);
        self.feed(scenario, who, Event::Observed(observation));
        self.publish(scenario, who);
    }

    /// Tells the node what happened, and does what it wants done.
    pub(super) fn feed(&mut self, scenario: &Scenario, who: Who, event: Event) {
        let server = self.server_mut_and_clock(who);
        let Some(memory) = server.0.memory_mut() else { return };
        for action in Arc::make_mut(&mut memory.node).step(server.1, event) {
            self.run(scenario, who, action);
        }
    }

    fn run(&mut self, scenario: &Scenario, who: Who, action: Action) {
        let promotes = self.now + scenario.promotion_takes;
        let server = self.server_mut(who);
        let Some(memory) = server.memory_mut() else { return };
        match action {
            Action::SendKeepalive => self.ask(who),
            Action::SetSynchronousStandbyNames(names) => server.disk.names = names,
            Action::SetGate(gate) => memory.gate = gate,
            Action::KeepFence(fence) if scenario.protections.fence_is_kept => server.disk.fence = Kept::Ours(fence),
            Action::KeepFence(_) => {}
            Action::SetFenceAside => server.disk.fence = Kept::Nothing,
            Action::EndClients => memory.waiting.clear(),
            Action::CloseConnection => memory.call = Call::default(),
            Action::Promote => {
                memory.promotes = Some(promotes);
                self.witness_promotion(who);
            }
            Action::RunCommand(_)
            | Action::TellRecorder(_)
            | Action::TakeBackStory
            | Action::TellCommandOutcome(_)
            | Action::Log(_) => {}
        }
    }

    fn observe(&self, who: Who) -> Observation {
        let server = self.server(who);
        let disk = &server.disk;
        let memory = server.memory();
        Observation {
            in_recovery: disk.standby,
            standby_signal: disk.standby,
            system_identifier: SYSTEM,
            timeline: disk.history.timeline(),
            history: Some(disk.history.clone()),
            received: disk.lsn(),
            replayed: disk.lsn(),
            streaming: disk.standby && memory.is_some_and(|memory| memory.receives_from.is_some()),
            synchronous_names: disk.names,
            synchronous_in_effect: !disk.standby && disk.names == SynchronousNames::Wished,
            told_partner: memory.and_then(|memory| memory.told),
            recorded: (!disk.standby).then(|| disk.history.timeline()),
        }
    }

    fn publish(&mut self, scenario: &Scenario, who: Who) {
        let (server, clock) = self.server_mut_and_clock(who);
        let Some(memory) = server.memory_mut() else { return };
        let report = memory.node.report(who.name());
        if *memory.report != report {
            memory.report = Arc::new(report);
        }
        memory.evidence = memory.node.evidence().map(Arc::new);
        memory.promised = memory.node.promised();
        memory.offered = memory.node.offered();
        memory.spoken = clock;
        memory.wakes = memory.node.next_deadline(clock);
        if !scenario.protections.degrades_late {
            let silent = matches!(memory.node.status().partner_state, PartnerState::Missed | PartnerState::Lost);
            if silent && !server.disk.standby {
                server.disk.names = SynchronousNames::Empty;
            }
        }
    }
}

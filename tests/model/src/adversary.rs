//! What the adversary may do, and how often.

use crate::scenario::Scenario;
use crate::world::{Fate, First, Life, Micros, Move, Who, Worker, World};
use keeper_core::Gate;

/// How many of each may still come. What ends a fault (a start, a resumption) costs nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Faults of all kinds together; lost and late messages, promotions by hand and writes are not among them.
    pub faults: u8,
    /// Pauses of a whole server.
    pub pauses: u8,
    /// Stops of a keeper.
    pub keeper_stops: u8,
    /// Ends of a keeper.
    pub keeper_kills: u8,
    /// Crashes that leave a host which refuses connections.
    pub kills: u8,
    /// Crashes that leave nothing.
    pub unplugs: u8,
    /// Cuts of the cable.
    pub cuts: u8,
    /// Cuts of one direction.
    pub one_way_cuts: u8,
    /// Lost questions and answers.
    pub losses: u8,
    /// Late questions and answers.
    pub delays: u8,
    /// Promotions that an administrator asks for.
    pub by_hand: u8,
    /// Writes.
    pub writes: u8,
}

impl Budget {
    /// So many faults of the servers, of whatever kinds; the network works.
    pub fn of_servers(faults: u8) -> Budget {
        Budget {
            faults,
            pauses: faults,
            keeper_stops: faults,
            keeper_kills: faults,
            kills: faults,
            unplugs: faults,
            ..Budget::default()
        }
    }

    /// So many faults of whatever kinds.
    pub fn of_everything(faults: u8) -> Budget {
        Budget { cuts: faults, one_way_cuts: faults, ..Budget::of_servers(faults) }
    }

    /// So many pauses.
    pub fn of_pauses(faults: u8) -> Budget {
        Budget { faults, pauses: faults, ..Budget::default() }
    }

    /// So many crashes that leave a host which refuses connections.
    pub fn of_kills(faults: u8) -> Budget {
        Budget { faults, kills: faults, ..Budget::default() }
    }
}

impl World {
    /// Everything that can happen next.
    pub fn moves(&self, scenario: &Scenario, delays: &[Micros], moves: &mut Vec<Move>) {
        moves.push(Move::Next(Fate::Calm));
        if self.left.losses > 0 {
            moves.extend([Move::Next(Fate::QuestionLost), Move::Next(Fate::AnswerLost)]);
        }
        if self.left.delays > 0 {
            for &by in delays {
                moves.extend([Move::Next(Fate::QuestionLate(by)), Move::Next(Fate::AnswerLate(by))]);
            }
        }
        for who in Who::BOTH {
            self.moves_at(scenario, who, moves);
        }
        if self.cut != [false; 2] {
            moves.push(Move::Heal);
        } else if self.left.faults > 0 {
            if self.left.cuts > 0 {
                moves.push(Move::Cut);
            }
            if self.left.one_way_cuts > 0 {
                moves.extend(Who::BOTH.map(Move::CutFrom));
            }
        }
    }

    fn moves_at(&self, scenario: &Scenario, who: Who, moves: &mut Vec<Move>) {
        let left = &self.left;
        let memory = match &self.server(who).life {
            Life::Killed | Life::Unplugged => return moves.push(Move::Start(who)),
            Life::Up(memory) => memory,
        };
        let more = left.faults > 0 && scenario.spared != Some(who);
        if more && left.kills > 0 {
            moves.push(Move::Kill(who));
        }
        if more && left.unplugs > 0 {
            moves.push(Move::Unplug(who));
        }
        if memory.paused.is_some() {
            return moves.extend([Move::Resume(who, First::Others), Move::Resume(who, First::Keeper)]);
        }
        if more && left.pauses > 0 {
            moves.push(Move::Pause(who));
        }
        if left.by_hand > 0 && self.server(who).disk.standby && memory.promotes.is_none() {
            moves.push(Move::Promote(who));
        }
        match memory.worker {
            Worker::Runs => {
                if more && left.keeper_stops > 0 {
                    moves.push(Move::StopKeeper(who));
                }
                if more && left.keeper_kills > 0 {
                    moves.push(Move::KillKeeper(who));
                }
            }
            Worker::Stopped => moves.push(Move::ContinueKeeper(who)),
            Worker::Gone if memory.spoken != keeper_core::Moment::default() => moves.push(Move::StartKeeper(who)),
            Worker::Gone => {}
        }
        let gate_passes = matches!(memory.gate, Gate::Open { .. }) && self.lets_commit(scenario, who);
        if left.writes > 0 && gate_passes {
            moves.push(Move::Write(who));
        }
    }

    /// Takes a move out of the budget.
    pub(crate) fn pay(&mut self, step: Move) {
        let left = &mut self.left;
        let kind = match step {
            Move::Next(Fate::Calm)
            | Move::Resume(..)
            | Move::ContinueKeeper(_)
            | Move::StartKeeper(_)
            | Move::Start(_)
            | Move::Heal => return,
            Move::Write(_) => {
                left.writes -= 1;
                return;
            }
            Move::Promote(_) => {
                left.by_hand -= 1;
                self.calm = false;
                return;
            }
            Move::Next(Fate::QuestionLost | Fate::AnswerLost) => {
                left.losses -= 1;
                self.calm = false;
                return;
            }
            Move::Next(Fate::QuestionLate(_) | Fate::AnswerLate(_)) => {
                left.delays -= 1;
                self.calm = false;
                return;
            }
            Move::Pause(_) => &mut left.pauses,
            Move::StopKeeper(_) => &mut left.keeper_stops,
            Move::KillKeeper(_) => &mut left.keeper_kills,
            Move::Kill(_) => &mut left.kills,
            Move::Unplug(_) => &mut left.unplugs,
            Move::Cut => &mut left.cuts,
            Move::CutFrom(_) => &mut left.one_way_cuts,
        };
        *kind -= 1;
        left.faults -= 1;
        self.calm = false;
    }
}

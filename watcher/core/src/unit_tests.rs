#![allow(clippy::unwrap_used)]

use super::*;
use crate::config::RestartHow;

const SECOND: Duration = Duration::from_secs(1);

fn unit(active: ActiveState) -> Unit {
    Unit {
        id: "shop.service".to_owned(),
        load_state: "loaded".to_owned(),
        active,
        sub_state: "running".to_owned(),
        is_oneshot: false,
        result: "success".to_owned(),
        restarts: 0,
        main_pid: 7,
        invocation: vec![1],
        conditions_met: true,
        job: None,
    }
}

fn oneshot(active: ActiveState) -> Unit {
    Unit { is_oneshot: true, main_pid: 0, sub_state: "dead".to_owned(), ..unit(active) }
}

fn with_job(active: ActiveState, is_stop: bool) -> Unit {
    Unit { job: Some(Job { path: "/job/1".to_owned(), is_stop }), ..unit(active) }
}

#[test]
fn only_a_unit_that_is_there_can_be_restarted() {
    let with = |load_state: &str| Unit { load_state: load_state.to_owned(), ..unit(ActiveState::Active) }.usable();
    assert_eq!(with("loaded"), Ok(()));
    assert!(with("masked").unwrap_err().contains("systemctl unmask shop.service"));
    assert!(with("not-found").unwrap_err().contains("correct systemd_unit"));
    assert!(with("bad-setting").unwrap_err().contains("systemd-analyze verify"));
    assert!(with("merged").unwrap_err().contains("systemctl status"));
}

#[test]
fn what_is_stopped_on_purpose_stays_stopped() {
    for (now, may_be_down, what) in [
        (unit(ActiveState::Active), false, Before::RestartIfRunning),
        (unit(ActiveState::Activating), false, Before::RestartIfRunning),
        (unit(ActiveState::Failed), false, Before::Restart),
        (unit(ActiveState::Inactive), false, Before::LeaveStopped),
        // A restart of ours may have stopped it and then come to nothing.
        (unit(ActiveState::Inactive), true, Before::Restart),
        (oneshot(ActiveState::Inactive), false, Before::LeaveStopped),
        (oneshot(ActiveState::Inactive), true, Before::LeaveStopped),
        (with_job(ActiveState::Deactivating, true), true, Before::LeaveStopped),
        (with_job(ActiveState::Deactivating, false), false, Before::Restart),
        (unit(ActiveState::Deactivating), false, Before::Restart),
    ] {
        assert_eq!(now.before(may_be_down), what, "{now:?}");
    }
    assert!(unit(ActiveState::Failed).looks_stopped_once_reset());
    assert!(!unit(ActiveState::Active).looks_stopped_once_reset());
}

#[test]
fn one_that_is_stopped_during_its_restart_stays_stopped() {
    let before = unit(ActiveState::Active);
    assert!(unit(ActiveState::Inactive).was_left_stopped(&before));
    assert!(with_job(ActiveState::Deactivating, true).was_left_stopped(&before));
    let started = Unit { invocation: vec![2], ..unit(ActiveState::Inactive) };
    assert!(!started.was_left_stopped(&before));
    assert!(Unit { conditions_met: false, ..started }.was_left_stopped(&before));
    assert!(!unit(ActiveState::Active).was_left_stopped(&before));
    assert!(!unit(ActiveState::Failed).was_left_stopped(&before));
    assert!(!oneshot(ActiveState::Inactive).was_left_stopped(&oneshot(ActiveState::Activating)));
}

fn life(now: &Unit, fresh: bool) -> &'static str {
    match now.life(&unit(ActiveState::Active), SECOND, fresh) {
        Life::Up => "up",
        Life::LeftStopped(_) => "left",
        Life::NotYet(_) => "not yet",
        Life::Gone(_) => "gone",
    }
}

#[test]
fn a_process_must_live_after_settle() {
    let auto = |sub_state: &str| Unit { sub_state: sub_state.to_owned(), ..unit(ActiveState::Activating) };
    for (now, fresh, later) in [
        (unit(ActiveState::Active), "up", "up"),
        (Unit { restarts: 1, main_pid: 8, ..unit(ActiveState::Active) }, "not yet", "not yet"),
        (Unit { main_pid: 0, ..unit(ActiveState::Active) }, "not yet", "not yet"),
        // An application that hands over to another process of its own, and one that has done its work.
        (Unit { main_pid: 8, ..unit(ActiveState::Active) }, "up", "up"),
        (Unit { main_pid: 0, sub_state: "exited".to_owned(), ..unit(ActiveState::Active) }, "up", "up"),
        (auto("auto-restart"), "not yet", "not yet"),
        (auto("auto-restart-queued"), "not yet", "not yet"),
        (auto("start"), "not yet", "not yet"),
        (unit(ActiveState::Failed), "gone", "gone"),
        // Right after its restart nobody has stopped it on purpose; later somebody may have.
        (unit(ActiveState::Inactive), "gone", "left"),
        (oneshot(ActiveState::Inactive), "up", "up"),
        (Unit { conditions_met: false, ..unit(ActiveState::Inactive) }, "left", "left"),
        (with_job(ActiveState::Deactivating, true), "left", "left"),
        (unit(ActiveState::Deactivating), "not yet", "not yet"),
    ] {
        assert_eq!((life(&now, true), life(&now, false)), (fresh, later), "{now:?}");
    }
}

fn restart() -> Restart {
    Restart {
        how: RestartHow::SystemdUnit("shop.service".to_owned()),
        timeout: 30 * SECOND,
        kill_after: 10 * SECOND,
        settle: SECOND,
        splay: Duration::ZERO,
        limit: None,
    }
}

#[test]
fn one_that_does_not_stop_is_killed_once() {
    let mut progress = Progress::default();
    let mut at =
        |seconds: u32| progress.next(&unit(ActiveState::Deactivating), seconds * SECOND, &restart(), seconds > 5);
    assert_eq!(at(1), Meanwhile::Wait);
    assert_eq!(at(10), Meanwhile::Wait);
    assert_eq!(at(11), Meanwhile::Kill);
    assert_eq!(at(12), Meanwhile::Wait);
    assert!(matches!(at(21), Meanwhile::GiveUp(_)));
}

#[test]
fn one_that_starts_slowly_is_neither_killed_nor_waited_for_for_ever() {
    let mut progress = Progress::default();
    let mut at =
        |active, seconds: u32, overtaken| progress.next(&unit(active), seconds * SECOND, &restart(), overtaken);
    assert_eq!(at(ActiveState::Deactivating, 0, false), Meanwhile::Wait);
    assert_eq!(at(ActiveState::Activating, 9, false), Meanwhile::Wait);
    // Its time begins when it has stopped.
    assert_eq!(at(ActiveState::Activating, 38, false), Meanwhile::Wait);
    assert_eq!(at(ActiveState::Activating, 39, false), Meanwhile::LetStart);
    assert_eq!(at(ActiveState::Activating, 39, true), Meanwhile::Overtaken);
}

#[test]
fn a_job_that_never_gets_its_turn_is_given_up() {
    let mut progress = Progress::default();
    let mut at = |seconds: u32| progress.next(&unit(ActiveState::Active), seconds * SECOND, &restart(), false);
    assert_eq!(at(0), Meanwhile::Wait);
    assert!(matches!(at(30), Meanwhile::GiveUp(_)));
}

#[test]
fn systemds_words_are_known() {
    assert_eq!(ActiveState::parse("reloading"), Ok(ActiveState::Active));
    assert_eq!(ActiveState::parse("new-state"), Err("new-state".to_owned()));
}

//! Places where a test can kill the watcher, or stop it to do something at that very moment. Programs that people run
//! have none: they are compiled with the feature `fault_points` only, which a release build refuses.

#[cfg(all(feature = "fault_points", not(debug_assertions)))]
compile_error!("fault_points are for tests: build without this feature");

/// The variable that tells what is to happen where: `kill 3` at the third point that is reached, `stop staged` at the
/// first one of this name.
#[cfg(feature = "fault_points")]
const WISH: &str = "PG_KEEPER_WATCHER_FAULT";

/// A step is done, and the next one is not begun.
#[cfg(feature = "fault_points")]
pub(crate) fn point(name: &str) {
    use std::io::Write;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    use nix::sys::signal::{Signal, kill, raise};
    use nix::unistd::Pid;

    static REACHED: AtomicU32 = AtomicU32::new(0);
    static DONE: AtomicBool = AtomicBool::new(false);
    let number = REACHED.fetch_add(1, Ordering::SeqCst) + 1;
    let wish = std::env::var(WISH).unwrap_or_default();
    let Some((what, place)) = wish.split_once(' ') else { return };
    let is_here = place == name || place == number.to_string();
    if !is_here || DONE.swap(true, Ordering::SeqCst) {
        return;
    }
    // Past the log's queue, which dies with the process.
    let _ = writeln!(std::io::stderr(), "fault point {number}, {name}: {what}");
    match what {
        "stop" => {
            // To this very thread: any other one may be a moment late to stop it.
            let _ = raise(Signal::SIGSTOP);
        }
        _ => loop {
            let _ = kill(Pid::this(), Signal::SIGKILL);
            std::thread::park();
        },
    }
}

/// Nothing.
#[cfg(not(feature = "fault_points"))]
pub(crate) fn point(_name: &str) {}

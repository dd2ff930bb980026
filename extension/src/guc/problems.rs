//! Values that were bad at the server's start.
//!
//! The server reads its files before it loads the library, and when the library then defines its settings a value that is not accepted
//! costs no more than a WARNING: the default takes its place. A keeper that went on with defaults would do what nobody asked for, so such
//! values are remembered here, and the keeper decides nothing while there are any.
//!
//! The list is made in the postmaster and inherited by every process it starts; each process strikes off by itself, with [`recheck`],
//! what has been mended since.

use super::hooks;
use super::table::{SETTINGS, Setting};
use crate::conf;
use pgrx::pg_sys;
use std::ffi::{CStr, CString};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A setting whose value was not accepted.
#[derive(Clone)]
struct Problem {
    setting: &'static Setting,
    /// The files do not hold the value: it came from the command line, which overrides them until the next start.
    from_command_line: bool,
}

static PROBLEMS: Mutex<Vec<Problem>> = Mutex::new(Vec::new());

fn list() -> MutexGuard<'static, Vec<Problem>> {
    PROBLEMS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The values that stand in the placeholders of settings that are not defined yet.
pub(super) fn values_before_definition() -> Vec<(&'static Setting, CString)> {
    let value = |setting: &'static Setting| {
        // SAFETY: a C string; a setting that is not known gives null. The result is copied at once.
        let raw = unsafe { pg_sys::GetConfigOption(setting.name.as_ptr(), true, false) };
        // SAFETY: not null, so a C string of the server's.
        (!raw.is_null()).then(|| (setting, unsafe { CStr::from_ptr(raw) }.to_owned()))
    };
    SETTINGS.iter().filter_map(value).collect()
}

/// Remembers which of those values the server has not taken.
pub(super) fn remember(values: &[(&'static Setting, CString)]) {
    let refused: Vec<_> = values.iter().filter(|(setting, value)| !is_accepted(setting, value)).collect();
    if refused.is_empty() {
        return;
    }
    // The server has read these files a moment ago, so they have no fault; without them the value is taken for one of theirs.
    let entries = conf::read().ok();
    let from_files = |setting: &Setting, value: &CString| match &entries {
        Some(entries) => conf::last(entries, setting.text()).is_some_and(|entry| entry.value == *value),
        None => true,
    };
    *list() = refused
        .into_iter()
        .map(|(setting, value)| Problem { setting, from_command_line: !from_files(setting, value) })
        .collect();
}

/// Whether the server would take the value for the (defined) setting.
fn is_accepted(setting: &Setting, value: &CStr) -> bool {
    let try_it = || {
        // SAFETY: both are C strings, and with changeVal = false nothing is changed. At a debugging level a refusal raises no ERROR.
        unsafe {
            pg_sys::set_config_option(
                setting.name.as_ptr(),
                value.as_ptr(),
                pg_sys::GucContext::PGC_SIGHUP,
                pg_sys::GucSource::PGC_S_FILE,
                pg_sys::GucAction::GUC_ACTION_SET,
                false,
                pg_sys::DEBUG5 as _,
                false,
            )
        }
    };
    hooks::try_out(try_it) != 0
}

/// Strikes off what the files give right now, or no more. To be called at the start of a process that cares, and after each reload: the
/// postmaster's list, which processes start with, is as old as the server.
pub(crate) fn recheck() {
    let problems = list().clone();
    if problems.is_empty() {
        return;
    }
    // From files with a fault the server takes nothing, so nothing has been mended.
    let Ok(entries) = conf::read() else { return };
    let persists = |problem: &Problem| {
        problem.from_command_line
            || conf::last(&entries, problem.setting.text())
                .is_some_and(|entry| !is_accepted(problem.setting, &entry.value))
    };
    let left = problems.into_iter().filter(persists).collect();
    *list() = left;
}

/// What was not accepted, each as a sentence that says what is allowed. No value is repeated.
pub(crate) fn problems() -> Vec<String> {
    let sentence = |problem: &Problem| {
        let Setting { allowed, .. } = problem.setting;
        let place = if problem.from_command_line { " (on the server's command line)" } else { "" };
        format!("{}{place} must be {allowed}", problem.setting.text())
    };
    list().iter().map(sentence).collect()
}

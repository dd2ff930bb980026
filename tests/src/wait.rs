//! Waiting for a condition, never for an amount of time.

use std::fmt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// An answer that ends the waiting: the condition cannot come to hold any more. Any other error may pass.
#[derive(Debug)]
pub struct Hopeless(pub &'static str);

impl fmt::Display for Hopeless {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.0)
    }
}

impl std::error::Error for Hopeless {}

/// Asks until the condition holds; past the limit, an error that says what was waited for, what the last answer was and
/// what `evidence` shows. The limit is there to end a test that has failed, so it may be generous.
pub fn until(
    what: &str,
    limit: Duration,
    evidence: impl Fn() -> String,
    mut condition: impl FnMut() -> Result<bool>,
) -> Result<()> {
    value(what, limit, evidence, || Ok(condition()?.then_some(())))
}

/// As [`until`], for a condition that yields something.
pub fn value<T>(
    what: &str,
    limit: Duration,
    evidence: impl Fn() -> String,
    mut condition: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let begun = Instant::now();
    loop {
        let answer = condition();
        if let Ok(Some(value)) = answer {
            return Ok(value);
        }
        let hopeless = answer.as_ref().is_err_and(|error| error.is::<Hopeless>());
        if hopeless || begun.elapsed() > limit {
            let last = match answer {
                Ok(_) => "the condition did not hold".to_owned(),
                Err(error) => format!("{error:#}"),
            };
            bail!("waited {:.1?} for: {what}\nlast answer: {last}\n{}", begun.elapsed(), evidence());
        }
        sleep(Duration::from_millis(20));
    }
}

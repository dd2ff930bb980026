//! Settings that come from the environment, as `make demo FAULT=freeze` hands them over.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

/// The value of a variable, or the default when it is not set or empty.
pub fn variable<T: FromStr>(name: &str, default: T) -> Result<T>
where
    T::Err: Display,
{
    match std::env::var(name) {
        Ok(text) if !text.is_empty() => {
            text.parse().map_err(|error: T::Err| anyhow!("{error}")).with_context(|| format!("{name}={text}"))
        }
        _ => Ok(default),
    }
}

/// A time in seconds, which may have a fraction.
pub fn seconds(name: &str, default: f64) -> Result<Duration> {
    let value = variable(name, default)?;
    Duration::try_from_secs_f64(value).with_context(|| format!("{name}={value}: must be seconds, such as 0.5 or 2"))
}

//! TCP ports that nobody else takes.
//!
//! They lie below the range from which the kernel picks the local ports of outgoing connections: a port from that range,
//! free now, may be taken by any connection while its server is down, and the server then fails to come back.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

const FIRST: u16 = 21_000;
const COUNT: u16 = 10_000;

/// A port that is ours until this is dropped: a lock on a file keeps other test processes from choosing it too.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// Finds one, beginning at a place that differs between processes.
    pub fn reserve() -> Result<Self> {
        let locks = lock_folder()?;
        let begin = u16::try_from(std::process::id().wrapping_mul(97) % u32::from(COUNT))?;
        for step in 0..COUNT {
            let number = FIRST + (begin + step) % COUNT;
            let path = locks.join(number.to_string());
            let lock = File::create(&path).with_context(|| format!("open the lock {}", path.display()))?;
            if lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", number)).is_ok() {
                return Ok(Self { number, _lock: lock });
            }
        }
        bail!("no free port between {FIRST} and {}", FIRST + COUNT)
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }
}

fn lock_folder() -> Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("pg-keeper-ports-{}", nix::unistd::Uid::effective()));
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
    Ok(folder)
}

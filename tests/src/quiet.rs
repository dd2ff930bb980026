//! What makes measurements on one machine comparable: one processor, and memory that lies alike from start to start.

use std::fs;

use anyhow::{Context, Result, ensure};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// How many huge pages the kernel keeps ready.
const RESERVED: &str = "/proc/sys/vm/nr_hugepages";

const MEGABYTES_EACH: u64 = 2;

/// What stands for the calling process where a process is asked for.
const MYSELF: Pid = Pid::from_raw(0);

/// This process, and those that it starts meanwhile, kept on one processor until this is dropped.
#[derive(Debug)]
pub struct OneProcessor {
    before: CpuSet,
    /// Which one.
    pub number: usize,
}

impl OneProcessor {
    /// Takes the last of the processors that this process may use.
    pub fn take() -> Result<Self> {
        let before = sched_getaffinity(MYSELF).context("ask for this process's processors")?;
        let last = (0..CpuSet::count()).rev().find(|processor| before.is_set(*processor).unwrap_or(false));
        let number = last.context("this process may use no processor")?;
        let mut only = CpuSet::new();
        only.set(number)?;
        sched_setaffinity(MYSELF, &only).with_context(|| format!("stay on processor {number}"))?;
        Ok(Self { before, number })
    }
}

impl Drop for OneProcessor {
    fn drop(&mut self) {
        if let Err(error) = sched_setaffinity(MYSELF, &self.before) {
            eprintln!("this process stays on processor {}: {error}", self.number);
        }
    }
}

/// Huge pages that are kept ready for servers until this is dropped.
#[derive(Debug)]
pub struct HugePages {
    before: String,
}

impl HugePages {
    /// Keeps so many megabytes ready beside those that are. Needs root, and so much free memory in one piece.
    pub fn reserve(megabytes: u64) -> Result<Self> {
        let before = reserved()?;
        let pages = before.parse::<u64>().context(RESERVED)? + megabytes.div_ceil(MEGABYTES_EACH);
        let mine = Self { before };
        fs::write(RESERVED, pages.to_string()).with_context(|| format!("write {RESERVED}"))?;
        let kept = reserved()?;
        ensure!(kept == pages.to_string(), "the kernel kept {kept} huge pages of {pages} ready");
        Ok(mine)
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        if let Err(error) = fs::write(RESERVED, &self.before) {
            eprintln!("{} huge pages were reserved before, and are not again: {error}", self.before);
        }
    }
}

fn reserved() -> Result<String> {
    Ok(fs::read_to_string(RESERVED).with_context(|| format!("read {RESERVED}"))?.trim().to_owned())
}

//! The fence as it is kept on disk, and whether a file that lies there is this server's own.
//!
//! The file lies in the data directory, so that it goes where the data go, and pg_basebackup and pg_rewind copy what they find there. It
//! therefore names the folder it was written for: a clone reads that it is one, and asks its partner like any server that starts. What cannot be read is never guessed at: it keeps ordinary clients out until an administrator has looked.

use crate::history::Switch;
use crate::ident::{Lsn, SystemIdentifier, Timeline};
use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;

/// The name of the file in the data directory.
pub const FENCE_FILE: &str = "pg_keeper.fence";
/// The first line of the file.
const TITLE: &str = "pg_keeper fence 1";
/// The last line: without it the file was cut off.
const END: &str = "end";

/// Why this server is fenced, or no longer is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Fence {
    /// Where the partner's history left the timeline that this server is primary on.
    pub left: Switch,
    /// The partner's node name.
    pub by: String,
    /// The timeline that the partner was primary on.
    pub by_timeline: Timeline,
    /// An administrator has lifted the fence: the same switch fences no more.
    pub lifted: bool,
}

/// What ties a file to the server that wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Binding {
    /// The cluster.
    pub system_identifier: SystemIdentifier,
    /// The data directory's inode, which a copy does not share.
    pub inode: u64,
}

/// What lies on disk.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Kept {
    /// No fence: no file, or one that was copied from another server, which holds for that one alone.
    Nothing,
    /// A fence of this server's.
    Ours(Fence),
    /// A file that cannot be believed; the sentence says why.
    Damaged(String),
}

impl Fence {
    /// The file's text.
    pub fn to_file(&self, binding: &Binding) -> String {
        let Binding { system_identifier, inode } = binding;
        let Fence { left, by, by_timeline, lifted } = self;
        let lifted = if *lifted { "yes" } else { "no" };
        format!(
            "{TITLE}\nsystem_identifier {system_identifier}\ninode {inode}\nleft_timeline {}\nleft_at {}\nby {by}\n\
             by_timeline {by_timeline}\nlifted {lifted}\n{END}\n",
            left.timeline, left.at
        )
    }
}

impl fmt::Display for Fence {
    /// A clause: «db02 is primary on timeline 2, which left timeline 1 of this server at 0/3000148».
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fence { left, by, by_timeline, .. } = self;
        write!(
            f,
            "{by} is primary on timeline {by_timeline}, which left timeline {} of this server at {}",
            left.timeline, left.at
        )
    }
}

impl Kept {
    /// Judges a file's bytes.
    pub fn judge(file: &[u8], binding: &Binding) -> Kept {
        let damaged = |why: &str| Kept::Damaged(why.to_string());
        let Ok(text) = core::str::from_utf8(file) else { return damaged("it is not text") };
        let mut lines = text.lines();
        if lines.next() != Some(TITLE) {
            return damaged("its first line is not that of a fence that this version knows");
        }
        if lines.next_back() != Some(END) {
            return damaged("it is cut off");
        }
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        let number = |key: &str| value(key).and_then(|digits| digits.parse::<u64>().ok());
        let timeline = |key: &str| value(key).and_then(|digits| digits.parse().ok()).map(Timeline);
        let (Some(system_identifier), Some(inode)) = (number("system_identifier"), number("inode")) else {
            return damaged("it does not say which server it was written for");
        };
        let theirs = SystemIdentifier(system_identifier);
        if theirs != binding.system_identifier {
            let ours = binding.system_identifier;
            return Kept::Damaged(format!(
                "it was written for another cluster (system identifier {theirs}, this one is {ours})"
            ));
        }
        if inode != binding.inode {
            return Kept::Nothing;
        }
        let left_at = value("left_at").and_then(|lsn| lsn.parse::<Lsn>().ok());
        let lifted = match value("lifted") {
            Some("yes") => Some(true),
            Some("no") => Some(false),
            Some(_) | None => None,
        };
        match (timeline("left_timeline"), left_at, value("by"), timeline("by_timeline"), lifted) {
            (Some(timeline), Some(at), Some(by), Some(by_timeline), Some(lifted)) => {
                Kept::Ours(Fence { left: Switch { timeline, at }, by: by.to_string(), by_timeline, lifted })
            }
            _ => damaged("one of its lines is missing or cannot be read"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding() -> Binding {
        Binding { system_identifier: SystemIdentifier(7), inode: 42 }
    }

    fn fence() -> Fence {
        let left = Switch { timeline: Timeline(1), at: Lsn(0x300_0148) };
        Fence { left, by: "db02".into(), by_timeline: Timeline(2), lifted: false }
    }

    #[test]
    fn a_fence_reads_back_as_it_was_written() {
        for lifted in [false, true] {
            let fence = Fence { lifted, ..fence() };
            assert_eq!(Kept::judge(fence.to_file(&binding()).as_bytes(), &binding()), Kept::Ours(fence));
        }
    }

    #[test]
    fn every_truncation_and_every_lost_line_is_noticed() {
        let whole = fence().to_file(&binding());
        for length in 0..whole.len() - 1 {
            let kept = Kept::judge(&whole.as_bytes()[..length], &binding());
            assert!(matches!(kept, Kept::Damaged(_)), "{length}: {kept:?}");
        }
        for lost in 0..whole.lines().count() {
            let text: String = whole
                .lines()
                .enumerate()
                .filter(|(index, _)| *index != lost)
                .map(|(_, line)| format!("{line}\n"))
                .collect();
            let kept = Kept::judge(text.as_bytes(), &binding());
            assert!(matches!(kept, Kept::Damaged(_)), "{lost}: {kept:?}");
        }
        assert!(matches!(Kept::judge(b"\xff\xfe", &binding()), Kept::Damaged(_)));
    }

    #[test]
    fn a_clone_does_not_inherit_and_another_cluster_is_told() {
        let file = fence().to_file(&binding());
        assert_eq!(Kept::judge(file.as_bytes(), &Binding { inode: 43, ..binding() }), Kept::Nothing);
        let other = Binding { system_identifier: SystemIdentifier(8), ..binding() };
        assert!(matches!(Kept::judge(file.as_bytes(), &other), Kept::Damaged(why) if why.contains("another cluster")));
    }
}

//! What must survive a crash of the watcher: the content of its state file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::choose::Past;
use crate::plan::Debt;
use crate::wall_clock::WallClock;

/// The format of the state file; another number means another program wrote it.
const VERSION: u32 = 2;

/// Everything the watcher remembers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    version: u32,
    /// The start of the machine during which moments were written.
    #[serde(default)]
    boot_id: String,
    /// How often the wall clock was set since then.
    #[serde(default)]
    pub clock: WallClock,
    /// What the next choice must know.
    #[serde(default)]
    pub past: Past,
    /// What is owed to each target, by the file's path in the configuration: a target may be given another name, and a link in
    /// the path may lead elsewhere.
    #[serde(default)]
    pub targets: BTreeMap<PathBuf, Debt>,
}

/// A state file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MemoryError {
    /// It is not what this program writes.
    #[error("not a state file of pg-keeper-watcher: {0}")]
    Unreadable(String),
    /// It was written by another version.
    #[error("written in format {0}, this program knows format {VERSION}")]
    Version(u32),
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            version: VERSION,
            boot_id: String::new(),
            clock: WallClock::default(),
            past: Past::default(),
            targets: BTreeMap::new(),
        }
    }
}

impl Memory {
    /// Reads the content of a state file.
    pub fn parse(text: &str) -> Result<Self, MemoryError> {
        let memory: Self = serde_yaml::from_str(text).map_err(|error| MemoryError::Unreadable(error.to_string()))?;
        if memory.version == VERSION { Ok(memory) } else { Err(MemoryError::Version(memory.version)) }
    }

    /// The content of the state file.
    pub fn to_text(&self) -> Result<String, MemoryError> {
        serde_yaml::to_string(self).map_err(|error| MemoryError::Unreadable(error.to_string()))
    }

    /// Forgets moments that were written before the machine was started anew.
    pub fn enter_boot(&mut self, boot_id: &str) {
        if self.boot_id != boot_id {
            boot_id.clone_into(&mut self.boot_id);
            self.clock.forget();
            self.targets.values_mut().for_each(Debt::forget_moments);
        }
    }

    /// Gives what is owed to files that are not `configured` to those that are and lie at the same place, by another path.
    /// `real`: where paths lead.
    pub fn adopt(&mut self, configured: &[&Path], real: &BTreeMap<PathBuf, PathBuf>) {
        let orphans: Vec<PathBuf> =
            self.targets.keys().filter(|file| !configured.contains(&file.as_path())).cloned().collect();
        for orphan in orphans {
            let Some(place) = real.get(&orphan) else { continue };
            let Some(file) = configured.iter().find(|file| real.get(**file) == Some(place)) else { continue };
            let debt = self.targets.remove(&orphan).unwrap_or_default();
            let known = self.targets.entry(file.to_path_buf()).or_default();
            if !known.restart_pending() {
                *known = debt;
            }
        }
    }

    /// What is owed to a target.
    pub fn debt(&self, file: &Path) -> Debt {
        self.targets.get(file).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::choose::{Position, Reached};
    use crate::plan::{Moment, Wanted, WantedPosition};
    use crate::units::{SystemIdentifier, Timeline};
    use crate::wall_clock::Now;

    fn position(timeline: u32) -> Position {
        Position { system_identifier: SystemIdentifier(u64::MAX), timeline: Timeline(timeline) }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut memory = Memory::default();
        memory.enter_boot("boot");
        memory.clock.look(Now { moment: Moment(1), wall: 1_700_000_000_000 });
        memory.past.note_active("db02", position(3));
        memory.past.note_active("db01", position(2));
        let reached = Reached { timeline: Timeline(3), node: "db02".to_owned() };
        assert_eq!(memory.past.reached, BTreeMap::from([(SystemIdentifier(u64::MAX), reached)]));
        let debt = memory.targets.entry("/shop: 店".into()).or_default();
        debt.rewrite_begins(
            Wanted {
                node: "db02".to_owned(),
                position: WantedPosition { system_identifier: u64::MAX, timeline: 2 },
                edition: "1".to_owned(),
            },
            Moment(3),
        );
        debt.restart_failed(1, Moment(5), Moment(5));
        assert_eq!(Memory::parse(&memory.to_text().unwrap()), Ok(memory.clone()));

        memory.enter_boot("boot");
        assert!(memory.debt(Path::new("/shop: 店")).not_before.is_some());
        memory.enter_boot("another");
        assert_eq!((&memory.clock, memory.debt(Path::new("/shop: 店")).not_before), (&WallClock::default(), None));
        assert!(memory.debt(Path::new("/shop: 店")).restart_pending());
        assert_eq!(memory.debt(Path::new("/other")), Debt::default());
    }

    #[test]
    fn a_debt_follows_its_file_to_another_path() {
        let mut memory = Memory::default();
        let position = WantedPosition { system_identifier: 7, timeline: 2 };
        let wanted = Wanted { node: "db02".to_owned(), position, edition: String::new() };
        for file in ["/current/env.yaml", "/hangs/env.yaml", "/other/env.yaml"] {
            memory.targets.entry(file.into()).or_default().rewrite_begins(wanted.clone(), Moment(0));
        }
        let real = [
            ("/current/env.yaml", "/release/env.yaml"),
            ("/release/env.yaml", "/release/env.yaml"),
            ("/other/env.yaml", "/other/env.yaml"),
        ];
        let real = real.map(|(path, real)| (path.into(), real.into())).into();
        memory.adopt(&[Path::new("/release/env.yaml"), Path::new("/new/env.yaml")], &real);
        let pending: Vec<_> =
            memory.targets.iter().filter(|(_, debt)| debt.restart_pending()).map(|(file, _)| file).collect();
        assert_eq!(pending, ["/hangs/env.yaml", "/other/env.yaml", "/release/env.yaml"].map(Path::new));
        // As long as it is configured by the link, where that leads does not matter.
        let mut linked = Memory::default();
        linked.targets.entry("/current/env.yaml".into()).or_default().rewrite_begins(wanted, Moment(0));
        let before = linked.clone();
        linked.adopt(&[Path::new("/current/env.yaml")], &BTreeMap::new());
        assert_eq!(linked, before);
    }

    #[test]
    fn what_another_program_wrote_is_refused() {
        assert_eq!(Memory::parse("version: 1\nhighest: {7: 1}\n"), Err(MemoryError::Version(1)));
        assert!(matches!(Memory::parse("[]"), Err(MemoryError::Unreadable(_))));
        assert!(matches!(Memory::parse(""), Err(MemoryError::Unreadable(_))));
    }
}

//! What is on disk while a file is written to in place: both versions, so that a half-written file can be told from one
//! that somebody else has changed.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The format of the journal.
const VERSION: u32 = 1;

/// Both versions of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    version: u32,
    file: PathBuf,
    old: String,
    new: String,
}

/// A journal that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum JournalError {
    /// It is not what this program writes.
    #[error("not a journal of pg-keeper-watcher: {0}")]
    Unreadable(String),
    /// It was written by another version.
    #[error("written in format {0}, this program knows format {VERSION}")]
    Version(u32),
    /// It would not be read back as it is.
    #[error("this text cannot be written down")]
    NotWritable,
}

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// The old version.
    Old,
    /// The new version.
    New,
    /// A part of each, as a write leaves it that was cut off.
    Half,
    /// What no write of ours can have left.
    Foreign,
}

impl Journal {
    /// For a file that is about to get a new version.
    pub fn new(file: &Path, old: &str, new: &str) -> Self {
        Self { version: VERSION, file: file.to_path_buf(), old: old.to_owned(), new: new.to_owned() }
    }

    /// Reads the content of a journal.
    pub fn parse(text: &str) -> Result<Self, JournalError> {
        let journal: Self = serde_yaml::from_str(text).map_err(|error| JournalError::Unreadable(error.to_string()))?;
        if journal.version == VERSION { Ok(journal) } else { Err(JournalError::Version(journal.version)) }
    }

    /// The content of the journal, which is certain to be read back as it is.
    pub fn to_text(&self) -> Result<String, JournalError> {
        let text = serde_yaml::to_string(self).map_err(|error| JournalError::Unreadable(error.to_string()))?;
        if Self::parse(&text).as_ref() == Ok(self) { Ok(text) } else { Err(JournalError::NotWritable) }
    }

    /// The file's real path.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The version before.
    pub fn old(&self) -> &str {
        &self.old
    }

    /// The version to come.
    pub fn new_version(&self) -> &str {
        &self.new
    }

    /// Tells what a file holds. A disk that lost its power may hold any mixture, and zeros where the file grew.
    pub fn find(&self, content: &[u8]) -> Found {
        let (old, new) = (self.old.as_bytes(), self.new.as_bytes());
        let is_mixture = || {
            let between = old.len().min(new.len())..=old.len().max(new.len());
            between.contains(&content.len())
                && content.iter().enumerate().all(|(at, byte)| {
                    let grown = at >= old.len() && *byte == 0;
                    old.get(at) == Some(byte) || new.get(at) == Some(byte) || grown
                })
        };
        if content == old {
            Found::Old
        } else if content == new {
            Found::New
        } else if is_mixture() {
            Found::Half
        } else {
            Found::Foreign
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for text in [
            "",
            "a: 1",
            "\u{feff}a: 1\r\n\r\n",
            "\n\n  a: \t'x' # 東京\n",
            "a: \u{85}\u{2028}\u{a0}\u{7f}\n---\n...\n",
            " \n",
            "|\n",
            "\r",
            "null",
            "1e3",
        ] {
            let journal = Journal::new(Path::new("/srv/店: \"x\"/env.yaml"), text, "other\n");
            assert_eq!(Journal::parse(&journal.to_text().unwrap()), Ok(journal));
        }
        assert!(matches!(Journal::parse("version: 1\n"), Err(JournalError::Unreadable(_))));
        let newer = Journal { version: 2, ..Journal::new(Path::new("/f"), "", "") };
        assert_eq!(Journal::parse(&serde_yaml::to_string(&newer).unwrap()), Err(JournalError::Version(2)));
    }

    #[test]
    fn every_cut_off_write_is_known_and_nothing_else() {
        for (old, new) in [
            ("a: db01:5432 # x\nb: 1\n", "a: db02:5432 # x\nb: 1\n"),
            ("a: db01\nb: 1\n", "a: db01.example.com\nb: 1\n"),
            ("a: db01.example.com\nb: 1\n", "a: db02\nb: 1\n"),
        ] {
            let journal = Journal::new(Path::new("/f"), old, new);
            assert_eq!(journal.find(old.as_bytes()), Found::Old);
            assert_eq!(journal.find(new.as_bytes()), Found::New);
            for cut in 0..new.len() {
                let mut content = new.as_bytes()[..cut].to_vec();
                content.extend(old.as_bytes().iter().skip(cut));
                assert_ne!(journal.find(&content), Found::Foreign, "{cut}");
                if content != old.as_bytes() && content != new.as_bytes() {
                    assert_eq!(journal.find(&content), Found::Half, "{cut}");
                }
            }
            for foreign in ["", "a: db09\nb: 1\n", "a: db01:5432 # x\nb: 1\nc: 2 # another line\n"] {
                assert_eq!(journal.find(foreign.as_bytes()), Found::Foreign, "{foreign:?}");
            }
        }
        let grown = Journal::new(Path::new("/f"), "a\n", "a b c\n");
        assert_eq!(grown.find(b"a\n\0\0\0\0"), Found::Half);
    }
}

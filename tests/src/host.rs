//! An application host as tests need it: a file for the watcher to keep right, restarts that are counted, and a witness of
//! every version of the file.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

use anyhow::Result;

use crate::folder;
use crate::install::install;
use crate::watcher::{restart_by, target_section};

/// The name in the file before a watcher has written it.
pub const NOBODY: &str = "nobody:1";

/// A host with one application.
#[derive(Debug)]
pub struct Host {
    folder: PathBuf,
    file: PathBuf,
}

/// Looks at the file all the time.
#[derive(Debug)]
pub struct Witness {
    seen: Arc<Mutex<Vec<String>>>,
    ends: Arc<AtomicBool>,
    looking: Option<JoinHandle<()>>,
}

impl Host {
    /// A host whose file names nobody yet.
    pub fn create(cluster: &Path, name: &str) -> Result<Self> {
        let text = format!("db_master:\n  - address: {NOBODY}  # main\ndb_slave:\n  - address: {NOBODY}\n");
        Self::with_file(cluster, name, &text)
    }

    /// A host whose file holds this text.
    pub fn with_file(cluster: &Path, name: &str, text: &str) -> Result<Self> {
        let folder = cluster.join(name);
        let application = folder.join("application");
        folder::make(&folder)?;
        folder::make(&application)?;
        let file = application.join("env.yaml");
        fs::write(&file, text)?;
        install()?.give_to_server_account(&file)?;
        Ok(Self { folder, file })
    }

    /// The folder that the watcher lives in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The application's file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// What it holds now.
    pub fn content(&self) -> String {
        fs::read_to_string(&self.file).unwrap_or_default()
    }

    /// A configuration with its file, and a restart that is counted.
    pub fn configuration(&self, nodes: &str) -> String {
        let script = format!("echo >> {}", self.folder.join("restarts").display());
        self.configuration_with(nodes, &restart_by(&shell(&script)))
    }

    /// A configuration with its file, and a `restart` entry.
    pub fn configuration_with(&self, nodes: &str, restart: &str) -> String {
        nodes.to_owned() + &target_section(&self.file, restart)
    }

    /// How often the application was restarted.
    pub fn restarts(&self) -> usize {
        fs::read_to_string(self.folder.join("restarts")).map_or(0, |text| text.lines().count())
    }

    /// The address that the file names now; the whole file if it does not name one twice.
    pub fn named(&self) -> String {
        named(&self.content())
    }

    /// Begins to look at the file.
    pub fn witness(&self) -> Witness {
        let (seen, ends) = (Arc::new(Mutex::new(vec![self.named()])), Arc::new(AtomicBool::new(false)));
        let (file, all, end) = (self.file.clone(), Arc::clone(&seen), Arc::clone(&ends));
        let looking = spawn(move || {
            while !end.load(Ordering::Relaxed) {
                let now = named(&fs::read_to_string(&file).unwrap_or_default());
                let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                if all.last() != Some(&now) {
                    all.push(now);
                }
                drop(all);
                sleep(Duration::from_millis(1));
            }
        });
        Witness { seen, ends, looking: Some(looking) }
    }
}

impl Witness {
    /// Every address that the file has named, one after the other.
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(looking) = self.looking.take() {
            let _ = looking.join();
        }
    }
}

/// The argv of a little shell script.
pub fn shell(script: &str) -> [String; 3] {
    ["/bin/sh", "-c", script].map(str::to_owned)
}

fn named(text: &str) -> String {
    let addresses: Vec<&str> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- address: "))
        .filter_map(|rest| rest.split_whitespace().next())
        .collect();
    match addresses.as_slice() {
        [one, two] if one == two => (*one).to_owned(),
        _ => text.to_owned(),
    }
}

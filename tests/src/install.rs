//! The PostgreSQL that is installed here, the account that may run it, and the programs that cargo built.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::{Gid, Uid, User};

/// Where PostgreSQL keeps its programs and libraries.
#[derive(Debug)]
pub struct Install {
    bindir: PathBuf,
    pkglibdir: PathBuf,
    account: Option<Account>,
}

/// The account that servers run under when we are root, as PostgreSQL refuses to be started by root.
#[derive(Debug, Clone, Copy)]
pub struct Account {
    uid: Uid,
    gid: Gid,
}

/// The installation that `pg_config` (or the program named by the variable `PG_CONFIG`) describes.
pub fn install() -> Result<&'static Install> {
    static INSTALL: OnceLock<Install> = OnceLock::new();
    if let Some(install) = INSTALL.get() {
        return Ok(install);
    }
    let found = Install::find()?;
    Ok(INSTALL.get_or_init(|| found))
}

impl Install {
    fn find() -> Result<Self> {
        let pg_config = std::env::var_os("PG_CONFIG").unwrap_or_else(|| "pg_config".into());
        let ask = |what: &str| -> Result<PathBuf> {
            let output = Command::new(&pg_config)
                .arg(what)
                .output()
                .with_context(|| format!("run {} {what}: is PostgreSQL installed?", pg_config.display()))?;
            ensure!(output.status.success(), "{} {what} failed", pg_config.display());
            Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
        };
        let account = if Uid::effective().is_root() {
            let user = User::from_name("postgres")
                .context("look up the account postgres")?
                .context("we are root, PostgreSQL refuses to run as root, and there is no account postgres")?;
            Some(Account { uid: user.uid, gid: user.gid })
        } else {
            None
        };
        Ok(Self { bindir: ask("--bindir")?, pkglibdir: ask("--pkglibdir")?, account })
    }

    /// One of PostgreSQL's programs, to be run by the account that may run it and with none of our own PG* variables.
    pub fn tool(&self, name: &str) -> Command {
        let mut command = self.as_server_account(&self.bindir.join(name));
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("PG") {
                command.env_remove(variable);
            }
        }
        command.env("LC_ALL", "C.UTF-8").env("TZ", "UTC");
        command
    }

    /// Any program, to be run by the servers' account.
    pub fn as_server_account(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if let Some(account) = self.account {
            command.uid(account.uid.as_raw()).gid(account.gid.as_raw());
        }
        command.current_dir("/");
        command
    }

    /// Makes a folder of ours the servers' own.
    pub fn give_to_server_account(&self, folder: &Path) -> Result<()> {
        if let Some(account) = self.account {
            nix::unistd::chown(folder, Some(account.uid), Some(account.gid))
                .with_context(|| format!("give {} to the account postgres", folder.display()))?;
        }
        Ok(())
    }

    /// Fails, saying what to do, when pg_keeper's library is not where servers look for it.
    pub fn require_keeper(&self) -> Result<()> {
        let library = self.pkglibdir.join("pg_keeper.so");
        ensure!(
            library.exists(),
            "pg_keeper is not installed in this PostgreSQL ({} does not exist): run «make install» first",
            library.display()
        );
        Ok(())
    }
}

/// A program of this workspace, from the folder that this very program was built into.
pub fn program(name: &str) -> Result<PathBuf> {
    let here = std::env::current_exe().context("find our own executable")?;
    // Tests live in target/PROFILE/deps, programs one level higher.
    for folder in here.ancestors().skip(1).take(2) {
        let candidate = folder.join(name);
        if candidate.is_file() {
            return Ok(candidate);
        }
    }
    bail!("{name} is not beside {}: run «cargo build» (of the same profile) first", here.display())
}

/// Runs a command to its end; an error shows everything it printed.
pub fn run(command: &mut Command) -> Result<String> {
    let shown = format!("{command:?}");
    let Output { status, stdout, stderr } = command.output().with_context(|| format!("start {shown}"))?;
    let stdout = String::from_utf8_lossy(&stdout).into_owned();
    ensure!(status.success(), "{shown} failed, {status}:\n{stdout}{}", String::from_utf8_lossy(&stderr));
    Ok(stdout)
}

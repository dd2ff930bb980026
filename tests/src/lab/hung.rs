//! A disk that hangs: an ext4 file system on a loop device of this machine, mounted on a data directory, and frozen.
//!
//! Whoever writes to it then cannot even be killed. So a process of its own thaws it after a while, whatever becomes of the run. Needs
//! root on this machine.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::Lab;
use super::disk::maintain;
use super::host::Host;
use crate::install::run;

/// After how many seconds it is thawed, if nobody has done it by then.
const AT_MOST: u32 = 60;

/// The label that our file systems are found by.
const LABEL: &str = "pgkeeper-matrix";

fn image(host: &Host) -> PathBuf {
    std::env::temp_dir().join(format!("{LABEL}-{}.ext4", host.name()))
}

/// A server's data directory as this machine sees it.
fn seen_from_here(lab: &Lab, host: &Host) -> Result<PathBuf> {
    Ok(PathBuf::from(format!("/proc/{}/root{}", host.pid()?, lab.data())))
}

/// The data directory of the server at a place gets a file system of its own.
pub(super) fn prepare(lab: &Lab, place: usize) -> Result<()> {
    ensure!(nix::unistd::Uid::effective().is_root(), "a disk can be made to hang by root alone");
    let host = &lab.databases[place];
    let image = image(host);
    run(Command::new("truncate").arg("--size=2G").arg(&image))?;
    run(Command::new("mkfs.ext4").args(["-q", "-F", "-L", LABEL]).arg(&image))?;
    let device = run(Command::new("losetup").args(["--find", "--show"]).arg(&image))?.trim().to_owned();
    let number = fs::read_to_string(format!("/sys/block/{}/dev", device.trim_start_matches("/dev/")))?;
    let (major, minor) = number.trim().split_once(':').context("the number of a loop device")?;
    maintain(lab, place, |host| {
        let script = format!(
            "set -e; data={}; node=/dev/{LABEL}; rm -f $node; mknod $node b {major} {minor}; \
             mkdir -p /run/matrix; mount $node /run/matrix; rmdir /run/matrix/lost+found; cp -a $data/. /run/matrix/; \
             chown --reference=$data /run/matrix; chmod --reference=$data /run/matrix; umount /run/matrix; mount $node $data; rm $node",
            lab.data()
        );
        inside(host, &script)
    })
}

/// Nothing is written to it from now on.
pub(super) fn freeze(lab: &Lab, place: usize) -> Result<()> {
    let folder = seen_from_here(lab, &lab.databases[place])?;
    let thaw = format!("sleep {AT_MOST}; fsfreeze --unfreeze \"$0\"");
    let mut later = Command::new("setsid");
    later.args(["--fork", "sh", "-c", &thaw]).arg(&folder);
    later.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().context("who thaws it at last")?;
    run(Command::new("fsfreeze").arg("--freeze").arg(&folder)).map(drop)
}

/// It goes on, if it was frozen.
pub(super) fn thaw(lab: &Lab, place: usize) -> Result<()> {
    let host = &lab.databases[place];
    if image(host).exists() && host.is_running()? {
        // An error says that it was not frozen.
        let _ = run(Command::new("fsfreeze").arg("--unfreeze").arg(seen_from_here(lab, host)?));
    }
    Ok(())
}

/// Moves the data directory back, if it has a file system of its own.
pub(super) fn undo(lab: &Lab, place: usize) -> Result<()> {
    let host = &lab.databases[place];
    let image = image(host);
    if !image.exists() {
        return Ok(());
    }
    let data = lab.data();
    if host.sh(&format!("mountpoint -q {data} && echo yes || true"))? == "yes" {
        maintain(lab, place, |host| {
            let script = format!(
                "set -e; data={data}; rm -rf /var/tmp/matrix; cp -a $data /var/tmp/matrix; umount $data; \
                 find $data -mindepth 1 -delete; rm -rf /var/tmp/matrix/lost+found; cp -a /var/tmp/matrix/. $data/; rm -rf /var/tmp/matrix"
            );
            host.sh(&script).map(drop)
        })?;
    }
    let devices = run(Command::new("losetup").args(["--noheadings", "--output", "NAME", "--associated"]).arg(&image))?;
    for device in devices.split_whitespace() {
        run(Command::new("losetup").args(["--detach", device]))?;
    }
    fs::remove_file(&image).context("remove the image")
}

/// Runs a script among the mounts of a host, with this machine's rights: a container may not use its devices.
fn inside(host: &Host, script: &str) -> Result<()> {
    let mut command = Command::new("nsenter");
    command.arg(format!("--target={}", host.pid()?)).args(["--mount", "sh", "-c", script]);
    run(&mut command).map(drop)
}

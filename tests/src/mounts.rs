//! File systems that are full, read-only, one file large, or that give no answer.
//!
//! Needs root. They are mounted in a mount namespace that belongs to the calling thread and to the processes that it
//! starts from then on: nobody else sees them, and with the last of these they are gone, however that ends.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// The calling thread's own mounts from here on. `None` when nobody can make them and that is accepted; otherwise that is
/// an error, as a test that skips itself silently proves nothing.
pub fn private() -> Result<Option<Mounts>> {
    if std::env::var_os("PG_KEEPER_TESTS_WITHOUT_MOUNTS").is_some_and(|value| value == "1") {
        eprintln!("left out, as PG_KEEPER_TESTS_WITHOUT_MOUNTS=1 says: tests that mount file systems");
        return Ok(None);
    }
    ensure!(
        nix::unistd::Uid::effective().is_root(),
        "this test mounts file systems and needs root: run it as root, or set PG_KEEPER_TESTS_WITHOUT_MOUNTS=1 to leave it out"
    );
    let none: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS).context("make a mount namespace")?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("keep mounts to ourselves")?;
    Ok(Some(Mounts(())))
}

/// The right to mount.
#[derive(Debug)]
pub struct Mounts(());

impl Mounts {
    /// A file system in memory of a few kilobytes, which everybody may write to.
    pub fn small(&self, folder: &Path, kilobytes: u32) -> Result<()> {
        let options = format!("size={kilobytes}k,mode=777");
        mount(Some("tmpfs"), folder, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))
            .with_context(|| format!("mount a small file system on {}", folder.display()))
    }

    /// A mounted file system becomes read-only, or writable again.
    pub fn set_read_only(&self, folder: &Path, read_only: bool) -> Result<()> {
        let none: Option<&str> = None;
        let flags = if read_only { MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY } else { MsFlags::MS_REMOUNT };
        mount(none, folder, none, flags, none).with_context(|| format!("mount {} anew", folder.display()))
    }

    /// A file system that gives no answer, as one from a server that is gone. Whoever asked it is answered with an error when
    /// what is returned here is dropped.
    pub fn hung(&self, folder: &Path) -> Result<File> {
        let device = File::options().read(true).write(true).open("/dev/fuse");
        let device = device.context("this test needs /dev/fuse: load the kernel module fuse")?;
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", device.as_raw_fd());
        mount(Some("hung"), folder, Some("fuse"), MsFlags::empty(), Some(options.as_str()))
            .with_context(|| format!("mount a file system that hangs on {}", folder.display()))?;
        Ok(device)
    }

    /// A file is seen at the place of another one.
    pub fn bind(&self, file: &Path, at: &Path) -> Result<()> {
        let none: Option<&str> = None;
        mount(Some(file), at, none, MsFlags::MS_BIND, none)
            .with_context(|| format!("mount {} on {}", file.display(), at.display()))
    }
}

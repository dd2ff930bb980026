#![allow(clippy::unwrap_used)]

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;

use watcher_core::journal::Journal;

use super::*;

fn folder_with(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("env.yaml");
    fs::write(&file, text).unwrap();
    (folder, file)
}

/// What placing the new version answers, seen from outside.
fn placed(file: &Path) -> Placed {
    Placed::Done(Fingerprint::take(file).unwrap())
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn the_new_version_keeps_mode_and_link_and_leaves_a_backup() {
    let (folder, file) = folder_with("a: 1\n");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let link = folder.path().join("link.yaml");
    std::os::unix::fs::symlink("env.yaml", &link).unwrap();
    let original = Original::read(&link).unwrap();
    assert_eq!(Beside::write(&original, "a: 2\n").unwrap().place().unwrap(), placed(&file));
    assert_eq!(fs::read_to_string(&file).unwrap(), "a: 2\n");
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o640);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(folder.path().join("env.yaml.pg_keeper.bak")).unwrap(), "a: 1\n");
    assert_eq!(names(folder.path()), ["env.yaml", "env.yaml.pg_keeper.bak", "link.yaml"]);
}

#[test]
fn another_writers_change_is_not_lost() {
    let (folder, file) = folder_with("a: 1\n");
    let original = Original::read(&file).unwrap();
    let staged = Beside::write(&original, "a: 2\n").unwrap();
    fs::write(&file, "a: 1\nb: 2\n").unwrap();
    assert_eq!(staged.place().unwrap(), Placed::ChangedMeanwhile);
    assert_eq!(fs::read_to_string(&file).unwrap(), "a: 1\nb: 2\n");
    assert_eq!(names(folder.path()), ["env.yaml"]);
}

/// It is logged when it is news.
#[test]
fn a_failure_that_lasts_is_told_in_the_same_words() {
    let (folder, file) = folder_with("a: 1\n");
    let original = Original::read(&file).unwrap();
    drop(folder);
    let [first, second] = [(); 2].map(|()| format!("{:#}", Beside::write(&original, "a: 2\n").unwrap_err()));
    assert_eq!(first, second);
    assert!(
        first.starts_with(&format!("{}: cannot write a new version beside it", original.path().display())),
        "{first}"
    );
}

#[test]
fn what_a_killed_watcher_left_is_swept_and_what_a_living_one_uses_is_not() {
    let (folder, file) = folder_with("a: 1\n");
    let living = format!(".env.yaml.{}.0123456789abcdef.pg_keeper.new", std::os::unix::process::parent_id());
    let others = [".env.yaml.1.2.0123456789abcdef.pg_keeper.new", ".env.yaml.swp", "env.yaml", living.as_str()];
    let left = [".env.yaml.pg_keeper.new", ".env.yaml.4194304.0123456789abcdef.pg_keeper.bak"];
    for name in left.iter().chain(&others[..2]).chain([&living.as_str()]) {
        fs::write(folder.path().join(name), "half").unwrap();
    }
    Original::read(&file).unwrap().sweep();
    let mut want = others.map(str::to_owned);
    want.sort();
    assert_eq!(names(folder.path()), want);
}

#[test]
fn two_writers_do_not_write_into_one_file() {
    let (folder, file) = folder_with("a: 1\n");
    let original = Original::read(&file).unwrap();
    let one = Beside::write(&original, "a: 2\n").unwrap();
    let two = Beside::write(&original, "a: 3\n").unwrap();
    fs::write(&two.temporary, "").unwrap();
    fs::remove_file(&two.temporary).unwrap();
    fs::write(&two.temporary, "planted").unwrap();
    assert!(two.place().unwrap_err().to_string().contains("another program replaced it"));
    assert_eq!(one.place().unwrap(), placed(&file));
    assert_eq!(fs::read_to_string(&file).unwrap(), "a: 2\n");
    drop(folder);
}

#[test]
fn a_backup_that_cannot_be_made_is_no_obstacle() {
    let (folder, file) = folder_with("a: 1\n");
    fs::create_dir(folder.path().join("env.yaml.pg_keeper.bak")).unwrap();
    let original = Original::read(&file).unwrap();
    assert_eq!(Beside::write(&original, "a: 2\n").unwrap().place().unwrap(), placed(&file));
    assert_eq!(names(folder.path()), ["env.yaml", "env.yaml.pg_keeper.bak"]);
}

#[test]
fn a_backup_follows_no_link() {
    let (folder, file) = folder_with("a: 1\n");
    let victim = folder.path().join("victim");
    fs::write(&victim, "mine").unwrap();
    std::os::unix::fs::symlink(&victim, folder.path().join("env.yaml.pg_keeper.bak")).unwrap();
    let original = Original::read(&file).unwrap();
    assert!(original.copy_to(&folder.path().join("env.yaml.pg_keeper.bak")).is_err());
    Beside::write(&original, "a: 2\n").unwrap().place().unwrap();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "mine");
    assert_eq!(fs::read_to_string(folder.path().join("env.yaml.pg_keeper.bak")).unwrap(), "a: 1\n");
}

/// An ACL as the kernel takes it: version, then tag, rights and id of each entry.
fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, id) in entries {
        bytes.extend(tag.to_le_bytes().iter().chain(&rights.to_le_bytes()).chain(&id.to_le_bytes()));
    }
    bytes
}

#[test]
fn the_folders_default_acl_gives_nobody_new_rights() {
    let (folder, file) = folder_with("a: 1\n");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    xattr::set(&file, "user.note", b"kept").ok();
    let default = acl(&[(1, 7, !0), (2, 7, 12345), (4, 5, !0), (16, 7, !0), (32, 5, !0)]);
    if xattr::set(folder.path(), "system.posix_acl_default", &default).is_err() {
        return; // This file system knows no ACLs.
    }
    let before: Vec<OsString> = xattr::list(&file).unwrap().collect();
    Beside::write(&Original::read(&file).unwrap(), "a: 2\n").unwrap().place().unwrap();
    assert_eq!(xattr::list(&file).unwrap().collect::<Vec<_>>(), before);
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o640);
}

/// A state folder beside, with a store in it.
fn store_beside(folder: &Path) -> Store {
    Store::open_in(folder.join("state"), false).unwrap()
}

#[test]
fn the_old_version_is_the_file_that_was_there() {
    let (folder, file) = folder_with("a: 1\n");
    let inode = fs::metadata(&file).unwrap().ino();
    let original = Original::read(&file).unwrap();
    Beside::write(&original, "a: 2\n").unwrap().place().unwrap();
    assert_eq!(fs::metadata(folder.path().join("env.yaml.pg_keeper.bak")).unwrap().ino(), inode);
}

#[test]
fn a_file_that_became_another_kind_is_left_alone() {
    let (folder, file) = folder_with("a: 1\n");
    let original = Original::read(&file).unwrap();
    let new = Beside::write(&original, "a: 2\n").unwrap();
    fs::rename(&file, folder.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink("elsewhere", &file).unwrap();
    assert_eq!(new.place().unwrap(), Placed::ChangedMeanwhile);
    assert!(fs::symlink_metadata(&file).unwrap().is_symlink());
    assert_eq!(names(folder.path()), ["elsewhere", "env.yaml"]);
}

#[test]
fn what_is_no_plain_file_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    let error = format!("{:#}", Original::read(&pipe).unwrap_err());
    assert!(error.contains("it is not a plain file"), "{error}");
    assert!(Original::read(folder.path()).is_err());
}

#[test]
fn in_place_the_file_stays_itself() {
    for new in ["a: 2\n# end\n", "a: 2222\n# end\n", "a:\n"] {
        let (folder, file) = folder_with("a: 1\n# end\n");
        let store = store_beside(folder.path());
        let inode = fs::metadata(&file).unwrap().ino();
        let original = Original::read(&file).unwrap();
        let staged = original.stage(new, Write::InPlace, &store).unwrap();
        assert_eq!(store.journals().len(), 1);
        assert_eq!(fs::metadata(&store.journals()[0]).unwrap().mode() & 0o777, 0o600);
        assert_eq!(staged.place().unwrap(), placed(&file));
        assert_eq!(fs::read_to_string(&file).unwrap(), new);
        assert_eq!(fs::metadata(&file).unwrap().ino(), inode);
        assert_eq!(fs::read_to_string(folder.path().join("env.yaml.pg_keeper.bak")).unwrap(), "a: 1\n# end\n");
        assert_eq!(store.journals(), [] as [PathBuf; 0]);
    }
}

#[test]
fn in_place_another_writers_change_is_not_lost() {
    let (folder, file) = folder_with("a: 1\n");
    let store = store_beside(folder.path());
    let original = Original::read(&file).unwrap();
    let staged = original.stage("a: 2\n", Write::InPlace, &store).unwrap();
    fs::write(&file, "a: 1\nb: 2\n").unwrap();
    assert_eq!(staged.place().unwrap(), Placed::ChangedMeanwhile);
    assert_eq!(fs::read_to_string(&file).unwrap(), "a: 1\nb: 2\n");
    assert_eq!(store.journals(), [] as [PathBuf; 0]);
}

#[test]
fn a_half_written_file_gets_its_old_version_back_at_the_next_start() {
    let (old, new) = ("a: db01.example.com # x\nb: 1\n", "a: db02 # x\nb: 1\n");
    for (found, repaired) in [
        (old, old),
        (new, new),
        ("a: db02 # x\nb: 1\nom # x\nb: 1\n", old),
        ("a: db02.example.com # x\nb: 1\n", old),
        ("a: db09 # somebody else's\n", "a: db09 # somebody else's\n"),
    ] {
        let (folder, file) = folder_with(old);
        let real = fs::canonicalize(&file).unwrap();
        let stored = {
            let store = store_beside(folder.path());
            store.store_journal(&real, &Journal::new(&real, old, new).to_text().unwrap()).unwrap()
        };
        fs::write(&file, found).unwrap();
        let store = store_beside(folder.path());
        assert_eq!(fs::read_to_string(&file).unwrap(), repaired, "{found:?}");
        assert_eq!(store.journals(), [] as [PathBuf; 0]);
        assert_eq!(stored.with_extension("kept").exists(), found.contains("db09"));
    }
}

#[test]
fn a_file_that_is_not_there_is_repaired_later() {
    let (folder, file) = folder_with("a: db01\n");
    let real = fs::canonicalize(&file).unwrap();
    let journal = Journal::new(&real, "a: db01\n", "a: db02.example.com\n").to_text().unwrap();
    store_beside(folder.path()).store_journal(&real, &journal).unwrap();
    fs::remove_file(&file).unwrap();
    let store = store_beside(folder.path());
    assert!(store.journal(&real).is_some());
    fs::write(&file, "a: db02.exa").unwrap();
    repair(&real, &store, &store.lock_file(&real).unwrap()).unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "a: db01\n");
    assert_eq!(store.journal(&real), None);
}

#[test]
fn a_rehearsal_leaves_no_trace() {
    let (folder, file) = folder_with("a: 1\n");
    let seen = Fingerprint::take(&file).unwrap();
    let original = Original::read(&file).unwrap();
    original.rehearse(Write::Rename).unwrap();
    original.rehearse(Write::InPlace).unwrap();
    assert_eq!(Fingerprint::take(&file).unwrap(), seen);
    assert_eq!(names(folder.path()), ["env.yaml"]);
}

/// Another program replaces the file in the very moment in which the new version is put in place.
#[test]
fn whoever_writes_at_the_same_moment_loses_no_change() {
    let (folder, file) = folder_with("a: 1 # 0\n");
    let other = folder.path().join("other");
    let (mut done, mut refused) = (0, 0);
    for number in 1..=500 {
        let original = Original::read(&file).unwrap();
        let staged = Beside::write(&original, "a: 2 # mine\n").unwrap();
        fs::write(&other, format!("a: 1 # {number}\n")).unwrap();
        let barrier = std::sync::Barrier::new(2);
        let placed = std::thread::scope(|scope| {
            scope.spawn(|| {
                barrier.wait();
                for _ in 0..fastrand::u32(..2_000) {
                    std::hint::spin_loop();
                }
                fs::rename(&other, &file).unwrap();
            });
            barrier.wait();
            staged.place().unwrap()
        });
        match placed {
            Placed::Done(_) => done += 1,
            Placed::ChangedMeanwhile => refused += 1,
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), format!("a: 1 # {number}\n"), "{placed:?}");
    }
    assert_eq!(done + refused, 500);
}

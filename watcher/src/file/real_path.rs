//! Where paths lead, symbolic links followed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

/// How long file systems may take. One whose server is gone gives no answer at all, and must not hold up what has nothing
/// to do with it.
const WITHIN: Duration = Duration::from_secs(1);

/// Where each of these paths leads, as far as that can be told in time.
pub(crate) fn real_paths<'a>(paths: impl IntoIterator<Item = &'a Path>) -> BTreeMap<PathBuf, PathBuf> {
    let (answer, answers) = channel();
    for path in paths {
        let (path, answer) = (path.to_path_buf(), answer.clone());
        thread::spawn(move || {
            let real = real_path(&path);
            // Nobody listens to one that comes too late.
            let _ = answer.send((path, real));
        });
    }
    drop(answer);
    let end = Instant::now() + WITHIN;
    std::iter::from_fn(|| answers.recv_timeout(end.saturating_duration_since(Instant::now())).ok()).collect()
}

fn real_path(file: &Path) -> PathBuf {
    std::fs::canonicalize(file).unwrap_or_else(|_| match (file.parent(), file.file_name()) {
        // It may not be there yet.
        (Some(folder), Some(name)) => real_path(folder).join(name),
        _ => file.to_path_buf(),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_also_to_what_is_not_there_yet() {
        let folder = tempfile::tempdir().unwrap();
        let root = std::fs::canonicalize(folder.path()).unwrap();
        std::fs::create_dir(root.join("release")).unwrap();
        std::os::unix::fs::symlink("release", root.join("current")).unwrap();
        let asked = [root.join("current/env.yaml"), root.join("none/env.yaml"), root.join("current")];
        let real = real_paths(asked.iter().map(PathBuf::as_path));
        let expected = [root.join("release/env.yaml"), root.join("none/env.yaml"), root.join("release")];
        assert_eq!(asked.map(|path| real[&path].clone()), expected);
    }
}

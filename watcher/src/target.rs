//! What is done for one target: its file brought up to date, its application restarted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use watcher_core::config::{Application, Config, Target};
use watcher_core::follow::Active;
use watcher_core::memory::Memory;
use watcher_core::plan::{Debt, Due, Moment, RewriteDue, Wanted};
use watcher_core::repairs::Repairs;

use crate::file::{self, Fingerprint, Original, Placed};
use crate::monitor::metrics;
use crate::restart::{self, Back, CarriedOut, Misconfigured, Ready};
use crate::state::Store;
use crate::{clock, fault};

/// One target with all it needs. Clones share what is remembered.
#[derive(Debug, Clone)]
pub(crate) struct Keeper {
    config: Arc<Config>,
    at: usize,
    store: Arc<Store>,
}

/// What became of a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Restarted {
    /// Nothing was owed.
    NotDue,
    /// Done.
    Done,
    /// It failed, or the application is not seen to be back, or there is a newer rewrite: something is still owed.
    Owed,
    /// Something is still owed, and only a person can make it work.
    Misconfigured,
}

/// What became of bringing a file up to date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Brought {
    /// It is up to date, and looks like this.
    UpToDate(Fingerprint),
    /// It is not, and is left so, as another program keeps changing it back.
    LeftAlone(Fingerprint),
}

/// How often another program's change in the same moment is answered by a new attempt.
const WRITE_ATTEMPTS: u32 = 3;

impl Keeper {
    /// One for each target.
    pub(crate) fn all(config: &Arc<Config>, store: &Arc<Store>) -> Vec<Self> {
        (0..config.targets.len()).map(|at| Self { config: Arc::clone(config), at, store: Arc::clone(store) }).collect()
    }

    /// The target.
    pub(crate) fn target(&self) -> &Target {
        &self.config.targets[self.at]
    }

    /// Brings the file up to date. A restart is owed, on disk, before the file changes; without one nothing is remembered.
    pub(crate) async fn rewrite(&self, active: Active, with_restart: bool) -> anyhow::Result<Brought> {
        let keeper = self.clone();
        // Syncing to a busy disk may take long, and nodes must be asked meanwhile.
        tokio::task::spawn_blocking(move || keeper.rewrite_now(active, with_restart)).await?
    }

    fn rewrite_now(&self, active: Active, with_restart: bool) -> anyhow::Result<Brought> {
        let target = self.target();
        let node = &self.config.nodes[active.node.index()];
        let values = target.wanted(node);
        let wanted = with_restart.then(|| Wanted {
            node: node.name.clone(),
            position: active.position.into(),
            edition: self.config.edition.clone(),
        });
        let original = Original::read(&target.file)?;
        if self.store.journal(original.path()).is_none() && original.edit(&values)?.replaced.is_empty() {
            // A watcher that was killed right after it had put this version in place left the one before.
            original.sweep();
            return Ok(self.found_right(wanted.as_ref(), &original));
        }
        let alone = self.store.lock_file(original.path())?;
        fault::point("locked");
        original.sweep();
        file::repair(original.path(), &self.store, &alone)?;
        for _ in 0..WRITE_ATTEMPTS {
            let original = Original::read(&target.file)?;
            let edited = original.edit(&values)?;
            if edited.replaced.is_empty() {
                return Ok(self.found_right(wanted.as_ref(), &original));
            }
            let before = self.debt();
            let due = wanted.as_ref().map_or(RewriteDue::Now, |wanted| before.rewrite_due(wanted, clock::now()));
            if due == RewriteDue::Never {
                self.store.update(|memory| self.debt_in(memory).rewrite_given_up())?;
                return Ok(Brought::LeftAlone(original.seen()));
            }
            let staged = original.stage(&edited.text, target.write, &self.store)?;
            if self.store.is_guest() {
                // Whoever holds the lock may have followed a newer node since this one was asked.
                let past = self.store.latest()?.past;
                anyhow::ensure!(past.still_allows(active.position), "{} is no longer the active node", node.name);
            } else {
                // Whom the file follows is known for good before it says so: a watcher that died in between would
                // otherwise begin anew from what was known before, and might go back.
                self.store.update(|memory| {
                    memory.past.note_active(&node.name, active.position);
                    if let Some(wanted) = &wanted {
                        self.debt_in(memory).rewrite_begins(wanted.clone(), clock::now());
                    }
                })?;
            }
            fault::point("owed");
            let placed = staged.place();
            fault::point("placed");
            if let Ok(Placed::Done(seen)) = placed {
                let changes: Vec<String> = edited
                    .replaced
                    .iter()
                    .map(|replaced| match target.tells_only_the_node(&replaced.path) {
                        true => format!("{} {} -> {}", replaced.path, replaced.from, replaced.to),
                        // What stands around the address may be a password.
                        false => format!("{} -> {}", replaced.path, node.name),
                    })
                    .collect();
                metrics::rewrote(&target.name);
                if due == RewriteDue::Again {
                    tracing::warn!("{}: another program changed {} back", target.name, target.file.display());
                }
                tracing::info!("{}: rewrote {}: {}", target.name, target.file.display(), changes.join(", "));
                return Ok(Brought::UpToDate(seen));
            }
            // An error may come after the new version is in its place: then the restart is owed.
            let is_as_before =
                placed.is_ok() || Original::read(&target.file).is_ok_and(|now| now.text().ok() == original.text().ok());
            if with_restart && is_as_before {
                self.store.note(|memory| self.debt_in(memory).rewrite_undone(&before))?;
            }
            placed?;
        }
        anyhow::bail!("{}: another program keeps changing the file; stop one of the two", target.file.display())
    }

    fn found_right(&self, wanted: Option<&Wanted>, original: &Original) -> Brought {
        if let Some(wanted) = wanted
            && let Err(error) = self.store.update(|memory| self.debt_in(memory).found_right(wanted))
        {
            // It only tells another program's doing from what was so before.
            tracing::debug!("{}: {error:#}", self.target().name);
        }
        Brought::UpToDate(original.seen())
    }

    fn debt_in<'m>(&self, memory: &'m mut Memory) -> &'m mut Debt {
        memory.targets.entry(self.key().to_path_buf()).or_default()
    }

    /// What the file looks like, without reading it; nothing if it is not there.
    pub(crate) async fn look(&self) -> Option<Fingerprint> {
        let file = self.target().file.clone();
        tokio::task::spawn_blocking(move || Fingerprint::take(&file).ok()).await.ok().flatten()
    }

    /// By what its debt is known: the path in the configuration. Where that leads may change, as a link to a release does.
    pub(crate) fn key(&self) -> &Path {
        &self.target().file
    }

    /// What is due of restarts.
    pub(crate) fn due(&self) -> Due {
        self.debt().due(clock::now(), self.target().restart.limit)
    }

    /// A restart is owed, and not just a look at whether the application is back.
    pub(crate) fn restart_pending(&self) -> bool {
        self.debt().restart_pending()
    }

    /// What its restart restarts.
    pub(crate) fn application(&self) -> Application {
        self.target().application()
    }

    /// Its place in the configuration.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// The places of all targets with the same application, its own among them.
    pub(crate) fn with_same_application(&self) -> Vec<usize> {
        let application = self.application();
        let targets = self.config.targets.iter().enumerate();
        targets.filter(|(_, target)| target.application() == application).map(|(at, _)| at).collect()
    }

    /// Restarts the application. Until that has succeeded, the restart is owed. It makes good what is owed to the other
    /// targets with this application, too.
    pub(crate) async fn restart(&self) -> Restarted {
        let target = self.target();
        let name = &target.name;
        let begun = clock::now();
        let issued = self.issue();
        fault::point("restart_begins");
        let outcome = match restart::prepare(target, issued.may_be_down, self.store.memory().clock).await {
            Ok(Some(ready)) => self.carry_out(ready, begun, &issued).await,
            Ok(None) => Ok(CarriedOut::NotRunning),
            Err(error) => Err(error),
        };
        fault::point("restart_carried_out");
        metrics::restarted(name, metrics::Outcome::of(&outcome), clock::now().since(begun));
        match outcome {
            Ok(CarriedOut::Restarted) if restart::can_be_verified(target) => {
                self.note_all(&issued, |debt, _, rewrites| debt.restart_carried_out(rewrites, true)).await;
                self.see_back(begun, true).await
            }
            Ok(CarriedOut::Restarted | CarriedOut::NotRunning) => {
                self.note_all(&issued, |debt, _, rewrites| debt.restart_carried_out(rewrites, false)).await;
                tracing::info!("{name}: restart finished after {} ms", clock::now().since(begun).as_millis());
                Restarted::Done
            }
            Ok(CarriedOut::Overtaken) => {
                tracing::info!("{name}: the restart is no longer waited for: the file was rewritten again meanwhile");
                Restarted::Owed
            }
            Ok(CarriedOut::Failed(error)) => {
                self.note_all(&issued, |debt, _, _| debt.not_stopped_by_us()).await;
                self.failed(&issued, begun, error).await
            }
            Err(error) => self.failed(&issued, begun, error).await,
        }
    }

    async fn carry_out(&self, ready: Ready<'_>, begun: Moment, issued: &Issued) -> anyhow::Result<CarriedOut> {
        // On disk while the application restarts, so that the limit holds for a watcher that is killed again and again.
        let noting = self.note_all(issued, move |debt, target, _| debt.restart_begins(begun, target.restart.limit));
        let overtaken = || self.is_overtaken(issued);
        if ready.is_noted_first() {
            noting.await;
            return ready.carry_out(self.target(), overtaken).await;
        }
        let (outcome, ()) = tokio::join!(ready.carry_out(self.target(), overtaken), noting);
        outcome
    }

    async fn failed(&self, issued: &Issued, begun: Moment, error: anyhow::Error) -> Restarted {
        let name = &self.target().name;
        let now = clock::now();
        self.note_all(issued, move |debt, _, rewrites| debt.restart_failed(rewrites, begun, now)).await;
        tracing::error!("{name}: restart failed: {error:#}; it is pending and is tried again");
        if error.is::<Misconfigured>() { Restarted::Misconfigured } else { Restarted::Owed }
    }

    /// What a restart that is issued now makes good.
    fn issue(&self) -> Issued {
        let memory = self.store.memory();
        let debts = self.with_same_application().into_iter().map(|at| (at, memory.debt(&self.config.targets[at].file)));
        let debts: Vec<(usize, Debt)> = debts.collect();
        Issued {
            rewrites: debts.iter().map(|(at, debt)| (*at, debt.rewrites)).collect(),
            // To the others something else may be owed, or nothing.
            owed: debts
                .iter()
                .filter(|(at, debt)| *at == self.at || debt.restart_pending())
                .map(|(at, _)| *at)
                .collect(),
            may_be_down: debts.iter().any(|(_, debt)| debt.may_be_down),
        }
    }

    /// Another restart is due: a file was rewritten since.
    fn is_overtaken(&self, issued: &Issued) -> bool {
        let memory = self.store.memory();
        issued.rewrites.iter().any(|(at, rewrites)| memory.debt(&self.config.targets[*at].file).rewrites > *rewrites)
    }

    /// Sees whether the application is back after a restart that was carried out some time ago.
    pub(crate) async fn verify(&self) -> Restarted {
        self.see_back(clock::now(), false).await
    }

    async fn see_back(&self, begun: Moment, fresh: bool) -> Restarted {
        let target = self.target();
        let name = &target.name;
        let rewrites = self.debt().rewrites;
        let issued = self.issue();
        let clock = self.store.memory().clock;
        let (error, gone) = match restart::verify(target, fresh, clock, || self.is_overtaken(&issued)).await {
            Back::Yes => {
                self.note(Debt::verified).await;
                let after = clock::now().since(begun).as_millis();
                tracing::info!("{name}: restart finished: it was back after {after} ms");
                return Restarted::Done;
            }
            Back::LeftStopped(state) => {
                self.note(Debt::verified).await;
                tracing::info!("{name}: restart finished: {state}, and it reads the file when it is started");
                return Restarted::Done;
            }
            Back::Overtaken => return Restarted::Owed,
            Back::NotYet(error) => (error, false),
            Back::Gone(error) => (error, true),
        };
        let now = clock::now();
        self.note(move |debt| debt.verify_failed(rewrites, now, gone)).await;
        let next = if gone { "it is restarted again" } else { "it is looked at again" };
        tracing::error!("{name}: restarted, but {error:#}; {next}");
        Restarted::Owed
    }

    fn debt(&self) -> Debt {
        self.store.memory().debt(self.key())
    }

    async fn note(&self, change: impl Fn(&mut Debt) + Send + 'static) {
        let own = Issued { rewrites: [(self.at, 0)].into(), owed: [self.at].into(), may_be_down: false };
        self.note_all(&own, move |debt, _, _| change(debt)).await;
    }

    /// Even if the disk is full: a restart that was done must not be repeated for ever.
    async fn note_all(&self, issued: &Issued, change: impl Fn(&mut Debt, &Target, u64) + Send + 'static) {
        let (keeper, issued) = (self.clone(), issued.clone());
        let note = move || {
            keeper.store.note(|memory| {
                for at in &issued.owed {
                    let target = &keeper.config.targets[*at];
                    let debt = memory.targets.entry(target.file.clone()).or_default();
                    change(debt, target, issued.rewrites.get(at).copied().unwrap_or_default());
                }
            })
        };
        if let Err(error) = tokio::task::spawn_blocking(note).await.map_err(Into::into).and_then(|noted| noted) {
            tracing::warn!("{}: {error:#}; after a crash the restart might be done once more", self.target().name);
        }
    }
}

/// A restart that is under way.
#[derive(Debug, Clone)]
struct Issued {
    /// How often the file of each target with this application had been rewritten before, by the target's place.
    rewrites: BTreeMap<usize, u64>,
    /// Those of them to which it is owed.
    owed: Vec<usize>,
    /// An earlier one may have left the application stopped.
    may_be_down: bool,
}

/// Says that a file is not put right any more.
pub(crate) fn tell_left_alone(target: &Target) {
    tracing::error!(
        "{}: another program keeps changing {} back; after {} times in {} minutes it is left so until it is right \
         again, the configuration is edited or there is another active node; stop that program",
        target.name,
        target.file.display(),
        Repairs::COUNT,
        Repairs::WINDOW.as_secs() / 60
    );
}

/// Finds the debts of files that are configured by another path than before, and tells of those whose file is no longer
/// configured.
pub(crate) fn settle_orphans(config: &Config, store: &Store) {
    let configured: Vec<&Path> = config.targets.iter().map(|target| target.file.as_path()).collect();
    let is_orphan = |file: &&PathBuf| !configured.contains(&file.as_path());
    let memory = store.memory();
    let orphans: Vec<&Path> = memory.targets.keys().filter(is_orphan).map(PathBuf::as_path).collect();
    if orphans.is_empty() {
        return;
    }
    let real = file::real_paths(configured.iter().copied().chain(orphans));
    if let Err(error) = store.note(|memory| memory.adopt(&configured, &real)) {
        tracing::warn!("{error:#}");
    }
    for (file, debt) in &store.memory().targets {
        if debt.restart_pending() && is_orphan(&file) {
            tracing::warn!(
                "{}: a restart is pending for this file, which is no longer the file of any target; restart its \
                 application yourself",
                file.display()
            );
        }
    }
}

//! The watcher behind roads that lie, hang and lead elsewhere: the file never names a node that was not the active one, and the
//! application is restarted once for each node that became active.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use keeper_tests::clock::{Micros, now};
use keeper_tests::host::{Host, NOBODY, Witness};
use keeper_tests::node::{Node, PATIENCE};
use keeper_tests::pair::Pair;
use keeper_tests::proxy::{Manner, Proxy};
use keeper_tests::template::another_template;
use keeper_tests::wait;
use keeper_tests::watcher::Watcher;

/// What applications are told of the two nodes.
const NAMES: [&str; 2] = ["db01:5432", "db02:5432"];
/// Long enough for a watcher that is misled to act on it: several questions, and an attempt that runs into its time limit.
const A_WHILE: Duration = Duration::from_secs(2);

/// A pair without pg_keeper, the roads to it, and a watcher that has followed its primary.
struct Scene {
    watcher: Watcher,
    witness: Witness,
    host: Host,
    roads: [Proxy; 2],
    pair: Pair,
}

impl Scene {
    fn set(name: &str) -> Result<Self> {
        let pair = Pair::describe(name).without_keeper().start()?;
        let roads = [Proxy::to(&pair.primary)?, Proxy::to(&pair.standby)?];
        let host = Host::create(pair.folder(), "host")?;
        let line = |at: usize| {
            format!(
                "  db0{}: {{conninfo: \"host=127.0.0.1 port={} dbname=postgres user=postgres\", address: \"{}\"}}\n",
                at + 1,
                roads[at].port(),
                NAMES[at]
            )
        };
        let nodes = format!("nodes:\n{}{}connection: {{timeout: 1s}}\n", line(0), line(1));
        let witness = host.witness();
        let watcher = Watcher::start(host.folder(), &host.configuration(&nodes))?;
        let scene = Self { watcher, witness, host, roads, pair };
        scene.wait_restarts(1)?;
        Ok(scene)
    }

    fn evidence(&self) -> String {
        format!("the file named: {:?}\n--- watcher log:\n{}", self.witness.seen(), self.watcher.log())
    }

    fn wait_until(&self, what: &str, condition: impl FnMut() -> Result<bool>) -> Result<()> {
        wait::until(what, PATIENCE, || self.evidence(), condition)
    }

    fn wait_restarts(&self, count: usize) -> Result<()> {
        self.wait_until(&format!("restart number {count}"), || Ok(self.host.restarts() >= count))
    }

    /// The server behind the first road dies, and the other one is promoted.
    fn fail_over(&self) -> Result<()> {
        self.pair.primary.kill_all()?;
        self.pair.standby.promote()
    }

    /// All is well again; the watcher knows it, and nothing else ever happened than what should have.
    fn end(&self, active: usize) -> Result<()> {
        for road in &self.roads {
            road.behave(Manner::Open);
        }
        self.wait_until("the watcher to know the active node", || Ok(self.host.named() == NAMES[active]))?;
        self.wait_restarts(active + 1)?;
        self.wait_knows(active)?;
        let expected: Vec<&str> = [NOBODY].into_iter().chain(NAMES).take(active + 2).collect();
        ensure!(self.witness.seen() == expected, "a wrong host was named: {}", self.evidence());
        ensure!(self.watcher.count("rewrote") == active + 1, "rewritten too often: {}", self.evidence());
        ensure!(self.host.restarts() == active + 1, "{} restarts: {}", self.host.restarts(), self.evidence());
        Ok(())
    }

    /// Waits until the last that the watcher said of who is active is this node.
    fn wait_knows(&self, active: usize) -> Result<()> {
        let words = format!("active node is db0{}", active + 1);
        self.wait_until(&words, || {
            let said = self.watcher.lines().into_iter().rev().map(|line| line.text);
            let last = said.into_iter().find(|text| CHOICES.iter().any(|choice| text.contains(choice)));
            Ok(last.is_some_and(|text| text.contains(&words)))
        })
    }

    fn wait_unreachable(&self, node: usize, since: Micros) -> Result<()> {
        self.watcher.wait_said(&format!("db0{}: unreachable", node + 1), since).map(drop)
    }

    /// Nothing changes for a while.
    fn stays(&self, active: usize) -> Result<()> {
        sleep(A_WHILE);
        ensure!(self.host.named() == NAMES[active], "a wrong host is named: {}", self.evidence());
        Ok(())
    }
}

/// How the watcher's sentences about who is active begin.
const CHOICES: [&str; 3] = ["active node is", "no active node", "two primaries"];

/// The road is bad to the active node, to the other one, to both, during a failover, and after it.
fn a_bad_road(name: &str, bad: Manner) -> Result<()> {
    let scene = Scene::set(name)?;
    let [first, second] = &scene.roads;
    for node in [0, 1] {
        let since = now();
        scene.roads[node].behave(bad);
        scene.wait_unreachable(node, since)?;
        scene.roads[node].behave(Manner::Open);
        scene.wait_knows(0)?;
    }
    let since = now();
    first.behave(bad);
    second.behave(bad);
    scene.wait_unreachable(0, since)?;
    scene.fail_over()?;
    if matches!(bad, Manner::Flapping(_)) {
        // Half of the time is enough.
        scene.wait_until("a rewrite", || Ok(scene.host.named() == NAMES[1]))?;
    } else {
        scene.stays(0)?;
        second.behave(Manner::Open);
    }
    scene.wait_restarts(2)?;

    // The old primary comes back as it was, and is the only one who can be reached.
    scene.pair.primary.start()?;
    first.behave(Manner::Open);
    second.behave(bad);
    scene.stays(1)?;
    scene.end(1)
}

#[test]
fn nodes_that_accept_and_hang() -> Result<()> {
    a_bad_road("hang", Manner::Silent)
}

#[test]
fn nodes_that_answer_half_a_message() -> Result<()> {
    a_bad_road("half", Manner::Half)
}

#[test]
fn nodes_that_hang_up_in_the_middle_of_a_message() -> Result<()> {
    a_bad_road("cut", Manner::Cut)
}

#[test]
fn nodes_that_flap() -> Result<()> {
    a_bad_road("flap", Manner::Flapping(Duration::from_millis(300)))
}

#[test]
fn nodes_that_disagree_and_go_back_in_time() -> Result<()> {
    let scene = Scene::set("disagree")?;
    let [first, second] = &scene.roads;
    let (primary, standby) = (&scene.pair.primary, &scene.pair.standby);
    let stranger = Node::create(scene.pair.folder(), "stranger", None)?;
    stranger.copy_from(&another_template()?)?;
    stranger.configure(&["fsync = off".to_owned()])?;
    stranger.start()?;

    // Both say that they are primary on one timeline.
    let since = now();
    second.lead_to(primary)?;
    scene.watcher.wait_said("two primaries", since)?;
    scene.stays(0)?;
    second.lead_to(standby)?;
    scene.wait_knows(0)?;

    // Somebody else's server.
    let since = now();
    second.lead_to(&stranger)?;
    scene.watcher.wait_said("two primaries", since)?;
    let since = now();
    first.behave(Manner::Closed);
    scene.wait_unreachable(0, since)?;
    scene.stays(0)?;
    second.lead_to(standby)?;
    first.behave(Manner::Open);
    scene.wait_knows(0)?;

    scene.fail_over()?;
    scene.wait_restarts(2)?;

    // Back in time: the road to the new primary leads to the old one.
    primary.start()?;
    let since = now();
    second.lead_to(primary)?;
    scene.watcher.wait_said("db02: primary on timeline 1", since)?;
    first.behave(Manner::Silent);
    scene.stays(1)?;

    // The new primary, by the other one's road alone.
    let since = now();
    first.lead_to(standby)?;
    first.behave(Manner::Open);
    second.behave(Manner::Closed);
    scene.watcher.wait_said("db01: primary on timeline 2", since)?;
    scene.stays(1)?;

    first.lead_to(primary)?;
    second.lead_to(standby)?;
    scene.end(1)
}

/// All of it at random, with a failover in the middle. The seed is in the message of a failure; `SEED` in the environment sets it.
#[test]
fn anything_in_any_order() -> Result<()> {
    let seed = keeper_tests::environment::variable("SEED", fastrand::u64(..))?;
    let mut random = fastrand::Rng::with_seed(seed);
    let scene = Scene::set("random")?;
    at_random(&scene, &mut random).with_context(|| format!("SEED={seed}"))
}

fn at_random(scene: &Scene, random: &mut fastrand::Rng) -> Result<()> {
    for step in 0..60 {
        match step {
            20 => scene.fail_over()?,
            40 => scene.pair.primary.start()?,
            _ => {}
        }
        let manner = match random.u8(0..9) {
            0..3 => Manner::Open,
            3 => Manner::Slow(Duration::from_millis(random.u64(1..400))),
            4 => Manner::Silent,
            5 => Manner::Half,
            6 => Manner::Cut,
            7 => Manner::Closed,
            _ => Manner::Flapping(Duration::from_millis(random.u64(20..300))),
        };
        scene.roads[random.usize(0..2)].behave(manner);
        sleep(Duration::from_millis(random.u64(20..600)));
    }
    scene.end(1)
}

//! Host names to addresses, without waiting for a name server.
//!
//! libpq and the C library resolve names synchronously, and a name server that does not answer would hold up the keeper for many
//! seconds. So the question is put to `getent ahosts`, which asks the C library as libpq would (hosts file, DNS, whatever nsswitch.conf
//! says), in a child process that may hang as long as it likes. What worked once is kept for ever: a name server is no part of a
//! failover.

use crate::command::{Ended, Group, NOT_RUN, reap};
use keeper_core::Moment;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::net::IpAddr;
use std::process::{ChildStdout, Command, Stdio};
use std::time::Duration;

/// How long one question may take before its process is killed.
const PATIENCE: Duration = Duration::from_secs(10);
/// How soon a name that is known may be asked for again.
const REFRESH: Duration = Duration::from_secs(1);
/// More output than this is no list of addresses.
const MOST_OUTPUT: usize = 64 * 1024;

/// What is known of a name now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// Its addresses, the best first: never empty.
    Known(Vec<IpAddr>),
    /// The first question is under way.
    Pending,
    /// It could not be resolved, and never was; the text says why. The next look-up asks again.
    Failed(String),
}

/// The names that were asked for.
#[derive(Default)]
pub(crate) struct Resolver {
    names: BTreeMap<String, Name>,
}

#[derive(Default)]
struct Name {
    /// The last good answer.
    addresses: Vec<IpAddr>,
    /// Why the last question failed, until somebody is told.
    failure: Option<String>,
    question: Option<Question>,
    asked_at: Option<Moment>,
}

/// A running `getent`.
struct Question {
    group: Group,
    output: ChildStdout,
    text: Vec<u8>,
    deadline: Moment,
}

impl Resolver {
    /// What is known of `name`. Asks when nothing is, and also to learn of a change when something is; the old addresses serve
    /// meanwhile.
    pub(crate) fn lookup(&mut self, name: &str, now: Moment) -> Lookup {
        let entry = self.names.entry(name.to_string()).or_default();
        entry.poll(name, now);
        if !entry.addresses.is_empty() {
            entry.refresh(name, now);
            return Lookup::Known(entry.addresses.clone());
        }
        if entry.failure.is_none() {
            entry.ask(name, now);
        }
        match entry.failure.take() {
            Some(failure) => Lookup::Failed(failure),
            None => Lookup::Pending,
        }
    }

    /// Takes in what the running questions have answered, and clears away what is left of earlier ones; returns at once.
    pub(crate) fn poll(&mut self, now: Moment) {
        reap();
        for (name, entry) in &mut self.names {
            entry.poll(name, now);
        }
    }
}

impl Name {
    fn refresh(&mut self, name: &str, now: Moment) {
        if self.asked_at.is_none_or(|asked_at| now >= asked_at + REFRESH) {
            self.ask(name, now);
        }
    }

    fn ask(&mut self, name: &str, now: Moment) {
        if self.question.is_some() {
            return;
        }
        self.asked_at = Some(now);
        match Question::start(name, now) {
            Ok(question) => self.question = Some(question),
            Err(error) => {
                self.failure = Some(format!(
                    "could not start \"getent\" to resolve host name \"{name}\" ({error}): \
                     add the numeric address to pg_keeper.partner_conninfo (hostaddr=...)"
                ));
            }
        }
    }

    fn poll(&mut self, name: &str, now: Moment) {
        let Some(question) = &mut self.question else { return };
        let Some(answer) = question.poll(now) else { return };
        self.question = None;
        match answer {
            Ok(addresses) => (self.addresses, self.failure) = (addresses, None),
            Err(reason) => self.failure = Some(format!("host name \"{name}\" could not be resolved: {reason}")),
        }
    }
}

impl Question {
    fn start(name: &str, now: Moment) -> io::Result<Question> {
        let mut getent = Command::new("getent");
        // "--" keeps a name that begins with a dash from being taken for an option.
        getent.args(["ahosts", "--", name]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let (group, mut child) = Group::spawn(&mut getent)?;
        let output = child.stdout.take().ok_or_else(|| io::Error::other("no pipe"))?;
        fcntl(&output, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(Question { group, output, text: Vec::new(), deadline: now + PATIENCE })
    }

    /// The addresses or why there are none, once that is known.
    fn poll(&mut self, now: Moment) -> Option<Result<Vec<IpAddr>, String>> {
        let ended = self.group.poll();
        // After the end of the process all it wrote lies in the pipe, so reading comes second.
        self.read();
        match ended {
            Some(Ended::Exited(0)) => {
                let addresses = addresses_in(&String::from_utf8_lossy(&self.text));
                Some(if addresses.is_empty() { Err("it has no address".into()) } else { Ok(addresses) })
            }
            // getent's code for «not found», whether the name does not exist or no name server answered.
            Some(Ended::Exited(2)) => Some(Err("the system's resolver does not find it".into())),
            Some(Ended::Exited(NOT_RUN)) => {
                Some(Err("\"getent\" could not be run: add the numeric address to pg_keeper.partner_conninfo \
                                                    (hostaddr=...)"
                    .into()))
            }
            Some(Ended::Exited(code)) => Some(Err(format!("\"getent\" exited with code {code}"))),
            Some(Ended::Signalled(signal)) => Some(Err(format!("\"getent\" was ended by signal {signal}"))),
            Some(Ended::Lost(error)) => Some(Err(format!("the exit status of \"getent\" was lost: {error}"))),
            None if now >= self.deadline => {
                self.group.abandon();
                Some(Err(format!("the system's resolver did not answer in {} seconds", PATIENCE.as_secs())))
            }
            None => None,
        }
    }

    fn read(&mut self) {
        let mut chunk = [0; 4096];
        while self.text.len() < MOST_OUTPUT {
            match self.output.read(&mut chunk) {
                Ok(0) => return,
                Ok(length) => self.text.extend_from_slice(chunk.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }
}

/// The addresses in the output of `getent ahosts`, each once, in its order: the first word of each line.
fn addresses_in(text: &str) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for address in text.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok()) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

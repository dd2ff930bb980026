//! Whether the daemon does what it is there for: asking both nodes, and knowing the active one.

use std::time::{Duration, Instant};

use crate::choose::{Choice, NodeId};
use crate::config::Config;

/// What is known of the daemon's own work.
#[derive(Debug, Clone)]
pub struct Health {
    names: [String; 2],
    patience: Duration,
    /// When the last attempt to ask each node ended, whatever came of it.
    asked: [Instant; 2],
    /// The choice as a sentence, and whether it is an active node.
    choice: Option<(String, bool)>,
}

/// More than a busy machine delays a task by.
const SLACK: Duration = Duration::from_secs(10);

impl Health {
    /// Nothing has been asked yet.
    pub fn new(config: &Config, now: Instant) -> Self {
        // An attempt, the question for a row of failover_log, and the longest pause, which is five intervals with jitter.
        let patience = config.connection.timeout * 2 + config.polling.calm.max(config.polling.outage) * 6 + SLACK;
        Self { names: config.node_names().map(str::to_owned), patience, asked: [now; 2], choice: None }
    }

    /// An attempt to ask a node has ended.
    pub fn asked(&mut self, node: NodeId, now: Instant) {
        self.asked[node.index()] = now;
    }

    /// A choice was made.
    pub fn chose(&mut self, choice: &Choice) {
        let [first, second] = &self.names;
        let sentence = choice.describe([first, second]).to_string();
        self.choice = Some((sentence, matches!(choice, Choice::Active(..))));
    }

    /// Both nodes are being asked; otherwise which of them is not. Then the daemon looks alive and is blind.
    pub fn is_asking(&self, now: Instant) -> Result<(), String> {
        for (name, asked) in self.names.iter().zip(self.asked) {
            let silence = now.saturating_duration_since(asked);
            if silence > self.patience {
                return Err(format!("{name} has not been asked for {} s", silence.as_secs()));
            }
        }
        Ok(())
    }

    /// Both nodes are being asked and an active one is known: which; otherwise what is missing.
    pub fn verdict(&self, now: Instant) -> Result<String, String> {
        self.is_asking(now)?;
        match &self.choice {
            Some((sentence, true)) => Ok(sentence.clone()),
            Some((sentence, false)) => Err(sentence.clone()),
            None => Err("not both nodes have been asked yet".to_owned()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::choose::{Nobody, Position};
    use crate::pace::{Ended, Pace, pause};
    use crate::units::{SystemIdentifier, Timeline};

    fn config() -> Config {
        let text = "nodes: {db01: {conninfo: host=a}, db02: {conninfo: host=b}}\n\
            targets: [{file: /f, set: {a: \"{host}\"}, restart: {command: [/bin/true]}}]\n";
        Config::parse(text).unwrap()
    }

    #[test]
    fn healthy_is_asking_both_and_knowing_the_active_one() {
        let now = Instant::now();
        let mut health = Health::new(&config(), now);
        assert_eq!(health.verdict(now), Err("not both nodes have been asked yet".to_owned()));
        health.chose(&Choice::Nobody(Nobody::BothUnreachable));
        assert!(health.verdict(now).unwrap_err().starts_with("no active node: neither db01 nor db02 answers"));
        let position = Position { system_identifier: SystemIdentifier(7), timeline: Timeline(2) };
        health.chose(&Choice::Active(NodeId::Second, position));
        assert_eq!(health.verdict(now), Ok("active node is db02 (timeline 2)".to_owned()));

        let late = now + Duration::from_secs(60);
        health.asked(NodeId::First, late);
        assert_eq!(health.is_asking(late), Err("db02 has not been asked for 60 s".to_owned()));
        assert_eq!(health.verdict(late), Err("db02 has not been asked for 60 s".to_owned()));
        health.asked(NodeId::Second, late);
        assert_eq!(health.is_asking(late), Ok(()));
    }

    /// Whoever asks as slowly as he may is not taken for somebody who has stopped asking.
    #[test]
    fn patience_is_longer_than_the_longest_pause() {
        let mut config = config();
        for (calm, outage) in [(1, 1), (60, 1), (1, 60), (86_400, 86_400)]
            .map(|(calm, outage)| (Duration::from_secs(calm), Duration::from_secs(outage)))
        {
            config.polling.calm = calm;
            config.polling.outage = outage;
            let patience = Health::new(&config, Instant::now()).patience;
            for pace in [Pace::Calm, Pace::Outage] {
                for ended in [Ended::Answered, Ended::Refused, Ended::Rejected, Ended::Silent] {
                    for lasting in [Duration::ZERO, Duration::from_secs(86_400 * 365)] {
                        let longest = pause(config.polling, pace, lasting, ended, u32::MAX).mul_f64(1.1);
                        assert!(longest + config.connection.timeout * 2 < patience, "{calm:?} {pace:?} {ended:?}");
                    }
                }
            }
        }
    }
}

//! Settings: good ones are used at once, bad ones are refused with a word about what is allowed and never stop a server.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use keeper_tests::clock::as_micros;
use keeper_tests::folder::ClusterFolder;
use keeper_tests::node::Node;
use keeper_tests::pair::Pair;
use keeper_tests::sql::SqlError;
use keeper_tests::state::{LOAD, set_up_keeper_database, status};
use keeper_tests::template::template;

/// Nonsense, and a word that the answer has to hold so that one knows what to write instead.
const NONSENSE: [(&str, &str, &str); 20] = [
    ("keepalive_time", "-1", "valid range"),
    ("keepalive_time", "0", "valid range"),
    ("keepalive_time", "99ms", "valid range"),
    ("keepalive_time", "1000000000", "valid range"),
    ("keepalive_time", "soon", "invalid value"),
    ("keepalive_time", "", "invalid value"),
    ("keepalive_count", "0", "valid range"),
    ("keepalive_count", "-3", "valid range"),
    ("keepalive_count", "99999999999", "keepalive_count"),
    ("keepalive_count", "2.5.1", "invalid value"),
    ("keepalives_time", "99ms", "keepalives_time"),
    ("command_timeout", "-5", "valid range"),
    ("max_lag", "-1", "valid range"),
    ("max_lag", "much", "invalid value"),
    ("enabled", "perhaps", "Boolean"),
    ("fast_failover", "2", "Boolean"),
    ("partner_conninfo", "host=127.0.0.1 port", "partner_conninfo"),
    ("partner_conninfo", "host=127.0.0.1 colour=red", "colour"),
    ("partner_conninfo", "host=127.0.0.1 port=99999", "port"),
    ("database", "", "database"),
];

/// The least and the most, in each unit that one would write.
const BOUNDS: [(&str, &str); 8] = [
    ("keepalive_time", "0.1"),
    ("keepalive_time", "100ms"),
    ("keepalive_time", "100000us"),
    ("keepalive_time", "1h"),
    ("keepalives_time", "100ms"),
    ("command_timeout", "100ms"),
    ("command_timeout", "1d"),
    ("keepalive_count", "1"),
];

const SECRET: &str = "open-sesame-4711";

/// A primary alone, with pg_state, and a partner that nobody is.
fn single(folder: &ClusterFolder) -> Result<Node> {
    let node = Node::create(folder.path(), "db01", None)?;
    node.copy_from(&template()?)?;
    node.configure(&settings("host=127.0.0.1 port=1 user=keeper"))?;
    node.start()?;
    set_up_keeper_database(&node)?;
    Ok(node)
}

fn settings(partner: &str) -> Vec<String> {
    vec![
        "fsync = off".to_owned(),
        LOAD.to_owned(),
        "pg_keeper.node_name = 'db01'".to_owned(),
        format!("pg_keeper.partner_conninfo = '{partner}'"),
    ]
}

fn setting(name: &str, value: &str) -> String {
    format!("pg_keeper.{name} = '{value}'")
}

#[test]
fn bounds_are_accepted_when_set() -> Result<()> {
    let folder = ClusterFolder::create("bounds")?;
    let node = single(&folder)?;
    for (name, value) in BOUNDS {
        node.sql("postgres", &format!("alter system set pg_keeper.{name} = '{value}'"))?;
    }
    Ok(())
}

#[test]
fn nonsense_is_refused_when_set() -> Result<()> {
    let folder = ClusterFolder::create("refused")?;
    let node = single(&folder)?;
    for (name, value, expected) in NONSENSE {
        let answer = node.sql("postgres", &format!("alter system set pg_keeper.{name} = '{value}'"));
        let Err(error) = answer else { bail!("pg_keeper.{name} = '{value}' was accepted") };
        let text = error.downcast_ref::<SqlError>().context("an answer of the server")?.text.clone();
        assert!(text.contains(expected), "pg_keeper.{name} = '{value}': the answer lacks «{expected}»: {text}");
    }
    Ok(())
}

#[test]
fn nonsense_at_start_leaves_the_server_up_and_says_so() -> Result<()> {
    let folder = ClusterFolder::create("atstart")?;
    let node = single(&folder)?;
    for (name, value, _) in NONSENSE {
        let line = setting(name, value);
        node.stop_fast()?;
        let mut lines = settings("host=127.0.0.1 port=1 user=keeper");
        lines.push(line.clone());
        node.configure(&lines)?;
        let log_before = node.log().len();
        node.start().with_context(|| format!("start with {line}"))?;
        keeper_tests::wait::until(
            &format!("the status to name pg_keeper.{name}, with {line}"),
            Duration::from_secs(10),
            || status(&node).map_or_else(|error| format!("{error:#}"), |row| row.to_string()) + &node.log_tail(20),
            || {
                let row = status(&node)?;
                Ok(row.text("state")? == "inert" && row.text("reason")?.contains(name))
            },
        )?;
        let said = &node.log()[log_before..];
        assert!(said.contains(&format!("pg_keeper.{name}")), "the log is silent about {line}:\n{said}");
    }
    Ok(())
}

#[test]
fn no_partner_is_inert_and_says_so() -> Result<()> {
    let folder = ClusterFolder::create("nopartner")?;
    let node = single(&folder)?;
    node.set("pg_keeper.partner_conninfo = ''")?;
    node.stop_fast()?;
    node.start()?;
    keeper_tests::wait::until(
        "the word",
        Duration::from_secs(20),
        || node.log_tail(20),
        || {
            let row = status(&node)?;
            Ok(row.text("state")? == "inert" && row.text("reason")?.contains("partner_conninfo"))
        },
    )
}

#[test]
fn a_password_is_refused_and_never_shown() -> Result<()> {
    let folder = ClusterFolder::create("password")?;
    let node = single(&folder)?;
    let conninfo = format!("host=127.0.0.1 port=1 user=keeper password={SECRET}");
    // By a reload, and at the start.
    node.set(&format!("pg_keeper.partner_conninfo = '{conninfo}'"))?;
    node.reload()?;
    let evidence = || node.log_tail(20);
    keeper_tests::wait::until("a word about passfile", Duration::from_secs(20), evidence, || {
        Ok(node.log().contains("passfile"))
    })?;
    node.stop_fast()?;
    node.start()?;
    keeper_tests::wait::until("inertness", Duration::from_secs(20), evidence, || {
        Ok(status(&node)?.text("state")? == "inert")
    })?;
    assert!(!node.log().contains(SECRET), "the log holds the password:\n{}", node.log_tail(30));
    let views =
        ["table pg_keeper.status", "select * from pg_keeper.check()", "select setting, reset_val from pg_settings"];
    for view in views {
        let rows = node.sql("pg_state", view)?;
        let shown: String = rows.iter().map(ToString::to_string).collect();
        assert!(!shown.contains(SECRET), "{view} shows the password");
    }
    // Nor does the answer to whoever sets it repeat it.
    for name in ["partner_conninfo", "my_conninfo"] {
        let Err(error) = node.sql("postgres", &format!("alter system set pg_keeper.{name} = '{conninfo}'")) else {
            bail!("a password in pg_keeper.{name} was accepted");
        };
        let text = error.downcast_ref::<SqlError>().context("an answer of the server")?.text.clone();
        assert!(text.contains("passfile") && !text.contains(SECRET), "{text}");
    }
    Ok(())
}

#[test]
fn a_reload_is_enough() -> Result<()> {
    let pair = Pair::describe("sighup").keepalive_time(Duration::from_secs(600)).keepalive_count(10).start()?;
    for node in [&pair.primary, &pair.standby] {
        node.set("pg_keeper.keepalive_time = '300ms'")?;
        node.set("pg_keeper.keepalive_count = 3")?;
        node.reload()?;
    }
    // Keepalives are answered under the new settings, and both know that what was promised under the old ones is over.
    let mut answers = HashSet::new();
    pair.wait_until("recent answers", || {
        let sql = "select (extract(epoch from clock_timestamp() - last_answer_age) * 20)::bigint from pg_keeper.status \
                   where last_answer_age < interval '300 ms'";
        answers.extend(pair.standby.sql("pg_state", sql)?.first().and_then(|row| row.first().map(str::to_owned)));
        Ok(answers.len() > 8)
    })?;
    pair.primary.kill_all()?;
    pair.wait_promoted(&pair.standby)?;
    let row = pair.wait_recorded(&pair.standby, 2)?;
    let silence = row.integer("detected_us")? - row.integer("last_answer_us")?;
    let most = as_micros(Duration::from_millis(900));
    pair.check(silence <= most, &format!("lost after {silence} µs"))
}

/// By an administrator's word, and by an ERROR that is raised in the middle of its work.
#[test]
fn the_keeper_comes_back_when_terminated_and_after_an_error() -> Result<()> {
    let pair = Pair::describe("terminated").start()?;
    for node in [&pair.primary, &pair.standby] {
        for end in ["pg_terminate_backend", "pg_cancel_backend"] {
            let keeper = node.keeper()?;
            node.sql("postgres", &format!("select {end}({keeper})"))?;
            pair.wait_until(&format!("another keeper process after {end}"), || Ok(node.keeper()? != keeper))?;
        }
        assert!(node.log().contains("canceling statement due to user request"), "{}", node.log_tail(20));
    }
    // And it does its work.
    pair.wait_armed()?;
    pair.primary.kill_all()?;
    pair.wait_promoted(&pair.standby)?;
    pair.wait_recorded(&pair.standby, 2).map(drop)
}

#[test]
fn the_old_spellings_are_accepted_with_a_warning() -> Result<()> {
    let folder = ClusterFolder::create("old")?;
    let node = single(&folder)?;
    node.set("pg_keeper.keepalives_time = 2")?;
    node.set("pg_keeper.keepalives_count = 3")?;
    node.stop_fast()?;
    node.start()?;
    keeper_tests::wait::until(
        "a warning",
        Duration::from_secs(20),
        || node.log_tail(20),
        || Ok(node.log().contains("pg_keeper.keepalive_time") && node.log().contains("pg_keeper.keepalive_count")),
    )?;
    assert_ne!(status(&node)?.text("state")?, "inert");
    Ok(())
}

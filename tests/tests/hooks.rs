//! The hooks at their edges: what a client is told of a commit during which the fence rises, and what no abort undoes.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use keeper_tests::install::install;
use keeper_tests::node::Node;
use keeper_tests::pair::{Builder, Pair};
use keeper_tests::sql::{Address, Session, SqlError};
use keeper_tests::state::{is_streaming, status};

/// Longer than a commit waits for its permit here.
const LIMIT: Duration = Duration::from_secs(20);

fn describe(name: &str) -> Builder {
    Pair::describe(name).set("max_prepared_transactions = 5")
}

/// The old primary hears of a promotion by hand, while it runs.
fn supersede(pair: &Pair) -> Result<()> {
    pair.standby.promote()?;
    pair.wait_until("the old primary to be fenced", || Ok(pair.primary.data().join("pg_keeper.fence").exists()))
}

/// A superuser on the machine itself, whose session the fence does not end.
fn superuser(node: &Node, database: &str) -> Result<Session> {
    node.connect_within(LIMIT, database, "postgres")
}

fn expect_refused(session: &Session, sql: &str, code: &str) -> Result<String> {
    match session.rows(sql) {
        Ok(_) => bail!("{sql} was let through"),
        Err(SqlError { code: Some(found), text }) if found == code => Ok(text),
        Err(error) => bail!("{sql} should have been refused with {code}: {error}"),
    }
}

/// Runs psql, which shows every command tag that reaches it, also when the connection breaks after that.
fn psql(node: &Node, sql: &str) -> Result<Command> {
    let mut psql = node.psql("postgres")?;
    psql.args(["--set=QUIET=off", "--command", sql]);
    Ok(psql)
}

/// Runs one transaction through the extended protocol.
fn pgbench(node: &Node, sql: &str) -> Result<Command> {
    let script = "transaction.sql";
    node.write(script, sql)?;
    let mut pgbench = install()?.tool("pgbench");
    pgbench.args(["--no-vacuum", "--protocol=extended", "--transactions=1", "--username=postgres", "--file"]);
    pgbench.arg(node.data().join(script));
    pgbench.arg("--host").arg(node.data().parent().context("a folder")?);
    pgbench.arg("--port").arg(node.port().to_string()).arg("postgres");
    Ok(pgbench)
}

/// Commits pass the gate and are held up after that, as a paused server would hold them up; then the fence rises, and they go on.
#[test]
fn a_commit_during_which_the_fence_rises_is_not_acknowledged() -> Result<()> {
    let waits =
        describe("between").set("pg_keeper.synchronous_standby_names = '*'").set("pg_keeper.on_standby_loss = 'wait'");
    let pair = waits.start()?;
    pair.wait_status(&pair.primary, "sync", "synchronous")?;
    let watch = superuser(&pair.primary, "postgres")?;
    watch.rows("create table written (number int)")?;
    watch.rows("create procedure write() language plpgsql as $$ begin insert into written values (1); commit; raise notice 'told'; end $$")?;
    watch.rows("begin")?;
    watch.rows("insert into written values (2)")?;
    watch.rows("prepare transaction 'before'")?;

    // The standby receives no more, and commits wait for it.
    pair.standby.sql("postgres", "alter system set primary_conninfo = ''")?;
    pair.standby.reload()?;
    pair.wait_until("the standby to receive no more", || Ok(!is_streaming(&pair.primary)?))?;
    // Of this one's acknowledgement the server's buffer holds the last bytes, and the report of the changed name no longer fits.
    let name = "a".repeat(63);
    let full = format!(
        "begin; set application_name = '{name}'; select repeat('x', 8057); insert into written values (3); commit"
    );
    let statements = [
        "insert into written values (4)",
        "begin; insert into written values (5); commit; select repeat('x', 100000)",
        "call write()",
        "begin; insert into written values (6); prepare transaction 'during'",
        "commit prepared 'before'",
        full.as_str(),
    ];
    let mut clients = Vec::new();
    for statement in statements {
        clients.push((statement, psql(&pair.primary, statement)?));
    }
    clients.push(("the extended protocol", pgbench(&pair.primary, "insert into written values (7);\n")?));
    let mut running = Vec::new();
    for (what, mut client) in clients {
        let client = client.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        running.push((what, client));
    }
    let waiting = "select count(*) from pg_stat_activity where wait_event = 'SyncRep'";
    let all = running.len().to_string();
    pair.wait_until("all commits to wait", || {
        Ok(watch.rows(waiting)?.first().is_some_and(|row| row.first() == Some(&all)))
    })?;

    supersede(&pair)?;
    watch.rows("alter system set synchronous_standby_names = ''")?;
    watch.rows("select pg_reload_conf()")?;
    for (what, client) in running {
        let output = client.wait_with_output()?;
        let [told, complained] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        let tags = ["INSERT", "COMMIT", "CALL", "PREPARE", "told", "processed: 1/1"];
        let acknowledged = tags.iter().any(|tag| told.contains(tag) || complained.contains(&format!("NOTICE:  {tag}")));
        let words = ["server closed the connection unexpectedly", "perhaps the backend died"];
        let lost = words.iter().any(|words| complained.contains(words));
        pair.check(!output.status.success() && !acknowledged && lost, &format!("{what}: {told}{complained}"))?;
    }
    Ok(())
}

/// DROP DATABASE removes the files before it commits: refused at its commit, it would have done all the harm.
#[test]
fn what_no_abort_undoes_is_not_begun_on_a_fenced_server() -> Result<()> {
    let pair = describe("undone").start()?;
    let session = superuser(&pair.primary, "postgres")?;
    session.rows("create database precious")?;
    superuser(&pair.primary, "precious")?.rows("create table kept as select 1")?;
    session.rows("begin")?;
    session.rows("create table decided ()")?;
    session.rows("prepare transaction 'undecided'")?;
    let databases = || Ok::<_, anyhow::Error>(std::fs::read_dir(pair.primary.data().join("base"))?.count());
    let before = databases()?;
    supersede(&pair)?;

    expect_refused(&session, "drop database precious", "25006")?;
    expect_refused(&session, "create database another", "25006")?;
    expect_refused(&session, "rollback prepared 'undecided'", "25006")?;
    expect_refused(&session, "drop subscription if exists none", "25006")?;
    let kept =
        superuser(&pair.primary, "precious").context("the database was destroyed")?.rows("select * from kept")?;
    assert_eq!(kept.len(), 1);
    assert_eq!(databases()?, before, "files of a database that was refused lie about");
    assert_eq!(session.rows("select * from pg_prepared_xacts")?.len(), 1, "the prepared transaction is gone");
    Ok(())
}

/// Whom to spare is in a catalog, and a client that is to be ended may have it locked.
#[test]
fn a_locked_catalog_does_not_hold_up_the_fence() -> Result<()> {
    let pair = describe("locked").start()?;
    let address = Address::Tcp(pair.primary.host().to_owned(), pair.primary.port());
    let client = Session::connect(&address, "postgres", "postgres", LIMIT)?;
    client.rows("begin")?;
    client.rows("lock table pg_authid in access exclusive mode")?;
    supersede(&pair)?;
    pair.wait_until("the client to be sent away", || Ok(client.rows("select 1").is_err()))?;
    pair.wait_until("status", || Ok(status(&pair.primary)?.text("state")? == "fenced"))
}

#[test]
fn a_standby_refuses_in_the_servers_own_words() -> Result<()> {
    let pair = describe("standby").start()?;
    let session = superuser(&pair.standby, "postgres")?;
    let begun = Instant::now();
    for statement in ["commit prepared 'x'", "rollback prepared 'x'"] {
        let refusal = expect_refused(&session, statement, "25006")?;
        pair.check(refusal.contains("during recovery"), &refusal)?;
    }
    let took = begun.elapsed();
    pair.check(took < Duration::from_secs(2), &format!("it waited {took:?} for a permit that a standby has not"))
}

/// A page of ours that a session writes to is copied for it: one of every new session's page faults. The library's variables are the server's, set
/// before it forks, and so every session is to leave them alone (pgrx's handler of `fork` would not). And a session takes over each mapping when it
/// is forked, so there are only as many as are needed: one to read, one to write.
#[test]
fn a_session_takes_over_two_mappings_of_the_library_and_writes_to_no_page() -> Result<()> {
    let pair = describe("pages").start()?;
    let session = superuser(&pair.primary, "postgres")?;
    session.rows("create table paged (number int)")?;
    session.rows("insert into paged values (1)")?;
    let maps = session.rows("select pg_read_file('/proc/self/smaps')")?;
    let maps = maps.first().and_then(|row| row.first()).context("no mappings")?;
    let mut copied = Vec::new();
    let mut mapping = "";
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("Private_Dirty:") if mapping.ends_with("pg_keeper.so") && !mapping.contains(" ---p ") => {
                copied.push((mapping, words.next().unwrap_or_default()));
            }
            Some(word) if !word.ends_with(':') => mapping = line,
            _ => {}
        }
    }
    assert_eq!(
        copied.len(),
        2,
        "mappings of the library, other than its linker is asked for (extension/build.rs): {copied:#?}"
    );
    assert!(copied.iter().all(|(_, kilobytes)| *kilobytes == "0"), "{copied:#?}");
    Ok(())
}

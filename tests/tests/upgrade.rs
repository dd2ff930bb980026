//! From the version before to this one: its objects, its library, and a pair that is of both versions.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use keeper_tests::folder::{make, run_folder};
use keeper_tests::node::{Node, PATIENCE};
use keeper_tests::pair::Pair;
use keeper_tests::state::{KEEPER_DATABASE, set_up_keeper_database};

/// Everything that the extension owns, as the catalogs describe it.
const OBJECTS: &str = "
    with owned as (
        select classid, objid from pg_depend
        where refclassid = 'pg_extension'::regclass and deptype = 'e'
          and refobjid = (select oid from pg_extension where extname = 'pg_keeper')
    ), described as (
        select pg_describe_object(classid, objid, 0) as object, case classid
            when 'pg_proc'::regclass then pg_get_functiondef(objid)
                || (select concat(proacl, obj_description(oid)) from pg_proc where oid = objid)
            when 'pg_class'::regclass then concat(
                (select concat(relkind, relacl, obj_description(oid)) from pg_class where oid = objid),
                (select string_agg(concat(attname, format_type(atttypid, atttypmod), attnotnull, col_description(objid, attnum)), ', '
                                   order by attnum) from pg_attribute where attrelid = objid and attnum > 0),
                (select string_agg(pg_get_constraintdef(oid), ', ' order by conname) from pg_constraint where conrelid = objid),
                (select pg_get_viewdef(oid) from pg_class where oid = objid and relkind = 'v'))
            end as definition
        from owned
    )
    select format('%s: %s', object, definition) from described order by 1";

/// In a new database, the extension of a version or of the newest.
fn create_extension(node: &Node, database: &str, version: &str) -> Result<()> {
    node.sql("postgres", &format!("create database {database}"))?;
    node.sql(database, &format!("create extension pg_keeper {version}")).map(drop)
}

fn objects(node: &Node, database: &str) -> Result<Vec<String>> {
    let rows = node.sql(database, OBJECTS)?;
    Ok(rows.iter().map(|row| row.first().unwrap_or_default().to_owned()).collect())
}

/// What check() says of versions: severity, and detail and hint.
fn version_row(node: &Node) -> Result<(String, String)> {
    let query = "select status, concat_ws(' ', detail, hint) as text from pg_keeper.check() where name = 'version'";
    let rows = node.sql(KEEPER_DATABASE, query)?;
    let row = rows.first().context("check() has no row of the version")?;
    Ok((row.text("status")?.to_owned(), row.text("text")?.to_owned()))
}

/// The other node is killed, this one takes over, and that one comes back as its standby by its own commands.
fn takes_over(pair: &Pair, heir: &Node, old: &Node, timeline: i64) -> Result<()> {
    pair.wait_status(heir, "armed", "t")?;
    old.kill_all()?;
    pair.wait_promoted(heir)?;
    pair.wait_recorded(heir, timeline)?;
    heir.connect_within(PATIENCE, "postgres", "postgres")?.rows("insert into written values (default)")?;
    old.start()?;
    pair.wait_status(old, "state", "fenced")?;
    old.rejoin()?;
    pair.wait_status(old, "armed", "t")
}

/// The folder that the library of the version before lies in, where servers may read it.
fn previous_library() -> Result<PathBuf> {
    let library = std::env::var_os("PREVIOUS_LIBRARY").context("PREVIOUS_LIBRARY is not set: run make upgrade")?;
    let folder = run_folder()?.join("previous");
    make(&folder)?;
    fs::copy(&library, folder.join("pg_keeper.so")).with_context(|| format!("copy {}", library.display()))?;
    Ok(folder)
}

#[test]
fn an_update_ends_with_the_objects_of_a_new_installation() -> Result<()> {
    let pair = Pair::describe("update").without_database().start_unarmed()?;
    let primary = &pair.primary;
    create_extension(primary, "updated", "version '0.1.0'")?;
    create_extension(primary, "installed", "")?;
    primary.sql("updated", "alter extension pg_keeper update")?;
    let (updated, installed) = (objects(primary, "updated")?, objects(primary, "installed")?);
    assert!(installed.len() > 5, "only {} objects were found", installed.len());
    assert_eq!(updated, installed);
    let version = primary.sql_value("updated", "select extversion from pg_extension where extname = 'pg_keeper'")?;
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
    Ok(())
}

#[test]
fn a_new_library_works_with_old_objects() -> Result<()> {
    let pair = Pair::describe("oldobjects").without_database().set("wal_log_hints = on").start_unarmed()?;
    create_extension(&pair.primary, KEEPER_DATABASE, "version '0.1.0'")?;
    pair.primary.sql("postgres", "create table written (number bigserial)")?;
    pair.wait_recorded(&pair.primary, 1)?;
    pair.wait_status(&pair.primary, "fence", "none")?;
    for node in [&pair.primary, &pair.standby] {
        pair.wait_until("the objects on both", || Ok(version_row(node).is_ok()))?;
        let (severity, text) = version_row(node)?;
        assert_eq!(severity, "warning");
        assert!(text.contains("ALTER EXTENSION pg_keeper UPDATE"), "{text}");
    }
    takes_over(&pair, &pair.standby, &pair.primary, 2)?;
    // What an administrator runs again after an installation.
    set_up_keeper_database(&pair.standby)?;
    pair.wait_until("the new objects on both", || {
        Ok(version_row(&pair.standby)?.0 == "ok" && version_row(&pair.primary)?.0 == "ok")
    })?;
    takes_over(&pair, &pair.primary, &pair.standby, 3)
}

#[test]
#[ignore = "needs the library of the version before: make upgrade"]
fn an_old_and_a_new_server_protect_each_other() -> Result<()> {
    let line = format!("dynamic_library_path = '{}:$libdir'", previous_library()?.display());
    let synchronous = ["pg_keeper.synchronous_standby_names = '*'", "pg_keeper.on_standby_loss = 'wait'"];
    for (old_first, more) in [(true, &[][..]), (false, &[]), (true, &synchronous), (false, &synchronous)] {
        let builder = Pair::describe("mixed").set("wal_log_hints = on");
        let builder = more.iter().fold(builder, |builder, line| builder.set(*line));
        // The objects are the new ones everywhere, so the old library is tried with them as well.
        let pair = if old_first { builder.set_on_primary(&line) } else { builder.set_on_standby(&line) }.start()?;
        let (old, new) = if old_first { (&pair.primary, &pair.standby) } else { (&pair.standby, &pair.primary) };
        if !more.is_empty() {
            pair.wait_status(new, "sync", "synchronous")?;
            pair.wait_status(old, "sync", "synchronous")?;
        }
        let (severity, text) = version_row(new)?;
        assert_eq!(severity, "warning");
        assert!(text.contains("on the partner and restart it"), "{text}");
        assert!(version_row(old).is_err(), "the library that is to be old knows of versions");
        let checked = old.sql(KEEPER_DATABASE, "select * from pg_keeper.check()")?;
        assert!(checked.len() > 15, "check() has only {} rows", checked.len());
        pair.primary.sql("postgres", "create table written (number bigserial)")?;
        takes_over(&pair, &pair.standby, &pair.primary, 2)?;
        takes_over(&pair, &pair.primary, &pair.standby, 3)?;
        assert_eq!(pair.primary.sql_value("postgres", "select count(*) from written")?, "2");
    }
    Ok(())
}

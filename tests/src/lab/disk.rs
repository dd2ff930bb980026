//! Disks that are full: a small file system in memory, mounted where it matters, and a file that takes the rest of it.

use anyhow::{Context, Result};

use super::Lab;
use super::health::{Server, sql};
use super::host::Host;
use crate::node::PATIENCE;
use crate::wait;

/// The watcher's own folder.
pub(super) const WATCHER: &str = "/var/lib/pg-keeper-watcher";
/// The folder of the application's file.
pub(super) const CONFIGURATION: &str = "/srv/shop";

/// The file that takes what is left.
const FILLER: &str = "filler.matrix";
/// What is left for the server to write before its WAL disk is full, in megabytes.
const ROOM: u32 = 64;

/// The host whose rows fill the log's table.
const FILLING: &str = "filling";

/// A script that moves a folder into a small file system of its own. Nobody may use the folder meanwhile.
pub(super) fn shrink(folder: &str, megabytes: u32) -> String {
    format!(
        "set -e; folder={folder}; rm -rf /var/tmp/matrix; cp -a $folder /var/tmp/matrix; \
         mount -t tmpfs -o size=$(( $(du -sm $folder | cut -f 1) + {megabytes} ))m matrix $folder; \
         chown --reference=/var/tmp/matrix $folder; chmod --reference=/var/tmp/matrix $folder; \
         cp -a /var/tmp/matrix/. $folder/; rm -rf /var/tmp/matrix"
    )
}

/// A script that moves it back, if it is there.
pub(super) fn grow(folder: &str) -> String {
    format!(
        "set -e; folder={folder}; if mountpoint -q $folder; then rm -f $folder/{FILLER}; rm -rf /var/tmp/matrix; \
         cp -a $folder /var/tmp/matrix; umount $folder; find $folder -mindepth 1 -delete; cp -a /var/tmp/matrix/. $folder/; \
         rm -rf /var/tmp/matrix; fi"
    )
}

/// Takes what is left of the space.
pub(super) fn fill(host: &Host, folder: &str) -> Result<()> {
    host.sh(&format!(
        "mountpoint -q {folder} || exit 1; dd if=/dev/zero of={folder}/{FILLER} bs=64k 2>/dev/null; \
         dd if=/dev/zero of={folder}/{FILLER} bs=1 count=1 conv=notrunc oflag=append 2>&1 | grep -q 'No space left'"
    ))
    .with_context(|| format!("fill {folder}"))
    .map(drop)
}

/// Gives it back.
pub(super) fn free(host: &Host, folder: &str) -> Result<()> {
    host.sh(&format!("rm -f {folder}/{FILLER}")).map(drop)
}

/// Runs a script on a database host while its server is stopped, as an administrator does: neither server decides anything meanwhile.
pub(super) fn maintain(lab: &Lab, place: usize, work: impl FnOnce(&Host) -> Result<()>) -> Result<()> {
    let host = &lab.databases[place];
    let told = |state: &'static str| {
        wait::until(
            &format!("both servers to be «{state}»"),
            PATIENCE,
            || lab.evidence(),
            || {
                let states =
                    lab.databases.iter().map(|host| Ok(Server::ask(host)?.status.state)).collect::<Result<Vec<_>>>()?;
                Ok(states.iter().all(|now| now == state))
            },
        )
    };
    sql(host, "postgres", "alter system set pg_keeper.enabled = off")?;
    sql(host, "postgres", "select pg_reload_conf()")?;
    told("disabled")?;
    let unit = lab.unit();
    host.sh(&format!("systemctl stop {unit}"))?;
    let worked = work(host);
    host.sh(&format!("systemctl start {unit}"))?;
    worked?;
    wait::until("the server to be back", PATIENCE, || lab.evidence(), || Server::ask(host).map(|_| true))?;
    sql(host, "postgres", "alter system reset pg_keeper.enabled")?;
    sql(host, "postgres", "select pg_reload_conf()")?;
    told("watching")
}

fn script(script: String) -> impl FnOnce(&Host) -> Result<()> {
    move |host| host.sh(&script).map(drop)
}

fn wal(lab: &Lab) -> String {
    format!("{}/pg_wal", lab.data())
}

/// The WAL of the server at a place gets a small file system.
pub(super) fn shrink_wal(lab: &Lab, place: usize) -> Result<()> {
    maintain(lab, place, script(shrink(&wal(lab), ROOM)))
}

/// Fills it, and has the server need more.
pub(super) fn fill_wal(lab: &Lab, host: &Host) -> Result<()> {
    fill(host, &wal(lab))?;
    // Ends with the server.
    host.in_background(
        "for n in $(seq 200); do runuser -u postgres -- psql -XAtqw -c 'select pg_switch_wal()' || exit; sleep 0.02; done",
    )
}

/// Moves the WAL back to where there is room. The server is down, for want of room.
pub(super) fn grow_wal(lab: &Lab, host: &Host) -> Result<()> {
    host.sh(&format!("systemctl stop {}; {}", lab.unit(), grow(&wal(lab)))).map(drop)
}

/// The folder of the log's database.
pub(super) fn log_folder(lab: &Lab, host: &Host) -> Result<String> {
    let number = sql(host, "postgres", "select oid from pg_database where datname = 'pg_state'")?;
    Ok(format!("{}/base/{number}", lab.data()))
}

/// The log's database on the standby gets a small file system, and its table has no room left for a row, so that it has to grow.
pub(super) fn shrink_log(lab: &Lab, active: usize) -> Result<()> {
    // The rows of a page are counted where one is full, and then the last page is filled exactly.
    let fill = format!(
        "do $$ declare page int; fits int; begin \
         delete from public.failover_log where host = '{FILLING}'; \
         select max((ctid::text::point)[0]) into page from public.failover_log; \
         for n in 1..1000 loop \
           insert into public.failover_log (unixtime, host) values (0, '{FILLING}'); \
           exit when (select max((ctid::text::point)[0]) from public.failover_log) = page + 2; \
         end loop; \
         select count(*) into fits from public.failover_log where (ctid::text::point)[0] = page + 1; \
         insert into public.failover_log (unixtime, host) select 0, '{FILLING}' from generate_series(2, fits); \
         if (select max((ctid::text::point)[0]) from public.failover_log) <> page + 2 then raise 'one row too many'; end if; \
         end $$"
    );
    sql(&lab.databases[active], "pg_state", &fill)?;
    let host = &lab.databases[1 - active];
    let folder = log_folder(lab, host)?;
    host.sh(&format!("systemctl stop {0}; {1}; systemctl start {0}", lab.unit(), shrink(&folder, 1))).map(drop)
}

/// Moves it back; the server at this place is the primary by now.
pub(super) fn grow_log(lab: &Lab, place: usize) -> Result<()> {
    let host = &lab.databases[place];
    sql(host, "pg_state", &format!("delete from public.failover_log where host = '{FILLING}'"))?;
    maintain(lab, place, script(grow(&log_folder(lab, host)?)))
}

/// How many rows the log has for a timeline.
pub(super) fn rows_of_timeline(host: &Host, timeline: i64) -> Result<i64> {
    let count = format!("select count(*) from public.failover_log where timeline = {timeline}");
    Ok(sql(host, "pg_state", &count)?.parse()?)
}

/// A folder of the watcher's gets a small file system.
pub(super) fn shrink_watcher(host: &Host, folder: &str) -> Result<()> {
    around_watcher(host, &shrink(folder, 1))
}

/// Moves it back, if it has one.
pub(super) fn grow_watcher(host: &Host, folder: &str) -> Result<()> {
    if host.sh(&format!("mountpoint -q {folder} && echo yes || true"))? == "yes" {
        around_watcher(host, &grow(folder))?;
    }
    Ok(())
}

/// A watcher that runs goes on seeing what was mounted when it was started.
fn around_watcher(host: &Host, script: &str) -> Result<()> {
    host.sh(&format!(
        "systemctl stop pg-keeper-watcher; ({script}); ended=$?; systemctl start pg-keeper-watcher; exit $ended"
    ))
    .map(drop)
}

/// Moves back whatever is mounted in a server's data directory, after a run that was broken off.
pub(super) fn grow_all(lab: &Lab, place: usize) -> Result<()> {
    let host = &lab.databases[place];
    let mounted = host.sh(&format!("grep -o ' {}/[^ ]*' /proc/mounts || true", lab.data()))?;
    for folder in mounted.split_whitespace() {
        host.sh(&format!("systemctl stop {}; {}", lab.unit(), grow(folder)))?;
    }
    Ok(())
}

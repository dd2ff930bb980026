//! `pg_keeper.rejoin_plan()`: gathers what `keeper_core::rejoin` makes a plan from. It only reads, so that it works on a fenced server.

use crate::check::{default_user, value_of};
use crate::guc::conninfo;
use crate::{fence, guc, observe, shared};
use keeper_core::rejoin::{FILE_OPTIONS, Facts, Files, Partner, Server, plan, unit_in};
use keeper_core::{Kept, Parameters, Role, SystemIdentifier, Timeline};
use pgrx::prelude::*;
use pgrx::spi::{Error, SpiClient};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

#[pg_schema]
mod pg_keeper {
    use super::*;

    /// The commands that make this server a standby of the partner that superseded it, one line a row. With `fresh_copy` they copy the whole
    /// partner, even where pg_rewind would do.
    #[pg_extern(strict, volatile, parallel_restricted, security_definer)]
    #[search_path(pg_catalog, pg_temp)]
    fn rejoin_plan(fresh_copy: default!(bool, false)) -> Result<SetOfIterator<'static, String>, Error> {
        Ok(SetOfIterator::new(plan(&facts(fresh_copy)?)))
    }
}

/// Everything that is known, as it is now.
fn facts(fresh_copy: bool) -> Result<Facts, Error> {
    // SAFETY: reads shared memory that every backend is attached to.
    let role = if unsafe { pg_sys::RecoveryInProgress() } { Role::Standby } else { Role::Primary };
    let options = guc::partner_conninfo().and_then(|text| conninfo::parse(&text)).unwrap_or_default();
    Spi::connect(|client| {
        Ok(Facts {
            role,
            fence: shared::published().fence.as_str().to_owned(),
            left_at: if let Kept::Ours(fence) = fence::read() { Some(fence.left.at) } else { None },
            node_name: guc::node_name(),
            database: guc::database().to_string_lossy().into_owned(),
            fresh_copy,
            server: server(client, role)?,
            files: files(client, &options)?,
            partner: partner(client, options)?,
        })
    })
}

fn server(client: &SpiClient, role: Role) -> Result<Server, Error> {
    let query = "select current_setting('max_connections')::int, current_setting('max_worker_processes')::int, \
                        current_setting('max_wal_senders')::int, current_setting('max_prepared_transactions')::int, \
                        current_setting('max_locks_per_transaction')::int, \
                        current_setting('server_version_num')::int / 10000, current_setting('port')::int, \
                        (select system_identifier from pg_control_system()), \
                        current_setting('data_checksums')::bool, current_setting('wal_log_hints')::bool, \
                        current_setting('full_page_writes')::bool, current_setting('restore_command') <> '', \
                        exists (select from pg_replication_slots where slot_type = 'physical' and not temporary), \
                        current_setting('primary_slot_name'), \
                        trim(split_part(current_setting('unix_socket_directories'), ',', 1), ' \"')";
    let row = client.select(query, Some(1), &[])?.first();
    let number = |column| Ok::<_, Error>(u32::try_from(row.get::<i32>(column)?.unwrap_or(0)).unwrap_or(0));
    let switch = |column| Ok::<_, Error>(row.get::<bool>(column)?.unwrap_or(false));
    // SAFETY: set by the postmaster before it starts any process, and only read.
    let postmaster = unsafe { pg_sys::PostmasterPid };
    let cgroups = fs::read_to_string(format!("/proc/{postmaster}/cgroup")).unwrap_or_default();
    let account = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten();
    Ok(Server {
        parameters: Parameters {
            max_connections: number(1)?,
            max_worker_processes: number(2)?,
            max_wal_senders: number(3)?,
            max_prepared_transactions: number(4)?,
            max_locks_per_transaction: number(5)?,
        },
        major: number(6)?,
        port: number(7)?,
        socket_directory: row.get::<String>(15)?.unwrap_or_default(),
        system_identifier: SystemIdentifier(row.get::<i64>(8)?.unwrap_or(0).cast_unsigned()),
        timeline: if role == Role::Primary { observe::primary_timeline() } else { Timeline(0) },
        host: nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        account: account.map(|user| user.name).unwrap_or_default(),
        unit: unit_in(&cgroups).unwrap_or_default().to_owned(),
        is_process_one: postmaster == 1,
        data_checksums: switch(9)?,
        wal_log_hints: switch(10)?,
        full_page_writes: switch(11)?,
        restores_wal: switch(12)?,
        has_slots: switch(13)?,
        primary_slot_name: row.get::<String>(14)?.unwrap_or_default(),
    })
}

fn files(client: &SpiClient, options: &[(String, String)]) -> Result<Files, Error> {
    let query = "select current_setting('data_directory'), current_setting('config_file'), \
                        (select setting from pg_config where name = 'BINDIR')";
    let row = client.select(query, Some(1), &[])?.first();
    let text = |column| Ok::<_, Error>(row.get::<String>(column)?.unwrap_or_default());
    let data_directory = text(1)?;
    let data = Path::new(&data_directory);
    let metadata = fs::metadata(data).ok();
    let parent = data.parent().and_then(|parent| fs::metadata(parent).ok());
    let log = fs::read_link("/proc/self/fd/2").ok().filter(|path| path.is_file());
    let wal = data.join("pg_wal");
    let wal_directory = if wal.is_symlink() { fs::canonicalize(wal).ok() } else { None };
    let tablespaces = "select pg_tablespace_location(oid) from pg_tablespace where spcname not in ('pg_default', 'pg_global') order by 1";
    Ok(Files {
        inode: metadata.as_ref().map_or(0, MetadataExt::ino),
        is_mount_point: metadata.zip(parent).is_some_and(|(own, parent)| own.dev() != parent.dev()),
        config_file: text(2)?,
        programs: text(3)?,
        log_file: log.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default(),
        own: own_files(client, data, options)?,
        wal_directory: wal_directory.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default(),
        tablespaces: texts(client, tablespaces)?,
        data_directory,
    })
}

/// Files and folders that belong to this node, as far as they are there; folders end with a slash.
fn own_files(client: &SpiClient, data: &Path, options: &[(String, String)]) -> Result<Vec<String>, Error> {
    let named = "select sourcefile from pg_file_settings where sourcefile is not null \
                 union select setting from pg_settings where setting <> '' and name in ('config_file', 'hba_file', 'ident_file', \
                   'ssl_cert_file', 'ssl_key_file', 'ssl_ca_file', 'ssl_crl_file', 'ssl_crl_dir', 'ssl_dh_params_file')";
    let mut names = texts(client, named)?;
    #[cfg(not(any(feature = "pg13", feature = "pg14", feature = "pg15")))]
    names.extend(texts(
        client,
        "select file_name from pg_hba_file_rules union select file_name from pg_ident_file_mappings",
    )?);
    names.extend(
        options.iter().filter(|(name, _)| FILE_OPTIONS.contains(&name.as_str())).map(|(_, value)| value.clone()),
    );
    // What is included and sets nothing yet is in no view.
    let listed = fs::read_dir(data).into_iter().flatten().flatten();
    let listed = listed.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.extend(listed.filter(|name| name.ends_with(".conf") || name.ends_with(".d")));
    let path = |name: String| {
        let path = data.join(name);
        let slash = if path.is_dir() { "/" } else { "" };
        path.exists().then(|| format!("{}{slash}", path.to_string_lossy()))
    };
    Ok(names.into_iter().filter_map(path).collect())
}

fn partner(client: &SpiClient, options: Vec<(String, String)>) -> Result<Partner, Error> {
    let user = value_of(&options, "user").map_or_else(default_user, ToOwned::to_owned);
    // Both servers have the same roles, and the role that initdb made is always there.
    let query =
        "select rolname::text from pg_roles where rolname = $1 and rolsuper or oid = 10 order by (rolname = $1) desc";
    let superuser = client.select(query, Some(1), &[user.clone().into()])?.first().get_one::<String>()?;
    let report = shared::published().partner();
    Ok(Partner {
        node_name: report.as_ref().map(|report| report.node_name.clone()).unwrap_or_default(),
        parameters: report.map(|report| report.parameters),
        superuser: superuser.unwrap_or_default(),
        user,
        options,
    })
}

/// The first column of every row.
fn texts(client: &SpiClient, query: &str) -> Result<Vec<String>, Error> {
    client.select(query, None, &[])?.map(|row| Ok(row.get::<String>(1)?.unwrap_or_default())).collect()
}

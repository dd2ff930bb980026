//! From the text of a configuration file to [`Config`].

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use super::reader::{Field, Section};
use super::{
    Config, ConfigError, Connection, NodeConfig, Restart, RestartHow, Signal, Target, Template, Verify, Write,
};
use crate::conninfo::{Conninfo, Pairs};
use crate::pace::Intervals;
use crate::units::{Address, parse_limit};
use crate::yaml;

pub(super) fn config(text: &str) -> Result<Config, ConfigError> {
    let document = yaml::parse(text).map_err(|error| ConfigError { line: Some(error.line), message: error.reason })?;
    let root = document.root.as_ref().ok_or_else(|| ConfigError {
        line: None,
        message: "the file is empty; nodes and targets are required".to_owned(),
    })?;
    let mut top = Section::new("", root)?;
    let (defaults, connection) = match top.take("connection") {
        Some(field) => connection(field.section()?)?,
        None => (Pairs::new(), Connection { timeout: TIMEOUT, keep_open: true }),
    };
    let polling = match top.take("polling") {
        Some(field) => polling(field.section()?)?,
        None => POLLING,
    };
    let nodes = nodes(&top.require("nodes", "two nodes, each with conninfo")?, &defaults)?;
    let targets = targets(&top.require("targets", "a list with file, set and restart")?)?;
    let http = top.take("http").map(|field| http(field.section()?)).transpose()?;
    top.finish(&["nodes", "connection", "polling", "targets", "http"])?;
    Ok(Config { nodes, connection, polling, targets, http, edition: String::new() })
}

const TIMEOUT: Duration = Duration::from_secs(2);
const POLLING: Intervals = Intervals { calm: Duration::from_secs(1), outage: Duration::from_millis(50) };
/// Asking more often than this would load a server without being of use to anybody.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);

/// The keywords of a conninfo that can be given for both nodes.
const SHARED_KEYWORDS: [&str; 5] = ["passfile", "sslmode", "sslrootcert", "sslcert", "sslkey"];

fn connection(mut section: Section<'_>) -> Result<(Pairs, Connection), ConfigError> {
    let mut defaults = Pairs::new();
    for keyword in SHARED_KEYWORDS {
        if let Some(field) = section.take(keyword) {
            let value = field.text()?;
            Conninfo::with_defaults("host=unknown", Pairs::from([(keyword.to_owned(), value.to_owned())]))
                .map_err(|message| field.error(message))?;
            defaults.insert(keyword.to_owned(), value.to_owned());
        }
    }
    let timeout = section.positive_duration("timeout", TIMEOUT)?;
    let keep_open = section.take("keep_open").map_or(Ok(true), |field| field.read(yes_or_no))?;
    section.finish(&["passfile", "sslmode", "sslrootcert", "sslcert", "sslkey", "timeout", "keep_open"])?;
    Ok((defaults, Connection { timeout, keep_open }))
}

fn yes_or_no(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

fn polling(mut section: Section<'_>) -> Result<Intervals, ConfigError> {
    let mut interval = |key: &str, default| match section.take(key) {
        None => Ok(default),
        Some(field) => match field.duration()? {
            short if short < SHORTEST_INTERVAL => Err(field.error("is shorter than 10ms, the shortest".to_owned())),
            duration => Ok(duration),
        },
    };
    let polling = Intervals {
        calm: interval("interval", POLLING.calm)?,
        outage: interval("interval_during_outage", POLLING.outage)?,
    };
    section.finish(&["interval", "interval_during_outage"])?;
    Ok(polling)
}

fn nodes(field: &Field<'_>, defaults: &Pairs) -> Result<[NodeConfig; 2], ConfigError> {
    let nodes: Vec<NodeConfig> =
        field.section()?.rest().iter().map(|entry| node(entry, defaults)).collect::<Result<_, _>>()?;
    let nodes: [NodeConfig; 2] = nodes
        .try_into()
        .map_err(|nodes: Vec<_>| field.error(format!("there are exactly two nodes, and here are {}", nodes.len())))?;
    let [first, second] = &nodes;
    if first.address.address == second.address.address {
        return Err(field.error(format!("both nodes have the address {}; give each its own", first.address.address)));
    }
    if first.conninfo.is_same_server(&second.conninfo) {
        return Err(field.error("the conninfo of both nodes names the same server; give each its own".to_owned()));
    }
    Ok(nodes)
}

fn node(field: &Field<'_>, defaults: &Pairs) -> Result<NodeConfig, ConfigError> {
    if field.key.is_empty() || field.key.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(field.error("a node's name is a word without blanks".to_owned()));
    }
    let mut section = field.section()?;
    let conninfo_field = section.require("conninfo", "conninfo: \"host=... dbname=pg_state user=...\"")?;
    let conninfo = conninfo_field.read(|text| Conninfo::with_defaults(text, defaults.clone()))?;
    let address = match section.take("address") {
        Some(address) => address.read(|text| Address::parse(text, conninfo.port()))?,
        None => conninfo.address().ok_or_else(|| {
            field.error("address is missing; write what applications are told, like \"db01:5432\"".to_owned())
        })?,
    };
    section.finish(&["conninfo", "address"])?;
    Ok(NodeConfig { name: field.key.to_owned(), conninfo, address })
}

fn targets(field: &Field<'_>) -> Result<Vec<Target>, ConfigError> {
    let mut targets: Vec<Target> = Vec::new();
    for item in field.items()? {
        let target = target(&item)?;
        if targets.iter().any(|other| other.name == target.name) {
            return Err(item.error(format!("another target is named {} too; give each its own name", target.name)));
        }
        if targets.iter().any(|other| other.file == target.file) {
            return Err(item.error(format!(
                "{} is the file of another target too; write one target with a command that restarts both",
                target.file.display()
            )));
        }
        targets.push(target);
    }
    if targets.is_empty() {
        Err(field.error("has no items; write at least one target".to_owned()))
    } else {
        Ok(targets)
    }
}

fn target(item: &Field<'_>) -> Result<Target, ConfigError> {
    let mut section = item.section()?;
    let file = section.require("file", "the YAML file's absolute path")?.absolute_path()?;
    let name = match section.take("name") {
        None => file.display().to_string(),
        Some(field) => field.read(|text| {
            if text.chars().any(char::is_control) {
                Err("holds a line end or another control character".to_owned())
            } else {
                Ok(text.to_owned())
            }
        })?,
    };
    let document = section.take("document").map(|field| field.read(document)).transpose()?;
    let write = section.take("write").map(|field| field.read(write)).transpose()?.unwrap_or_default();
    let set = set(&section.require("set", "the values to set, like db_master[0].address: \"{address}\"")?)?;
    let restart = restart(section.require("restart", "systemd_unit, command or signal")?.section()?)?;
    let verify = section.take("verify").map(|field| verify(field.section()?)).transpose()?;
    section.finish(&["name", "file", "document", "set", "write", "restart", "verify"])?;
    Ok(Target { name, file, document, set, write, restart, verify })
}

fn document(text: &str) -> Result<NonZeroUsize, String> {
    text.parse().map_err(|_| format!("{text:?} is not the number of a document; write 1 for the first one"))
}

fn write(text: &str) -> Result<Write, String> {
    match text {
        "rename" => Ok(Write::Rename),
        "in_place" => Ok(Write::InPlace),
        _ => Err(format!(
            "{text:?} is not one of rename, in_place; write in_place only for a file that is a mount point of its own"
        )),
    }
}

fn set(field: &Field<'_>) -> Result<Vec<(yaml::Path, Template)>, ConfigError> {
    let mut set: Vec<(yaml::Path, Template)> = Vec::new();
    for entry in field.section()?.rest() {
        let path: yaml::Path = entry.key.parse().map_err(|error: yaml::PathError| entry.error(error.to_string()))?;
        if set.iter().any(|(other, _)| *other == path) {
            return Err(entry.error("this value is set twice".to_owned()));
        }
        set.push((path, entry.read(Template::parse)?));
    }
    if set.is_empty() { Err(field.error("has no keys; write at least one value to set".to_owned())) } else { Ok(set) }
}

fn restart(mut section: Section<'_>) -> Result<Restart, ConfigError> {
    let unit = section.take("systemd_unit");
    let command = section.take("command");
    let signal = section.take("signal");
    let how = match (unit, command, signal) {
        (Some(field), None, None) => RestartHow::SystemdUnit(field.read(unit_name)?),
        (None, Some(field), None) => RestartHow::Command(argv(&field)?),
        (None, None, Some(field)) => signal_to(field.section()?)?,
        (unit, command, signal) => {
            let count = [&unit, &command, &signal].into_iter().flatten().count();
            return Err(section
                .error(format!("restart has exactly one of systemd_unit, command and signal, and here are {count}")));
        }
    };
    // Only what has an effect on a kind of restart is known to it.
    let known: &[&str] = match how {
        RestartHow::SystemdUnit(_) => &["systemd_unit", "timeout", "kill_after", "settle", "splay", "limit"],
        RestartHow::Command(_) => &["command", "timeout", "kill_after", "splay", "limit"],
        RestartHow::Signal { .. } => &["signal", "splay", "limit"],
    };
    let splay = section.duration("splay", Duration::ZERO)?;
    let limit = section.take("limit").map(|field| field.read(parse_limit)).transpose()?;
    let (mut timeout, mut kill_after, mut settle) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    if known.contains(&"timeout") {
        timeout = section.positive_duration("timeout", Duration::from_secs(30))?;
        kill_after = section.positive_duration("kill_after", Duration::from_secs(10))?;
    }
    if known.contains(&"settle") {
        settle = section.duration("settle", Duration::from_secs(1))?;
    }
    section.finish(known)?;
    Ok(Restart { how, timeout, kill_after, settle, splay, limit })
}

fn unit_name(text: &str) -> Result<String, String> {
    let well_formed = text.chars().all(|c| c.is_ascii_alphanumeric() || "@:_.-\\".contains(c));
    if well_formed && !text.starts_with('-') && text.contains('.') {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is not the name of a unit; write it like shop.service"))
    }
}

fn argv(field: &Field<'_>) -> Result<Vec<String>, ConfigError> {
    let example = "write the program and its arguments as a list, like [/usr/local/bin/reload, --now]";
    let items =
        field.items().map_err(|error| ConfigError { message: format!("{}; {example}", error.message), ..error })?;
    let argv: Vec<String> =
        items.iter().map(|item| item.text().map(str::to_owned)).collect::<Result<_, ConfigError>>()?;
    match argv.first() {
        Some(program) if program.starts_with('/') => Ok(argv),
        Some(program) => Err(field.error(format!("{program:?} is not an absolute path; begin it with /"))),
        None => Err(field.error(format!("is an empty list; {example}"))),
    }
}

fn signal_to(mut section: Section<'_>) -> Result<RestartHow, ConfigError> {
    let pid_file = section.require("pid_file", "the pid file's absolute path")?.absolute_path()?;
    let signal = section.require("signal", "a signal like HUP")?.read(|text| {
        Ok(match text.strip_prefix("SIG").unwrap_or(text) {
            "HUP" => Signal::Hup,
            "INT" => Signal::Int,
            "QUIT" => Signal::Quit,
            "TERM" => Signal::Term,
            "USR1" => Signal::Usr1,
            "USR2" => Signal::Usr2,
            _ => return Err(format!("{text:?} is not one of HUP, INT, QUIT, TERM, USR1, USR2")),
        })
    })?;
    section.finish(&["pid_file", "signal"])?;
    Ok(RestartHow::Signal { pid_file, signal })
}

fn verify(mut section: Section<'_>) -> Result<Verify, ConfigError> {
    let tcp = section.require("tcp", "the application's own address, like \"127.0.0.1:8080\"")?.read(|text| {
        let address = Address::parse(text, 0)?;
        if address.port == 0 { Err(format!("{text:?} has no port")) } else { Ok(address) }
    })?;
    let timeout = section.positive_duration("timeout", Duration::from_secs(20))?;
    section.finish(&["tcp", "timeout"])?;
    Ok(Verify { tcp, timeout })
}

fn http(mut section: Section<'_>) -> Result<SocketAddr, ConfigError> {
    let listen = section.require("listen", "listen: \"127.0.0.1:9188\"")?.read(|text| {
        text.parse().ok().filter(|address: &SocketAddr| address.port() > 0).ok_or_else(|| {
            format!(
                "{text:?} is not an IP address with a port; write it like 127.0.0.1:9188, [::1]:9188 or 0.0.0.0:9188"
            )
        })
    })?;
    section.finish(&["listen"])?;
    Ok(listen)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

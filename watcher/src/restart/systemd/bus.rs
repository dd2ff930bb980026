//! systemd, as it is spoken to over D-Bus: every question and every request, and what its refusals mean.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, anyhow};
use futures_util::StreamExt;
use tokio::time::timeout;
use watcher_core::unit::{ActiveState, Job, Unit};
use zbus::fdo::PropertiesProxy;
use zbus::names::InterfaceName;
use zbus::{Connection, DBusError, OwnedObjectPath, OwnedVariant};

use crate::restart::Misconfigured;

/// How long systemd may take for an answer that needs no waiting; polkit may have to be started for it.
const ANSWER: Duration = Duration::from_secs(10);

const SYSTEMD: &str = "org.freedesktop.systemd1";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const SERVICE: &str = "org.freedesktop.systemd1.Service";
const JOB: &str = "org.freedesktop.systemd1.Job";

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    /// Loads a unit if it is not loaded, and names its object.
    fn load_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    /// Makes systemd forget that a unit has failed and how often it was started.
    fn reset_failed_unit(&self, name: &str) -> zbus::Result<()>;
    /// Restarts, or starts one that does not run.
    fn restart_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    /// Restarts one that runs; to any other nothing happens.
    fn try_restart_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    /// Sends a signal to a unit's processes.
    fn kill_unit(&self, name: &str, whom: &str, signal: i32) -> zbus::Result<()>;
    /// Asks for signals.
    fn subscribe(&self) -> zbus::Result<()>;
    /// A job has ended.
    #[zbus(signal)]
    fn job_removed(&self, id: u32, job: OwnedObjectPath, unit: String, result: String) -> zbus::Result<()>;
}

#[zbus::proxy(interface = "org.freedesktop.systemd1.Unit", default_service = "org.freedesktop.systemd1")]
trait PinnedUnit {
    /// Keeps the unit in memory as long as this connection lives: one that has ended is forgotten otherwise.
    #[zbus(name = "Ref")]
    fn pin(&self) -> zbus::Result<()>;
}

/// A connection to systemd, for one unit.
#[derive(Debug)]
pub(super) struct Bus {
    connection: Connection,
    manager: ManagerProxy<'static>,
    unit: String,
}

/// The jobs that end.
pub(super) struct JobEnds(JobRemovedStream);

impl Bus {
    /// Connects to the system's bus.
    pub(super) async fn connect(unit: &str) -> anyhow::Result<Self> {
        let connect = async {
            let connection = zbus::connection::Builder::system().method_timeout(ANSWER).build().await?;
            let manager =
                ManagerProxy::builder(&connection).cache_properties(zbus::proxy::CacheProperties::No).build().await?;
            Ok(Self { connection, manager, unit: unit.to_owned() })
        };
        timeout(ANSWER, connect)
            .await
            .with_context(|| format!("the D-Bus system bus gave no answer within {ANSWER:?}"))?
            .map_err(|error| self::error(unit, "connect", error))
    }

    /// The connection is lost.
    pub(super) fn is_lost(&self) -> bool {
        self.connection.is_closed()
    }

    /// Looks at the unit.
    pub(super) async fn look(&self) -> anyhow::Result<Unit> {
        let path = self.load().await?;
        let unit = self.properties(&path, UNIT).await?;
        let id: String = property(&unit, "Id")?;
        // Other kinds of units have no process of their own.
        let service = if id.ends_with(".service") { self.properties(&path, SERVICE).await? } else { HashMap::new() };
        let (number, job): (u32, OwnedObjectPath) = property(&unit, "Job")?;
        let job = if number == 0 { None } else { Some(self.job(&job).await) };
        Ok(Unit {
            id,
            load_state: property(&unit, "LoadState")?,
            active: ActiveState::parse(&property::<String>(&unit, "ActiveState")?)
                .map_err(|word| anyhow!("systemd says that {} is {word:?}, which is not known here", self.unit))?,
            sub_state: property(&unit, "SubState")?,
            is_oneshot: property::<String>(&service, "Type").is_ok_and(|kind| kind == "oneshot"),
            result: property(&service, "Result").unwrap_or_default(),
            restarts: property(&service, "NRestarts").unwrap_or_default(),
            main_pid: property(&service, "MainPID").unwrap_or_default(),
            invocation: property(&unit, "InvocationID")?,
            conditions_met: property(&unit, "ConditionTimestampMonotonic").unwrap_or(0_u64) == 0
                || property(&unit, "ConditionResult").unwrap_or(true),
            job,
        })
    }

    /// Begins to listen for the end of the unit's jobs, and keeps it in memory.
    pub(super) async fn listen(&self, id: &str) -> anyhow::Result<JobEnds> {
        let listen = async {
            self.manager.subscribe().await?;
            // Only this unit's: others could come faster than they are read.
            let ends = self.manager.receive_job_removed_with_args(&[(2, id)]).await?;
            Ok(JobEnds(ends))
        };
        let ends = listen.await.map_err(|error| self.error("listen to", error))?;
        let path = self.load().await?;
        let pinned = PinnedUnitProxy::builder(&self.connection)
            .cache_properties(zbus::proxy::CacheProperties::No)
            .path(path)
            .build()
            .await;
        // Without it some ends look like a unit that was stopped on purpose; the restart itself says what is forbidden.
        if let Ok(pinned) = pinned {
            let _ = pinned.pin().await;
        }
        Ok(ends)
    }

    /// Frees the unit from its start limit, if it is in it.
    pub(super) async fn reset_failed(&self) {
        // One that has not failed loses nothing, and what is forbidden is said by the restart.
        let _ = self.manager.reset_failed_unit(&self.unit).await;
    }

    /// Queues a restart, or only one of a unit that runs, and names its job.
    pub(super) async fn restart(&self, if_running: bool) -> anyhow::Result<String> {
        let job = if if_running {
            self.manager.try_restart_unit(&self.unit, "replace").await
        } else {
            self.manager.restart_unit(&self.unit, "replace").await
        };
        job.map(|path| path.to_string()).map_err(|error| self.error("restart", error))
    }

    /// Kills all of the unit's processes.
    pub(super) async fn kill(&self) -> anyhow::Result<()> {
        let signal = nix::sys::signal::Signal::SIGKILL as i32;
        self.manager.kill_unit(&self.unit, "all", signal).await.map_err(|error| self.error("kill", error))
    }

    async fn load(&self) -> anyhow::Result<OwnedObjectPath> {
        self.manager.load_unit(&self.unit).await.map_err(|error| self.error("look at", error))
    }

    async fn job(&self, path: &OwnedObjectPath) -> Job {
        // It may have ended meanwhile.
        let kind = self.properties(path, JOB).await.and_then(|job| property::<String>(&job, "JobType"));
        Job { path: path.to_string(), is_stop: kind.is_ok_and(|kind| kind == "stop") }
    }

    async fn properties(
        &self,
        path: &OwnedObjectPath,
        interface: &'static str,
    ) -> anyhow::Result<HashMap<String, OwnedVariant>> {
        let ask = async {
            let properties = PropertiesProxy::builder(&self.connection).destination(SYSTEMD).path(path).build().await?;
            properties.get_all(InterfaceName::from_static_str(interface)?).await.map_err(zbus::Error::from)
        };
        ask.await.map_err(|error| self.error("look at", error))
    }

    fn error(&self, what: &str, error: zbus::Error) -> anyhow::Error {
        self::error(&self.unit, what, error)
    }
}

impl JobEnds {
    /// The next one: its path and its result. Nothing once the connection is lost.
    pub(super) async fn next(&mut self) -> Option<(String, String)> {
        loop {
            if let Ok(ended) = self.0.next().await?.args() {
                return Some((ended.job.to_string(), ended.result.clone()));
            }
        }
    }
}

fn property<T: TryFrom<OwnedVariant>>(properties: &HashMap<String, OwnedVariant>, name: &str) -> anyhow::Result<T> {
    let value = properties.get(name).with_context(|| format!("systemd tells no {name}"))?.try_clone()?;
    T::try_from(value).map_err(|_| anyhow!("systemd tells {name} in another form than is known here"))
}

/// What an error means, and what to do about it.
fn error(unit: &str, what: &str, error: zbus::Error) -> anyhow::Error {
    if matches!(error, zbus::Error::Connection(..) | zbus::Error::InputOutput(_) | zbus::Error::Handshake(_)) {
        return anyhow!(error).context(
            "cannot speak to systemd over D-Bus; see that the package dbus is installed and dbus.service runs, and that \
             this user may reach its socket",
        );
    }
    let told = if let zbus::Error::MethodError(name, text, _) = &error {
        Some((name.to_string(), text.clone()))
    } else if let zbus::Error::FDO(error) = &error {
        Some((error.name().to_string(), error.description().map(str::to_owned)))
    } else {
        None
    };
    let Some((name, text)) = told else {
        return anyhow!(error).context(format!("cannot {what} {unit} over D-Bus"));
    };
    let text = text.unwrap_or_default();
    match name.rsplit('.').next().unwrap_or_default() {
        "AccessDenied" | "InteractiveAuthorizationRequired" | "AuthFailed" => anyhow!(
            "systemd does not let this user {what} {unit} ({text}); run pg-keeper-watcher as root, or allow its user the \
             polkit action org.freedesktop.systemd1.manage-units for {unit}"
        ),
        "ServiceUnknown" | "NameHasNoOwner" => anyhow!(
            "no systemd is reached over D-Bus; where an application is not started by systemd, restart it by command or \
             by signal"
        ),
        "NoSuchUnit" | "InvalidArgs" => {
            Misconfigured(format!("{unit} does not exist; correct systemd_unit ({text})")).into()
        }
        "UnitMasked" => {
            Misconfigured(format!("{unit} is masked; run systemctl unmask {unit}, or correct systemd_unit")).into()
        }
        "LoadFailed" | "BadUnitSetting" => {
            Misconfigured(format!("{unit} cannot be loaded by systemd; correct its unit file ({text})")).into()
        }
        "OnlyByDependency" => Misconfigured(format!(
            "{unit} refuses to be restarted by hand; name the unit that it belongs to, or remove RefuseManualStart and \
             RefuseManualStop from its unit file ({text})"
        ))
        .into(),
        _ => anyhow!("cannot {what} {unit}: {text} ({name})"),
    }
}

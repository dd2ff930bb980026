//! One host of the laboratory, reached through `docker exec`.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::install::run;

/// What a command on a host may take before it is given up, in seconds.
const LIMIT: &str = "120";

/// A container.
#[derive(Debug, Clone)]
pub struct Host {
    name: String,
    container: String,
}

impl Host {
    /// The container of a service of a compose project.
    pub fn find(project: &str, name: &str) -> Result<Self> {
        let of = |label: &str, value: &str| format!("label=com.docker.compose.{label}={value}");
        let found =
            docker(&["ps", "--all", "--quiet", "--filter", &of("project", project), "--filter", &of("service", name)])?;
        let containers: Vec<&str> = found.lines().collect();
        ensure!(
            containers.len() == 1,
            "there are {} containers of {project}'s {name}; is «make lab» up?",
            containers.len()
        );
        Ok(Self { name: name.to_owned(), container: containers[0].to_owned() })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The container's identifier.
    pub fn container(&self) -> &str {
        &self.container
    }

    /// Runs a script as root, to its end, and returns what it printed without the last line's end.
    pub fn sh(&self, script: &str) -> Result<String> {
        self.sh_as("root", script)
    }

    /// The same as another user.
    pub fn sh_as(&self, user: &str, script: &str) -> Result<String> {
        let mut command = Command::new("timeout");
        command.args([LIMIT, "docker", "exec", "--user", user, &self.container, "sh", "-c", script]);
        let text = run(&mut command).with_context(|| format!("on {}", self.name))?;
        Ok(text.trim_end().to_owned())
    }

    /// Starts a script as root that goes on by itself.
    pub fn in_background(&self, script: &str) -> Result<()> {
        docker(&["exec", "--detach", "--user", "root", &self.container, "sh", "-c", script]).map(drop)
    }

    /// Whether the container runs, paused or not.
    pub fn is_running(&self) -> Result<bool> {
        Ok(docker(&["inspect", "--format", "{{.State.Running}}", &self.container])? == "true")
    }

    /// Ends every process of the container at once.
    pub fn kill(&self) -> Result<()> {
        docker(&["kill", &self.container]).map(drop)
    }

    /// Starts the container, if it does not run.
    pub fn start(&self) -> Result<()> {
        docker(&["start", &self.container]).map(drop)
    }

    /// Lets every process of the container stand still.
    pub fn pause(&self) -> Result<()> {
        docker(&["pause", &self.container]).map(drop)
    }

    /// Lets them go on, if they stand still.
    pub fn unpause(&self) -> Result<()> {
        if docker(&["inspect", "--format", "{{.State.Paused}}", &self.container])? == "true" {
            docker(&["unpause", &self.container])?;
        }
        Ok(())
    }

    /// Its addresses on all networks.
    pub fn addresses(&self) -> Result<Vec<String>> {
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}";
        let text = docker(&["inspect", "--format", format, &self.container])?;
        let addresses: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        ensure!(!addresses.is_empty(), "{} has no address", self.name);
        Ok(addresses)
    }

    /// The number that this machine knows the container's first process by.
    pub fn pid(&self) -> Result<u32> {
        docker(&["inspect", "--format", "{{.State.Pid}}", &self.container])?.parse().context("a process number")
    }
}

/// Runs a command of docker's, to its end.
pub fn docker(arguments: &[&str]) -> Result<String> {
    Ok(run(Command::new("timeout").args([LIMIT, "docker"]).args(arguments))?.trim().to_owned())
}

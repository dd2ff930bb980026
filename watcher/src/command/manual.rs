//! What the command line tells of itself: completions for shells, the manual page.

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::cli::Cli;
use crate::exit::Exit;
use crate::output::print;

/// Prints a shell's completions.
pub(crate) fn completions(shell: Shell) -> anyhow::Result<Exit> {
    let mut command = Cli::command();
    let name = command.get_name().to_owned();
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut text);
    print(&String::from_utf8(text)?)?;
    Ok(Exit::Done)
}

/// Prints the manual page.
pub(crate) fn man() -> anyhow::Result<Exit> {
    print(&page()?)?;
    Ok(Exit::Done)
}

fn page() -> anyhow::Result<String> {
    let command = Cli::command().disable_help_subcommand(true);
    let commands: Vec<clap::Command> =
        command.get_subcommands().filter(|command| !command.is_hide_set()).cloned().collect();
    let man = Man::new(command.after_help("")).section("8").manual("pg_keeper").date("");
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    let mut rest = Roff::new();
    rest.control("SH", ["COMMANDS"]);
    for command in commands {
        let command = command.disable_help_flag(true).disable_version_flag(true);
        describe(&mut rest, &command);
    }
    for (title, entries) in SECTIONS {
        rest.control("SH", [*title]);
        for (term, meaning) in *entries {
            rest.control("TP", []);
            rest.text([bold(*term)]);
            rest.text([roman(*meaning)]);
        }
    }
    rest.control("SH", ["SEE ALSO"]);
    rest.text([bold("systemctl"), roman("(1), "), bold("journalctl"), roman("(1), "), bold("crontab"), roman("(5)")]);
    rest.to_writer(&mut text)?;
    Ok(String::from_utf8(text)?)
}

fn describe(page: &mut Roff, command: &clap::Command) {
    page.control("SS", [command.get_name()]);
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string);
    page.text([roman(about.unwrap_or_default())]);
    for argument in command.get_arguments().filter(|argument| !argument.is_global_set()) {
        let values: String = argument
            .get_value_names()
            .filter(|_| argument.get_action().takes_values())
            .unwrap_or_default()
            .iter()
            .map(|name| if argument.is_positional() { name.to_string() } else { format!(" [{name}]") })
            .collect();
        let long = argument.get_long().map(|long| format!("--{long}")).unwrap_or_default();
        let help = argument.get_long_help().or(argument.get_help()).map(ToString::to_string);
        page.control("TP", []);
        page.text([bold(format!("{long}{values}"))]);
        page.text([roman(help.unwrap_or_default())]);
    }
}

/// What the command line does not know of.
const SECTIONS: &[(&str, &[(&str, &str)])] = &[
    (
        "EXIT STATUS",
        &[
            ("0", "Nothing to do, or done. diff: same."),
            ("1", "Failed, and the file is as it was. diff: differs."),
            ("2", "Wrong usage. diff: trouble."),
            ("3", "No active node."),
            ("4", "Two primaries."),
            ("5", "Rewritten, and the restart is pending."),
            ("75", "Another instance holds the lock."),
            ("78", "The configuration is refused."),
        ],
    ),
    (
        "FILES",
        &[
            (
                "/etc/pg-keeper-watcher/watcher.yaml",
                "The configuration. An example is in /usr/share/doc/pg-keeper-watcher/examples/.",
            ),
            ("/var/lib/pg-keeper-watcher/state.yaml", "What is remembered: the highest timeline seen, restarts owed."),
            ("FILE.pg_keeper.bak", "Beside each rewritten file, the version before the last rewrite."),
        ],
    ),
    (
        "ENVIRONMENT",
        &[
            ("STATE_DIRECTORY", "Where state is kept, instead of in /var/lib/pg-keeper-watcher."),
            ("NOTIFY_SOCKET, WATCHDOG_USEC", "Set by systemd for units with Type=notify and WatchdogSec=."),
            ("JOURNAL_STREAM", "Set by systemd. Lines in the journal bear a priority instead of a time."),
        ],
    ),
    (
        "SIGNALS",
        &[
            ("SIGHUP", "run: reads the configuration again. If the new one is refused, the old one stays."),
            (
                "SIGTERM, SIGINT",
                "run: finishes a rewrite that is under way and ends. A restart that is owed stays owed.",
            ),
        ],
    ),
];

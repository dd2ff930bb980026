//! Every setting that may stand in a configuration file, and what each may hold, in words.

use std::ffi::CStr;

/// A setting of pg_keeper's.
pub(crate) struct Setting {
    /// Its name.
    pub(crate) name: &'static CStr,
    /// What it may hold: the rest of the sentence «NAME must be …».
    pub(crate) allowed: &'static str,
}

impl Setting {
    /// The name as text.
    pub(crate) fn text(&self) -> &'static str {
        // Written as literals below, all ASCII.
        self.name.to_str().unwrap_or_default()
    }
}

const CONNINFO: &str = "a libpq connection string without a password, for example 'host=10.0.0.12 port=5432 user=keeper \
                        passfile=/var/lib/postgresql/.pgpass'";
const SECONDS: &str = "0.1 to 3600 seconds, for example 5 or '500ms'";
const COUNT: &str = "a whole number from 1 to 1000";
const SWITCH: &str = "on or off";

/// The table.
pub(crate) const SETTINGS: &[Setting] = &[
    Setting { name: c"pg_keeper.partner_conninfo", allowed: CONNINFO },
    Setting { name: c"pg_keeper.my_conninfo", allowed: CONNINFO },
    Setting {
        name: c"pg_keeper.node_name",
        allowed: "up to 255 printable ASCII characters without spaces, or empty for the host's name",
    },
    Setting { name: c"pg_keeper.keepalive_time", allowed: SECONDS },
    Setting { name: c"pg_keeper.keepalive_count", allowed: COUNT },
    Setting { name: c"pg_keeper.keepalives_time", allowed: SECONDS },
    Setting { name: c"pg_keeper.keepalives_count", allowed: COUNT },
    Setting { name: c"pg_keeper.after_command", allowed: "a shell command in UTF-8" },
    Setting { name: c"pg_keeper.before_command", allowed: "a shell command in UTF-8" },
    Setting { name: c"pg_keeper.command_timeout", allowed: "0.1 to 86400 seconds, for example 30 or '2min'" },
    Setting { name: c"pg_keeper.database", allowed: "a database's name of 1 to 63 bytes in UTF-8" },
    Setting { name: c"pg_keeper.max_lag", allowed: "a number of bytes from 0 to 1048576TB, for example '16MB'" },
    Setting { name: c"pg_keeper.on_unknown_partner", allowed: "open or wait" },
    Setting {
        name: c"pg_keeper.synchronous_standby_names",
        allowed: "what synchronous_standby_names may hold, for example '*' or 'db01, db02'",
    },
    Setting { name: c"pg_keeper.on_standby_loss", allowed: "async or wait" },
    Setting { name: c"pg_keeper.enabled", allowed: SWITCH },
    Setting { name: c"pg_keeper.fast_failover", allowed: SWITCH },
];

/// What the setting of that name may hold; `None` for a name that is none of the table's.
pub(crate) fn allowed(name: &str) -> Option<&'static str> {
    SETTINGS.iter().find(|setting| setting.text().eq_ignore_ascii_case(name)).map(|setting| setting.allowed)
}

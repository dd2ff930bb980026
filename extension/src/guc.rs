//! The settings: their definitions, and their values in types that hold no bad value.
//!
//! What a setting may hold is checked when it is set (`hooks`); what was bad already when the server started is remembered
//! (`problems`).

pub(crate) mod conninfo;
mod hooks;
mod problems;
mod table;

pub(crate) use problems::{problems, recheck};
pub(crate) use table::allowed;

use keeper_core::{Inert, OnStandbyLoss, OnUnknownPartner, Settings};
use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};
use pgrx::pg_sys;
use std::ffi::{CStr, CString};
use std::time::Duration;

/// The longest lag that can be asked for; an `f64` is exact beyond it.
const MAX_LAG_BYTES: f64 = (1_u64 << 60) as f64;
const DEFAULT_KEEPALIVE_TIME: f64 = 5.0;
const DEFAULT_KEEPALIVE_COUNT: i32 = 4;

type Text = GucSetting<Option<CString>>;
static PARTNER_CONNINFO: Text = Text::new(Some(c""));
static MY_CONNINFO: Text = Text::new(Some(c""));
static NODE_NAME: Text = Text::new(Some(c""));
static AFTER_COMMAND: Text = Text::new(Some(c""));
static BEFORE_COMMAND: Text = Text::new(Some(c""));
static SYNCHRONOUS_STANDBY_NAMES: Text = Text::new(Some(c""));
static DATABASE: Text = Text::new(Some(c"pg_state"));
static REPORT: Text = Text::new(Some(c""));
static KEEPALIVE_TIME: GucSetting<f64> = GucSetting::<f64>::new(DEFAULT_KEEPALIVE_TIME);
static KEEPALIVE_COUNT: GucSetting<i32> = GucSetting::<i32>::new(DEFAULT_KEEPALIVE_COUNT);
// Zero stands for «not set» in the old spellings.
static KEEPALIVES_TIME: GucSetting<f64> = GucSetting::<f64>::new(0.0);
static KEEPALIVES_COUNT: GucSetting<i32> = GucSetting::<i32>::new(0);
static COMMAND_TIMEOUT: GucSetting<f64> = GucSetting::<f64>::new(30.0);
static MAX_LAG: GucSetting<f64> = GucSetting::<f64>::new(16.0 * 1024.0 * 1024.0);
static ENABLED: GucSetting<bool> = GucSetting::<bool>::new(true);
static FAST_FAILOVER: GucSetting<bool> = GucSetting::<bool>::new(false);
static ON_UNKNOWN_PARTNER: GucSetting<UnknownPartner> = GucSetting::<UnknownPartner>::new(UnknownPartner::Open);
static ON_STANDBY_LOSS: GucSetting<StandbyLoss> = GucSetting::<StandbyLoss>::new(StandbyLoss::Async);

/// `pg_keeper.on_unknown_partner` as the server lists its values.
#[derive(Clone, Copy, PostgresGucEnum)]
enum UnknownPartner {
    #[name = c"open"]
    Open,
    #[name = c"wait"]
    Wait,
}

/// `pg_keeper.on_standby_loss` as the server lists its values.
#[derive(Clone, Copy, PostgresGucEnum)]
enum StandbyLoss {
    #[name = c"async"]
    Async,
    #[name = c"wait"]
    Wait,
}

/// Defines every setting, and remembers which values of the configuration files were not accepted. `show_report` answers a `SHOW
/// pg_keeper.report`.
pub(crate) fn define(show_report: pg_sys::GucShowHook) {
    let values = problems::values_before_definition();
    define_partner();
    define_keepalives();
    define_promotion();
    define_primary();
    define_report(show_report);
    // SAFETY: a C string. From now on the server tells of misspelt names of ours.
    unsafe {
        #[cfg(any(feature = "pg13", feature = "pg14"))]
        pg_sys::EmitWarningsOnPlaceholders(c"pg_keeper".as_ptr());
        #[cfg(not(any(feature = "pg13", feature = "pg14")))]
        pg_sys::MarkGUCPrefixReserved(c"pg_keeper".as_ptr());
    }
    problems::remember(&values);
}

/// Whom to watch, and who we are.
fn define_partner() {
    string(
        c"pg_keeper.partner_conninfo",
        c"How this server reaches its partner, as a libpq connection string.",
        c"Without it pg_keeper does nothing. A password is refused: name a file that holds it with the option passfile.",
        &PARTNER_CONNINFO,
        GucFlags::SUPERUSER_ONLY,
        Some(hooks::check_partner_conninfo),
    );
    string(
        c"pg_keeper.my_conninfo",
        c"How the partner reaches this server; accepted from old configurations.",
        c"Nothing needs it.",
        &MY_CONNINFO,
        GucFlags::SUPERUSER_ONLY,
        Some(hooks::check_my_conninfo),
    );
    string(
        c"pg_keeper.node_name",
        c"The name of this server in failover_log.",
        c"Empty means the host's name.",
        &NODE_NAME,
        GucFlags::empty(),
        Some(hooks::check_node_name),
    );
    string(
        c"pg_keeper.database",
        c"The database that holds failover_log.",
        c"The extension pg_keeper must be created in it.",
        &DATABASE,
        GucFlags::empty(),
        Some(hooks::check_database),
    );
}

/// What a number of seconds may be below the least one: the server makes 0.09999999999999999 of «100ms» (`convert_to_base_unit`, `guc.c`).
const ROUNDING: f64 = 1e-9;

/// How the partner is watched.
fn define_keepalives() {
    real(
        c"pg_keeper.keepalive_time",
        c"The time from one keepalive to the next, in seconds.",
        c"The partner is lost after keepalive_time times keepalive_count without an answer. A keepalive has half of keepalive_time to be \
          answered.",
        &KEEPALIVE_TIME,
        Settings::KEEPALIVE_TIME_SECONDS,
        GucFlags::UNIT_S,
    );
    let (least, most) = Settings::KEEPALIVE_COUNT;
    GucRegistry::define_int_guc(
        c"pg_keeper.keepalive_count",
        c"The number of keepalives in a row that must fail before the partner is lost.",
        c"",
        &KEEPALIVE_COUNT,
        least,
        most,
        GucContext::Sighup,
        GucFlags::empty(),
    );
    // SAFETY: the hooks are guarded against panics.
    unsafe {
        GucRegistry::define_float_guc_with_hooks(
            c"pg_keeper.keepalives_time",
            c"An old spelling of pg_keeper.keepalive_time.",
            c"It counts while keepalive_time is at its default. Zero means not set.",
            &KEEPALIVES_TIME,
            0.0,
            Settings::KEEPALIVE_TIME_SECONDS.1,
            GucContext::Sighup,
            GucFlags::UNIT_S,
            Some(hooks::check_keepalives_time),
            None,
            None,
        );
        GucRegistry::define_int_guc_with_hooks(
            c"pg_keeper.keepalives_count",
            c"An old spelling of pg_keeper.keepalive_count.",
            c"It counts while keepalive_count is at its default. Zero means not set.",
            &KEEPALIVES_COUNT,
            0,
            most,
            GucContext::Sighup,
            GucFlags::empty(),
            Some(hooks::check_keepalives_count),
            None,
            None,
        );
    }
    boolean(
        c"pg_keeper.fast_failover",
        c"Shortens the wait when the partner's server is proven dead.",
        c"Proven means: connections were cut and its host refuses new ones, keepalive_count times in a row, without a shutdown. A silent \
          partner always gets the whole time.",
        &FAST_FAILOVER,
    );
}

/// What is done when the partner is lost.
fn define_promotion() {
    boolean(
        c"pg_keeper.enabled",
        c"Whether pg_keeper may promote a standby.",
        c"Off on either server, both go on watching and reporting, and decide nothing.",
        &ENABLED,
    );
    real(
        c"pg_keeper.max_lag",
        c"A standby known to be further behind its primary than this, in bytes, does not promote itself.",
        c"It compares the primary's last known WAL position with what the standby has received.",
        &MAX_LAG,
        (0.0, MAX_LAG_BYTES),
        GucFlags::UNIT_BYTE,
    );
    string(
        c"pg_keeper.before_command",
        c"A shell command that is run before this server promotes itself.",
        c"The promotion goes ahead only if it exits with 0 within command_timeout.",
        &BEFORE_COMMAND,
        GucFlags::SUPERUSER_ONLY,
        Some(hooks::check_before_command),
    );
    string(
        c"pg_keeper.after_command",
        c"A shell command that is run after this server was promoted.",
        c"It is killed after command_timeout; its outcome is logged and recorded.",
        &AFTER_COMMAND,
        GucFlags::SUPERUSER_ONLY,
        Some(hooks::check_after_command),
    );
    real(
        c"pg_keeper.command_timeout",
        c"The longest that before_command and after_command may each run, in seconds.",
        c"A command that takes longer is killed.",
        &COMMAND_TIMEOUT,
        Settings::COMMAND_TIMEOUT_SECONDS,
        GucFlags::UNIT_S,
    );
}

/// What a primary does without its partner.
fn define_primary() {
    GucRegistry::define_enum_guc(
        c"pg_keeper.on_unknown_partner",
        c"What a server does that starts as primary and cannot ask its partner.",
        c"With \"open\" it takes writes after keepalive_time times keepalive_count of silence, with \"wait\" when an administrator says so.",
        &ON_UNKNOWN_PARTNER,
        GucContext::Sighup,
        GucFlags::empty(),
    );
    string(
        c"pg_keeper.synchronous_standby_names",
        c"What synchronous_standby_names is to hold on a primary whose standby is there.",
        c"pg_keeper sets synchronous_standby_names itself. Empty means that it leaves a primary's setting alone.",
        &SYNCHRONOUS_STANDBY_NAMES,
        GucFlags::empty(),
        Some(hooks::check_synchronous_standby_names),
    );
    GucRegistry::define_enum_guc(
        c"pg_keeper.on_standby_loss",
        c"What a primary does whose synchronous standby is gone.",
        c"With \"async\" it goes on without it once the standby cannot promote itself any more, with \"wait\" its commits wait.",
        &ON_STANDBY_LOSS,
        GucContext::Sighup,
        GucFlags::empty(),
    );
}

/// What the partner asks for.
fn define_report(show: pg_sys::GucShowHook) {
    let flags = GucFlags::NO_RESET_ALL | GucFlags::DISALLOW_IN_FILE;
    // GUC_NOT_IN_SAMPLE has no name of its own in pgrx.
    let flags = GucFlags::from_bits_retain(flags.bits() | pg_sys::GUC_NOT_IN_SAMPLE as i32);
    // SAFETY: the caller's hook is guarded against panics and returns a C string.
    unsafe {
        GucRegistry::define_string_guc_with_hooks(
            c"pg_keeper.report",
            c"What this server tells its partner.",
            c"It cannot be set.",
            &REPORT,
            GucContext::Internal,
            flags,
            None,
            None,
            show,
        );
    }
}

fn string(
    name: &'static CStr,
    short: &'static CStr,
    long: &'static CStr,
    setting: &'static Text,
    flags: GucFlags,
    check: pg_sys::GucStringCheckHook,
) {
    // SAFETY: the hooks are guarded against panics.
    unsafe {
        let context = GucContext::Sighup;
        GucRegistry::define_string_guc_with_hooks(name, short, long, setting, context, flags, check, None, None);
    }
}

fn real(
    name: &'static CStr,
    short: &'static CStr,
    long: &'static CStr,
    setting: &'static GucSetting<f64>,
    (least, most): (f64, f64),
    unit: GucFlags,
) {
    GucRegistry::define_float_guc(name, short, long, setting, least - ROUNDING, most, GucContext::Sighup, unit);
}

fn boolean(name: &'static CStr, short: &'static CStr, long: &'static CStr, setting: &'static GucSetting<bool>) {
    GucRegistry::define_bool_guc(name, short, long, setting, GucContext::Sighup, GucFlags::empty());
}

/// The settings for the decisions, as they are now.
///
/// # Errors
/// Why nothing may be decided with them.
pub(crate) fn settings() -> Result<Settings, Inert> {
    let problems = problems();
    if !problems.is_empty() {
        return Err(Inert::BadSettings(problems));
    }
    partner_conninfo().ok_or(Inert::NoPartner)?;
    let (keepalive_time, keepalive_count) = keepalives();
    Ok(Settings {
        keepalive_time,
        keepalive_count,
        fast_failover: FAST_FAILOVER.get(),
        enabled: ENABLED.get(),
        // From 0 to 2^60, so nothing but a fraction of a byte is lost.
        max_lag: MAX_LAG.get() as u64,
        before_command: before_command().is_some(),
        after_command: after_command().is_some(),
        before_command_limit: if before_command().is_some() { command_timeout() } else { Duration::ZERO },
        on_unknown_partner: match ON_UNKNOWN_PARTNER.get() {
            UnknownPartner::Open => OnUnknownPartner::Open,
            UnknownPartner::Wait => OnUnknownPartner::Wait,
        },
        synchronous: synchronous_standby_names().is_some(),
        on_standby_loss: match ON_STANDBY_LOSS.get() {
            StandbyLoss::Async => OnStandbyLoss::Async,
            StandbyLoss::Wait => OnStandbyLoss::Wait,
        },
        // Where it leads is the keeper's to find out.
        partner_generation: 0,
    })
}

/// `pg_keeper.keepalive_time` and `pg_keeper.keepalive_count`; an old spelling counts where the proper one is at its default.
pub(crate) fn keepalives() -> (Duration, u32) {
    let seconds = match (KEEPALIVE_TIME.get(), KEEPALIVES_TIME.get()) {
        (proper, old) if old > 0.0 && proper == DEFAULT_KEEPALIVE_TIME => old,
        (proper, _) => proper,
    };
    let count = match (KEEPALIVE_COUNT.get(), KEEPALIVES_COUNT.get()) {
        (DEFAULT_KEEPALIVE_COUNT, old) if old > 0 => old,
        (proper, _) => proper,
    };
    (Duration::from_secs_f64(seconds), count.unsigned_abs())
}

/// Which old spellings are set, each with the right one.
pub(crate) fn old_spellings() -> Vec<(&'static str, &'static str)> {
    let time = (KEEPALIVES_TIME.get() > 0.0).then_some(("pg_keeper.keepalives_time", "pg_keeper.keepalive_time"));
    let count = (KEEPALIVES_COUNT.get() > 0).then_some(("pg_keeper.keepalives_count", "pg_keeper.keepalive_count"));
    time.into_iter().chain(count).collect()
}

/// `pg_keeper.enabled`
pub(crate) fn enabled() -> bool {
    ENABLED.get()
}

/// `pg_keeper.partner_conninfo`, if it holds anything.
pub(crate) fn partner_conninfo() -> Option<CString> {
    not_blank(&PARTNER_CONNINFO)
}

/// `pg_keeper.before_command`, if it holds anything: UTF-8.
pub(crate) fn before_command() -> Option<CString> {
    not_blank(&BEFORE_COMMAND)
}

/// `pg_keeper.after_command`, if it holds anything: UTF-8.
pub(crate) fn after_command() -> Option<CString> {
    not_blank(&AFTER_COMMAND)
}

/// `pg_keeper.synchronous_standby_names`, if it holds anything.
pub(crate) fn synchronous_standby_names() -> Option<CString> {
    not_blank(&SYNCHRONOUS_STANDBY_NAMES)
}

fn not_blank(setting: &Text) -> Option<CString> {
    setting.get().filter(|text| !text.to_bytes().trim_ascii().is_empty())
}

/// `pg_keeper.command_timeout`
pub(crate) fn command_timeout() -> Duration {
    Duration::from_secs_f64(COMMAND_TIMEOUT.get())
}

/// `pg_keeper.database`: UTF-8.
pub(crate) fn database() -> CString {
    DATABASE.get().unwrap_or_default()
}

/// `pg_keeper.node_name`, or the host's name in its place; never empty, printable ASCII without spaces.
pub(crate) fn node_name() -> String {
    let set = NODE_NAME.get().unwrap_or_default().to_string_lossy().into_owned();
    if !set.is_empty() {
        return set;
    }
    let host = nix::unistd::gethostname().unwrap_or_default();
    let host: String = host.to_string_lossy().chars().map(|c| if c.is_ascii_graphic() { c } else { '-' }).collect();
    if host.is_empty() { "unnamed".to_owned() } else { host }
}

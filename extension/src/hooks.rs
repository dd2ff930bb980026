//! Where clients and commits pass the gate.
//!
//! Hooks carry no thought: each calls the one before it, looks at the gate, and lets pass or refuses. What is allowed is decided by the
//! keeper.
//!
//! Every connection and every transaction of every session comes through here, so in the calm a hook is a plain function that reads a
//! few words: no guard of pgrx around it, no function of the server through pgrx's own. Both touch pages that a new session would
//! otherwise leave alone. Guarded is what waits or refuses. And the plain ones lie side by side in a section of their own
//! (`pg_keeper_hooks`), for the kernel maps a library's code page group by page group, a fault for each.
//!
//! - Authentication: ordinary clients are sent away at once by 57P03, which makes libpq try the next host and pg_isready say «rejecting».
//! - Before a commit or a PREPARE of a transaction that wrote, while it can still be aborted.
//! - Before a statement that does something for good ahead of its own commit: COMMIT PREPARED is durable before the first of those
//!   callbacks, and DROP DATABASE has removed the files. One that is refused must not have been carried out.
//! - After a commit, before its acknowledgement: a commit during which the fence rose is not acknowledged, and the client sees a lost
//!   connection.

use crate::gate::{self, Refusal};
use crate::shared;
use keeper_core::Gate;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::time::Duration;

/// `STATUS_OK` (`c.h`).
const STATUS_OK: c_int = 0;

type AuthenticationHook = Option<unsafe extern "C-unwind" fn(*mut Port, c_int)>;

/// The beginning of a connection's `Port` (`libpq/libpq-be.h`), which pgrx does not bind.
#[repr(C)]
struct Port {
    socket: c_int,
    noblock: bool,
    protocol: u32,
    local_address: pg_sys::SockAddr,
    remote_address: pg_sys::SockAddr,
    remote_host: *mut c_char,
    remote_hostname: *mut c_char,
    remote_hostname_resolved: c_int,
    remote_hostname_error: c_int,
    remote_port: *mut c_char,
    #[cfg(any(feature = "pg13", feature = "pg14", feature = "pg15", feature = "pg16"))]
    can_accept_connections: c_int,
    #[cfg(feature = "pg18")]
    local_host: [c_char; 64],
    database_name: *mut c_char,
    user_name: *mut c_char,
}

// What pgrx does not bind in every version (`libpq/auth.h`, `replication/walsender.h`), or only behind a guard (`tcop/utility.h`).
unsafe extern "C-unwind" {
    static mut ClientAuthentication_hook: AuthenticationHook;
    static am_walsender: bool;
    static am_db_walsender: bool;
    // `access/xact.h`: reads the process's own state and raises nothing.
    #[link_name = "GetTopTransactionIdIfAny"]
    fn top_transaction_id_if_any() -> pg_sys::TransactionId;
    #[link_name = "standard_ProcessUtility"]
    fn standard_process_utility(
        statement: *mut pg_sys::PlannedStmt,
        text: *const c_char,
        #[cfg(not(feature = "pg13"))] read_only_tree: bool,
        context: pg_sys::ProcessUtilityContext::Type,
        parameters: pg_sys::ParamListInfo,
        environment: *mut pg_sys::QueryEnvironment,
        destination: *mut pg_sys::DestReceiver,
        completion: *mut pg_sys::QueryCompletion,
    );
}

static mut PREVIOUS_AUTHENTICATION: AuthenticationHook = None;
static mut PREVIOUS_UTILITY: pg_sys::ProcessUtility_hook_type = None;

/// Puts all of them in place; from `_PG_init` only.
pub(crate) fn install() {
    // SAFETY: the postmaster loads libraries before it starts any process, in its one thread.
    unsafe {
        PREVIOUS_AUTHENTICATION = ClientAuthentication_hook;
        ClientAuthentication_hook = Some(on_authentication);
        PREVIOUS_UTILITY = pg_sys::ProcessUtility_hook;
        pg_sys::ProcessUtility_hook = Some(on_utility);
        pg_sys::RegisterXactCallback(Some(on_transaction), std::ptr::null_mut());
    }
}

/// Calls whatever was there before, and then looks. The frame owns nothing, so that an error of the other hook passes through it untouched.
#[unsafe(link_section = "pg_keeper_hooks")]
unsafe extern "C-unwind" fn on_authentication(port: *mut Port, status: c_int) {
    // SAFETY: set once, before this process was started; the arguments are those that the server gave.
    unsafe {
        if let Some(previous) = PREVIOUS_AUTHENTICATION {
            previous(port, status);
        }
        if status == STATUS_OK && !matches!(gate::gate(), Gate::Open { .. }) {
            check_client(port);
        }
    }
}

/// # Safety
/// The arguments are those of [`on_authentication`].
#[cold]
#[pg_guard]
unsafe extern "C-unwind" fn check_client(port: *mut Port) {
    // SAFETY: the server calls this in a transaction, with a connection whose user name is known; the two flags are this process's own.
    let passes = unsafe {
        pg_sys::RecoveryInProgress()
            || (am_walsender && !am_db_walsender)
            || may_pass(CStr::from_ptr((*port).user_name), (*port).remote_address.addr.ss_family)
    };
    if !passes {
        refuse_client(gate::gate());
    }
}

/// Whether a role gets past guard and fence: one that may only look, and a superuser on the machine itself.
///
/// # Safety
/// Inside a transaction.
unsafe fn may_pass(user: &CStr, family: u16) -> bool {
    // SAFETY: the caller vouches for the transaction; a name that is no role gives the invalid one.
    let role = unsafe { pg_sys::get_role_oid(user.as_ptr(), true) };
    // SAFETY: the caller vouches for it.
    unsafe { role_may_pass(role, family) }
}

/// As [`may_pass`], for a role's number.
///
/// # Safety
/// Inside a transaction.
pub(crate) unsafe fn role_may_pass(role: pg_sys::Oid, family: u16) -> bool {
    let is_local = i32::from(family) == nix::libc::AF_UNIX;
    // SAFETY: looks at shared catalogs only, in the caller's transaction.
    unsafe {
        let monitor = pg_sys::get_role_oid(c"keeper_monitor".as_ptr(), true);
        (is_local && pg_sys::superuser_arg(role))
            || (monitor != pg_sys::InvalidOid && pg_sys::is_member_of_role_nosuper(role, monitor))
    }
}

fn refuse_client(gate: Gate) {
    let published = shared::published();
    let reason = published.closed.as_str();
    let (message, detail, hint) = match gate {
        Gate::Fenced => (
            format!("this server is {}", published.fence.as_str()),
            "It is superseded and takes no clients.".to_owned(),
            "Connect to the active server. On this one, SELECT pg_keeper.rejoin_plan() prints the commands that make it a standby.",
        ),
        // Opened in this moment.
        Gate::Open { .. } => return,
        Gate::Closed => (
            "this server takes no clients before it knows what its partner is".to_owned(),
            match (published.keeper_pid, reason) {
                (0, _) => "pg_keeper's worker has not started yet. If this lasts, look for pg_keeper in the server's log, and raise \
                           max_worker_processes."
                    .to_owned(),
                (_, "") => "pg_keeper's worker has just started.".to_owned(),
                (_, reason) => format!("Reason: {reason}."),
            },
            "Try again, or connect to the other server.",
        ),
    };
    ErrorReport::new(PgSqlErrorCode::ERRCODE_CANNOT_CONNECT_NOW, message, "pg_keeper")
        .set_detail(detail)
        .set_hint(hint)
        .report(PgLogLevel::FATAL);
}

#[unsafe(link_section = "pg_keeper_hooks")]
unsafe extern "C-unwind" fn on_transaction(event: pg_sys::XactEvent::Type, _argument: *mut c_void) {
    use pg_sys::XactEvent::{XACT_EVENT_COMMIT, XACT_EVENT_PRE_COMMIT, XACT_EVENT_PRE_PREPARE, XACT_EVENT_PREPARE};
    if !must_look() {
        return;
    }
    if matches!(event, XACT_EVENT_PRE_COMMIT | XACT_EVENT_PRE_PREPARE) {
        pass_or_raise();
    } else if matches!(event, XACT_EVENT_COMMIT | XACT_EVENT_PREPARE) {
        acknowledge_or_hang_up();
    }
}

/// Whether this transaction leaves anything behind, and has no permit at this moment.
fn must_look() -> bool {
    // SAFETY: reads of the process's own state.
    let has_written = unsafe { top_transaction_id_if_any() != pg_sys::InvalidTransactionId };
    has_written && is_guarded() && !gate::lets_pass()
}

/// A server that runs without a postmaster is being repaired by hand.
fn is_guarded() -> bool {
    // SAFETY: set when the process starts, and only read.
    unsafe { pg_sys::IsUnderPostmaster }
}

/// Waits for the permit, serving interrupts, or raises an ERROR, which aborts the transaction.
#[cold]
#[pg_guard]
extern "C-unwind" fn pass_or_raise() {
    let pause = |span: Duration| {
        wait(span);
        pgrx::check_for_interrupts!();
    };
    let Err(refusal) = gate::pass(pause) else { return };
    let published = shared::published();
    let closed = published.closed.as_str();
    let (code, message, detail, hint) = match refusal {
        Refusal::Fenced => (
            PgSqlErrorCode::ERRCODE_READ_ONLY_SQL_TRANSACTION,
            format!("cannot commit: this server is {}", published.fence.as_str()),
            "It is superseded, and what it committed would be lost.".to_owned(),
            "Connect to the active server; SELECT pg_keeper.rejoin_plan() prints the commands that make this one its standby.",
        ),
        Refusal::NoPermit => (
            PgSqlErrorCode::ERRCODE_CANNOT_CONNECT_NOW,
            "cannot commit: it is not known whether this server is still the active one".to_owned(),
            if closed.is_empty() { format!("{}.", published.reason.as_str()) } else { format!("Reason: {closed}.") },
            "Try again, or look at pg_keeper.status on both servers.",
        ),
        Refusal::PostmasterDead => (
            PgSqlErrorCode::ERRCODE_ADMIN_SHUTDOWN,
            "cannot commit: the postmaster is gone".to_owned(),
            "Another server may have taken over already.".to_owned(),
            "Connect again.",
        ),
    };
    ErrorReport::new(code, message, "pg_keeper").set_detail(detail).set_hint(hint).report(PgLogLevel::ERROR);
}

/// The commit is durable here. Unless the server is still known to be the active one, its client must not be told so: he sees a lost
/// connection, as when a server dies in this moment, and asks the active server what became of it.
#[cold]
#[pg_guard]
extern "C-unwind" fn acknowledge_or_hang_up() {
    // No interrupt is served and no error raised here, nor may the process end: the transaction can no longer be aborted.
    if gate::pass(std::thread::sleep).is_ok() {
        return;
    }
    // SAFETY: what the server itself does when it stops waiting for a synchronous standby (`SyncRepWaitForLSN`): nothing more is sent, and
    // the process ends at its next look for interrupts. Not all that is written until then obeys: CommandComplete goes into the buffer all
    // the same, and leaves with it if that runs full. Therefore the socket, the process's own, is closed for writing as well.
    unsafe {
        pg_sys::whereToSendOutput = pg_sys::CommandDest::DestNone;
        (&raw mut pg_sys::ProcDiePending).write_volatile(1);
        (&raw mut pg_sys::InterruptPending).write_volatile(1);
        if let Some(port) = pg_sys::MyProcPort.cast::<Port>().as_ref() {
            nix::libc::shutdown(port.socket, nix::libc::SHUT_WR);
        }
    }
}

/// Waits for a moment, or until something wakes this process.
fn wait(span: Duration) {
    let flags = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
    let milliseconds = i64::try_from(span.as_millis()).unwrap_or(1);
    // SAFETY: MyLatch is this process's own. Whoever waits for it looks at his condition before he waits again.
    unsafe {
        pg_sys::WaitLatch(pg_sys::MyLatch, flags.cast_signed(), milliseconds, pg_sys::PG_WAIT_EXTENSION);
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
}

/// What a statement does for good before any callback runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Irrevocable {
    /// Nothing: an abort undoes all of it.
    Nothing,
    /// The outcome of a prepared transaction.
    Prepared,
    /// Files, or what lies on another server.
    Outside,
}

impl Irrevocable {
    /// # Safety
    /// The statement is a planned one, as the server hands it in.
    unsafe fn part_of(statement: *mut pg_sys::PlannedStmt) -> Irrevocable {
        use pg_sys::NodeTag;
        use pg_sys::TransactionStmtKind::{TRANS_STMT_COMMIT_PREPARED, TRANS_STMT_ROLLBACK_PREPARED};
        // SAFETY: the caller vouches for the statement, whose utility statement says by its tag what it is.
        unsafe {
            let utility = (*statement).utilityStmt;
            let Some(node) = utility.as_ref() else { return Irrevocable::Nothing };
            if node.type_ == NodeTag::T_TransactionStmt {
                let kind = (*utility.cast::<pg_sys::TransactionStmt>()).kind;
                let is_prepared = kind == TRANS_STMT_COMMIT_PREPARED || kind == TRANS_STMT_ROLLBACK_PREPARED;
                return if is_prepared { Irrevocable::Prepared } else { Irrevocable::Nothing };
            }
            if acts_outside(node.type_) { Irrevocable::Outside } else { Irrevocable::Nothing }
        }
    }
}

/// Whether a statement of this kind changes files or another server. Stands by itself, as what decides among so many is a table of constants,
/// and BEGIN and COMMIT shall read none.
#[inline(never)]
#[unsafe(link_section = "pg_keeper_hooks")]
fn acts_outside(tag: pg_sys::NodeTag) -> bool {
    use pg_sys::NodeTag::{
        T_AlterDatabaseStmt, T_AlterSubscriptionStmt, T_CreateSubscriptionStmt, T_CreateTableSpaceStmt, T_CreatedbStmt,
        T_DropSubscriptionStmt, T_DropTableSpaceStmt, T_DropdbStmt,
    };
    matches!(
        tag,
        T_CreatedbStmt
            | T_AlterDatabaseStmt
            | T_DropdbStmt
            | T_CreateTableSpaceStmt
            | T_DropTableSpaceStmt
            | T_CreateSubscriptionStmt
            | T_AlterSubscriptionStmt
            | T_DropSubscriptionStmt
    )
}

/// Guards what is done for good, and is a plain call for every other statement.
///
/// No guard of pgrx stands around that call: it would catch every error of a utility statement (COPY, DO and CALL among them) and raise
/// it anew without its constraint, position and place. The frame owns nothing, so an error may leave it as it leaves the server's own.
#[allow(clippy::too_many_arguments)]
#[unsafe(link_section = "pg_keeper_hooks")]
unsafe extern "C-unwind" fn on_utility(
    statement: *mut pg_sys::PlannedStmt,
    text: *const c_char,
    #[cfg(not(feature = "pg13"))] read_only_tree: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    parameters: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    destination: *mut pg_sys::DestReceiver,
    completion: *mut pg_sys::QueryCompletion,
) {
    // SAFETY: the server hands in a planned statement. The hook was set once, before this process was started; the arguments are those
    // that the server gave.
    unsafe {
        let irrevocable = Irrevocable::part_of(statement);
        if irrevocable != Irrevocable::Nothing {
            before_irrevocable();
        }
        PREVIOUS_UTILITY.unwrap_or(standard_process_utility)(
            statement,
            text,
            #[cfg(not(feature = "pg13"))]
            read_only_tree,
            context,
            parameters,
            environment,
            destination,
            completion,
        );
        if irrevocable == Irrevocable::Prepared && is_guarded() {
            acknowledge_or_hang_up();
        }
    }
}

#[pg_guard]
extern "C-unwind" fn before_irrevocable() {
    // SAFETY: reads shared memory that every process attached to it has. A standby refuses such a statement in the server's own words.
    if is_guarded() && !unsafe { pg_sys::RecoveryInProgress() } {
        pass_or_raise();
    }
}

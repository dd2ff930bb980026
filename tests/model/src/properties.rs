//! What must hold, one file each: the property, and a check that takes a protection away to show that its loss is noticed. That they hold
//! where nothing is taken away is checked in `holds`, for all of them in one world.

pub mod frozen_server_acknowledges_nothing_stale;
pub mod heals;
pub mod never_two_open_without_a_cut;
pub mod no_write_after_fence;
pub mod promise_kept;
pub mod returns;
pub mod synchronous_loses_nothing;

#[cfg(test)]
mod cut_cable;
#[cfg(test)]
mod holds;

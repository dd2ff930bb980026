//! Two nodes of pg_keeper in an adversarial world.
//!
//! Both run the very code that runs in production ([`keeper_core::Node`]). Around them is a small model of two servers, the network between
//! them and their clocks ([`world`]), and an adversary with a budget ([`adversary`]): it kills, pauses and cuts what it likes, whenever it
//! likes. The checker looks at everything that can come of it, up to a stated time, and at what must then hold ([`properties`]).

pub mod adversary;
pub mod properties;
pub mod scenario;
pub mod story;
pub mod witness;
pub mod world;

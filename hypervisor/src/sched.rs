//! Who runs where, and for how long.
//!
//! Each CPU has a [`RunQueue`] of its own, which nobody else touches: there is no
//! lock on the way from one turn to the next. What the others may know and say is
//! in [`Cpus`]; a vCPU that moves travels through the [`Inbox`] of its new CPU.

mod cpu_set;
mod cpus;
mod inbox;
mod index_set;
mod placement;
mod queue;
mod share;
#[cfg(test)]
mod tests;

pub use cpu_set::{CpuSet, MAX_CPUS};
pub use cpus::{CpuState, Cpus};
pub use inbox::{Inbox, Message};
pub use placement::{first_home, place};
pub use queue::{Moving, Rest, RunQueue};
pub use share::{LEVELS, Share};

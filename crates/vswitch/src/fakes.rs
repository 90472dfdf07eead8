//! A plain model of the switch and a comparison with it: for the tests, the fuzz
//! target, and users who want to drive their own adapter by the same steps.

mod drive;
mod reference;
mod step;

pub use drive::{Failure, compare, replay};
pub use reference::{Delivery, ReferenceSwitch};
pub use step::{Step, port_configs};

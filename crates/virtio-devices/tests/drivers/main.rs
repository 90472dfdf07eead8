//! Guest drivers that we did not write, against our devices through our
//! registers.
#![expect(
    unsafe_code,
    reason = "a driver and its device share memory by raw pointers"
)]

mod arena;
mod blk;
mod console;
mod net;
mod rng;
mod wire;

//! The ITS as a guest meets it: registers and commands on one side, plain
//! redistributors on the other.
#![expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test that indexes wrongly fails, as it should"
)]

mod commands;
mod driver;
mod hostile;
mod machine;
mod model;
mod registers;
mod rules;
mod storm;
mod tables;
mod vm;
mod whole;

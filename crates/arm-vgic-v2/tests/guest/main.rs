//! Whole machines as a guest sees them.
#![expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::panic,
    reason = "a test that goes wrong here fails, as it should"
)]

mod delivery;
mod hostile;
mod machine;
mod model;
mod registers;

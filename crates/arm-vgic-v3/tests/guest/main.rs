//! The vGIC as a guest meets it: registers on one side, a fake CPU interface
//! that acknowledges, ends and deactivates on the other.
#![expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test that indexes wrongly fails, as it should"
)]

mod delivery;
mod hostile;
mod machine;
mod model;
mod overflow;
mod registers;
mod timer;

//! What a hypervisor sees of the vGIC, and what our vGIC chose where the
//! specification leaves a choice. What every GIC must do is in the conformance
//! suite.
#![expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test that indexes wrongly fails, as it should"
)]

mod machine;
mod registers;
mod timer;
mod vcpu;

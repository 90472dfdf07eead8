//! Where a reader outside the machine begins to look.
#![expect(unsafe_code, reason = "a symbol that is found by its name")]

use core::sync::atomic::{AtomicU64, Ordering};

use hypervisor::telemetry::Telemetry;

/// The physical address of the header; 0 until there is one.
#[unsafe(no_mangle)]
static ARMATURE_TELEMETRY: AtomicU64 = AtomicU64::new(0);

/// Lets the header be found.
pub(super) fn announce(telemetry: &Telemetry) {
    ARMATURE_TELEMETRY.store(telemetry.header().address(), Ordering::Release);
}

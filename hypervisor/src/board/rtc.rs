//! The machine's PL031, read once: guests keep their own time from then on.
#![expect(unsafe_code, reason = "a register named by the device tree")]

use dtb_platform::Platform;

/// Returns the time of day in seconds since the epoch; 0 if the machine has no
/// clock that is known.
pub(crate) fn now_seconds(platform: &Platform) -> u64 {
    let Some(registers) = platform.rtc else {
        return 0;
    };
    let data = core::ptr::with_exposed_provenance::<u32>(registers.start.into());
    // SAFETY: RTCDR, at offset 0 of a PL031, mapped as device memory; reading it
    // has no effect.
    u64::from(unsafe { data.read_volatile() })
}

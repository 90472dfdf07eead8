//! The CPU's random numbers (FEAT_RNG).
#![expect(unsafe_code, reason = "a register that aarch64-cpu lacks")]

use core::arch::asm;

use aarch64_cpu::registers::{ID_AA64ISAR0_EL1, Readable};
use hypervisor::vm::FillEntropy;

/// ID_AA64ISAR0_EL1.RNDR.
const RNDR: u32 = 60;
/// How often a CPU may say that it has none just now.
const MOST_TRIES: usize = 16;

/// Returns the source of entropy, if the CPUs have one.
pub(crate) fn source() -> Option<FillEntropy> {
    (ID_AA64ISAR0_EL1.get() >> RNDR != 0).then_some(fill as FillEntropy)
}

fn fill(bytes: &mut [u8]) -> usize {
    let mut filled = 0;
    for piece in bytes.chunks_mut(8) {
        let Some(number) = (0..MOST_TRIES).find_map(|_| random()) else {
            break;
        };
        for (place, byte) in piece.iter_mut().zip(number.to_le_bytes()) {
            *place = byte;
        }
        filled += piece.len();
    }
    filled
}

/// Reads RNDR; `None` if there is no number within reasonable time.
fn random() -> Option<u64> {
    let (number, failed): (u64, u64);
    // SAFETY: RNDR can be read, as `source` has made sure, and says by PSTATE.Z that it
    // has failed.
    unsafe {
        asm!(
            "mrs {number}, S3_3_C2_C4_0",
            "cset {failed}, eq",
            number = out(reg) number,
            failed = out(reg) failed,
            options(nomem, nostack),
        );
    }
    (failed == 0).then_some(number)
}

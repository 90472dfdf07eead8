//! A guest that does whatever comes to its mind, foreseen or not.

use vm_contract::Width;

use super::board::{GICR_STRIDE, SGI_BASE};
use super::compare::AFFINITIES;
use super::{Failure, GicUnderTest, IccRegister};
use crate::Frame;

/// How many bytes make one deed.
const DEED_BYTES: usize = 12;

/// Does to `gic`, which is of the [`shape`](super::shape), what `input` says, any
/// bytes, and asks it for its own [`check`](GicUnderTest::check) after each deed. Each
/// takes twelve bytes; fewer at the end are ignored.
///
/// # Errors
/// What does not hold.
pub fn torment(gic: &mut dyn GicUnderTest, input: &[u8]) -> Result<(), Failure> {
    let (deeds, _) = input.as_chunks::<DEED_BYTES>();
    for deed in deeds {
        commit(gic, deed);
        gic.check().map_err(Failure::new)?;
    }
    for vcpu in 0..AFFINITIES.len() {
        gic.move_vcpu(vcpu);
        let _ = gic.signals(vcpu);
    }
    gic.check().map_err(Failure::new)
}

fn commit(gic: &mut dyn GicUnderTest, deed: &[u8; DEED_BYTES]) {
    let [what, who, low, high, value @ ..] = *deed;
    let vcpu = usize::from(who) % AFFINITIES.len();
    let flag = who >> 7 != 0;
    let place = u16::from_le_bytes([low, high]);
    let value = u64::from_le_bytes(value);
    let register = IccRegister::ALL
        .get(usize::from(low) % IccRegister::ALL.len())
        .copied()
        .unwrap_or(IccRegister::Pmr);
    match what % 16 {
        kind @ 0..8 => {
            let width = Width::from_log2(u32::from(who >> 2 & 3));
            let (frame, base) = match kind % 4 {
                0 => (Frame::Distributor, 0),
                1 => (Frame::Redistributors, 0),
                // The last one is the first behind the region.
                2 => (Frame::Redistributors, u64::from(who >> 4 & 3) * GICR_STRIDE),
                _ => {
                    let base = u64::from(who >> 4 & 3) * GICR_STRIDE;
                    (Frame::Redistributors, base + SGI_BASE)
                }
            };
            let offset = base + u64::from(place);
            // Whether a fault answers is the GIC's business.
            if kind < 4 {
                let _ = gic.write(vcpu, frame, offset, width, value);
            } else {
                let _ = gic.read(vcpu, frame, offset, width);
            }
        }
        8 => {
            let _ = gic.read_icc(vcpu, register);
        }
        9 => gic.write_icc(vcpu, register, value),
        10 => {
            let ack = if flag {
                IccRegister::Iar0
            } else {
                IccRegister::Iar1
            };
            let _ = gic.read_icc(vcpu, ack);
        }
        11 => {
            let end = if flag {
                IccRegister::Eoir0
            } else {
                IccRegister::Eoir1
            };
            gic.write_icc(vcpu, end, u64::from(place % 128));
        }
        12 => gic.write_icc(vcpu, IccRegister::Dir, u64::from(place % 128)),
        13 => gic.set_spi(u32::from(place % 1100), flag),
        14 => gic.set_ppi(vcpu, u32::from(place % 40), flag),
        _ => gic.move_vcpu(vcpu),
    }
}

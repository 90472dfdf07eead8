//! What moves at every exit: the general registers, the PC and PSTATE.

use static_assertions::const_assert_eq;

/// SPSR_EL2.SS: the software-step state of the guest.
const SPSR_SS: u64 = 1 << 21;
/// SPSR_EL2.BTYPE, at bits 11:10 of a frame that holds AArch64 state.
const SPSR_BTYPE: u64 = 0b11 << 10;
/// SPSR_EL2.M\[4\]: the guest was in AArch32 state.
const SPSR_AARCH32: u64 = 1 << 4;
/// SPSR_EL2.T: AArch32 state, executing T32 instructions.
const SPSR_T32: u64 = 1 << 5;

/// Holds a guest's general registers, its PC and its PSTATE between exits.
///
/// The world switch stores and loads nothing else on the way out of and into
/// a guest; its assembly takes the offsets from this declaration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct TrapFrame {
    /// X0 to X30.
    pub gpr: [u64; 31],
    /// ELR_EL2: the guest's PC.
    pub elr: u64,
    /// SPSR_EL2: the guest's PSTATE.
    pub spsr: u64,
}

const_assert_eq!(size_of::<TrapFrame>(), 33 * 8);

impl TrapFrame {
    /// Returns general register `index`; 31 and above read as XZR.
    #[inline]
    #[must_use]
    pub fn gpr(&self, index: usize) -> u64 {
        self.gpr.get(index).copied().unwrap_or(0)
    }

    /// Writes general register `index`; a write to 31 or above is discarded,
    /// as one to XZR is.
    #[inline]
    pub fn set_gpr(&mut self, index: usize, value: u64) {
        if let Some(register) = self.gpr.get_mut(index) {
            *register = value;
        }
    }

    /// Steps the PC past an instruction of `length` bytes which EL2 has
    /// carried out in the guest's place.
    ///
    /// What executing it would have done to PSTATE is done as well: BTYPE
    /// becomes zero, a pending software step becomes due, and in AArch32 state
    /// the IT block advances.
    #[inline]
    pub fn step(&mut self, length: u64) {
        self.elr = self.elr.wrapping_add(length);
        if self.spsr & (SPSR_AARCH32 | SPSR_SS | SPSR_BTYPE) != 0 {
            self.step_state();
        }
    }

    /// Does to PSTATE what a step does, if it does anything.
    #[cold]
    fn step_state(&mut self) {
        if self.spsr & SPSR_AARCH32 == 0 {
            self.spsr &= !(SPSR_SS | SPSR_BTYPE);
        } else {
            self.step_aarch32();
        }
    }

    fn step_aarch32(&mut self) {
        self.elr &= 0xFFFF_FFFF;
        self.spsr &= !SPSR_SS;
        if self.spsr & SPSR_T32 == 0 {
            return;
        }
        // ITSTATE: bits 7:2 at SPSR[15:10], bits 1:0 at SPSR[26:25]. The
        // block ends when the low three bits become zero (AArch32.ITAdvance).
        let it = (self.spsr >> 8 & 0xFC) | (self.spsr >> 25 & 0b11);
        let next = if it & 0b111 == 0 {
            0
        } else {
            (it & 0xE0) | (it << 1 & 0x1F)
        };
        self.spsr &= !(0xFC << 8 | 0b11 << 25);
        self.spsr |= (next & 0xFC) << 8 | (next & 0b11) << 25;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn register_31_reads_as_zero_and_swallows_writes() {
        let mut frame = TrapFrame::default();
        frame.set_gpr(30, 5);
        frame.set_gpr(31, 7);
        frame.set_gpr(usize::MAX, 7);
        assert_eq!(frame.gpr(30), 5);
        assert_eq!(frame.gpr(31), 0);
        assert_eq!(frame.gpr(usize::MAX), 0);
    }

    #[test]
    fn a_step_clears_btype_and_makes_a_software_step_due() {
        let mut frame = TrapFrame {
            elr: u64::MAX - 3,
            spsr: 0x6000_03C5 | SPSR_SS | SPSR_BTYPE,
            ..TrapFrame::default()
        };
        frame.step(4);
        assert_eq!(frame.elr, 0);
        assert_eq!(frame.spsr, 0x6000_03C5);
    }

    #[test]
    fn a_step_advances_an_it_block_to_its_end() {
        // ITSTATE = 0b0000_0100 with condition 000: two instructions remain.
        let it = |it: u64| (it & 0xFC) << 8 | (it & 0b11) << 25;
        let mut frame = TrapFrame {
            elr: 0x1000,
            spsr: 0x10 | SPSR_T32 | it(0b0010_0100),
            ..TrapFrame::default()
        };
        frame.step(2);
        assert_eq!(frame.spsr, 0x10 | SPSR_T32 | it(0b0010_1000));
        frame.step(2);
        assert_eq!(frame.spsr, 0x10 | SPSR_T32);
        assert_eq!(frame.elr, 0x1004);
    }

    #[test]
    fn a_step_in_a32_state_keeps_the_pc_in_32_bits() {
        let mut frame = TrapFrame {
            elr: 0xFFFF_FFFC,
            spsr: 0x10,
            ..TrapFrame::default()
        };
        frame.step(4);
        assert_eq!(frame.elr, 0);
    }
}

//! List registers that remember what was put into them.

use alloc::sync::Arc;

use arm_vgic_core::{IchRegs, ListRegister};

use super::Ring;

/// The most list registers that there are.
const MOST: usize = 16;

/// Where the state of an interrupt is in a list register: bit 0 from here on says
/// that it is pending.
const STATE_SHIFT: u32 = 62;
/// That bit, of eight states at once.
const PENDING: u64 = 0x0101_0101_0101_0101;

/// What was last put into each list register of a CPU since somebody looked.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// The state of each interrupt; 0 if nothing was written.
    states: [u8; MOST],
    values: [ListRegister; MOST],
}

impl Written {
    #[inline(always)]
    fn note(&mut self, n: usize, value: ListRegister) {
        if let (Some(own), Some(state)) = (self.values.get_mut(n), self.states.get_mut(n)) {
            *own = value;
            *state = (value.bits() >> STATE_SHIFT) as u8;
        }
    }

    /// Takes the interrupts that were put there to be signalled.
    #[inline(always)]
    pub(super) fn take_pending(&mut self) -> impl Iterator<Item = ListRegister> + use<'_> {
        let Self { states, values } = self;
        let states = core::mem::take(states);
        let (eights, _) = states.as_chunks();
        // Eight at a time: nearly always there is nothing.
        let mut eights = eights
            .iter()
            .map(|states| u64::from_le_bytes(*states) & PENDING);
        let mut pending = [eights.next(), eights.next()].map(Option::unwrap_or_default);
        core::iter::from_fn(move || {
            let [low, high] = &mut pending;
            let (first, states) = if *low != 0 { (0, low) } else { (8, high) };
            let n = first + states.trailing_zeros() as usize / 8;
            *states &= states.checked_sub(1)?;
            values.get(n % MOST).copied()
        })
    }

    pub(super) const fn clear(&mut self) {
        self.states = [0; MOST];
    }
}

/// What a CPU needs to trace the vCPU that is loaded there.
#[derive(Debug, Default)]
pub struct CpuTrace {
    /// The CPU's ring, once something has been traced.
    pub(super) ring: Option<Arc<Ring>>,
    pub(super) written: Written,
}

impl CpuTrace {
    /// Forgets what was written.
    #[inline(always)]
    pub const fn clear(&mut self) {
        self.written.clear();
    }
}

/// The list registers of a CPU. To remember what is written costs three
/// instructions, so it is done whether anybody wants to know or not.
#[derive(Debug)]
pub struct Watched<I> {
    registers: I,
    trace: CpuTrace,
}

impl<I: IchRegs> Watched<I> {
    /// Watches `registers`.
    #[must_use]
    pub fn new(registers: I) -> Self {
        Self {
            registers,
            trace: CpuTrace::default(),
        }
    }

    /// Returns what is needed to trace the vCPU that is loaded.
    #[inline(always)]
    pub const fn trace(&mut self) -> &mut CpuTrace {
        &mut self.trace
    }
}

/// Passes accesses on.
macro_rules! pass_on {
    ($(read $read:ident($($n:ident: $index:ty)?) -> $value:ty;)* $(write $write:ident($($arg:ident: $arg_type:ty),+);)*) => {
        impl<I: IchRegs> IchRegs for Watched<I> {
            $(#[inline(always)]
            fn $read(&self $(, $n: $index)?) -> $value {
                self.registers.$read($($n)?)
            })*
            $(#[inline(always)]
            fn $write(&mut self, $($arg: $arg_type),+) {
                self.registers.$write($($arg),+);
            })*

            #[inline(always)]
            fn write_lr(&mut self, n: usize, value: ListRegister) {
                self.trace.written.note(n, value);
                self.registers.write_lr(n, value);
            }
        }
    };
}

pass_on! {
    read lr_count() -> usize;
    read priority_bits() -> u32;
    read preemption_bits() -> u32;
    read can_trap_dir() -> bool;
    read read_lr(n: usize) -> ListRegister;
    read read_vmcr() -> u64;
    read read_hcr() -> u64;
    read read_ap0r(n: usize) -> u64;
    read read_ap1r(n: usize) -> u64;
    write write_vmcr(value: u64);
    write write_hcr(value: u64);
    write write_ap0r(n: usize, value: u64);
    write write_ap1r(n: usize, value: u64);
}

#[cfg(test)]
mod tests {
    use arm_vgic_core::FakeIch;

    use super::*;

    #[test]
    fn what_is_pending_is_found_once_wherever_it_is() {
        let mut watched = Watched::new(FakeIch::new(16));
        assert_eq!(watched.trace().written.take_pending().count(), 0);
        let lr = |intid| ListRegister::new(intid, 0xa0, true);
        watched.write_lr(0, lr(30).active());
        watched.write_lr(3, lr(27).pending());
        watched.write_lr(5, lr(28).pending());
        watched.write_lr(5, ListRegister::EMPTY);
        watched.write_lr(15, lr(40).pending().active());
        assert_eq!(watched.read_lr(3), lr(27).pending(), "it was passed on");
        let found = [lr(27).pending(), lr(40).pending().active()];
        assert!(watched.trace().written.take_pending().eq(found));
        assert_eq!(watched.trace().written.take_pending().count(), 0);
        watched.write_lr(1, lr(27).pending());
        watched.trace().written.clear();
        assert_eq!(watched.trace().written.take_pending().count(), 0);
    }
}

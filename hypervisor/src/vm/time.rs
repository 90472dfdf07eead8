//! The time of each vCPU: what it had, and what others had in its place.
//!
//! The latter is offered to the guest as *stolen time* (Arm DEN 0057, SMCCC PV
//! time): a read-only structure of 16 bytes for each vCPU, each in a block of 64.

use core::sync::atomic::{AtomicU64, Ordering};

use dtb_platform::layout;
use vm_contract::{AccessError, GuestPhysAddr, VcpuId};

use super::memory::{GuestRam, Notice};

/// From one vCPU's structure to the next.
pub(super) const STRIDE_BYTES: usize = 64;
/// Of the stolen time in the structure; before it are revision and attributes,
/// 32 bits each, both zero.
const STOLEN_OFFSET: usize = 8;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// Returns where the guest finds the structure of `vcpu`.
#[must_use]
pub fn stolen_time_address(vcpu: VcpuId) -> GuestPhysAddr {
    layout::STOLEN_TIME.start + vcpu.index() * STRIDE_BYTES
}

/// Finds where the stolen time of `vcpu`, in nanoseconds, is to be written.
///
/// # Errors
/// None where the VM was built with the structures.
pub(crate) fn stolen_time(ram: &GuestRam, vcpu: VcpuId) -> Result<Notice, AccessError> {
    ram.notice(stolen_time_address(vcpu) + STOLEN_OFFSET)
}

/// Nanoseconds per counter tick, as a product that is shifted: a division less at each
/// turn.
#[derive(Clone, Copy, Debug)]
pub struct TickLength(u64);

impl TickLength {
    const BITS: u32 = 32;

    /// Returns the length of a tick of a counter of this frequency, in hertz.
    #[must_use]
    pub fn of(frequency: u64) -> Self {
        Self((NANOS_PER_SECOND << Self::BITS) / frequency.max(1))
    }

    /// Converts ticks to nanoseconds; less than one in four thousand million is cut off.
    #[inline]
    #[must_use]
    pub fn nanos(self, ticks: u64) -> u64 {
        let scaled = (u128::from(ticks) * u128::from(self.0)) >> Self::BITS;
        u64::try_from(scaled).unwrap_or(u64::MAX)
    }
}

/// Converts counter ticks to nanoseconds.
#[must_use]
pub fn nanos(ticks: u64, ticks_per_second: u64) -> u64 {
    let frequency = ticks_per_second.max(1);
    let nanos = u128::from(ticks) * u128::from(NANOS_PER_SECOND) / u128::from(frequency);
    u64::try_from(nanos).unwrap_or(u64::MAX)
}

/// What a vCPU had of the CPUs since its VM was built, in counter ticks. Written
/// by the CPU where it is, read by anybody.
#[derive(Debug, Default)]
pub struct CpuTime {
    run: AtomicU64,
    stolen: AtomicU64,
    turns: AtomicU64,
    moves: AtomicU64,
    /// When the present turn began; 0 between turns.
    turn_began: AtomicU64,
}

/// Adds to a count that nobody else writes. Returns the sum.
#[inline]
fn add(count: &AtomicU64, more: u64) -> u64 {
    let sum = count.load(Ordering::Relaxed).wrapping_add(more);
    count.store(sum, Ordering::Relaxed);
    sum
}

/// A look at a [`CpuTime`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Ticks on a CPU, in the guest or for it.
    pub run: u64,
    /// Ticks that it was ready and others ran.
    pub stolen: u64,
    /// How often it was given a CPU.
    pub turns: u64,
    /// How often it has moved to another CPU.
    pub moves: u64,
}

impl CpuTime {
    /// Records that a turn begins at `now`, for which the vCPU waited `waited`
    /// ticks. Returns all that it has waited.
    #[inline]
    pub(crate) fn begin_turn(&self, now: u64, waited: u64) -> u64 {
        self.turn_began.store(now, Ordering::Relaxed);
        add(&self.turns, 1);
        add(&self.stolen, waited)
    }

    /// Records that the turn ends after `ticks`.
    #[inline]
    pub(crate) fn end_turn(&self, ticks: u64) {
        self.turn_began.store(0, Ordering::Relaxed);
        add(&self.run, ticks);
    }

    /// Records a move.
    pub(crate) fn moved(&self) {
        self.moves.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns what it had until `now`, the present turn included.
    #[must_use]
    pub fn usage(&self, now: u64) -> Usage {
        let present = match self.turn_began.load(Ordering::Relaxed) {
            0 => 0,
            began => now.saturating_sub(began),
        };
        Usage {
            run: self.run.load(Ordering::Relaxed) + present,
            stolen: self.stolen.load(Ordering::Relaxed),
            turns: self.turns.load(Ordering::Relaxed),
            moves: self.moves.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_that_goes_on_counts_until_now() {
        let time = CpuTime::default();
        assert_eq!(time.begin_turn(100, 40), 40);
        assert_eq!((time.usage(130).run, time.usage(130).stolen), (30, 40));
        time.end_turn(50);
        assert_eq!(time.usage(1000).run, 50);
        assert_eq!(time.begin_turn(1000, 2), 42);
        assert_eq!(time.usage(1000).turns, 2);
    }

    #[test]
    fn every_vcpu_has_a_structure_of_its_own_in_the_window() {
        let last = stolen_time_address(VcpuId::new(layout::MAX_VCPUS - 1));
        assert!(layout::STOLEN_TIME.contains(last + STRIDE_BYTES - 1));
        assert_eq!(nanos(62_500_000, 62_500_000), 1_000_000_000);
        for frequency in [1_000_000, 24_000_000, 62_500_000, 1_000_000_000] {
            let length = TickLength::of(frequency);
            for ticks in [0, 1, 1000, frequency, 86_400 * frequency] {
                let (short, exact) = (length.nanos(ticks), nanos(ticks, frequency));
                let allowed = exact / (1 << 32) * 42 + 1;
                assert!(
                    short <= exact && exact - short <= allowed,
                    "{ticks}, {frequency}"
                );
            }
        }
    }
}

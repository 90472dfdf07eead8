//! Where interrupts are described: banks of 32 of them.

use test_guests::runtime::{gic, mmio, random::Random};

use crate::interface::{CPUS, Interface};
use crate::masks;
use crate::partner::{self, Request};

/// Banks of SPIs that the transcripts cover, beginning with the first.
pub(crate) const BANKS: u32 = 8;

/// A bank of 32 interrupts; if they are SGIs and PPIs, those of a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) cpu: usize,
    pub(crate) bank: u32,
}

impl Place {
    /// Returns where `intid` of `cpu` is described.
    pub(crate) fn of(cpu: usize, intid: u32) -> Self {
        match intid / 32 {
            0 => Self { cpu, bank: 0 },
            bank => Self { cpu: 0, bank },
        }
    }

    /// Lists all: those of each CPU, then the SPIs'.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let private = (0..CPUS).map(|cpu| Self { cpu, bank: 0 });
        private.chain(Self::shared())
    }

    /// Lists those of SPIs.
    pub(crate) fn shared() -> impl Iterator<Item = Self> {
        (1..=BANKS).map(|bank| Self { cpu: 0, bank })
    }

    /// Chooses one, as often a bank of SGIs and PPIs as one of SPIs.
    pub(crate) fn choose(random: &mut Random) -> Self {
        if random.below(2) == 0 {
            let cpu = random.index(CPUS);
            Self { cpu, bank: 0 }
        } else {
            Self::choose_shared(random)
        }
    }

    /// Chooses one of SPIs.
    pub(crate) fn choose_shared(random: &mut Random) -> Self {
        let bank = (random.draw() >> 32) as u32 % BANKS + 1;
        Self { cpu: 0, bank }
    }

    /// Tells whether `cpu` sees it as its own, or shares it.
    pub(crate) fn is_seen_by(self, cpu: usize) -> bool {
        self.bank != 0 || self.cpu == cpu
    }

    /// Returns the frame that describes it.
    pub(crate) fn frame<I: Interface>(self) -> u64 {
        if self.bank != 0 || I::IS_BANKED {
            gic::GICD
        } else {
            redistributor(self.cpu) + gic::SGI_FRAME
        }
    }

    /// Loads the word at `offset` of its frame.
    pub(crate) fn load<I: Interface>(self, offset: u64) -> u32 {
        let address = self.frame::<I>() + offset;
        if I::IS_BANKED && self.cpu != 0 {
            return word(partner::ask(Request::Load(address)));
        }
        mmio::read32(address)
    }

    /// Stores a word at `offset` of its frame.
    pub(crate) fn store<I: Interface>(self, offset: u64, value: u32) {
        let address = self.frame::<I>() + offset;
        if I::IS_BANKED && self.cpu != 0 {
            partner::ask(Request::Store(address, value));
        } else {
            mmio::write32(address, value);
        }
    }

    /// Stores a byte at `offset` of its frame.
    pub(crate) fn store_byte<I: Interface>(self, offset: u64, value: u8) {
        let address = self.frame::<I>() + offset;
        if I::IS_BANKED && self.cpu != 0 {
            partner::ask(Request::StoreByte(address, value));
        } else {
            mmio::write8(address, value);
        }
    }

    /// Reads its word of a bit array.
    pub(crate) fn bits<I: Interface>(self, array: u64) -> u32 {
        self.load::<I>(array + 4 * u64::from(self.bank))
    }

    /// Writes its word of a bit array.
    pub(crate) fn write_bits<I: Interface>(self, array: u64, bits: u32) {
        self.store::<I>(array + 4 * u64::from(self.bank), bits);
    }
}

/// Returns the first redistributor frame of CPU `cpu`: they lie in the order of
/// the CPUs.
pub(crate) const fn redistributor(cpu: usize) -> u64 {
    gic::GICR + gic::GICR_STRIDE * cpu as u64
}

/// Returns the word that CPU 1 has loaded.
pub(crate) fn word(loaded: u64) -> u32 {
    u32::try_from(loaded).unwrap_or(u32::MAX)
}

/// Returns the priority of `intid` of `cpu`.
pub(crate) fn priority<I: Interface>(cpu: usize, intid: u32) -> u8 {
    let offset = gic::IPRIORITYR + u64::from(intid & !3);
    let word = Place::of(cpu, intid).load::<I>(offset) & masks::PRIORITIES;
    let byte = word.to_le_bytes().get(intid as usize % 4).copied();
    byte.unwrap_or_default()
}

/// Sets the priority of `intid` of `cpu`.
pub(crate) fn set_priority<I: Interface>(cpu: usize, intid: u32, priority: u8) {
    Place::of(cpu, intid).store_byte::<I>(gic::IPRIORITYR + u64::from(intid), priority);
}

/// Writes the bit of `intid` of `cpu` in a bit array.
pub(crate) fn set_bit<I: Interface>(array: u64, cpu: usize, intid: u32) {
    Place::of(cpu, intid).write_bits::<I>(array, 1 << (intid % 32));
}

/// Reads the bit of `intid` of `cpu` in a bit array.
pub(crate) fn bit<I: Interface>(array: u64, cpu: usize, intid: u32) -> bool {
    Place::of(cpu, intid).bits::<I>(array) >> (intid % 32) & 1 != 0
}

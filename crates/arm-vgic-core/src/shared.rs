//! All interrupts that are not private to a vCPU.

use alloc::boxed::Box;

use crate::lpi::{FIRST_LPI_WORD, Grouping};
use crate::spi::SpiBank;

/// Banks of 32 interrupts, by their number counted from INTID 32.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    /// SPIs 32–63, 64–95, …
    pub(crate) spis: Box<[SpiBank]>,
    /// LPIs 8192–8223, … as numbers 31, …
    pub(crate) lpis: Box<[SpiBank]>,
    pub(crate) grouping: Grouping,
}

impl Shared {
    /// The number of the first bank of LPIs.
    const FIRST_LPI: usize = FIRST_LPI_WORD - 1;

    /// Returns a bank.
    pub(crate) fn get(&self, index: usize) -> Option<&SpiBank> {
        match self.spis.get(index) {
            Some(spis) => Some(spis),
            None => self.lpis.get(index.checked_sub(Self::FIRST_LPI)?),
        }
    }

    /// Returns a bank to change.
    #[inline]
    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut SpiBank> {
        match self.spis.get_mut(index) {
            Some(spis) => Some(spis),
            None => self.lpis.get_mut(index.checked_sub(Self::FIRST_LPI)?),
        }
    }

    /// Returns the bit of bank number `word`, counted from INTID 0, in a set of 64
    /// that has a bit for each bank of INTIDs below 1024, and for the banks of LPIs
    /// the others.
    #[inline]
    pub(crate) fn summary_bit(&self, word: u32) -> u32 {
        if word < 32 {
            word
        } else {
            self.grouping.bit(word as usize)
        }
    }

    /// Returns the numbers of the banks of LPIs.
    pub(crate) fn lpi_indices(&self) -> core::ops::Range<usize> {
        Self::FIRST_LPI..Self::FIRST_LPI + self.lpis.len()
    }

    /// Returns the numbers of all banks.
    pub(crate) fn indices(&self) -> impl Iterator<Item = usize> + use<> {
        (0..self.spis.len()).chain(self.lpi_indices())
    }
}

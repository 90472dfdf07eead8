//! Identities of interrupts, virtual machines and vCPUs.

use core::fmt;

/// A GIC interrupt number (INTID), never one of the special numbers
/// 1020–1023 nor of the reserved space 1024–8191 (Arm IHI 0069, "INTIDs").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IntId(u32);

impl IntId {
    /// The number of the first private peripheral interrupt.
    pub const PPI_BASE: u32 = 16;
    /// The number of the first shared peripheral interrupt.
    pub const SPI_BASE: u32 = 32;
    /// One past the number of the last shared peripheral interrupt.
    pub const SPI_END: u32 = 1020;
    /// The number of the first locality-specific peripheral interrupt.
    pub const LPI_BASE: u32 = 8192;

    /// Returns the interrupt numbered `raw`, or `None` if that number is
    /// special or reserved.
    #[must_use]
    pub const fn new(raw: u32) -> Option<Self> {
        // INTIDs have at most 24 bits in list registers and ICC_IAR1_EL1.
        if raw < Self::SPI_END || (raw >= Self::LPI_BASE && raw < 1 << 24) {
            Some(Self(raw))
        } else {
            None
        }
    }

    /// Returns software-generated interrupt `n`, or `None` if `n` > 15.
    #[must_use]
    pub const fn sgi(n: u32) -> Option<Self> {
        if n < Self::PPI_BASE {
            Some(Self(n))
        } else {
            None
        }
    }

    /// Returns private peripheral interrupt `n` (INTID 16 + n), or `None` if
    /// `n` > 15.
    #[must_use]
    pub const fn ppi(n: u32) -> Option<Self> {
        if n < 16 {
            Some(Self(Self::PPI_BASE + n))
        } else {
            None
        }
    }

    /// Returns shared peripheral interrupt `n` (INTID 32 + n), or `None` if
    /// `n` > 987.
    #[must_use]
    pub const fn spi(n: u32) -> Option<Self> {
        if n < Self::SPI_END - Self::SPI_BASE {
            Some(Self(Self::SPI_BASE + n))
        } else {
            None
        }
    }

    /// Returns the INTID as the GIC writes it.
    #[must_use]
    pub const fn raw(self) -> u32 {
        self.0
    }

    /// Tells whether this is a software-generated interrupt (0–15).
    #[must_use]
    pub const fn is_sgi(self) -> bool {
        self.0 < Self::PPI_BASE
    }

    /// Tells whether this is a private peripheral interrupt (16–31).
    #[must_use]
    pub const fn is_ppi(self) -> bool {
        self.0 >= Self::PPI_BASE && self.0 < Self::SPI_BASE
    }

    /// Tells whether this interrupt is private to one CPU: an SGI or a PPI.
    #[must_use]
    pub const fn is_private(self) -> bool {
        self.0 < Self::SPI_BASE
    }

    /// Tells whether this is a shared peripheral interrupt (32–1019).
    #[must_use]
    pub const fn is_spi(self) -> bool {
        self.0 >= Self::SPI_BASE && self.0 < Self::SPI_END
    }
}

impl fmt::Display for IntId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A virtual machine, numbered by the hypervisor. Not the VMID field of
/// VTTBR_EL2, which is a hardware resource of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VmId(u16);

impl VmId {
    /// Returns the identity of VM number `raw`.
    #[must_use]
    pub const fn new(raw: u16) -> Self {
        Self(raw)
    }

    /// Returns the VM's number.
    #[must_use]
    pub const fn raw(self) -> u16 {
        self.0
    }
}

impl fmt::Display for VmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A vCPU of some VM: its index there, from 0. What the guest sees as its
/// affinity is derived from this by the hypervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VcpuId(u16);

impl VcpuId {
    /// Returns the identity of the vCPU with this index in its VM.
    #[must_use]
    pub const fn new(index: u16) -> Self {
        Self(index)
    }

    /// Returns the index, for looking the vCPU up in a table of its VM.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Returns the number.
    #[must_use]
    pub const fn raw(self) -> u16 {
        self.0
    }
}

impl fmt::Display for VcpuId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_intid_is_of_one_kind_only() {
        for raw in 0..2048 {
            let kinds = IntId::new(raw).map_or(0, |id| {
                usize::from(id.is_sgi()) + usize::from(id.is_ppi()) + usize::from(id.is_spi())
            });
            assert_eq!(kinds, usize::from(raw < 1020), "INTID {raw}");
        }
    }

    #[test]
    fn constructors_refuse_what_is_out_of_range() {
        assert_eq!(IntId::sgi(16), None);
        assert_eq!(IntId::ppi(16), None);
        assert_eq!(IntId::spi(988), None);
        assert_eq!(IntId::ppi(11).map(IntId::raw), Some(27));
        assert_eq!(IntId::spi(1).map(IntId::raw), Some(33));
        assert_eq!(IntId::new(8191), None);
        assert!(IntId::new(8192).is_some_and(|lpi| !lpi.is_spi() && !lpi.is_private()));
    }
}

//! Virtual machine identifiers: the tag of a guest's TLB entries.

/// How many bits of VTTBR_EL2.VMID the machine compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VmidSize {
    /// 8 bits: 255 VMs besides the host.
    Bits8,
    /// 16 bits: 65,535 VMs besides the host.
    Bits16,
}

impl VmidSize {
    /// Returns the size that ID_AA64MMFR1_EL1.VMIDBits says (0b0010 is 16
    /// bits). Every CPU of the machine must agree; ask for the smallest.
    #[must_use]
    pub const fn from_id_field(vmid_bits: u64) -> Self {
        if vmid_bits & 0xF == 0b0010 {
            Self::Bits16
        } else {
            Self::Bits8
        }
    }

    /// Returns the number of VMIDs, the host's among them.
    #[must_use]
    pub const fn count(self) -> usize {
        match self {
            Self::Bits8 => 1 << 8,
            Self::Bits16 => 1 << 16,
        }
    }
}

/// A value of VTTBR_EL2.VMID for a guest; never 0, which the host keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HwVmid(u16);

impl HwVmid {
    /// Returns the VMID `raw`, or `None` for 0, which is the host's.
    #[must_use]
    pub const fn new(raw: u16) -> Option<Self> {
        if raw == 0 { None } else { Some(Self(raw)) }
    }

    /// Returns the number.
    #[must_use]
    pub const fn raw(self) -> u16 {
        self.0
    }

    /// Returns the VMID in its place in VTTBR_EL2.
    pub(crate) const fn vttbr_bits(self) -> u64 {
        (self.0 as u64) << 48
    }
}

/// Hands out VMIDs, each to one VM at a time.
///
/// A VMID that came back is handed out again as late as possible. Its TLB
/// entries must be gone when it comes back, which
/// [`Stage2::destroy`](crate::Stage2::destroy) sees to.
#[derive(Clone, Debug)]
pub struct VmidAllocator {
    size: VmidSize,
    /// One bit for each VMID: set while it is in use. 8 KiB.
    used: [u64; WORDS],
    /// The VMID to try first.
    next: usize,
}

const WORDS: usize = (1 << 16) / 64;

impl VmidAllocator {
    /// Returns an allocator of all VMIDs of `size` except the host's.
    #[must_use]
    pub const fn new(size: VmidSize) -> Self {
        Self {
            size,
            used: [0; WORDS],
            next: 1,
        }
    }

    /// Returns the size of the VMIDs handed out.
    #[must_use]
    pub const fn size(&self) -> VmidSize {
        self.size
    }

    /// Hands out a VMID, or returns `None` if all are in use.
    pub fn allocate(&mut self) -> Option<HwVmid> {
        let count = self.size.count();
        let free = (self.next..count).chain(1..self.next).find(|&vmid| {
            self.used
                .get(vmid / 64)
                .is_some_and(|word| word & bit(vmid) == 0)
        })?;
        *self.word(free)? |= bit(free);
        self.next = if free + 1 < count { free + 1 } else { 1 };
        u16::try_from(free).ok().and_then(HwVmid::new)
    }

    /// Takes back `vmid`. Returns whether it was in use; if not, nothing
    /// changes.
    pub fn free(&mut self, vmid: HwVmid) -> bool {
        let vmid = usize::from(vmid.raw());
        let Some(word) = self.word(vmid) else {
            return false;
        };
        let was_used = *word & bit(vmid) != 0;
        *word &= !bit(vmid);
        was_used
    }

    fn word(&mut self, vmid: usize) -> Option<&mut u64> {
        self.used.get_mut(vmid / 64)
    }
}

const fn bit(vmid: usize) -> u64 {
    1 << (vmid % 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_vmid_but_the_hosts_is_handed_out_once() {
        for size in [VmidSize::Bits8, VmidSize::Bits16] {
            let mut allocator = VmidAllocator::new(size);
            for expected in 1..size.count() {
                let vmid = allocator.allocate().map(HwVmid::raw);
                assert_eq!(vmid.map(usize::from), Some(expected));
            }
            assert_eq!(allocator.allocate(), None);
        }
    }

    #[test]
    fn a_vmid_that_came_back_is_handed_out_last() {
        let mut allocator = VmidAllocator::new(VmidSize::Bits8);
        let first = allocator.allocate().unwrap();
        assert!(allocator.free(first));
        assert!(!allocator.free(first), "it came back already");
        for _ in 1..255 {
            assert_ne!(allocator.allocate(), Some(first));
        }
        assert_eq!(allocator.allocate(), Some(first));
        assert_eq!(allocator.allocate(), None);
    }

    #[test]
    fn the_id_register_says_how_many_bits_there_are() {
        assert_eq!(VmidSize::from_id_field(0b0000), VmidSize::Bits8);
        assert_eq!(VmidSize::from_id_field(0b0010), VmidSize::Bits16);
    }
}

//! EL2's own stage-1 translation: everything at its physical address, nothing
//! both writable and executable, an unmapped page below every stack.

use aarch64_paging::MapError;
use aarch64_paging::descriptor::El23Attributes as Attributes;
use aarch64_paging::idmap::IdMap;
use aarch64_paging::mair::{Mair, MairAttribute, NormalMemory};
use aarch64_paging::paging::{El2, MemoryRegion};
use vm_contract::HostPhysAddrRange;

/// Index 0: device memory; index 1: normal, write-back. The early table of
/// `start.S` uses the same.
pub(crate) const MAIR: Mair = Mair::EMPTY
    .with_attribute(0, MairAttribute::DEVICE_NGNRE)
    .with_attribute(
        1,
        MairAttribute::normal(
            NormalMemory::WriteBackNonTransientReadWriteAllocate,
            NormalMemory::WriteBackNonTransientReadWriteAllocate,
        ),
    );

/// 48-bit addresses: the walk starts at level 0.
const ROOT_LEVEL: usize = 0;
const ADDRESS_BITS: u64 = 48;

/// TCR_EL2 (E2H = 0) bits that are RES1: 31 and 23.
const TCR_RES1: u64 = 1 << 31 | 1 << 23;
/// TCR_EL2: walks are write-back cacheable (IRGN0, ORGN0) and inner shareable (SH0).
const TCR_CACHEABLE_WALKS: u64 = 0b01 << 8 | 0b01 << 10 | 0b11 << 12;
/// The early table's 39-bit addresses.
pub(crate) const EARLY_TCR: u64 = TCR_RES1 | TCR_CACHEABLE_WALKS | EARLY_PS | (64 - 39);
/// 40 bits of physical address, which every supported CPU has.
const EARLY_PS: u64 = 0b010 << 16;
/// A level-1 block of normal memory, accessible and executable.
pub(crate) const EARLY_BLOCK: usize = Attributes::VALID
    .union(Attributes::ATTRIBUTE_INDEX_1)
    .union(Attributes::INNER_SHAREABLE)
    .union(Attributes::USER_RES1)
    .union(Attributes::ACCESSED)
    .bits();

/// SCTLR_EL2 bits that are RES1.
const SCTLR_RES1: u64 = 0x30c5_0830;
const SCTLR_M: u64 = 1 << 0;
const SCTLR_C: u64 = 1 << 2;
const SCTLR_SA: u64 = 1 << 3;
const SCTLR_I: u64 = 1 << 12;
const SCTLR_WXN: u64 = 1 << 19;
/// While the image relocates itself: MMU and caches on.
pub(crate) const EARLY_SCTLR: u64 = SCTLR_RES1 | SCTLR_M | SCTLR_C | SCTLR_SA | SCTLR_I;
/// For good: in addition, what is writable cannot be executed, whatever the tables say.
const SCTLR: u64 = EARLY_SCTLR | SCTLR_WXN;

const NORMAL: Attributes = Attributes::VALID
    .union(Attributes::ATTRIBUTE_INDEX_1)
    .union(Attributes::INNER_SHAREABLE)
    .union(Attributes::USER_RES1)
    .union(Attributes::ACCESSED);
const DEVICE: Attributes = Attributes::VALID
    .union(Attributes::ATTRIBUTE_INDEX_0)
    .union(Attributes::USER_RES1)
    .union(Attributes::ACCESSED)
    .union(Attributes::XN);

/// How a piece of memory is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// The hypervisor's code.
    Text,
    /// Its constants.
    ReadOnly,
    /// Everything else in RAM.
    ReadWrite,
    /// Registers of a device.
    Device,
    /// Nothing: an access is a fault.
    Guard,
}

/// Tables under construction, then in force.
pub(crate) struct HostTables {
    map: IdMap<El2>,
}

/// The registers that put tables in force on a CPU.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct TableRegisters {
    pub(crate) ttbr0: u64,
    pub(crate) tcr: u64,
    pub(crate) mair: u64,
    pub(crate) sctlr: u64,
}

impl HostTables {
    pub(crate) fn new() -> Self {
        Self {
            map: IdMap::new(ROOT_LEVEL, El2),
        }
    }

    /// Maps a range at its own address. A later call for a part of it replaces
    /// what was there.
    pub(crate) fn map(&mut self, range: HostPhysAddrRange, usage: Use) -> Result<(), MapError> {
        let flags = match usage {
            Use::Text => NORMAL | Attributes::READ_ONLY,
            Use::ReadOnly => NORMAL | Attributes::READ_ONLY | Attributes::XN,
            Use::ReadWrite => NORMAL | Attributes::XN,
            Use::Device => DEVICE,
            Use::Guard => Attributes::empty(),
        };
        let region = MemoryRegion::new(range.start.into(), range.end.into());
        self.map.map_range(&region, flags)
    }

    /// Gives the tables up to the hardware for good and returns what puts them
    /// in force. `physical_range` is ID_AA64MMFR0_EL1.PARange.
    pub(crate) fn seal(mut self, physical_range: u64) -> TableRegisters {
        self.map.mark_active();
        let ttbr0 = self.map.root_address().0 as u64;
        // Dropping the map would free tables that are in use.
        core::mem::forget(self.map);
        // PARange 6 and 7 mean 52 and 56 bits, which need other table formats.
        let physical_size = physical_range.min(5) << 16;
        TableRegisters {
            ttbr0,
            tcr: TCR_RES1 | TCR_CACHEABLE_WALKS | physical_size | (64 - ADDRESS_BITS),
            mair: MAIR.0,
            sctlr: SCTLR,
        }
    }
}

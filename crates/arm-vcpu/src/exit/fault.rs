//! Aborts that are no plain access to an unmapped address.

use vm_contract::{Access, GuestPhysAddr};

use super::access::{DataAccess, UndecodedAccess, data_access};
use super::syndrome::{self, class, instruction_length};
use super::{AxVCpuExitReason, Syndrome};
use crate::TrapFrame;

/// Says why stage 2 refused an access. Levels are those of the stage-2 walk,
/// -1 to 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// An address, of the access or in a table, has more bits than allowed.
    AddressSize(i8),
    /// Nothing is mapped.
    Translation(i8),
    /// The mapping's access flag is clear.
    AccessFlag(i8),
    /// The mapping forbids this kind of access.
    Permission(i8),
    /// The address is not aligned as the memory type demands.
    Alignment,
    /// Two TLB entries match.
    TlbConflict,
    /// The memory type does not support exclusive or atomic accesses.
    UnsupportedAtomic,
    /// Any other status, given as DFSC or IFSC has it.
    Other(u8),
}

impl FaultKind {
    const fn from_status(status: u64) -> Self {
        let level = (status & 0b11) as i8;
        match status & !0b11 {
            0b00_0000 => Self::AddressSize(level),
            0b00_0100 => Self::Translation(level),
            0b00_1000 => Self::AccessFlag(level),
            0b00_1100 => Self::Permission(level),
            _ => match status {
                0b10_0001 => Self::Alignment,
                0b10_1001 => Self::AddressSize(-1),
                0b10_1011 => Self::Translation(-1),
                0b11_0000 => Self::TlbConflict,
                0b11_0101 => Self::UnsupportedAtomic,
                other => Self::Other((other & 0x3F) as u8),
            },
        }
    }
}

/// Returns what the guest tried when it caused this abort.
const fn attempted(esr: u64) -> Access {
    if esr >> syndrome::EC_SHIFT & 0x3F == class::INSTRUCTION_ABORT {
        Access::Execute
    } else if esr & syndrome::WNR != 0 {
        Access::Write
    } else {
        Access::Read
    }
}

/// A stage-2 fault that is more than a data access to an unmapped address: an
/// instruction fetch, a stage-1 table walk, or a fault other than a
/// translation fault.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the guest makes no progress until its fault is answered"]
pub struct Stage2Fault {
    esr: u64,
    virtual_address: u64,
    /// What HPFAR_EL2 and FAR_EL2 give, valid or not.
    address: GuestPhysAddr,
}

impl Stage2Fault {
    pub(super) const fn new(syndrome: &Syndrome) -> Self {
        // Of a table walk, FAR_EL2 does not tell the offset into the page.
        let offset = if syndrome.esr & syndrome::S1PTW == 0 {
            syndrome.far
        } else {
            0
        };
        Self {
            esr: syndrome.esr,
            virtual_address: syndrome.far,
            address: syndrome.fault_address(offset),
        }
    }

    /// Returns the guest physical address that faulted, or `None` where the
    /// architecture leaves HPFAR_EL2 unknown: for a permission fault, among
    /// others, unless it happened in a stage-1 table walk. Then
    /// [`translate`](crate::stage1::translate) finds it from the virtual one.
    ///
    /// For a fault in a stage-1 table walk this is the page of the table.
    #[must_use]
    pub const fn address(&self) -> Option<GuestPhysAddr> {
        match self.kind() {
            FaultKind::AddressSize(_) | FaultKind::Translation(_) | FaultKind::AccessFlag(_) => {
                Some(self.address)
            }
            FaultKind::Permission(_) if self.is_table_walk() => Some(self.address),
            _ => None,
        }
    }

    /// Returns the virtual address of the access.
    #[must_use]
    pub const fn virtual_address(&self) -> u64 {
        self.virtual_address
    }

    /// Returns what the guest tried. For a fault in a stage-1 table walk,
    /// what the access behind the walk was, except that the walk's own update
    /// of a descriptor counts as a write.
    #[must_use]
    pub const fn access(&self) -> Access {
        attempted(self.esr)
    }

    /// Returns why stage 2 refused.
    #[must_use]
    pub const fn kind(&self) -> FaultKind {
        FaultKind::from_status(self.esr & syndrome::FAULT_STATUS)
    }

    /// Tells whether a stage-1 table walk was refused, not the access itself.
    #[must_use]
    pub const fn is_table_walk(&self) -> bool {
        self.esr & syndrome::S1PTW != 0
    }

    /// Tells whether a cache maintenance instruction faulted. It counts as a
    /// write.
    #[must_use]
    pub const fn is_cache_maintenance(&self) -> bool {
        !matches!(self.access(), Access::Execute) && self.esr & syndrome::CM != 0
    }

    /// Returns the length of the instruction in bytes.
    #[must_use]
    pub const fn instruction_length(&self) -> u64 {
        instruction_length(self.esr)
    }

    /// Turns a faulting data access into one to be emulated at `address`: a
    /// write to memory that is mapped read-only, for example, whose mapping
    /// says that it is a device.
    ///
    /// # Errors
    /// Gives the fault back unless it is that of a load or store itself.
    pub fn into_access(
        self,
        address: GuestPhysAddr,
        frame: &TrapFrame,
    ) -> Result<AxVCpuExitReason, Self> {
        if self.is_table_walk()
            || self.is_cache_maintenance()
            || matches!(self.access(), Access::Execute)
        {
            return Err(self);
        }
        if self.esr & syndrome::ISV == 0 {
            let is_write = self.esr & syndrome::WNR != 0;
            let access = UndecodedAccess::new(address, self.virtual_address, is_write);
            return Ok(AxVCpuExitReason::UndecodedAccess(access));
        }
        let gpr = |n| frame.gpr(n);
        Ok(
            match data_access(self.esr, self.virtual_address, address, gpr) {
                DataAccess::Read(read) => AxVCpuExitReason::MmioRead(read),
                DataAccess::Write(write) => AxVCpuExitReason::MmioWrite(write),
            },
        )
    }
}

/// A cache maintenance instruction on an address where no memory is mapped.
///
/// There is nothing to clean or invalidate at a device: unless the hypervisor
/// maps memory there now and resumes the guest, the instruction is complete
/// with a step over it.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the guest is owed a step of its PC"]
pub struct CacheMaintenance {
    pub(super) address: GuestPhysAddr,
    pub(super) virtual_address: u64,
    pub(super) instruction_length: u8,
}

impl CacheMaintenance {
    /// Returns the guest physical address named by the instruction.
    #[must_use]
    pub const fn address(&self) -> GuestPhysAddr {
        self.address
    }

    /// Returns the virtual address named by the instruction.
    #[must_use]
    pub const fn virtual_address(&self) -> u64 {
        self.virtual_address
    }

    /// Returns the length of the instruction in bytes.
    #[must_use]
    pub const fn instruction_length(&self) -> u64 {
        self.instruction_length as u64
    }
}

/// A synchronous external abort: the memory system answered an access, or a
/// table walk, with an error.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the guest makes no progress until its abort is answered"]
pub struct ExternalAbort {
    esr: u64,
    far: u64,
}

impl ExternalAbort {
    pub(super) const fn new(syndrome: &Syndrome) -> Self {
        Self {
            esr: syndrome.esr,
            far: syndrome.far,
        }
    }

    /// Tells whether a fault status code is one of external aborts or parity
    /// errors: 0b01xxxx, but for the tag check fault.
    pub(super) const fn covers(status: u64) -> bool {
        status & 0b11_0000 == 0b01_0000 && status != 0b01_0001
    }

    /// Returns the virtual address of the access, unless the CPU does not
    /// know it.
    #[must_use]
    pub const fn virtual_address(&self) -> Option<u64> {
        if self.esr & syndrome::FNV == 0 {
            Some(self.far)
        } else {
            None
        }
    }

    /// Returns what the guest tried.
    #[must_use]
    pub const fn access(&self) -> Access {
        attempted(self.esr)
    }

    /// Tells whether a table walk met the error, not the access itself.
    #[must_use]
    pub const fn is_table_walk(&self) -> bool {
        // 0b010011, 0b0101xx, and with a parity error 0b011011, 0b0111xx.
        let status = self.esr & syndrome::FAULT_STATUS;
        status & 0b00_0100 != 0 || status & 0b11 == 0b11
    }

    /// Returns ESR_EL2 as the CPU gave it.
    #[must_use]
    pub const fn esr(&self) -> u64 {
        self.esr
    }
}

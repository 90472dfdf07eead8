//! Loads and stores that trapped because nothing is mapped where they went.

use vm_contract::{GuestPhysAddr, Width};

use super::syndrome::{self, instruction_bytes};
use crate::TrapFrame;

/// Says where a loaded value goes, and in what form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadTarget {
    register: u8,
    width: Width,
    register_width: Width,
    sign_extended: bool,
}

impl LoadTarget {
    /// Returns the target of a load of `width` bytes into general register
    /// `register`, 31 meaning that the value is discarded. Only the low five
    /// bits of the number count.
    pub(crate) const fn new(
        register: u8,
        width: Width,
        register_width: Width,
        sign_extended: bool,
    ) -> Self {
        Self {
            register: register & 0x1F,
            width,
            register_width,
            sign_extended,
        }
    }

    /// Returns the number of the general register, 0 to 31; 31 is XZR.
    #[must_use]
    pub const fn register(&self) -> usize {
        self.register as usize
    }

    /// Returns how many bytes the load reads.
    #[must_use]
    pub const fn width(&self) -> Width {
        self.width
    }

    /// Returns how much of the register the instruction names: a word (Wt) or
    /// a doubleword (Xt). Writing Wt clears the upper half.
    #[must_use]
    pub const fn register_width(&self) -> Width {
        self.register_width
    }

    /// Tells whether the value is sign-extended to the register's width.
    #[must_use]
    pub const fn is_sign_extended(&self) -> bool {
        self.sign_extended
    }

    /// Returns what the register holds after `value` was read. Bits of `value`
    /// above the width of the access do not count.
    #[inline]
    #[must_use]
    pub const fn extend(&self, value: u64) -> u64 {
        if self.sign_extended {
            self.register_width.truncate(self.width.sign_extend(value))
        } else {
            self.width.truncate(value)
        }
    }
}

/// A load from where no memory is mapped. The guest is owed a value in a
/// register and a step over the instruction.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the guest is owed the loaded value and a step of its PC"]
pub struct MmioRead {
    address: GuestPhysAddr,
    virtual_address: u64,
    target: LoadTarget,
    instruction_length: u8,
}

impl MmioRead {
    pub(crate) const fn new(
        address: GuestPhysAddr,
        virtual_address: u64,
        target: LoadTarget,
        instruction_length: u8,
    ) -> Self {
        Self {
            address,
            virtual_address,
            target,
            instruction_length,
        }
    }

    /// Returns the address read.
    #[inline]
    #[must_use]
    pub const fn address(&self) -> GuestPhysAddr {
        self.address
    }

    /// Returns how many bytes are read.
    #[inline]
    #[must_use]
    pub const fn width(&self) -> Width {
        self.target.width
    }

    /// Returns where the value goes.
    #[inline]
    #[must_use]
    pub const fn target(&self) -> LoadTarget {
        self.target
    }

    /// Returns the guest's virtual address, for an abort injected in answer.
    #[must_use]
    pub const fn virtual_address(&self) -> u64 {
        self.virtual_address
    }

    /// Returns the length of the instruction in bytes.
    #[inline]
    #[must_use]
    pub const fn instruction_length(&self) -> u64 {
        self.instruction_length as u64
    }

    /// Returns what the target register holds after `value` was read:
    /// truncated to the width of the access, then sign- or zero-extended.
    #[inline]
    #[must_use]
    pub const fn extend(&self, value: u64) -> u64 {
        self.target.extend(value)
    }
}

/// A store to where no memory is mapped. The guest is owed a step over the
/// instruction.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the guest is owed a step of its PC"]
pub struct MmioWrite {
    address: GuestPhysAddr,
    virtual_address: u64,
    value: u64,
    width: Width,
    instruction_length: u8,
}

impl MmioWrite {
    /// Describes a store of the lowest `width` bytes of `register`.
    pub(crate) const fn new(
        address: GuestPhysAddr,
        virtual_address: u64,
        register: u64,
        width: Width,
        instruction_length: u8,
    ) -> Self {
        Self {
            address,
            virtual_address,
            value: width.truncate(register),
            width,
            instruction_length,
        }
    }

    /// Returns the address written.
    #[inline]
    #[must_use]
    pub const fn address(&self) -> GuestPhysAddr {
        self.address
    }

    /// Returns how many bytes are written.
    #[inline]
    #[must_use]
    pub const fn width(&self) -> Width {
        self.width
    }

    /// Returns the value written; bits above the width are zero.
    #[inline]
    #[must_use]
    pub const fn value(&self) -> u64 {
        self.value
    }

    /// Returns the guest's virtual address, for an abort injected in answer.
    #[must_use]
    pub const fn virtual_address(&self) -> u64 {
        self.virtual_address
    }

    /// Returns the length of the instruction in bytes.
    #[inline]
    #[must_use]
    pub const fn instruction_length(&self) -> u64 {
        self.instruction_length as u64
    }
}

/// A load or store whose syndrome does not describe it (ISV = 0): a pair, a
/// form with write-back, an exclusive, an atomic, a SIMD register.
///
/// The instruction itself says what it does: fetch it with
/// [`fetch_instruction`](crate::stage1::fetch_instruction) and read it with
/// [`decode_access`](crate::instruction::decode_access).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the guest is owed the effects of the instruction or an abort"]
pub struct UndecodedAccess {
    address: GuestPhysAddr,
    virtual_address: u64,
    is_write: bool,
}

impl UndecodedAccess {
    /// Returns the description of a fault at `address`, which the guest calls
    /// `virtual_address`.
    pub const fn new(address: GuestPhysAddr, virtual_address: u64, is_write: bool) -> Self {
        Self {
            address,
            virtual_address,
            is_write,
        }
    }

    /// Returns the guest physical address that faulted. It is somewhere within
    /// the access, not always at its start.
    #[must_use]
    pub const fn address(&self) -> GuestPhysAddr {
        self.address
    }

    /// Returns the virtual address that faulted.
    #[must_use]
    pub const fn virtual_address(&self) -> u64 {
        self.virtual_address
    }

    /// Tells whether a write faulted.
    #[must_use]
    pub const fn is_write(&self) -> bool {
        self.is_write
    }
}

/// One data access, as far as its syndrome describes it.
pub(super) enum DataAccess {
    Read(MmioRead),
    Write(MmioWrite),
    Undecoded(UndecodedAccess),
}

/// Reads the ISS of a data abort that is no cache maintenance.
#[inline]
pub(super) fn data_access(
    esr: u64,
    virtual_address: u64,
    address: GuestPhysAddr,
    frame: &TrapFrame,
) -> DataAccess {
    let is_write = esr & syndrome::WNR != 0;
    if esr & syndrome::ISV == 0 {
        return DataAccess::Undecoded(UndecodedAccess::new(address, virtual_address, is_write));
    }
    // Two bits and five bits: nothing is lost by the casts.
    let width = Width::from_log2((esr >> syndrome::SAS_SHIFT & 0b11) as u32);
    let register = (esr >> syndrome::SRT_SHIFT & 0x1F) as u8;
    let instruction_length = instruction_bytes(esr);
    if is_write {
        DataAccess::Write(MmioWrite::new(
            address,
            virtual_address,
            frame.gpr(usize::from(register)),
            width,
            instruction_length,
        ))
    } else {
        let register_width = if esr & syndrome::SF == 0 {
            Width::Word
        } else {
            Width::Dword
        };
        let target = LoadTarget::new(register, width, register_width, esr & syndrome::SSE != 0);
        DataAccess::Read(MmioRead::new(
            address,
            virtual_address,
            target,
            instruction_length,
        ))
    }
}

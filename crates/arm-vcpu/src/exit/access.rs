//! Loads and stores that trapped because nothing is mapped where they went.

use vm_contract::{GuestPhysAddr, Width};

use super::syndrome::{self, instruction_length};

/// The fields of the ISS that say how a load or store moves what.
const MOVE: u64 = syndrome::IL
    | 0b11 << syndrome::SAS_SHIFT
    | syndrome::SSE
    | 0x1F << syndrome::SRT_SHIFT
    | syndrome::SF;

const fn width(iss: u64) -> Width {
    // Two bits: nothing is lost.
    Width::from_log2((iss >> syndrome::SAS_SHIFT & 0b11) as u32)
}

/// Says where a loaded value goes, and in what form.
// As the ISS has it: what nobody asks for is never taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadTarget(u64);

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
        let sf = match register_width {
            Width::Dword => syndrome::SF,
            _ => 0,
        };
        let sse = if sign_extended { syndrome::SSE } else { 0 };
        let srt = (register as u64 & 0x1F) << syndrome::SRT_SHIFT;
        Self((width.log2() as u64) << syndrome::SAS_SHIFT | srt | sf | sse)
    }

    /// Returns the number of the general register, 0 to 31; 31 is XZR.
    #[inline]
    #[must_use]
    pub const fn register(&self) -> usize {
        // Five bits: nothing is lost.
        (self.0 >> syndrome::SRT_SHIFT) as usize & 0x1F
    }

    /// Returns how many bytes the load reads.
    #[inline]
    #[must_use]
    pub const fn width(&self) -> Width {
        width(self.0)
    }

    /// Returns how much of the register the instruction names: a word (Wt) or
    /// a doubleword (Xt). Writing Wt clears the upper half.
    #[must_use]
    pub const fn register_width(&self) -> Width {
        if self.0 & syndrome::SF == 0 {
            Width::Word
        } else {
            Width::Dword
        }
    }

    /// Tells whether the value is sign-extended to the register's width.
    #[inline]
    #[must_use]
    pub const fn is_sign_extended(&self) -> bool {
        self.0 & syndrome::SSE != 0
    }

    /// Returns what the register holds after `value` was read. Bits of `value`
    /// above the width of the access do not count.
    #[inline]
    #[must_use]
    pub const fn extend(&self, value: u64) -> u64 {
        if self.is_sign_extended() {
            self.register_width()
                .truncate(self.width().sign_extend(value))
        } else {
            self.width().truncate(value)
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
    /// The fields of `MOVE`.
    iss: u64,
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
            iss: target.0 | length_bit(instruction_length),
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
        width(self.iss)
    }

    /// Returns where the value goes.
    #[inline]
    #[must_use]
    pub const fn target(&self) -> LoadTarget {
        LoadTarget(self.iss & !syndrome::IL)
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
        instruction_length(self.iss)
    }

    /// Returns what the target register holds after `value` was read:
    /// truncated to the width of the access, then sign- or zero-extended.
    #[inline]
    #[must_use]
    pub const fn extend(&self, value: u64) -> u64 {
        self.target().extend(value)
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
    /// The fields of `MOVE` that mean something for a store.
    iss: u64,
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
            iss: (width.log2() as u64) << syndrome::SAS_SHIFT | length_bit(instruction_length),
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
        width(self.iss)
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
        instruction_length(self.iss)
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
}

/// Reads the ISS of a data abort that is no cache maintenance and whose ISV is set.
#[inline(always)]
pub(super) fn data_access(
    esr: u64,
    virtual_address: u64,
    address: GuestPhysAddr,
    gpr: impl FnOnce(usize) -> u64,
) -> DataAccess {
    let iss = esr & MOVE;
    if esr & syndrome::WNR != 0 {
        let register = gpr(LoadTarget(iss).register());
        DataAccess::Write(MmioWrite {
            address,
            virtual_address,
            value: width(iss).truncate(register),
            iss: iss & (syndrome::IL | 0b11 << syndrome::SAS_SHIFT),
        })
    } else {
        DataAccess::Read(MmioRead {
            address,
            virtual_address,
            iss,
        })
    }
}

/// Returns IL for an instruction of this many bytes.
const fn length_bit(bytes: u8) -> u64 {
    if bytes == 4 { syndrome::IL } else { 0 }
}

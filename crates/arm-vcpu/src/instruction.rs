//! Loads and stores of A64, decoded from the instruction, for accesses that
//! their syndrome does not describe.
//!
//! | Instruction | Answer |
//! |---|---|
//! | LDR, STR and their B, H, SB, SH, SW forms: immediate (offset, pre- and post-indexed, unscaled), register offset with every extension, literal | carried out |
//! | LDTR, STTR and their forms | carried out |
//! | LDP, STP, LDPSW, LDNP, STNP | carried out, as two accesses |
//! | LDAR, STLR, LDLAR, STLLR, LDAPR, LDAPUR, STLUR and their forms | carried out |
//! | LDXR, STXR, LDXP, STXP and their forms | [`DecodeError::Exclusive`] |
//! | CAS, SWP, LDADD and the other single-instruction atomics, LD64B, ST64B | [`DecodeError::Atomic`] |
//! | Loads and stores of SIMD&FP registers | [`DecodeError::SimdRegister`] |
//! | DC ZVA, DC GVA, DC GZVA | [`DecodeError::CacheZero`] |
//! | LDRAA, LDRAB, memory tagging, CPY and SET | [`DecodeError::Unsupported`] |
//! | Everything from AArch32 state | [`DecodeError::Aarch32`] |

use thiserror::Error;
use vm_contract::{GuestPhysAddr, Width};

use crate::TrapFrame;
use crate::exception::{AbortStatus, Exception};
use crate::exit::{
    AxVCpuExitReason, LoadTarget, MmioRead, MmioWrite, UndecodedAccess, guest_address,
};

mod encoding;

use encoding::{Base, Indexing, Operation};

/// The length of every A64 instruction.
const LENGTH: u8 = 4;
const LAST_PAGE_OFFSET: u64 = 0xFFF;
/// Bits 55:0, the part of a virtual address that no tag can replace.
const UNTAGGED: u64 = (1 << 56) - 1;
/// SPSR_EL2.M\[4\]: AArch32 state.
const SPSR_AARCH32: u64 = 1 << 4;

/// Says why an instruction is not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[must_use = "the guest is owed an answer"]
pub enum DecodeError {
    /// The instruction is no load or store, or does not exist.
    #[error("the instruction does not access memory")]
    NotAnAccess,
    /// A load or store exclusive. Whether a device supports these is for the
    /// implementation to say; an emulated one does not.
    #[error("an exclusive access to a device")]
    Exclusive,
    /// A read-modify-write in one instruction, or one of 64 bytes.
    #[error("an atomic access to a device")]
    Atomic,
    /// The data is in SIMD&FP registers, which EL2 does not touch.
    #[error("an access by a SIMD register to a device")]
    SimdRegister,
    /// DC ZVA or a relative.
    #[error("a cache zeroing instruction on a device")]
    CacheZero,
    /// A form that nobody uses on devices.
    #[error("this form of access is not emulated")]
    Unsupported,
    /// The guest is in AArch32 state, whose instructions are not decoded.
    #[error("an access from AArch32 state whose syndrome does not describe it")]
    Aarch32,
    /// A part of the access lies in another page than the one that faulted.
    #[error("the access crosses a page boundary")]
    CrossesPage,
    /// The instruction does not make the access that faulted: its memory has
    /// changed since.
    #[error("the instruction does not make the access that faulted")]
    Mismatch,
}

impl DecodeError {
    /// Returns the exception that answers the guest, or `None` if the guest
    /// should simply run again, for the instruction there now is another.
    #[must_use]
    pub const fn exception(self, fault: &UndecodedAccess) -> Option<Exception> {
        let status = match self {
            Self::Mismatch => return None,
            Self::Exclusive | Self::Atomic => AbortStatus::UnsupportedAtomic,
            _ => AbortStatus::External,
        };
        Some(Exception::DataAbort {
            address: Some(fault.virtual_address()),
            status,
            is_write: fault.is_write(),
            is_cache_maintenance: false,
        })
    }
}

/// What one access moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// From memory into a register.
    Load(LoadTarget),
    /// From a register into memory.
    Store {
        /// How many bytes.
        width: Width,
        /// The value; bits above the width are zero.
        value: u64,
    },
}

impl Transfer {
    /// Returns how many bytes are moved.
    #[must_use]
    pub const fn width(&self) -> Width {
        match self {
            Self::Load(target) => target.width(),
            Self::Store { width, .. } => *width,
        }
    }
}

/// One access of an [`AccessPlan`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element {
    /// Where.
    pub address: GuestPhysAddr,
    /// Where, as the guest names it.
    pub virtual_address: u64,
    /// What.
    pub transfer: Transfer,
}

impl Element {
    /// Returns the exit that a guest makes which does this access alone, by an
    /// instruction of its own.
    pub const fn as_exit(&self) -> AxVCpuExitReason {
        match self.transfer {
            Transfer::Load(target) => AxVCpuExitReason::MmioRead(MmioRead::new(
                self.address,
                self.virtual_address,
                target,
                LENGTH,
            )),
            Transfer::Store { width, value } => AxVCpuExitReason::MmioWrite(MmioWrite::new(
                self.address,
                self.virtual_address,
                value,
                width,
                LENGTH,
            )),
        }
    }
}

/// A base register that an instruction changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WriteBack {
    General(u8, u64),
    StackPointer(u64),
}

/// What an instruction does: one or two accesses, in this order, then what
/// becomes of the registers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "the guest is owed the effects of its instruction"]
pub struct AccessPlan {
    first: Element,
    second: Option<Element>,
    write_back: Option<WriteBack>,
}

impl AccessPlan {
    /// Returns the first access, at the lowest address.
    #[must_use]
    pub const fn first(&self) -> &Element {
        &self.first
    }

    /// Returns the second access, which pairs have.
    #[must_use]
    pub const fn second(&self) -> Option<&Element> {
        self.second.as_ref()
    }

    /// Returns the accesses in their order.
    pub fn elements(&self) -> impl Iterator<Item = &Element> {
        [Some(&self.first), self.second.as_ref()]
            .into_iter()
            .flatten()
    }

    /// Ends the instruction once all its accesses are done: puts the loaded
    /// values into their registers, writes the base register back, and steps
    /// the PC. `loaded` holds what the accesses read, in their order; entries
    /// of stores and of a missing second access do not count.
    ///
    /// Returns the new value of the stack pointer that
    /// [`decode_access`] was given, if the instruction changes that.
    #[must_use = "the stack pointer may have changed"]
    pub fn finish(self, loaded: [u64; 2], frame: &mut TrapFrame) -> Option<u64> {
        for (element, value) in self.elements().zip(loaded) {
            if let Transfer::Load(target) = element.transfer {
                frame.set_gpr(target.register(), target.extend(value));
            }
        }
        frame.step(u64::from(LENGTH));
        match self.write_back? {
            WriteBack::General(register, value) => {
                frame.set_gpr(usize::from(register), value);
                None
            }
            WriteBack::StackPointer(value) => Some(value),
        }
    }
}

/// Reads the instruction at the guest's PC, which caused `fault`. `sp` is the
/// stack pointer that the guest's PSTATE selects: SP_EL0 if bit 0 of
/// `frame.spsr` is clear, SP_EL1 otherwise.
///
/// ```
/// use arm_vcpu::exit::UndecodedAccess;
/// use arm_vcpu::instruction::decode_access;
/// use arm_vcpu::TrapFrame;
///
/// // STP W1, W2, [X0], #8
/// let mut frame = TrapFrame { spsr: 0x3C5, ..TrapFrame::default() };
/// frame.set_gpr(0, 0xFFFF_0000_0000_0010);
/// frame.set_gpr(2, 7);
/// let fault = UndecodedAccess::new(0x900_0010.into(), 0xFFFF_0000_0000_0010, true);
/// let plan = decode_access(0x2881_0801, &frame, 0, &fault)?;
/// let addresses: Vec<usize> = plan.elements().map(|element| element.address.into()).collect();
/// assert_eq!(addresses, [0x900_0010, 0x900_0014]);
///
/// assert_eq!(plan.finish([0; 2], &mut frame), None);
/// assert_eq!(frame.gpr(0), 0xFFFF_0000_0000_0018);
/// # Ok::<(), arm_vcpu::instruction::DecodeError>(())
/// ```
///
/// # Errors
/// The instruction is not one that is carried out, or is not the one that
/// faulted; [`DecodeError::exception`] says what the guest gets.
pub fn decode_access(
    instruction: u32,
    frame: &TrapFrame,
    sp: u64,
    fault: &UndecodedAccess,
) -> Result<AccessPlan, DecodeError> {
    if frame.spsr & SPSR_AARCH32 != 0 {
        return Err(DecodeError::Aarch32);
    }
    let operation = encoding::decode(instruction, frame)?;
    let base = match operation.base {
        Base::Pc => frame.elr,
        Base::StackPointer => sp,
        Base::General(register) => frame.gpr(usize::from(register)),
    };
    let moved = base.wrapping_add(operation.offset);
    let virtual_address = match operation.indexing {
        Indexing::Post => base,
        Indexing::Offset | Indexing::Pre => moved,
    };
    let write_back = match (operation.indexing, operation.base) {
        (Indexing::Offset, _) | (_, Base::Pc) => None,
        (_, Base::StackPointer) => Some(WriteBack::StackPointer(moved)),
        (_, Base::General(register)) => Some(WriteBack::General(register, moved)),
    };
    let address = locate(&operation, virtual_address, fault)?;

    let width = operation.width.bytes();
    let element = |register: u8, offset: u64| Element {
        address: guest_address(address.wrapping_add(offset)),
        virtual_address: virtual_address.wrapping_add(offset),
        transfer: transfer(&operation, register, frame),
    };
    Ok(AccessPlan {
        first: element(operation.register, 0),
        second: operation.second.map(|register| element(register, width)),
        write_back,
    })
}

fn transfer(operation: &Operation, register: u8, frame: &TrapFrame) -> Transfer {
    let width = operation.width;
    if operation.is_load {
        Transfer::Load(LoadTarget::new(
            register,
            width,
            operation.register_width,
            operation.sign_extended,
        ))
    } else {
        Transfer::Store {
            width,
            value: width.truncate(frame.gpr(usize::from(register))),
        }
    }
}

/// Returns the guest physical address of an access that starts at
/// `virtual_address`, if it is indeed the one that faulted and lies within one
/// page with what faulted.
fn locate(
    operation: &Operation,
    virtual_address: u64,
    fault: &UndecodedAccess,
) -> Result<u64, DecodeError> {
    let count = if operation.second.is_some() { 2 } else { 1 };
    let length = count * operation.width.bytes();
    let distance = fault.virtual_address().wrapping_sub(virtual_address) & UNTAGGED;
    if distance >= length || operation.is_load == fault.is_write() {
        return Err(DecodeError::Mismatch);
    }
    let offset = virtual_address & LAST_PAGE_OFFSET;
    if offset + length > LAST_PAGE_OFFSET + 1 {
        return Err(DecodeError::CrossesPage);
    }
    Ok(fault.address().as_usize() as u64 & !LAST_PAGE_OFFSET | offset)
}

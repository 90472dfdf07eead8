//! The A64 encodings of loads and stores (Arm DDI 0487, "Loads and Stores").

use vm_contract::Width;

use super::DecodeError;
use crate::TrapFrame;

/// Where an address starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Base {
    Pc,
    StackPointer,
    General(u8),
}

/// When the offset is added to the base, and whether the base keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Indexing {
    Offset,
    Pre,
    Post,
}

/// A load or store of general registers, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Operation {
    pub(super) is_load: bool,
    pub(super) register: u8,
    pub(super) second: Option<u8>,
    pub(super) width: Width,
    pub(super) register_width: Width,
    pub(super) sign_extended: bool,
    pub(super) base: Base,
    pub(super) offset: u64,
    pub(super) indexing: Indexing,
}

/// What the fields `size` and `opc` say together.
#[derive(Clone, Copy)]
struct Form {
    is_load: bool,
    width: Width,
    register_width: Width,
    sign_extended: bool,
}

impl Form {
    const fn store(width: Width) -> Self {
        Self {
            is_load: false,
            ..Self::load(width)
        }
    }

    /// A zero-extending load, which names Wt unless it fills all of Xt.
    const fn load(width: Width) -> Self {
        Self {
            is_load: true,
            width,
            register_width: match width {
                Width::Dword => Width::Dword,
                _ => Width::Word,
            },
            sign_extended: false,
        }
    }

    const fn signed_load(width: Width, register_width: Width) -> Self {
        Self {
            is_load: true,
            width,
            register_width,
            sign_extended: true,
        }
    }

    /// Reads `size` (31:30) and `opc` (23:22) of a single register's load or
    /// store. What is left over is a prefetch, which cannot fault, or does not
    /// exist.
    fn single(instruction: u32) -> Result<Self, DecodeError> {
        let width = Width::from_log2(bits(instruction, 30, 2));
        match (bits(instruction, 22, 2), width) {
            (0b00, _) => Ok(Self::store(width)),
            (0b01, _) => Ok(Self::load(width)),
            (0b10, Width::Byte | Width::Half | Width::Word) => {
                Ok(Self::signed_load(width, Width::Dword))
            }
            (0b11, Width::Byte | Width::Half) => Ok(Self::signed_load(width, Width::Word)),
            _ => Err(DecodeError::NotAnAccess),
        }
    }

    /// Makes an operation on the register in Rt (4:0).
    fn with(self, instruction: u32, base: Base, offset: u64, indexing: Indexing) -> Operation {
        Operation {
            is_load: self.is_load,
            register: register(instruction, 0),
            second: None,
            width: self.width,
            register_width: self.register_width,
            sign_extended: self.sign_extended,
            base,
            offset,
            indexing,
        }
    }
}

/// Takes an instruction apart. `frame` supplies the register that is an offset.
pub(super) fn decode(instruction: u32, frame: &TrapFrame) -> Result<Operation, DecodeError> {
    // Loads and stores have bit 27 set and bit 25 clear.
    if instruction & (1 << 27 | 1 << 25) != 1 << 27 {
        return Err(not_a_load_or_store(instruction));
    }
    // V: the registers are those of SIMD and floating point.
    if bit(instruction, 26) {
        return Err(DecodeError::SimdRegister);
    }
    match (bits(instruction, 28, 2), bit(instruction, 24)) {
        (0b00, false) => ordered(instruction),
        (0b01, false) => literal(instruction),
        (0b01, true) => ordered_unscaled(instruction),
        (0b10, _) => pair(instruction),
        (0b11, true) => {
            let form = Form::single(instruction)?;
            let offset = u64::from(bits(instruction, 10, 12)) * form.width.bytes();
            Ok(form.with(instruction, base(instruction), offset, Indexing::Offset))
        }
        (0b11, false) if bit(instruction, 21) => register_forms(instruction, frame),
        (0b11, false) => immediate(instruction),
        _ => Err(DecodeError::NotAnAccess),
    }
}

fn not_a_load_or_store(instruction: u32) -> DecodeError {
    // SYS #3, C7, C4, #1 or #3 or #4, Xt.
    match instruction & !0x1F {
        0xD50B_7420 | 0xD50B_7460 | 0xD50B_7480 => DecodeError::CacheZero,
        _ => DecodeError::NotAnAccess,
    }
}

/// LDAR, STLR, LDLAR, STLLR, among the exclusives and compare-and-swaps.
fn ordered(instruction: u32) -> Result<Operation, DecodeError> {
    let pair_or_swap = bit(instruction, 21);
    if !bit(instruction, 23) {
        // CASP shares its place with the exclusives of pairs, which have the
        // top bit of `size` set.
        return Err(if pair_or_swap && !bit(instruction, 31) {
            DecodeError::Atomic
        } else {
            DecodeError::Exclusive
        });
    }
    if pair_or_swap {
        return Err(DecodeError::Atomic);
    }
    let width = Width::from_log2(bits(instruction, 30, 2));
    let form = if bit(instruction, 22) {
        Form::load(width)
    } else {
        Form::store(width)
    };
    Ok(form.with(instruction, base(instruction), 0, Indexing::Offset))
}

/// LDR and LDRSW with an address relative to the PC.
fn literal(instruction: u32) -> Result<Operation, DecodeError> {
    let form = match bits(instruction, 30, 2) {
        0b00 => Form::load(Width::Word),
        0b01 => Form::load(Width::Dword),
        0b10 => Form::signed_load(Width::Word, Width::Dword),
        // PRFM.
        _ => return Err(DecodeError::NotAnAccess),
    };
    let offset = signed_bits(instruction, 5, 19) << 2;
    Ok(form.with(instruction, Base::Pc, offset, Indexing::Offset))
}

/// LDAPUR and STLUR, among the memory tags, copies and sets.
fn ordered_unscaled(instruction: u32) -> Result<Operation, DecodeError> {
    if bit(instruction, 21) || bits(instruction, 10, 2) != 0 {
        return Err(DecodeError::Unsupported);
    }
    let offset = signed_bits(instruction, 12, 9);
    Ok(Form::single(instruction)?.with(instruction, base(instruction), offset, Indexing::Offset))
}

/// LDP, STP, LDPSW, LDNP, STNP.
fn pair(instruction: u32) -> Result<Operation, DecodeError> {
    let is_load = bit(instruction, 22);
    let (non_temporal, indexing) = match bits(instruction, 23, 2) {
        0b00 => (true, Indexing::Offset),
        0b01 => (false, Indexing::Post),
        0b10 => (false, Indexing::Offset),
        _ => (false, Indexing::Pre),
    };
    let form = match (bits(instruction, 30, 2), is_load) {
        (0b00, true) => Form::load(Width::Word),
        (0b00, false) => Form::store(Width::Word),
        (0b10, true) => Form::load(Width::Dword),
        (0b10, false) => Form::store(Width::Dword),
        (0b01, true) if !non_temporal => Form::signed_load(Width::Word, Width::Dword),
        // STGP, which stores an allocation tag too.
        (0b01, false) if !non_temporal => return Err(DecodeError::Unsupported),
        _ => return Err(DecodeError::NotAnAccess),
    };
    let offset = signed_bits(instruction, 15, 7).wrapping_mul(form.width.bytes());
    let mut operation = form.with(instruction, base(instruction), offset, indexing);
    operation.second = Some(register(instruction, 10));
    Ok(operation)
}

/// Unscaled, unprivileged, pre- and post-indexed: a signed offset of 9 bits.
fn immediate(instruction: u32) -> Result<Operation, DecodeError> {
    let indexing = match bits(instruction, 10, 2) {
        0b01 => Indexing::Post,
        0b11 => Indexing::Pre,
        // 0b00 is unscaled and 0b10 is unprivileged.
        _ => Indexing::Offset,
    };
    let offset = signed_bits(instruction, 12, 9);
    Ok(Form::single(instruction)?.with(instruction, base(instruction), offset, indexing))
}

/// A register as the offset; and LDAPR, among the atomics.
fn register_forms(instruction: u32, frame: &TrapFrame) -> Result<Operation, DecodeError> {
    /// LDAPR, but for size, Rn and Rt.
    const LDAPR: u32 = 0x38BF_C000;
    const SIZE_RN_RT: u32 = 0xC000_03FF;

    match bits(instruction, 10, 2) {
        0b00 if instruction & !SIZE_RN_RT == LDAPR => {
            let form = Form::load(Width::from_log2(bits(instruction, 30, 2)));
            Ok(form.with(instruction, base(instruction), 0, Indexing::Offset))
        }
        0b00 => Err(DecodeError::Atomic),
        0b10 => {
            let form = Form::single(instruction)?;
            let index = frame.gpr(usize::from(register(instruction, 16)));
            let index = match bits(instruction, 13, 3) {
                0b010 => Width::Word.truncate(index),
                0b110 => Width::Word.sign_extend(index),
                0b011 | 0b111 => index,
                _ => return Err(DecodeError::NotAnAccess),
            };
            let shift = if bit(instruction, 12) {
                bits(instruction, 30, 2)
            } else {
                0
            };
            Ok(form.with(
                instruction,
                base(instruction),
                index << shift,
                Indexing::Offset,
            ))
        }
        // LDRAA and LDRAB.
        _ => Err(DecodeError::Unsupported),
    }
}

/// Returns the base register in Rn (9:5).
const fn base(instruction: u32) -> Base {
    match register(instruction, 5) {
        31 => Base::StackPointer,
        n => Base::General(n),
    }
}

const fn register(instruction: u32, low: u32) -> u8 {
    (instruction >> low & 0x1F) as u8
}

const fn bit(instruction: u32, index: u32) -> bool {
    bits(instruction, index, 1) != 0
}

/// Returns the field of `count` bits, 1 to 31, that starts at `low`.
const fn bits(instruction: u32, low: u32, count: u32) -> u32 {
    instruction >> low & ((1 << count) - 1)
}

/// Returns a field as a signed number, in 64 bits.
const fn signed_bits(instruction: u32, low: u32, count: u32) -> u64 {
    let unused = 64 - count;
    let field = (bits(instruction, low, count) as u64) << unused;
    (field.cast_signed() >> unused).cast_unsigned()
}

//! Encodings of loads and stores (DDI 0487, "Loads and Stores") with base x2,
//! index x3, targets x0 and x1.

/// `msr spsel, #0`.
pub(crate) const MSR_SPSEL_0: u32 = 0xD500_40BF;
/// `msr spsel, #1`.
pub(crate) const MSR_SPSEL_1: u32 = 0xD500_41BF;
/// `mov sp, x2`.
pub(crate) const MOV_SP_X2: u32 = 0x9100_005F;
/// `mov x2, sp`.
pub(crate) const MOV_X2_SP: u32 = 0x9100_03E2;

const BASE: u32 = 2 << 5;
const INDEX: u32 = 3 << 16;

/// The target register that discards.
pub(crate) const ZERO: u32 = 31;
/// The base register, as a target.
pub(crate) const X2: u32 = 2;

/// What a load or store of one register does: its `size` and `opc` fields.
#[derive(Clone, Copy)]
pub(crate) struct Operation(u32, u32);

pub(crate) const STRB: Operation = Operation(0, 0);
pub(crate) const LDRB: Operation = Operation(0, 1);
pub(crate) const LDRSB_X: Operation = Operation(0, 2);
pub(crate) const LDRSB_W: Operation = Operation(0, 3);
pub(crate) const STRH: Operation = Operation(1, 0);
pub(crate) const LDRH: Operation = Operation(1, 1);
pub(crate) const LDRSH_X: Operation = Operation(1, 2);
pub(crate) const LDRSH_W: Operation = Operation(1, 3);
pub(crate) const STR_W: Operation = Operation(2, 0);
pub(crate) const LDR_W: Operation = Operation(2, 1);
pub(crate) const LDRSW: Operation = Operation(2, 2);
pub(crate) const STR_X: Operation = Operation(3, 0);
pub(crate) const LDR_X: Operation = Operation(3, 1);

impl Operation {
    const fn fields(self) -> u32 {
        self.0 << 30 | self.1 << 22
    }

    /// Encodes `op t, [x2, #imm]`, scaled and unsigned; `imm` in units of the
    /// access size.
    pub(crate) const fn offset(self, t: u32, units: u32) -> u32 {
        0x3900_0000 | self.fields() | units << 10 | BASE | t
    }

    const fn nine_bits(self, t: u32, bytes: i32, form: u32) -> u32 {
        let imm9 = bytes.cast_unsigned() & 0x1FF;
        0x3800_0000 | self.fields() | imm9 << 12 | form << 10 | BASE | t
    }

    /// Encodes `opU t, [x2, #imm]`, unscaled.
    pub(crate) const fn unscaled(self, t: u32, bytes: i32) -> u32 {
        self.nine_bits(t, bytes, 0b00)
    }

    /// Encodes `op t, [x2], #imm`.
    pub(crate) const fn post(self, t: u32, bytes: i32) -> u32 {
        self.nine_bits(t, bytes, 0b01)
    }

    /// Encodes `op t, [x2, #imm]!`.
    pub(crate) const fn pre(self, t: u32, bytes: i32) -> u32 {
        self.nine_bits(t, bytes, 0b11)
    }

    /// Encodes `op t, [x2, x3, EXTEND]`, with the index shifted by the access
    /// size if `scaled`.
    pub(crate) const fn indexed(self, t: u32, extend: Extend, scaled: bool) -> u32 {
        0x3820_0800
            | self.fields()
            | INDEX
            | (extend as u32) << 13
            | (scaled as u32) << 12
            | BASE
            | t
    }
}

/// How an index register becomes an offset.
#[derive(Clone, Copy)]
pub(crate) enum Extend {
    Uxtw = 0b010,
    Lsl = 0b011,
    Sxtw = 0b110,
    Sxtx = 0b111,
}

/// A load or store of two registers: the fields `opc` and `L`.
#[derive(Clone, Copy)]
pub(crate) struct Pair(u32, u32);

pub(crate) const STP_W: Pair = Pair(0, 0);
pub(crate) const LDP_W: Pair = Pair(0, 1);
pub(crate) const LDPSW: Pair = Pair(1, 1);
pub(crate) const STP_X: Pair = Pair(2, 0);
pub(crate) const LDP_X: Pair = Pair(2, 1);

impl Pair {
    const fn form(self, t1: u32, t2: u32, units: i32, form: u32) -> u32 {
        let imm7 = units.cast_unsigned() & 0x7F;
        0x2800_0000 | self.0 << 30 | form << 23 | self.1 << 22 | imm7 << 15 | t2 << 10 | BASE | t1
    }

    /// Encodes the form without a temporal hint, `LDNP` or `STNP`.
    pub(crate) const fn non_temporal(self, t1: u32, t2: u32, units: i32) -> u32 {
        self.form(t1, t2, units, 0b00)
    }

    /// Encodes `op t1, t2, [x2], #imm`; `units` of one register each.
    pub(crate) const fn post(self, t1: u32, t2: u32, units: i32) -> u32 {
        self.form(t1, t2, units, 0b01)
    }

    /// Encodes `op t1, t2, [x2, #imm]`.
    pub(crate) const fn offset(self, t1: u32, t2: u32, units: i32) -> u32 {
        self.form(t1, t2, units, 0b10)
    }

    /// Encodes `op t1, t2, [x2, #imm]!`.
    pub(crate) const fn pre(self, t1: u32, t2: u32, units: i32) -> u32 {
        self.form(t1, t2, units, 0b11)
    }
}

/// Encodes `ldar`/`ldarh`/`ldarb` of `1 << log2` bytes to x0.
pub(crate) const fn load_acquire(log2: u32) -> u32 {
    0x08DF_FC00 | log2 << 30 | BASE
}

/// Encodes `stlr`/`stlrh`/`stlrb` of `1 << log2` bytes from x0.
pub(crate) const fn store_release(log2: u32) -> u32 {
    0x089F_FC00 | log2 << 30 | BASE
}

/// Returns the same access with SP for its base.
pub(crate) const fn with_sp_base(instruction: u32) -> u32 {
    instruction | 31 << 5
}

/// Tells whether the base register is also a target.
pub(crate) const fn names_base_otherwise(instruction: u32) -> bool {
    instruction & 31 == X2 || instruction >> 27 & 7 == 0b101 && instruction >> 10 & 31 == X2
}

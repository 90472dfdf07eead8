//! The table: what each form loads, stores and leaves in its base.

use test_guests::runtime::{gic, machine, mmio};

use crate::encode::{
    self, Extend, LDP_W, LDP_X, LDPSW, LDR_W, LDR_X, LDRB, LDRH, LDRSB_W, LDRSB_X, LDRSH_W,
    LDRSH_X, LDRSW, STP_W, STP_X, STR_W, STR_X, STRB, STRH, X2, ZERO,
};

/// The PL011.
pub(crate) const UART: u64 = 0x0900_0000;
/// The PL031.
pub(crate) const RTC: u64 = 0x0901_0000;
/// The distributor.
pub(crate) const GICD: u64 = gic::GICD;

/// The UART's id registers: 0x11, 0x10, …
const ID: u64 = UART + 0xFE0;
/// The UART's integer baud rate, 16 bits that nothing depends on.
const BAUD: u64 = UART + 0x24;
/// The RTC's match register, 32 bits.
const MATCH: u64 = RTC + 4;

/// What the target registers hold before a load: it must go.
const STALE: [u64; 2] = [0xDEAD_BEEF_0000_0001, 0xDEAD_BEEF_0000_0002];

/// Stands for what the register held before, in the table of loads.
const KEPT: u64 = u64::MAX - 1;

/// One instruction and its operands.
pub(crate) struct Form {
    pub(crate) what: &'static str,
    pub(crate) instruction: u32,
    /// x2.
    pub(crate) base: u64,
    /// x3.
    pub(crate) index: u64,
    /// x0 and x1.
    pub(crate) data: [u64; 2],
}

/// A load, and what x0, x1 and x2 are after it.
pub(crate) struct Load {
    pub(crate) form: Form,
    pub(crate) expected: [u64; 2],
    pub(crate) base_after: Option<u64>,
}

/// A store, the words that it leaves in two places, and its base after it.
pub(crate) struct Store {
    pub(crate) form: Form,
    pub(crate) expected: [(u64, u32); 2],
    pub(crate) base_after: Option<u64>,
}

fn word(address: u64) -> u64 {
    mmio::read32(address).into()
}

/// Priorities of the last SPIs: a byte array to write freely.
fn priorities() -> u64 {
    GICD + 0x400 + u64::from(gic::intid_count().min(992) - 32)
}

/// Routes of the last SPIs: double words that hold affinities.
fn routes() -> u64 {
    GICD + 0x6000 + 8 * u64::from(gic::intid_count().min(992) - 32)
}

/// Gives the word at `address` the value that stores start from.
pub(crate) fn prepare_word(address: u64) {
    mmio::write32(
        address,
        if address >= routes() && address < UART {
            0
        } else {
            0x5050_5050
        },
    );
}

/// Hands every load of the table to `run`.
#[rustfmt::skip] // A table: one line for each form.
pub(crate) fn loads(mut run: impl FnMut(&Load)) {
    let (priority, route) = (priorities(), routes());
    mmio::write32(BAUD, 0xFEDC);
    mmio::write32(MATCH, 0x8765_4321);
    mmio::write32(priority, 0x9080_40A0);
    mmio::write32(priority + 4, 0xE0D0_C0B0);
    let affinity = machine::mpidr_of(machine::cpu_count() - 1);
    mmio::write64(route, affinity);
    mmio::write64(route + 8, 1 << 31);
    let loaded = word(RTC + 8);

    let mut load = |what, instruction, base, index, x0, x1, base_after| {
        let form = Form { what, instruction, base, index, data: STALE };
        let [stale0, stale1] = STALE;
        let expected = [
            if x0 == KEPT { stale0 } else { x0 },
            if x1 == KEPT { stale1 } else { x1 },
        ];
        run(&Load { form, expected, base_after });
    };
    let id = |n: u64| word(ID + 4 * n);

    // One register, immediate offset.
    load("LDR W, offset", LDR_W.offset(0, 1), ID, 0, id(1), KEPT, None);
    load("LDRH, offset", LDRH.offset(0, 2), ID, 0, id(1), KEPT, None);
    load("LDRB, offset", LDRB.offset(0, 4), ID, 0, id(1), KEPT, None);
    load("LDUR W", LDR_W.unscaled(0, -4), ID + 4, 0, id(0), KEPT, None);
    load("LDURH", LDRH.unscaled(0, -16), ID + 16, 0, id(0), KEPT, None);
    load("LDURB", LDRB.unscaled(0, 255), ID - 255, 0, id(0), KEPT, None);
    load("LDR X, offset", LDR_X.offset(0, 1), route - 8, 0, affinity, KEPT, None);
    load("LDUR X", LDR_X.unscaled(0, 8), route, 0, 1 << 31, KEPT, None);
    load("LDRB of byte 3", LDRB.offset(0, 3), priority, 0, 0x90, KEPT, None);

    // Sign extension to 32 and to 64 bits.
    load("LDRSB X", LDRSB_X.offset(0, 0), priority, 0, !0x5F, KEPT, None);
    load("LDRSB W", LDRSB_W.offset(0, 0), priority, 0, 0xFFFF_FFA0, KEPT, None);
    load("LDRSB X, positive", LDRSB_X.offset(0, 1), priority, 0, 0x40, KEPT, None);
    load("LDRSB W, positive", LDRSB_W.offset(0, 1), priority, 0, 0x40, KEPT, None);
    load("LDRSH X", LDRSH_X.offset(0, 0), BAUD, 0, !0x123, KEPT, None);
    load("LDRSH W", LDRSH_W.offset(0, 0), BAUD, 0, 0xFFFF_FEDC, KEPT, None);
    load("LDRSH X, positive", LDRSH_X.offset(0, 2), ID, 0, id(1), KEPT, None);
    load("LDRSW", LDRSW.offset(0, 0), MATCH, 0, 0xFFFF_FFFF_8765_4321, KEPT, None);
    load("LDRSW, positive", LDRSW.offset(0, 1), ID, 0, id(1), KEPT, None);
    load("LDR W, bit 31 set", LDR_W.offset(0, 0), MATCH, 0, 0x8765_4321, KEPT, None);

    // Write-back.
    load("LDR W, post", LDR_W.post(0, 4), ID, 0, id(0), KEPT, Some(ID + 4));
    load("LDR W, post, down", LDR_W.post(0, -256), ID, 0, id(0), KEPT, Some(ID - 256));
    load("LDR W, pre", LDR_W.pre(0, 4), ID, 0, id(1), KEPT, Some(ID + 4));
    load("LDR W, pre, down", LDR_W.pre(0, -16), ID + 16, 0, id(0), KEPT, Some(ID));
    load("LDRH, post", LDRH.post(0, 255), ID, 0, id(0), KEPT, Some(ID + 255));
    load("LDRH, pre", LDRH.pre(0, 4), ID, 0, id(1), KEPT, Some(ID + 4));
    load("LDRB, post", LDRB.post(0, 1), ID, 0, id(0), KEPT, Some(ID + 1));
    load("LDRB, pre", LDRB.pre(0, 1), priority, 0, 0x40, KEPT, Some(priority + 1));
    load("LDR X, post", LDR_X.post(0, 8), route, 0, affinity, KEPT, Some(route + 8));
    load("LDR X, pre", LDR_X.pre(0, 8), route, 0, 1 << 31, KEPT, Some(route + 8));
    load("LDRSB X, post", LDRSB_X.post(0, 2), priority, 0, !0x5F, KEPT, Some(priority + 2));
    load("LDRSB W, pre", LDRSB_W.pre(0, 2), priority, 0, 0xFFFF_FF80, KEPT, Some(priority + 2));
    load("LDRSH X, post", LDRSH_X.post(0, 4), BAUD, 0, !0x123, KEPT, Some(BAUD + 4));
    load("LDRSH W, pre", LDRSH_W.pre(0, 4), BAUD - 4, 0, 0xFFFF_FEDC, KEPT, Some(BAUD));
    load("LDRSW, post", LDRSW.post(0, -4), MATCH, 0, !0x789A_BCDE, KEPT, Some(RTC));
    load("LDRSW, pre", LDRSW.pre(0, 4), RTC, 0, !0x789A_BCDE, KEPT, Some(MATCH));

    // Register offsets.
    let minus_four = 0x1234_5678_FFFF_FFFC;
    load("LDR W, LSL", LDR_W.indexed(0, Extend::Lsl, false), UART, 0xFE4, id(1), KEPT, None);
    load("LDR W, LSL 2", LDR_W.indexed(0, Extend::Lsl, true), ID, 3, id(3), KEPT, None);
    load("LDR W, UXTW 2", LDR_W.indexed(0, Extend::Uxtw, true), ID, 1 << 32 | 1, id(1), KEPT, None);
    load("LDR W, UXTW", LDR_W.indexed(0, Extend::Uxtw, false), ID, 0xFF << 32, id(0), KEPT, None);
    load("LDR W, SXTW", LDR_W.indexed(0, Extend::Sxtw, false), ID + 4, minus_four, id(0), KEPT, None);
    load("LDRB, SXTX", LDRB.indexed(0, Extend::Sxtx, false), ID + 16, !15, id(0), KEPT, None);
    load("LDRH, SXTW 1", LDRH.indexed(0, Extend::Sxtw, true), ID + 8, minus_four, id(0), KEPT, None);
    load("LDR X, LSL 3", LDR_X.indexed(0, Extend::Lsl, true), route, 1, 1 << 31, KEPT, None);
    load("LDRSW, UXTW 2", LDRSW.indexed(0, Extend::Uxtw, true), RTC, 1, !0x789A_BCDE, KEPT, None);
    load("LDRSB X, UXTW", LDRSB_X.indexed(0, Extend::Uxtw, false), priority, 2, !0x7F, KEPT, None);

    // Pairs.
    load("LDP W", LDP_W.offset(0, 1, 0), ID, 0, id(0), id(1), None);
    load("LDP W, offset", LDP_W.offset(0, 1, -2), ID + 16, 0, id(2), id(3), None);
    load("LDP W, post", LDP_W.post(0, 1, 4), ID, 0, id(0), id(1), Some(ID + 16));
    load("LDP W, pre", LDP_W.pre(0, 1, 4), ID, 0, id(4), id(5), Some(ID + 16));
    load("LDP W, pre, down", LDP_W.pre(0, 1, -64), ID + 256, 0, id(0), id(1), Some(ID));
    load("LDP W, swapped", LDP_W.offset(1, 0, 0), ID, 0, id(1), id(0), None);
    load("LDNP W", LDP_W.non_temporal(0, 1, 2), ID, 0, id(2), id(3), None);
    load("LDP X", LDP_X.offset(0, 1, 0), route, 0, affinity, 1 << 31, None);
    load("LDP X, post", LDP_X.post(0, 1, 2), route, 0, affinity, 1 << 31, Some(route + 16));
    load("LDP X, pre", LDP_X.pre(0, 1, 2), route - 16, 0, affinity, 1 << 31, Some(route));
    load("LDPSW", LDPSW.offset(0, 1, 0), MATCH, 0, !0x789A_BCDE, sign(loaded), None);
    load("LDPSW, post", LDPSW.post(0, 1, 3), MATCH, 0, !0x789A_BCDE, sign(loaded), Some(RTC + 16));
    load("LDPSW, pre", LDPSW.pre(0, 1, 1), RTC, 0, !0x789A_BCDE, sign(loaded), Some(MATCH));

    // Targets that are not there, or are the base.
    load("LDR WZR", LDR_W.offset(ZERO, 0), ID, 0, KEPT, KEPT, None);
    load("LDR WZR, post", LDR_W.post(ZERO, 4), ID, 0, KEPT, KEPT, Some(ID + 4));
    load("LDR WZR, pre", LDR_W.pre(ZERO, 16), ID, 0, KEPT, KEPT, Some(ID + 16));
    load("LDP WZR, W1", LDP_W.offset(ZERO, 1, 0), ID, 0, KEPT, id(1), None);
    load("LDP W0, WZR, post", LDP_W.post(0, ZERO, 2), ID, 0, id(0), KEPT, Some(ID + 8));
    load("LDR W2, [X2]", LDR_W.offset(X2, 0), ID, 0, KEPT, KEPT, Some(id(0)));
    load("LDR X2, [X2]", LDR_X.offset(X2, 0), route, 0, KEPT, KEPT, Some(affinity));
    load("LDP W0, W2, [X2]", LDP_W.offset(0, X2, 0), ID, 0, id(0), KEPT, Some(id(1)));
    load("LDP W2, W1, [X2]", LDP_W.offset(X2, 1, 0), ID, 0, KEPT, id(1), Some(id(0)));

    // Acquire.
    load("LDARB", encode::load_acquire(0), ID, 0, id(0), KEPT, None);
    load("LDARH", encode::load_acquire(1), ID, 0, id(0), KEPT, None);
    load("LDAR W", encode::load_acquire(2), ID, 0, id(0), KEPT, None);
    load("LDAR X", encode::load_acquire(3), route, 0, affinity, KEPT, None);
}

fn sign(word: u64) -> u64 {
    if word >> 31 & 1 != 0 {
        word | 0xFFFF_FFFF_0000_0000
    } else {
        word
    }
}

/// Hands every store of the table to `run`.
#[rustfmt::skip] // A table: one line for each form.
pub(crate) fn stores(mut run: impl FnMut(&Store)) {
    const DATA: [u64; 2] = [0x7766_5544_9080_7060, 0x0011_2233_F0E0_D0C0];
    /// What `prepare_word` left.
    const OLD: u32 = 0x5050_5050;
    let (p, route) = (priorities(), routes());
    let (first, second) = (0x9080_7060, 0xF0E0_D0C0);
    let mut store = |what, instruction, base, index, expected: [u32; 2], after: Option<u64>| {
        let form = Form { what, instruction, base, index, data: DATA };
        let expected = [(p, expected[0]), (p + 4, expected[1])];
        run(&Store { form, expected, base_after: after });
    };

    store("STR W, offset", STR_W.offset(0, 1), p, 0, [OLD, first], None);
    store("STUR W", STR_W.unscaled(0, -4), p + 8, 0, [OLD, first], None);
    store("STRB, offset", STRB.offset(0, 1), p, 0, [0x5050_6050, OLD], None);
    store("STURB", STRB.unscaled(0, -1), p + 8, 0, [OLD, 0x6050_5050], None);
    store("STR WZR", STR_W.offset(ZERO, 0), p, 0, [0, OLD], None);
    store("STR W, post", STR_W.post(0, 4), p, 0, [first, OLD], Some(p + 4));
    store("STR W, post, down", STR_W.post(0, -256), p, 0, [first, OLD], Some(p - 256));
    store("STR W, pre", STR_W.pre(0, 4), p, 0, [OLD, first], Some(p + 4));
    store("STR W, pre, down", STR_W.pre(0, -16), p + 16, 0, [first, OLD], Some(p));
    store("STRB, post", STRB.post(0, 1), p, 0, [0x5050_5060, OLD], Some(p + 1));
    store("STRB, pre", STRB.pre(0, 3), p, 0, [0x6050_5050, OLD], Some(p + 3));
    store("STR WZR, post", STR_W.post(ZERO, 4), p, 0, [0, OLD], Some(p + 4));
    store("STR W, LSL", STR_W.indexed(0, Extend::Lsl, false), p, 4, [OLD, first], None);
    store("STR W, LSL 2", STR_W.indexed(0, Extend::Lsl, true), p, 1, [OLD, first], None);
    store("STR W, SXTW 2", STR_W.indexed(0, Extend::Sxtw, true), p + 8, 0xFFFF_FFFF, [OLD, first], None);
    store("STRB, UXTW", STRB.indexed(0, Extend::Uxtw, false), p, 7 | 1 << 40, [OLD, 0x6050_5050], None);
    store("STP W", STP_W.offset(0, 1, 0), p, 0, [first, second], None);
    store("STP W, offset", STP_W.offset(0, 1, -2), p + 8, 0, [first, second], None);
    store("STP W, post", STP_W.post(0, 1, 2), p, 0, [first, second], Some(p + 8));
    store("STP W, pre", STP_W.pre(1, 0, -8), p + 32, 0, [second, first], Some(p));
    store("STP W, same", STP_W.offset(0, 0, 0), p, 0, [first, first], None);
    store("STP WZR", STP_W.offset(ZERO, 1, 0), p, 0, [0, second], None);
    store("STNP W", STP_W.non_temporal(0, 1, 0), p, 0, [first, second], None);
    store("STLR W", encode::store_release(2), p, 0, [first, OLD], None);
    store("STLRB", encode::store_release(0), p + 4, 0, [OLD, 0x5050_5060], None);

    // Halves, to the baud rate; the second place is the RTC's match register.
    mmio::write32(MATCH, OLD);
    let mut half = |what, instruction, base, index, after: Option<u64>| {
        let form = Form { what, instruction, base, index, data: DATA };
        run(&Store { form, expected: [(BAUD, 0x7060), (MATCH, OLD)], base_after: after });
    };
    half("STRH, offset", STRH.offset(0, 2), BAUD - 4, 0, None);
    half("STURH", STRH.unscaled(0, -4), BAUD + 4, 0, None);
    half("STRH, post", STRH.post(0, 2), BAUD, 0, Some(BAUD + 2));
    half("STRH, pre", STRH.pre(0, 4), BAUD - 4, 0, Some(BAUD));
    half("STRH, UXTW 1", STRH.indexed(0, Extend::Uxtw, true), BAUD - 4, 2, None);
    half("STLRH", encode::store_release(1), BAUD, 0, None);

    // Double words, to routes: affinity bits only are kept.
    let affinity = machine::mpidr_of(machine::cpu_count() - 1);
    let low = u32::try_from(affinity & 0xFF_FFFF).unwrap_or(0);
    let mut double = |what, instruction, base, index, words: [u32; 2], after: Option<u64>| {
        let form = Form { what, instruction, base, index, data: [affinity, 1 << 31] };
        let expected = [(route, words[0]), (route + 8, words[1])];
        run(&Store { form, expected, base_after: after });
    };
    let any = 1 << 31;
    double("STR X, offset", STR_X.offset(0, 1), route, 0, [0, low], None);
    double("STUR X", STR_X.unscaled(1, -8), route + 16, 0, [0, any], None);
    double("STR X, post", STR_X.post(1, 8), route, 0, [any, 0], Some(route + 8));
    double("STR X, pre", STR_X.pre(1, 8), route, 0, [0, any], Some(route + 8));
    double("STR X, LSL 3", STR_X.indexed(1, Extend::Lsl, true), route, 1, [0, any], None);
    double("STP X", STP_X.offset(0, 1, 0), route, 0, [low, any], None);
    double("STP X, post", STP_X.post(1, 0, 2), route, 0, [any, low], Some(route + 16));
    double("STP X, pre", STP_X.pre(0, 1, -2), route + 16, 0, [low, any], Some(route));
    double("STP XZR, X1", STP_X.offset(ZERO, 1, 0), route, 0, [0, any], None);
    double("STLR X", encode::store_release(3), route, 0, [low, 0], None);
}

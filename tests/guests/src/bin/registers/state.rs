//! What a CPU holds: patterns go in, and must come out.

use test_guests::runtime::code::{self, encoding, mrs, msr};
use test_guests::runtime::probe::Registers;
use test_guests::runtime::random::Random;
use test_guests::{check_eq, runtime::percpu, sysreg};

/// System registers that no trap to EL2 may change, beside ELR, SPSR and those
/// that this program runs by.
const SYSTEM: [(&str, u32, u64); 27] = [
    ("TPIDR_EL0", encoding(3, 3, 13, 0, 2), u64::MAX),
    ("TPIDRRO_EL0", encoding(3, 3, 13, 0, 3), u64::MAX),
    ("CONTEXTIDR_EL1", encoding(3, 0, 13, 0, 1), u64::MAX),
    ("SP_EL0", encoding(3, 0, 4, 1, 0), u64::MAX),
    ("ESR_EL1", encoding(3, 0, 5, 2, 0), 0xFFFF_FFFF),
    ("FAR_EL1", encoding(3, 0, 6, 0, 0), u64::MAX),
    ("AFSR0_EL1", encoding(3, 0, 5, 1, 0), u64::MAX),
    ("AFSR1_EL1", encoding(3, 0, 5, 1, 1), u64::MAX),
    ("AMAIR_EL1", encoding(3, 0, 10, 3, 0), u64::MAX),
    ("PAR_EL1", encoding(3, 0, 7, 4, 0), 0xFF00_FFFF_FFFF_F000),
    ("CSSELR_EL1", encoding(3, 2, 0, 0, 0), 0b11),
    ("CNTKCTL_EL1", encoding(3, 0, 14, 1, 0), 0x3FF),
    ("CNTV_CVAL_EL0", encoding(3, 3, 14, 3, 2), u64::MAX),
    ("CNTP_CVAL_EL0", encoding(3, 3, 14, 2, 2), u64::MAX),
    // TDCC only: nothing that makes debug exceptions.
    ("MDSCR_EL1", encoding(2, 0, 0, 2, 2), 1 << 12),
    ("DBGBVR0_EL1", encoding(2, 0, 0, 0, 4), u64::MAX),
    // Without their enable bits.
    ("DBGBCR0_EL1", encoding(2, 0, 0, 0, 5), 0x00F0_01E0),
    ("DBGWVR0_EL1", encoding(2, 0, 0, 0, 6), u64::MAX),
    ("DBGWCR0_EL1", encoding(2, 0, 0, 0, 7), 0x1F00_1FF8),
    ("APIAKeyLo_EL1", encoding(3, 0, 2, 1, 0), u64::MAX),
    ("APIAKeyHi_EL1", encoding(3, 0, 2, 1, 1), u64::MAX),
    ("APIBKeyLo_EL1", encoding(3, 0, 2, 1, 2), u64::MAX),
    ("APDAKeyHi_EL1", encoding(3, 0, 2, 2, 1), u64::MAX),
    ("APDBKeyLo_EL1", encoding(3, 0, 2, 2, 2), u64::MAX),
    ("APGAKeyHi_EL1", encoding(3, 0, 2, 3, 1), u64::MAX),
    // Rounding, flush-to-zero, default NaN, half-precision format.
    ("FPCR", encoding(3, 3, 4, 4, 0), 0x07C0_0000),
    ("FPSR", encoding(3, 3, 4, 4, 1), 0x0800_009F),
];

/// The vector registers' contents, 16 bytes each.
#[repr(C, align(16))]
struct Vectors([u64; 64]);

/// A CPU's pattern: what each register was given.
pub(crate) struct Pattern {
    system: [Option<u64>; SYSTEM.len()],
    vectors: Vectors,
    running: [u64; 6],
}

/// Registers that this program runs by: they keep their values anyway.
fn running() -> [u64; 6] {
    [
        sysreg!("ttbr0_el1"),
        sysreg!("ttbr1_el1"),
        sysreg!("tcr_el1"),
        sysreg!("mair_el1"),
        sysreg!("vbar_el1"),
        sysreg!("sctlr_el1"),
    ]
}

/// Encodes 16 `ldp`s or `stp`s of all vector registers at x0.
fn vector_moves(load: bool) -> [u32; 16] {
    let mut word = if load { 0xAD40_0000 } else { 0xAD00_0000_u32 };
    core::array::from_fn(|_| {
        let current = word | (((word & 0x1F) + 1) << 10);
        // The next two registers, 32 bytes on.
        word += 2 | 2 << 15;
        current
    })
}

fn write(register: u32, value: u64) -> bool {
    let mut registers = [0; 30];
    registers[0] = value;
    code::run(&[msr(register, 0), code::ISB], &mut registers).is_ok()
}

impl Pattern {
    /// Fills this CPU's registers and remembers what they keep of it.
    pub(crate) fn fill(seed: u64) -> Self {
        let mut random = Random::new((seed << 8) + percpu::index() as u64 + 1);
        let vectors = Vectors(core::array::from_fn(|_| random.draw()));
        let mut registers = [0; 30];
        registers[0] = vectors.0.as_ptr() as u64;
        check_eq!(
            code::run(&vector_moves(true), &mut registers),
            Ok(()),
            "loading v0 to v31"
        );
        // ESR and FAR change when a register is not there: those come first.
        for (_, register, mask) in SYSTEM.iter().rev() {
            write(*register, random.draw() & mask);
        }
        let mut system = [None; SYSTEM.len()];
        for _ in 0..2 {
            for ((_, register, mask), slot) in SYSTEM.iter().zip(&mut system) {
                if slot.is_none() && write(*register, random.draw() & mask) {
                    let mut registers = [0; 30];
                    if code::run(&[mrs(*register, 0)], &mut registers).is_ok() {
                        *slot = Some(registers[0]);
                    }
                }
            }
        }
        // Probing those that are absent has changed the syndrome: once more.
        for ((_, register, _), slot) in SYSTEM.iter().zip(&system) {
            if let Some(value) = slot {
                write(*register, *value);
            }
        }
        Self {
            system,
            vectors,
            running: running(),
        }
    }

    /// Checks that everything is as it was filled.
    pub(crate) fn check(&self, after: &str) {
        let cpu = percpu::index();
        for ((name, register, _), slot) in SYSTEM.iter().zip(&self.system) {
            let Some(expected) = slot else { continue };
            let mut registers: Registers = [0; 30];
            check_eq!(
                code::run(&[mrs(*register, 0)], &mut registers),
                Ok(()),
                "reading {name}"
            );
            check_eq!(registers[0], *expected, "{name} on CPU {cpu} after {after}");
        }
        let found = Vectors([0; 64]);
        let mut registers = [0; 30];
        // The callee writes through this address.
        let mut found = core::hint::black_box(found);
        registers[0] = found.0.as_mut_ptr() as u64;
        check_eq!(
            code::run(&vector_moves(false), &mut registers),
            Ok(()),
            "storing v0 to v31"
        );
        let found = core::hint::black_box(found);
        for (index, (found, expected)) in found.0.iter().zip(&self.vectors.0).enumerate() {
            check_eq!(
                *found,
                *expected,
                "half {index} of v0-v31 on CPU {cpu} after {after}"
            );
        }
        check_eq!(
            running(),
            self.running,
            "translation registers on CPU {cpu} after {after}"
        );
    }
}

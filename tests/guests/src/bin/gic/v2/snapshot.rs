//! All that is visible of a GICv2, and what an action changes of it.

use core::fmt;

use super::interface::{Gicc, load, store};
use super::{GICC, GICD};
use crate::transcript::{add, line};
use crate::{masks, partner};

pub(crate) const CPUS: usize = 2;
pub(crate) const BANKS: u32 = 8;

pub(crate) const IGROUPR: u64 = 0x80;
pub(crate) const ISENABLER: u64 = 0x100;
pub(crate) const ICENABLER: u64 = 0x180;
pub(crate) const ISPENDR: u64 = 0x200;
pub(crate) const ICPENDR: u64 = 0x280;
pub(crate) const ISACTIVER: u64 = 0x300;
pub(crate) const ICACTIVER: u64 = 0x380;
pub(crate) const IPRIORITYR: u64 = 0x400;
pub(crate) const ITARGETSR: u64 = 0x800;
pub(crate) const ICFGR: u64 = 0xC00;
pub(crate) const SGIR: u64 = 0xF00;
pub(crate) const CPENDSGIR: u64 = 0xF10;
pub(crate) const SPENDSGIR: u64 = 0xF20;

/// Name, offset, words for each 32 interrupts, and mask.
const KINDS: [(&str, u64, u64, u32); 7] = [
    ("IGROUPR", IGROUPR, 1, u32::MAX),
    ("ISENABLER", ISENABLER, 1, u32::MAX),
    ("ISPENDR", ISPENDR, 1, u32::MAX),
    ("ISACTIVER", ISACTIVER, 1, u32::MAX),
    ("ICFGR", ICFGR, 2, u32::MAX),
    ("IPRIORITYR", IPRIORITYR, 8, masks::PRIORITIES),
    ("ITARGETSR", ITARGETSR, 8, u32::MAX),
];
const PER_BANK: usize = 22;
const SPENDS: usize = 4;

/// Returns the bits that are compared, of each CPU's own registers or of others.
const fn mask_of(name: &str, is_private: bool, mask: u32) -> u32 {
    match name.as_bytes() {
        b"ISENABLER" if is_private => mask & masks::V2_ISENABLER0,
        _ => mask,
    }
}

/// A register of the distributor.
struct Register {
    name: &'static str,
    /// The CPU whose own it is; any sees the others.
    cpu: Option<usize>,
    number: u64,
    offset: u64,
    mask: u32,
}

impl fmt::Display for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cpu {
            None => write!(f, "D.{}{}", self.name, self.number),
            Some(cpu) => write!(f, "D/{cpu}.{}{}", self.name, self.number),
        }
    }
}

const REGISTERS: usize = CPUS * (PER_BANK + SPENDS) + BANKS as usize * PER_BANK;

fn registers() -> impl Iterator<Item = Register> {
    let private = (0..CPUS).map(|cpu| (Some(cpu), 0));
    let banks = private.chain((1..=BANKS).map(|bank| (None, u64::from(bank))));
    let described = banks.flat_map(|(cpu, bank)| {
        KINDS.iter().flat_map(move |&(name, offset, count, mask)| {
            (0..count).map(move |part| Register {
                name,
                cpu,
                number: bank * count + part,
                offset: offset + 4 * (bank * count + part),
                mask: mask_of(name, cpu.is_some(), mask),
            })
        })
    });
    described.chain((0..CPUS).flat_map(|cpu| {
        (0..SPENDS as u64).map(move |number| Register {
            name: "SPENDSGIR",
            cpu: Some(cpu),
            number,
            offset: SPENDSGIR + 4 * number,
            mask: u32::MAX,
        })
    }))
}

/// Returns the word that CPU 1 has loaded.
fn word_of(loaded: u64) -> u32 {
    u32::try_from(loaded).unwrap_or(u32::MAX)
}

/// The visible state at one time.
pub(crate) struct Snapshot {
    control: u32,
    registers: [u32; REGISTERS],
    interfaces: [[u32; Gicc::VISIBLE.len()]; CPUS],
}

/// Lets what is under way arrive, as that of a GICv3 does.
pub(crate) fn settle() {
    for _ in 0..2 {
        (0..CPUS).rev().for_each(|cpu| {
            load(cpu, GICD + ISPENDR);
        });
    }
}

impl Snapshot {
    /// Takes what is visible now.
    pub(crate) fn take() -> Self {
        settle();
        let mut values = [0; REGISTERS];
        let mine = |register: &Register| register.cpu != Some(1);
        for (slot, register) in values.iter_mut().zip(registers()) {
            if mine(&register) {
                *slot = load(0, GICD + register.offset) & register.mask;
            }
        }
        let others = registers().filter(|register| !mine(register));
        let loaded = partner::load_all(others.map(|register| GICD + register.offset));
        let slots = values.iter_mut().zip(registers());
        let slots = slots.filter(|(_, register)| !mine(register));
        for ((slot, register), word) in slots.zip(loaded) {
            *slot = word_of(word) & register.mask;
        }
        let mut interfaces = [Gicc::VISIBLE.map(|register| register.read(0)); CPUS];
        let addresses = Gicc::VISIBLE.map(|register| GICC + register as u64);
        let loaded = partner::load_all(addresses.into_iter());
        let [_, second] = &mut interfaces;
        for (slot, word) in second.iter_mut().zip(loaded) {
            *slot = word_of(word);
        }
        Self {
            control: load(0, GICD),
            registers: values,
            interfaces,
        }
    }

    /// Takes what is visible now and adds what has changed to the line.
    pub(crate) fn advance(&mut self) {
        let now = Self::take();
        if now.control != self.control {
            add!(" D.CTLR:{:x}>{:x}", self.control, now.control);
        }
        let pairs = self.registers.iter().zip(&now.registers);
        for ((old, new), register) in pairs.zip(registers()) {
            if old != new {
                add!(" {register}:{old:x}>{new:x}");
            }
        }
        for (cpu, (old, new)) in self.interfaces.iter().zip(&now.interfaces).enumerate() {
            for ((old, new), register) in old.iter().zip(new).zip(Gicc::VISIBLE) {
                if old != new {
                    add!(" C{cpu}.{register:?}:{old:x}>{new:x}");
                }
            }
        }
        line!("");
        *self = now;
    }

    /// Adds all of it to the transcript.
    pub(crate) fn print(&self) {
        line!("D.CTLR {:x}", self.control);
        let mut last = "";
        for (value, register) in self.registers.iter().zip(registers()) {
            if register.name != last {
                if !last.is_empty() {
                    line!("");
                }
                add!("{register}");
                last = register.name;
            }
            add!(" {value:08x}");
        }
        line!("");
        for (cpu, values) in self.interfaces.iter().enumerate() {
            add!("C{cpu}");
            for (value, register) in values.iter().zip(Gicc::VISIBLE) {
                add!(" {register:?} {value:x}");
            }
            line!("");
        }
    }

    /// Tells whether `intid` of `cpu` is pending.
    pub(crate) fn is_pending(&self, cpu: usize, intid: u32) -> bool {
        self.bit(2, cpu, intid)
    }

    /// Tells whether `intid` of `cpu` is active.
    pub(crate) fn is_active(&self, cpu: usize, intid: u32) -> bool {
        self.bit(3, cpu, intid)
    }

    /// Tells whether `intid` of `cpu` is disabled and neither pending nor active.
    pub(crate) fn is_idle(&self, cpu: usize, intid: u32) -> bool {
        (1..=3).all(|kind| !self.bit(kind, cpu, intid))
    }

    fn bit(&self, kind: usize, cpu: usize, intid: u32) -> bool {
        let bank = match (intid / 32) as usize {
            0 => cpu,
            bank => CPUS + bank - 1,
        };
        let value = self.registers.get(PER_BANK * bank + kind);
        value.is_some_and(|value| value >> (intid % 32) & 1 != 0)
    }
}

/// Brings the whole GIC to a known state: off, disabled, idle, Group 0, of
/// priority 0, SPIs level-sensitive and for CPU 0; the interfaces open, with the
/// binary points that give 32 levels.
pub(crate) fn start_over() {
    store(0, GICD, 0);
    for (cpu, bank) in places() {
        let word = 4 * u64::from(bank);
        store(cpu, GICD + ICENABLER + word, u32::MAX);
        (0..2).for_each(|n| store(cpu, GICD + ICFGR + 2 * word + 4 * n, 0));
        for array in [ICPENDR, ICACTIVER] {
            store(cpu, GICD + array + word, u32::MAX);
        }
        store(cpu, GICD + IGROUPR + word, 0);
        for n in 0..8 {
            store(cpu, GICD + IPRIORITYR + 8 * word + 4 * n, 0);
            store(cpu, GICD + ITARGETSR + 8 * word + 4 * n, 0x0101_0101);
        }
    }
    for cpu in 0..CPUS {
        (0..4).for_each(|n| store(cpu, GICD + CPENDSGIR + 4 * n, u32::MAX));
        store(cpu, GICD + ISENABLER, 0xFFFF);
        for (register, value) in [(Gicc::Ctlr, 0b111), (Gicc::Pmr, 0xF8)] {
            register.write(cpu, value);
        }
    }
    set_binary_points();
    settle();
}

/// Sets the binary points that give 32 levels of preemption: the smallest that
/// every GICv2 has.
pub(crate) fn set_binary_points() {
    for cpu in 0..CPUS {
        Gicc::Bpr.write(cpu, 2);
        Gicc::Abpr.write(cpu, 3);
    }
}

/// Lists the banks: those of the CPUs, then those of SPIs.
pub(crate) fn places() -> impl Iterator<Item = (usize, u32)> {
    let private = (0..CPUS).map(|cpu| (cpu, 0));
    private.chain((1..=BANKS).map(|bank| (0, bank)))
}

//! All that is visible of the GIC, and what an action changes of it.

use core::fmt;

use test_guests::runtime::{gic, machine, mmio};

use crate::interface::Icc;
use crate::masks;
use crate::partner::{self, Request};
use crate::transcript::{add, line};

/// The CPUs that take part.
pub(crate) const CPUS: usize = 2;
/// Banks of 32 SPIs that the transcripts cover, beginning with the first.
const BANKS: u32 = 8;

const IGROUPR: u64 = gic::IGROUPR;
const ICFGR: u64 = 0xC00;

/// A register that memory has.
#[derive(Clone, Copy, Debug)]
struct Register {
    name: &'static str,
    /// The CPU whose redistributor it is in.
    cpu: Option<usize>,
    number: u64,
    address: u64,
    mask: u32,
}

impl fmt::Display for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cpu {
            None => write!(f, "D.{}{}", self.name, self.number),
            Some(cpu) => write!(f, "R{cpu}.{}{}", self.name, self.number),
        }
    }
}

/// Name, offset, registers for each 32 interrupts, and mask.
const KINDS: [(&str, u64, u64, u32); 6] = [
    ("IGROUPR", IGROUPR, 1, u32::MAX),
    ("ISENABLER", gic::ISENABLER, 1, u32::MAX),
    ("ISPENDR", gic::ISPENDR, 1, u32::MAX),
    ("ISACTIVER", gic::ISACTIVER, 1, u32::MAX),
    ("ICFGR", ICFGR, 2, u32::MAX),
    ("IPRIORITYR", gic::IPRIORITYR, 8, masks::PRIORITIES),
];

/// Returns the first redistributor frame of CPU `cpu`: they lie in the order of
/// the CPUs.
pub(crate) const fn redistributor(cpu: usize) -> u64 {
    gic::GICR + gic::GICR_STRIDE * cpu as u64
}

/// Lists the registers that describe interrupts: first those of each CPU, then
/// the SPIs'.
fn registers() -> impl Iterator<Item = Register> {
    let private = (0..CPUS).map(|cpu| (Some(cpu), 0));
    let banks = private.chain((1..=BANKS).map(|bank| (None, bank.into())));
    banks.flat_map(|(cpu, bank)| {
        KINDS.iter().flat_map(move |&(name, offset, count, mask)| {
            (0..count).map(move |part| {
                let number = bank * count + part;
                let frame = cpu.map_or(gic::GICD, |cpu| redistributor(cpu) + gic::SGI_FRAME);
                Register {
                    name,
                    cpu,
                    number,
                    address: frame + offset + 4 * number,
                    mask,
                }
            })
        })
    })
}

/// For each bank four words of bits, two of configuration, eight of priorities.
const PER_BANK: usize = 14;
const REGISTERS: usize = (CPUS + BANKS as usize) * PER_BANK;

/// The visible state at one time.
#[derive(Clone)]
pub(crate) struct Snapshot {
    control: u32,
    registers: [u32; REGISTERS],
    interfaces: [[u64; Icc::VISIBLE.len()]; CPUS],
}

/// Lets what is under way arrive: each CPU reads a register of its own
/// redistributor.
///
/// The specification wants the effect of an acknowledge, an EOI or a register
/// write to be visible elsewhere in finite time, and gives no bound. In a
/// hypervisor it is visible once the other CPU has been in it.
pub(crate) fn settle() {
    for _ in 0..2 {
        partner::ask(Request::Settle);
        let _ = gic::read_private(gic::ISPENDR);
    }
}

/// Reads the registers that describe interrupts.
fn memory() -> [u32; REGISTERS] {
    let mut values = [0; REGISTERS];
    for (slot, register) in values.iter_mut().zip(registers()) {
        *slot = mmio::read32(register.address) & register.mask;
    }
    values
}

/// Adds the registers that describe interrupts, and the routers that are not 0,
/// to the transcript.
fn print_memory(values: &[u32; REGISTERS]) {
    let mut last = "";
    for (value, register) in values.iter().zip(registers()) {
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
    add!("routers");
    for intid in 32..32 + 32 * BANKS {
        let router = mmio::read64(gic::GICD + gic::IROUTER + 8 * u64::from(intid));
        if router != 0 {
            add!(" {intid}:{router:x}");
        }
    }
    line!("");
}

/// Adds the registers as they are before anybody has written to the GIC.
pub(crate) fn print_reset() {
    print_memory(&memory());
}

impl Snapshot {
    /// Takes what is visible now.
    pub(crate) fn take() -> Self {
        settle();
        let mut interfaces = [Icc::VISIBLE.map(Icc::read_here), partner::visible()];
        for (slot, register) in interfaces
            .iter_mut()
            .flat_map(|one| one.iter_mut().zip(Icc::VISIBLE))
        {
            *slot &= masks::icc(register);
        }
        Self {
            control: mmio::read32(gic::GICD + gic::CTLR),
            registers: memory(),
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
            for ((old, new), register) in old.iter().zip(new).zip(Icc::VISIBLE) {
                if old != new {
                    add!(" C{cpu}.{register:?}:{old:x}>{new:x}");
                }
            }
        }
        line!("");
        *self = now;
    }

    /// Adds all of it to the transcript, routers included.
    pub(crate) fn print(&self) {
        line!("D.CTLR {:x}", self.control);
        print_memory(&self.registers);
        for (cpu, values) in self.interfaces.iter().enumerate() {
            add!("C{cpu}");
            for (value, register) in values.iter().zip(Icc::VISIBLE) {
                add!(" {register:?} {value:x}");
            }
            line!("");
        }
    }

    /// Returns the register `name` that describes `intid`, seen from `cpu` if it
    /// is private, as a bit.
    fn bit(&self, name: &str, cpu: usize, intid: u32) -> bool {
        let kind = KINDS.iter().position(|(kind, ..)| *kind == name);
        let bank = match (intid / 32) as usize {
            0 => cpu,
            bank => CPUS + bank - 1,
        };
        let value = kind.and_then(|kind| self.registers.get(PER_BANK * bank + kind));
        value.is_some_and(|value| value >> (intid % 32) & 1 != 0)
    }

    /// Tells whether `intid` of `cpu` is in Group 1.
    pub(crate) fn is_group1(&self, cpu: usize, intid: u32) -> bool {
        self.bit("IGROUPR", cpu, intid)
    }

    /// Tells whether `intid` of `cpu` is active.
    pub(crate) fn is_active(&self, cpu: usize, intid: u32) -> bool {
        self.bit("ISACTIVER", cpu, intid)
    }

    /// Tells whether `intid` of `cpu` is disabled and neither pending nor active.
    pub(crate) fn is_idle(&self, cpu: usize, intid: u32) -> bool {
        let names = ["ISENABLER", "ISPENDR", "ISACTIVER"];
        names.iter().all(|name| !self.bit(name, cpu, intid))
    }

    /// Returns a visible register of the interface of `cpu`.
    pub(crate) fn interface(&self, cpu: usize, register: Icc) -> u64 {
        let values = self.interfaces.get(cpu);
        let value = values.and_then(|values| values.get(register as usize));
        value.copied().unwrap_or_default()
    }
}

/// Brings the whole GIC to a known state: distributor off, everything disabled,
/// idle, in Group 1, of priority 0, level-sensitive but for SGIs, SPIs for CPU 0;
/// the interfaces open.
pub(crate) fn start_over() {
    mmio::write32(gic::GICD + gic::CTLR, 0);
    for cpu in 0..CPUS {
        clear_bank(redistributor(cpu) + gic::SGI_FRAME, 0);
        for (register, value) in [
            (Icc::Ctlr, 0),
            (Icc::Pmr, 0xFF),
            (Icc::Bpr0, 0),
            (Icc::Bpr1, 0),
            (Icc::Igrpen0, 1),
            (Icc::Igrpen1, 1),
        ] {
            register.write(cpu, value);
        }
    }
    for bank in 1..=BANKS {
        clear_bank(gic::GICD, bank.into());
        (32 * bank..32 * bank + 32).for_each(|intid| gic::route(intid, machine::mpidr_of(0)));
    }
    settle();
}

fn clear_bank(frame: u64, bank: u64) {
    mmio::write32(frame + gic::ICENABLER + 4 * bank, u32::MAX);
    (0..2).for_each(|n| mmio::write32(frame + ICFGR + 4 * (2 * bank + n), 0));
    for register in [gic::ICPENDR, gic::ICACTIVER, IGROUPR] {
        mmio::write32(frame + register + 4 * bank, u32::MAX);
    }
    (0..8).for_each(|n| mmio::write32(frame + gic::IPRIORITYR + 4 * (8 * bank + n), 0));
}

//! All that is visible of the GIC, and what an action changes of it.

use core::fmt;
use core::marker::PhantomData;

use test_guests::runtime::{gic, mmio};

use crate::interface::{CPUS, Interface, Kind, MOST_VISIBLE};
use crate::partner::{self, Request};
use crate::place::{BANKS, Place, word};
use crate::transcript::{add, line};

/// A register that describes interrupts.
#[derive(Clone, Copy)]
struct Register {
    kind: &'static Kind,
    place: Place,
    number: u64,
}

impl Register {
    fn offset(self) -> u64 {
        self.kind.offset + 4 * self.number
    }

    fn mask(self) -> u32 {
        let [private, shared] = self.kind.masks;
        if self.place.bank == 0 {
            private
        } else {
            shared
        }
    }
}

/// What it is called: by whose it is, or the distributor that has it for all.
struct Name<I>(Register, PhantomData<I>);

impl<I: Interface> fmt::Display for Name<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(Register { place, .. }, _) = self;
        match (place.bank, I::IS_BANKED) {
            (0, true) => write!(f, "D/{}", place.cpu)?,
            (0, false) => write!(f, "R{}", place.cpu)?,
            _ => f.write_str("D")?,
        }
        write!(f, ".{}{}", self.0.kind.name, self.0.number)
    }
}

/// Lists the registers that describe interrupts: first those of each CPU, then
/// the SPIs', then those that describe SGIs and nothing else.
fn registers<I: Interface>() -> impl Iterator<Item = Register> {
    let of = |place: Place, kinds: &'static [Kind]| {
        kinds.iter().flat_map(move |kind| {
            let first = u64::from(place.bank) * kind.count;
            (first..first + kind.count).map(move |number| Register {
                kind,
                place,
                number,
            })
        })
    };
    let described = Place::all().flat_map(move |place| of(place, I::KINDS));
    let private = (0..CPUS).map(|cpu| Place { cpu, bank: 0 });
    described.chain(private.flat_map(move |place| of(place, I::PRIVATE_KINDS)))
}

/// No version has more: for each bank four words of bits, two of configuration,
/// eight of priorities and eight of targets, and four of each CPU's SGIs.
const REGISTERS: usize = (CPUS + BANKS as usize) * 22 + 4 * CPUS;

/// The visible state at one time.
#[derive(Clone)]
pub(crate) struct Snapshot<I> {
    control: u32,
    registers: [u32; REGISTERS],
    interfaces: [[u64; MOST_VISIBLE]; CPUS],
    version: PhantomData<I>,
}

/// Lets what is under way arrive: each CPU reads its own pending register.
///
/// The specification wants the effect of an acknowledge, an EOI or a register
/// write to be visible elsewhere in finite time, and gives no bound. In a
/// hypervisor it is visible once the other CPU has been in it.
pub(crate) fn settle<I: Interface>() {
    for _ in 0..2 {
        for cpu in (0..CPUS).rev() {
            let address = Place { cpu, bank: 0 }.frame::<I>() + gic::ISPENDR;
            if cpu == 0 {
                let _ = mmio::read32(address);
            } else {
                partner::ask(Request::Load(address));
            }
        }
    }
}

/// Reads the registers that describe interrupts.
fn memory<I: Interface>() -> [u32; REGISTERS] {
    let mut values = [0; REGISTERS];
    let is_elsewhere = |one: Register| I::IS_BANKED && one.place.cpu != 0;
    for (slot, register) in values.iter_mut().zip(registers::<I>()) {
        if !is_elsewhere(register) {
            let address = register.place.frame::<I>() + register.offset();
            *slot = mmio::read32(address) & register.mask();
        }
    }
    if I::IS_BANKED {
        let others = registers::<I>().filter(|one| is_elsewhere(*one));
        let loaded = partner::load_all(others.map(|one| gic::GICD + one.offset()));
        let slots = values.iter_mut().zip(registers::<I>());
        let slots = slots.filter(|(_, register)| is_elsewhere(*register));
        for ((slot, register), loaded) in slots.zip(loaded) {
            *slot = word(loaded) & register.mask();
        }
    }
    values
}

/// Adds the registers that describe interrupts, and routes that are not the usual
/// one, to the transcript.
fn print_memory<I: Interface>(values: &[u32; REGISTERS]) {
    let mut last = "";
    for (value, register) in values.iter().zip(registers::<I>()) {
        if register.kind.name != last {
            if !last.is_empty() {
                line!("");
            }
            add!("{}", Name::<I>(register, PhantomData));
            last = register.kind.name;
        }
        add!(" {value:08x}");
    }
    line!("");
    I::print_routes();
}

/// Adds the registers as they are before anybody has written to the GIC.
pub(crate) fn print_reset<I: Interface>() {
    print_memory::<I>(&memory::<I>());
}

/// Returns the registers of the interface of `cpu` whose reading changes nothing.
fn visible<I: Interface>(cpu: usize) -> [u64; MOST_VISIBLE] {
    let mut values = [0; MOST_VISIBLE];
    if cpu == 0 {
        for (value, register) in values.iter_mut().zip(I::VISIBLE) {
            *value = register.read_here();
        }
    } else {
        partner::visible(&mut values);
    }
    for (value, register) in values.iter_mut().zip(I::VISIBLE) {
        *value &= register.mask();
    }
    values
}

impl<I: Interface> Snapshot<I> {
    /// Takes what is visible now.
    pub(crate) fn take() -> Self {
        settle::<I>();
        let interfaces = [visible::<I>(0), visible::<I>(1)];
        Self {
            control: mmio::read32(gic::GICD + gic::CTLR),
            registers: memory::<I>(),
            interfaces,
            version: PhantomData,
        }
    }

    /// Takes what is visible now and adds what has changed to the line.
    pub(crate) fn advance(&mut self) {
        let now = Self::take();
        if now.control != self.control {
            add!(" D.CTLR:{:x}>{:x}", self.control, now.control);
        }
        let pairs = self.registers.iter().zip(&now.registers);
        for ((old, new), register) in pairs.zip(registers::<I>()) {
            if old != new {
                add!(" {}:{old:x}>{new:x}", Name::<I>(register, PhantomData));
            }
        }
        for (cpu, (old, new)) in self.interfaces.iter().zip(&now.interfaces).enumerate() {
            for ((old, new), register) in old.iter().zip(new).zip(I::VISIBLE) {
                if old != new {
                    add!(" C{cpu}.{register:?}:{old:x}>{new:x}");
                }
            }
        }
        line!("");
        *self = now;
    }

    /// Adds all of it to the transcript, routes included.
    pub(crate) fn print(&self) {
        line!("D.CTLR {:x}", self.control);
        print_memory::<I>(&self.registers);
        for (cpu, values) in self.interfaces.iter().enumerate() {
            add!("C{cpu}");
            for (value, register) in values.iter().zip(I::VISIBLE) {
                add!(" {register:?} {value:x}");
            }
            line!("");
        }
    }

    /// Returns the bit of `intid` of `cpu` in a bit array.
    pub(crate) fn bit(&self, array: u64, cpu: usize, intid: u32) -> bool {
        let place = Place::of(cpu, intid);
        let mut all = self.registers.iter().zip(registers::<I>());
        let word = all.find(|(_, one)| one.place == place && one.kind.offset == array);
        word.is_some_and(|(word, _)| word >> (intid % 32) & 1 != 0)
    }

    /// Tells whether `intid` of `cpu` is active.
    pub(crate) fn is_active(&self, cpu: usize, intid: u32) -> bool {
        self.bit(gic::ISACTIVER, cpu, intid)
    }

    /// Tells whether `intid` of `cpu` is disabled and neither pending nor active.
    pub(crate) fn is_idle(&self, cpu: usize, intid: u32) -> bool {
        let arrays = [gic::ISENABLER, gic::ISPENDR, gic::ISACTIVER];
        arrays.iter().all(|array| !self.bit(*array, cpu, intid))
    }

    /// Returns a visible register of the interface of `cpu`.
    pub(crate) fn interface(&self, cpu: usize, register: I) -> u64 {
        let values = self.interfaces.get(cpu);
        let value = values.and_then(|values| values.get(register.number()));
        value.copied().unwrap_or_default()
    }
}

/// Brings the whole GIC to a known state: distributor off, everything disabled but
/// SGIs that may always be enabled, idle, in the usual group, of priority 0,
/// level-sensitive but for SGIs, SPIs for CPU 0; the interfaces open.
pub(crate) fn start_over<I: Interface>() {
    mmio::write32(gic::GICD + gic::CTLR, 0);
    (0..CPUS).for_each(I::open);
    for place in Place::all() {
        let bank = u64::from(place.bank);
        place.write_bits::<I>(gic::ICENABLER, u32::MAX);
        (0..2).for_each(|n| place.store::<I>(gic::ICFGR + 4 * (2 * bank + n), 0));
        for (array, bits) in [
            (gic::ICPENDR, u32::MAX),
            (gic::ICACTIVER, u32::MAX),
            (gic::IGROUPR, I::GROUP),
        ] {
            place.write_bits::<I>(array, bits);
        }
        (0..8).for_each(|n| place.store::<I>(gic::IPRIORITYR + 4 * (8 * bank + n), 0));
        I::clear(place);
    }
    settle::<I>();
}

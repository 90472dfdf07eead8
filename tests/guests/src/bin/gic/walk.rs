//! Long pseudo-random sequences of everything that a guest may do, with what
//! each step changes.

use test_guests::runtime::{gic, machine, mmio, random::Random};

use crate::debts::Ledger;
use crate::interface::{CPUS, Interface};
use crate::place::{Place, priority, set_priority};
use crate::snapshot::{self, Snapshot};
use crate::transcript::{self, add, line};

/// SGIs and PPIs that no line drives, the same on both CPUs.
const PRIVATE: [u32; 10] = [1, 4, 7, 10, 13, 15, 16, 17, 18, 20];
/// SPIs without a device that does anything, over all banks.
const SHARED: [u32; 16] = [
    36, 40, 63, 64, 65, 95, 100, 127, 128, 159, 191, 200, 223, 255, 256, 287,
];
/// How many of the private ones are SGIs.
const SGIS: usize = 6;

/// What a walk may do beyond pending, taking and ending interrupts.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) name: &'static str,
    pub(crate) seed: u64,
    pub(crate) steps: u32,
    /// Interrupts of both groups.
    pub(crate) both_groups: bool,
    /// EOImode.
    pub(crate) two_steps: bool,
    /// Writes of ISACTIVER and ICACTIVER.
    pub(crate) sets_active: bool,
    /// Binary points and priority masks, CBPR.
    pub(crate) shapes_priorities: bool,
    /// Group enables of the CPU interfaces.
    pub(crate) closes_groups: bool,
}

/// What each version does in its own way.
pub(crate) trait Steps: Interface {
    const PLANS: &'static [Plan];
    /// Of SGIs and PPIs those whose active state is written; see `masks`.
    const SETS_PRIVATE_ACTIVE: u32;

    /// Takes one step.
    fn go(walk: &mut Walk<Self>);
    /// Acknowledges whatever there is on `cpu`.
    fn acknowledge_any(walk: &mut Walk<Self>, cpu: usize) -> bool;
    /// Returns the register that ends what was begun, and what is written to it.
    fn end_of(begun: u32) -> (Self, u32);
    /// Lets everything through again that a step may have closed.
    fn reopen(cpu: usize);
}

pub(crate) struct Walk<I> {
    pub(crate) plan: Plan,
    pub(crate) random: Random,
    pub(crate) now: Snapshot<I>,
    pub(crate) ledger: Ledger,
}

/// Takes all walks. The boot argument `seed` makes them others than usual.
pub(crate) fn all<I: Steps>() {
    let seed = machine::boot_number("seed").unwrap_or_default();
    for plan in I::PLANS {
        let seed = 100 * seed + plan.seed;
        run::<I>(Plan { seed, ..*plan });
        transcript::print();
    }
}

/// Walks as planned.
fn run<I: Steps>(plan: Plan) {
    line!("== walk: {}", plan.name);
    snapshot::start_over::<I>();
    let mut walk = Walk {
        plan,
        random: Random::new(plan.seed),
        now: Snapshot::take(),
        ledger: Ledger::EMPTY,
    };
    walk.prepare();
    walk.now = Snapshot::take();
    walk.now.print();
    for step in 0..plan.steps {
        add!("{step}");
        I::go(&mut walk);
        walk.now.advance();
    }
    walk.come_to_rest();
    walk.now.print();
}

impl<I: Steps> Walk<I> {
    /// Gives every interrupt a priority that none has that it can meet, enables
    /// it, and opens the gates.
    fn prepare(&mut self) {
        for cpu in 0..CPUS {
            for (intid, level) in PRIVATE.iter().zip(0_u8..) {
                set_priority::<I>(cpu, *intid, level << 4 | 8);
            }
            I::set_two_steps(cpu, self.plan.two_steps);
        }
        for (intid, level) in SHARED.iter().zip(0_u8..) {
            set_priority::<I>(0, *intid, level << 4);
        }
        for place in Place::all() {
            place.write_bits::<I>(gic::ISENABLER, population(place.bank));
            if place.bank != 0 {
                place.store::<I>(gic::ICFGR + 8 * u64::from(place.bank), 0xAAAA_AAAA);
            }
        }
        for intid in SHARED.iter().step_by(2) {
            I::route(*intid, 1);
        }
        if self.plan.both_groups {
            for place in Place::all() {
                let group0 = self.draw32() & self.draw32();
                place.write_bits::<I>(gic::IGROUPR, !group0);
            }
        }
        mmio::write32(gic::GICD + gic::CTLR, 0b11);
    }

    pub(crate) fn draw32(&mut self) -> u32 {
        (self.random.draw() >> 32) as u32
    }

    /// Returns a number below `bound`.
    pub(crate) fn number(&mut self, bound: u32) -> u32 {
        self.draw32() % bound
    }

    pub(crate) fn cpu(&mut self) -> usize {
        self.random.index(CPUS)
    }

    /// Chooses an SGI.
    pub(crate) fn sgi(&mut self) -> u32 {
        let index = self.random.index(SGIS);
        PRIVATE.get(index).copied().unwrap_or(1)
    }

    /// Chooses an SPI.
    pub(crate) fn spi(&mut self) -> u32 {
        let index = self.random.index(SHARED.len());
        SHARED.get(index).copied().unwrap_or(32)
    }

    /// Chooses a bank whose registers of this kind may be written.
    fn place(&mut self, array: u64) -> Place {
        if I::writes_private(array) {
            Place::choose(&mut self.random)
        } else {
            Place::choose_shared(&mut self.random)
        }
    }

    /// Writes a bit register for some of the interrupts that take part.
    pub(crate) fn touch(&mut self, name: &str, array: u64) {
        let place = self.place(array);
        let bits = self.draw32() & population(place.bank);
        write_named::<I>(name, array, place, bits);
    }

    /// Makes interrupts pending, now and then those that are disabled as well.
    pub(crate) fn pend(&mut self) {
        let place = self.place(gic::ISPENDR);
        let mut bits = self.draw32() & self.draw32();
        if self.random.below(4) != 0 {
            bits &= population(place.bank);
        }
        write_named::<I>("ISPENDR", gic::ISPENDR, place, bits);
    }

    /// Drops the priority of the innermost interrupt, or deactivates one whose
    /// priority was dropped.
    pub(crate) fn end(&mut self) {
        let cpu = self.cpu();
        let owed = self.ledger.dropped(cpu);
        if owed != 0 && self.random.below(2) == 0 {
            let index = self.random.index(owed);
            self.deactivate(cpu, index);
        } else if !self.drop_priority(cpu) {
            add!(" -");
        }
    }

    fn drop_priority(&mut self, cpu: usize) -> bool {
        let Some(begun) = self.ledger.innermost(cpu) else {
            return false;
        };
        let (register, value) = I::end_of(begun);
        add!(" C{cpu}.{register:?}={value}");
        register.write(cpu, value.into());
        if self.plan.two_steps {
            self.ledger.drop(cpu, value);
        }
        true
    }

    fn deactivate(&mut self, cpu: usize, index: usize) {
        if let Some(value) = self.ledger.take_dropped(cpu, index) {
            add!(" C{cpu}.{:?}={value}", I::DIR);
            I::DIR.write(cpu, value.into());
        }
    }

    /// Writes active states, but those of interrupts that some CPU runs.
    pub(crate) fn touch_active(&mut self) {
        if !self.plan.sets_active {
            return self.touch("ISPENDR", gic::ISPENDR);
        }
        let place = self.place(gic::ISACTIVER);
        let mut bits = self.draw32() & self.draw32() & population(place.bank);
        if place.bank == 0 {
            bits &= I::SETS_PRIVATE_ACTIVE;
        }
        bits &= !self.ledger.begun_in(place);
        if !I::CLEARS_FOR_OTHERS {
            bits &= !self.ledger.dropped_in(place);
        }
        if self.random.below(3) == 0 {
            write_named::<I>("ISACTIVER", gic::ISACTIVER, place, bits);
        } else {
            write_named::<I>("ICACTIVER", gic::ICACTIVER, place, bits);
            self.ledger.forget_dropped(place, bits);
        }
    }

    /// Lets two interrupts of one kind change their priorities.
    pub(crate) fn swap_priorities(&mut self) {
        let cpu = self.cpu();
        let intids = if self.random.below(2) == 0 {
            &PRIVATE[..]
        } else {
            &SHARED[..]
        };
        let mut choose = || {
            let index = self.random.index(intids.len());
            intids.get(index).copied().unwrap_or(16)
        };
        let (first, second) = (choose(), choose());
        let priorities = [priority::<I>(cpu, first), priority::<I>(cpu, second)];
        add!(" priorities {first}<>{second}/{cpu}");
        set_priority::<I>(cpu, first, priorities[1]);
        set_priority::<I>(cpu, second, priorities[0]);
    }

    /// Changes some interrupts that are disabled and idle between edge and
    /// level.
    pub(crate) fn configure(&mut self) {
        let place = self.place(gic::ICFGR);
        let choice = self.draw32();
        let number = 2 * place.bank + self.number(2);
        let offset = gic::ICFGR + 4 * u64::from(number);
        let mut value = place.load::<I>(offset);
        for bit in 0..16 {
            let intid = 16 * number + bit;
            if choice >> bit & 1 != 0 && self.now.is_idle(place.cpu, intid) {
                value ^= 0b10 << (2 * bit);
            }
        }
        add!(" ICFGR{number}/{}={value:x}", place.cpu);
        place.store::<I>(offset, value);
    }

    /// Changes the group of interrupts that are not active.
    pub(crate) fn regroup(&mut self) {
        let place = self.place(gic::IGROUPR);
        let mut groups = place.bits::<I>(gic::IGROUPR);
        let choice = self.draw32() & self.draw32();
        for bit in 0..32 {
            let active = self.now.is_active(place.cpu, 32 * place.bank + bit);
            if self.plan.both_groups && choice >> bit & 1 != 0 && !active {
                groups ^= 1 << bit;
            }
        }
        write_named::<I>("IGROUPR", gic::IGROUPR, place, groups);
    }

    /// Ends what was begun and takes everything that is still pending.
    fn come_to_rest(&mut self) {
        mmio::write32(gic::GICD + gic::CTLR, 0b11);
        (0..CPUS).for_each(I::reopen);
        add!("rest");
        self.now.advance();
        for _ in 0..3 {
            for cpu in 0..CPUS {
                while self.has_more(cpu) {}
            }
        }
    }

    /// Ends something on `cpu`, or takes something.
    fn has_more(&mut self, cpu: usize) -> bool {
        add!("rest");
        let ended = self.drop_priority(cpu);
        let owed = self.ledger.dropped(cpu);
        for _ in 0..owed {
            self.deactivate(cpu, 0);
        }
        snapshot::settle::<I>();
        let had_debts = ended || owed != 0;
        let taken = !had_debts && I::acknowledge_any(self, cpu);
        self.now.advance();
        had_debts || taken
    }
}

/// Turns groups off and on in the distributor.
pub(crate) fn gate(value: u32) {
    add!(" CTLR={value:x}");
    mmio::write32(gic::GICD + gic::CTLR, value);
}

fn write_named<I: Interface>(name: &str, array: u64, place: Place, bits: u32) {
    add!(" {name}{}/{}={bits:x}", place.bank, place.cpu);
    place.write_bits::<I>(array, bits);
}

/// Returns the interrupts of a bank that take part.
fn population(bank: u32) -> u32 {
    let all = PRIVATE.iter().chain(&SHARED);
    let inside = all.filter(|intid| **intid / 32 == bank);
    inside.fold(0, |bits, intid| bits | 1 << (intid % 32))
}

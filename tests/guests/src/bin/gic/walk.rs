//! Long pseudo-random sequences of everything that a guest may do, with what
//! each step changes.

use test_guests::runtime::{gic, machine, mmio, random::Random};

use crate::debts::Debts;
use crate::interface::Icc;
use crate::snapshot::{self, CPUS, Snapshot, redistributor};
use crate::transcript::{self, add, line};

/// SGIs and PPIs that no line drives, the same on both CPUs.
const PRIVATE: [u32; 10] = [1, 4, 7, 10, 13, 15, 16, 17, 18, 20];
/// SPIs without a device that does anything, over all banks.
const SHARED: [u32; 16] = [
    36, 40, 63, 64, 65, 95, 100, 127, 128, 159, 191, 200, 223, 255, 256, 287,
];
const SGIS: usize = 6;

/// What a walk may do beyond pending, taking and ending interrupts.
#[derive(Clone, Copy)]
struct Plan {
    name: &'static str,
    seed: u64,
    steps: u32,
    /// Interrupts of both groups.
    both_groups: bool,
    /// ICC_CTLR_EL1.EOImode.
    two_steps: bool,
    /// Writes of ISACTIVER and ICACTIVER.
    sets_active: bool,
    /// Binary points and priority masks, CBPR.
    shapes_priorities: bool,
    /// Group enables of the CPU interfaces.
    closes_groups: bool,
}

struct Walk {
    plan: Plan,
    random: Random,
    now: Snapshot,
    /// To be ended, the innermost last; bit 31 is set for those of Group 0.
    begun: [Debts; CPUS],
    /// To be deactivated.
    dropped: [Debts; CPUS],
    step: u32,
}

const GROUP0: u32 = 1 << 31;

const PLAIN: Plan = Plan {
    name: "Group 1",
    seed: 1,
    steps: 400,
    both_groups: false,
    two_steps: false,
    sets_active: false,
    shapes_priorities: false,
    closes_groups: false,
};

/// All walks, from the simplest to the wildest.
const PLANS: [Plan; 7] = [
    PLAIN,
    Plan {
        name: "Group 1, two steps",
        seed: 2,
        two_steps: true,
        ..PLAIN
    },
    Plan {
        name: "both groups",
        seed: 3,
        both_groups: true,
        ..PLAIN
    },
    Plan {
        name: "both groups, two steps, priorities",
        seed: 4,
        both_groups: true,
        two_steps: true,
        shapes_priorities: true,
        ..PLAIN
    },
    Plan {
        name: "Group 1, enables, priorities",
        seed: 5,
        closes_groups: true,
        shapes_priorities: true,
        ..PLAIN
    },
    Plan {
        name: "active states",
        seed: 6,
        sets_active: true,
        ..PLAIN
    },
    Plan {
        name: "active states, two steps, both groups, priorities",
        seed: 7,
        both_groups: true,
        two_steps: true,
        shapes_priorities: true,
        sets_active: true,
        ..PLAIN
    },
];

/// Takes all walks. The boot argument `seed` makes them others than usual.
pub(crate) fn all() {
    let seed = machine::boot_number("seed").unwrap_or_default();
    for plan in PLANS {
        let seed = 100 * seed + plan.seed;
        run(Plan { seed, ..plan });
        transcript::print();
    }
}

/// Walks as planned.
fn run(plan: Plan) {
    line!("== walk: {}", plan.name);
    snapshot::start_over();
    let mut walk = Walk {
        plan,
        random: Random::new(plan.seed),
        now: Snapshot::take(),
        begun: [Debts::NONE; CPUS],
        dropped: [Debts::NONE; CPUS],
        step: 0,
    };
    walk.prepare();
    walk.now = Snapshot::take();
    walk.now.print();
    while walk.step < plan.steps {
        walk.go();
        walk.step += 1;
    }
    walk.come_to_rest();
    walk.now.print();
}

impl Walk {
    /// Gives every interrupt a priority that none has that it can meet, enables
    /// it, and opens the gates.
    fn prepare(&mut self) {
        for cpu in 0..CPUS {
            for (intid, level) in PRIVATE.iter().zip(0_u32..) {
                set_priority(cpu, *intid, level << 4 | 8);
            }
            self.write_bits(gic::ISENABLER, cpu, 0, population(0));
            if self.plan.two_steps {
                Icc::Ctlr.write(cpu, 0b10);
            }
        }
        for (intid, level) in SHARED.iter().zip(0_u32..) {
            set_priority(0, *intid, level << 4);
        }
        for bank in 1..=8 {
            self.write_bits(gic::ISENABLER, 0, bank, population(bank));
            mmio::write32(gic::GICD + 0xC00 + 8 * u64::from(bank), 0xAAAA_AAAA);
        }
        for intid in SHARED.iter().step_by(2) {
            gic::route(*intid, machine::mpidr_of(1));
        }
        if self.plan.both_groups {
            for (cpu, bank) in places() {
                let group0 = self.draw32() & self.draw32();
                self.write_bits(gic::IGROUPR, cpu, bank, !group0);
            }
        }
        mmio::write32(gic::GICD + gic::CTLR, 0b11);
    }

    fn draw32(&mut self) -> u32 {
        (self.random.draw() >> 32) as u32
    }

    /// Returns a number below `bound`.
    fn number(&mut self, bound: u32) -> u32 {
        self.draw32() % bound
    }

    fn cpu(&mut self) -> usize {
        self.random.index(CPUS)
    }

    /// Chooses a bank: that of a CPU, or one of SPIs with its number.
    fn place(&mut self) -> (usize, u32) {
        // As often a bank of SGIs and PPIs as one of SPIs.
        if self.random.below(2) == 0 {
            (self.cpu(), 0)
        } else {
            (0, self.number(8) + 1)
        }
    }

    fn write_bits(&self, array: u64, cpu: usize, bank: u32, bits: u32) {
        mmio::write32(register(array, cpu, bank), bits);
    }

    /// Takes one step and tells what came of it.
    fn go(&mut self) {
        add!("{}", self.step);
        match self.random.below(64) {
            0..8 => self.pend(),
            8..14 => self.send_sgi(),
            14..28 => self.acknowledge(),
            28..40 => self.end(),
            40..43 => self.touch("ICPENDR", gic::ICPENDR),
            43..45 => self.touch("ICENABLER", gic::ICENABLER),
            45..49 => self.touch("ISENABLER", gic::ISENABLER),
            49..51 => self.touch_active(),
            51..53 => self.swap_priorities(),
            53..56 => self.route(),
            56..58 => self.configure(),
            58 => self.regroup(),
            59..62 => self.shape_priorities(),
            62 => self.close_groups(),
            _ => self.gate(),
        }
        self.now.advance();
    }

    /// Writes a bit register for interrupts that take part, three times of four,
    /// else for any.
    fn touch(&mut self, name: &str, array: u64) {
        let (cpu, bank) = self.place();
        let bits = self.draw32() & population(bank);
        self.write_named(name, array, cpu, bank, bits);
    }

    fn write_named(&self, name: &str, array: u64, cpu: usize, bank: u32, bits: u32) {
        add!(" {name}{bank}/{cpu}={bits:x}");
        self.write_bits(array, cpu, bank, bits);
    }

    /// Makes interrupts pending, now and then those that are disabled as well.
    fn pend(&mut self) {
        let (cpu, bank) = self.place();
        let mut bits = self.draw32() & self.draw32();
        if self.random.below(4) != 0 {
            bits &= population(bank);
        }
        self.write_named("ISPENDR", gic::ISPENDR, cpu, bank, bits);
    }

    fn send_sgi(&mut self) {
        let sender = self.cpu();
        let index = self.random.index(SGIS);
        let intid = PRIVATE.get(index).copied().unwrap_or(1);
        let all_group1 = (0..CPUS).all(|cpu| self.now.is_group1(cpu, intid));
        let register = match self.random.below(8) {
            0 => Icc::Sgi0r,
            1 => Icc::Asgi1r,
            _ if all_group1 => Icc::Sgi1r,
            _ => Icc::Sgi0r,
        };
        let target = match self.random.below(8) {
            // To all but the sender, whatever the list says.
            0 => 1 << 40 | 0b11,
            // To nobody.
            1 => 1 << 16 | 0b11,
            list => list & 0b11,
        };
        let value = u64::from(intid) << 24 | target;
        add!(" C{sender}.{register:?}={value:x}");
        register.write(sender, value);
    }

    fn acknowledge(&mut self) {
        let cpu = self.cpu();
        let group0 = self.now.interface(cpu, Icc::Hppir0) < 1020;
        let register = if (self.random.below(8) == 0) ^ group0 {
            Icc::Iar0
        } else {
            Icc::Iar1
        };
        self.acknowledge_by(cpu, register);
    }

    fn acknowledge_by(&mut self, cpu: usize, register: Icc) -> u32 {
        let intid = (register.read(cpu) & 0xFF_FFFF) as u32;
        add!(" C{cpu}.{register:?}:{intid}");
        if intid < 1020 {
            let group = if register == Icc::Iar0 { GROUP0 } else { 0 };
            if let Some(begun) = self.begun.get_mut(cpu) {
                begun.push(intid | group);
            }
        }
        intid
    }

    /// Drops the priority of the innermost interrupt, or deactivates one whose
    /// priority was dropped.
    fn end(&mut self) {
        let cpu = self.cpu();
        let owed = self.dropped.get(cpu).map_or(0, Debts::count);
        if owed != 0 && self.random.below(2) == 0 {
            let index = self.random.index(owed);
            self.deactivate(cpu, index);
        } else if !self.drop_priority(cpu) {
            add!(" -");
        }
    }

    fn drop_priority(&mut self, cpu: usize) -> bool {
        let Some(begun) = self.begun.get_mut(cpu).and_then(Debts::pop) else {
            return false;
        };
        let intid = begun & !GROUP0;
        let register = if begun & GROUP0 != 0 {
            Icc::Eoir0
        } else {
            Icc::Eoir1
        };
        add!(" C{cpu}.{register:?}={intid}");
        register.write(cpu, intid.into());
        if self.plan.two_steps
            && let Some(dropped) = self.dropped.get_mut(cpu)
        {
            dropped.push(intid);
        }
        true
    }

    fn deactivate(&mut self, cpu: usize, index: usize) {
        let taken = self.dropped.get_mut(cpu).and_then(|list| list.take(index));
        if let Some(intid) = taken {
            add!(" C{cpu}.Dir={intid}");
            Icc::Dir.write(cpu, intid.into());
        }
    }

    fn touch_active(&mut self) {
        if !self.plan.sets_active {
            return self.touch("ISPENDR", gic::ISPENDR);
        }
        let (cpu, bank) = self.place();
        let bits = self.draw32() & self.draw32() & population(bank);
        // What was acknowledged is ended by who did.
        let bits = bits & !self.owed(cpu, bank);
        let (name, array) = if self.random.below(3) == 0 {
            ("ISACTIVER", gic::ISACTIVER)
        } else {
            ("ICACTIVER", gic::ICACTIVER)
        };
        self.write_named(name, array, cpu, bank, bits);
    }

    /// Returns the interrupts of a bank that some CPU has acknowledged and not
    /// deactivated.
    fn owed(&self, cpu: usize, bank: u32) -> u32 {
        let mut bits = 0;
        for (holder, lists) in self.begun.iter().zip(&self.dropped).enumerate() {
            for list in [lists.0, lists.1] {
                for intid in list.as_slice().iter().map(|intid| intid & !GROUP0) {
                    if intid / 32 == bank && (bank != 0 || holder == cpu) {
                        bits |= 1 << (intid % 32);
                    }
                }
            }
        }
        bits
    }

    /// Lets two interrupts of one kind change their priorities.
    fn swap_priorities(&mut self) {
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
        let priorities = [priority(cpu, first), priority(cpu, second)];
        add!(" priorities {first}<>{second}/{cpu}");
        set_priority(cpu, first, priorities[1]);
        set_priority(cpu, second, priorities[0]);
    }

    fn route(&mut self) {
        let index = self.random.index(SHARED.len());
        let intid = SHARED.get(index).copied().unwrap_or(32);
        let (upper, lower) = match self.number(5) {
            0 => (1, 0),
            1 => (0, 0x00FF_FF02),
            cpu => (0, cpu & 1),
        };
        let address = gic::GICD + gic::IROUTER + 8 * u64::from(intid);
        if self.random.below(2) == 0 {
            mmio::write64(address, u64::from(upper) << 32 | u64::from(lower));
        } else {
            mmio::write32(address + 4, upper);
            mmio::write32(address, lower);
        }
        add!(" IROUTER{intid}:{:x}", mmio::read64(address));
    }

    /// Changes some interrupts that are disabled and idle between edge and
    /// level.
    fn configure(&mut self) {
        let (cpu, bank) = self.place();
        let choice = self.draw32();
        let half = self.number(2);
        let address = frame(cpu, bank) + 0xC00 + 4 * u64::from(2 * bank + half);
        let mut value = mmio::read32(address);
        for bit in 0..16 {
            let intid = 32 * bank + 16 * half + bit;
            if choice >> bit & 1 != 0 && self.now.is_idle(cpu, intid) {
                value ^= 0b10 << (2 * bit);
            }
        }
        add!(" ICFGR{}/{cpu}={value:x}", 2 * bank + half);
        mmio::write32(address, value);
    }

    /// Changes the group of interrupts that are not active.
    fn regroup(&mut self) {
        let (cpu, bank) = self.place();
        let mut groups = mmio::read32(register(gic::IGROUPR, cpu, bank));
        let choice = self.draw32() & self.draw32();
        for bit in 0..32 {
            let active = self.now.is_active(cpu, 32 * bank + bit);
            if self.plan.both_groups && choice >> bit & 1 != 0 && !active {
                groups ^= 1 << bit;
            }
        }
        self.write_named("IGROUPR", gic::IGROUPR, cpu, bank, groups);
    }

    fn shape_priorities(&mut self) {
        if !self.plan.shapes_priorities {
            return self.touch("ISENABLER", gic::ISENABLER);
        }
        let cpu = self.cpu();
        // Binary points change only while nothing runs: what an EOI drops
        // depends on them.
        let idle = self.begun.get(cpu).is_some_and(|begun| begun.count() == 0);
        let (register, value) = match self.random.below(6) {
            0 if idle => (Icc::Bpr0, self.random.below(8)),
            1 if idle => (Icc::Bpr1, self.random.below(8)),
            2 if idle => {
                let mode = if self.plan.two_steps { 0b10 } else { 0 };
                (Icc::Ctlr, mode | self.random.below(2))
            }
            3 => (Icc::Pmr, self.random.below(256)),
            _ => (Icc::Pmr, 0xFF),
        };
        add!(" C{cpu}.{register:?}={value:x}");
        register.write(cpu, value);
    }

    fn close_groups(&mut self) {
        if !self.plan.closes_groups {
            return self.pend();
        }
        let cpu = self.cpu();
        let value = u64::from(self.random.below(3) != 0);
        add!(" C{cpu}.Igrpen1={value}");
        Icc::Igrpen1.write(cpu, value);
    }

    /// Turns groups off and on in the distributor.
    fn gate(&mut self) {
        let value = match self.random.below(6) {
            0 => 0b01,
            1 => 0b10,
            2 => 0,
            _ => 0b11,
        };
        add!(" CTLR={value:x}");
        mmio::write32(gic::GICD + gic::CTLR, value);
    }

    /// Ends what was begun and takes everything that is still pending.
    fn come_to_rest(&mut self) {
        mmio::write32(gic::GICD + gic::CTLR, 0b11);
        for cpu in 0..CPUS {
            Icc::Pmr.write(cpu, 0xFF);
            Icc::Igrpen1.write(cpu, 1);
        }
        add!("rest");
        self.now.advance();
        for _ in 0..3 {
            for cpu in 0..CPUS {
                self.come_to_rest_on(cpu);
            }
        }
    }

    fn come_to_rest_on(&mut self, cpu: usize) {
        loop {
            add!("rest");
            let ended = self.drop_priority(cpu);
            let owed = self.dropped.get(cpu).map_or(0, Debts::count);
            for _ in 0..owed {
                self.deactivate(cpu, 0);
            }
            snapshot::settle();
            let mut taken = false;
            for register in [Icc::Iar0, Icc::Iar1] {
                if !ended && owed == 0 && !taken {
                    taken = self.acknowledge_by(cpu, register) < 1020;
                }
            }
            self.now.advance();
            if !ended && owed == 0 && !taken {
                return;
            }
        }
    }
}

/// Returns the interrupts of a bank that take part.
fn population(bank: u32) -> u32 {
    let all = PRIVATE.iter().chain(&SHARED);
    let inside = all.filter(|intid| **intid / 32 == bank);
    inside.fold(0, |bits, intid| bits | 1 << (intid % 32))
}

/// Lists all banks.
fn places() -> impl Iterator<Item = (usize, u32)> {
    (0..CPUS).map(|cpu| (cpu, 0)).chain((1..=8).map(|n| (0, n)))
}

/// Returns the frame whose registers describe a bank.
fn frame(cpu: usize, bank: u32) -> u64 {
    if bank == 0 {
        redistributor(cpu) + gic::SGI_FRAME
    } else {
        gic::GICD
    }
}

/// Returns the address of the register of a bit array that describes a bank.
fn register(array: u64, cpu: usize, bank: u32) -> u64 {
    frame(cpu, bank) + array + 4 * u64::from(bank)
}

fn priority_address(cpu: usize, intid: u32) -> u64 {
    frame(cpu, intid / 32) + gic::IPRIORITYR + u64::from(intid)
}

fn priority(cpu: usize, intid: u32) -> u32 {
    let address = priority_address(cpu, intid);
    mmio::read32(address & !3) >> (8 * (address & 3)) & 0xF8
}

fn set_priority(cpu: usize, intid: u32, priority: u32) {
    let [byte, ..] = priority.to_le_bytes();
    mmio::write8(priority_address(cpu, intid), byte);
}

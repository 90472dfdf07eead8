//! Long pseudo-random sequences, as on a GICv3.

use test_guests::runtime::{machine, mmio, random::Random};

use super::GICD;
use super::interface::{Gicc, load, store, store_byte};
use super::snapshot::{
    self, CPENDSGIR, CPUS, ICACTIVER, ICENABLER, ICFGR, ICPENDR, IGROUPR, IPRIORITYR, ISACTIVER,
    ISENABLER, ISPENDR, ITARGETSR, SGIR, SPENDSGIR, Snapshot, places,
};
use crate::debts::Debts;
use crate::transcript::{self, add, line};

/// SGIs and PPIs that no line drives, the same on both CPUs.
const PRIVATE: [u32; 10] = [1, 4, 7, 10, 13, 15, 16, 17, 18, 20];
/// SPIs without a device that does anything.
const SHARED: [u32; 16] = [
    36, 40, 63, 64, 65, 95, 100, 127, 128, 159, 191, 200, 223, 255, 256, 287,
];
const SGIS: usize = 6;
const SPURIOUS: u32 = 1020;

#[derive(Clone, Copy)]
struct Plan {
    name: &'static str,
    seed: u64,
    both_groups: bool,
    /// GICC_CTLR.EOImode.
    two_steps: bool,
    sets_active: bool,
}

const STEPS: u32 = 400;
const PLAIN: Plan = Plan {
    name: "Group 0",
    seed: 41,
    both_groups: false,
    two_steps: false,
    sets_active: false,
};
const PLANS: [Plan; 4] = [
    PLAIN,
    Plan {
        name: "both groups",
        seed: 42,
        both_groups: true,
        ..PLAIN
    },
    Plan {
        name: "two steps",
        seed: 43,
        two_steps: true,
        ..PLAIN
    },
    Plan {
        name: "both groups, two steps, active states",
        seed: 44,
        both_groups: true,
        two_steps: true,
        sets_active: true,
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

struct Walk {
    plan: Plan,
    random: Random,
    now: Snapshot,
    /// To be ended, the innermost last: what GICC_IAR said.
    begun: [Debts; CPUS],
    /// To be deactivated.
    dropped: [Debts; CPUS],
}

fn run(plan: Plan) {
    line!("== walk: {}", plan.name);
    snapshot::start_over();
    let mut walk = Walk {
        plan,
        random: Random::new(plan.seed),
        now: Snapshot::take(),
        begun: [Debts::NONE; CPUS],
        dropped: [Debts::NONE; CPUS],
    };
    walk.prepare();
    walk.now = Snapshot::take();
    walk.now.print();
    for step in 0..STEPS {
        add!("{step}");
        walk.go();
        walk.now.advance();
    }
    walk.come_to_rest();
    walk.now.print();
}

impl Walk {
    fn prepare(&mut self) {
        for cpu in 0..CPUS {
            for (intid, level) in PRIVATE.iter().zip(0_u32..) {
                set_priority(cpu, *intid, level << 4 | 8);
            }
            if self.plan.two_steps {
                Gicc::Ctlr.write(cpu, 0b111 | 1 << 9);
            }
        }
        for ((intid, level), target) in SHARED.iter().zip(0_u32..).zip([2, 1].iter().cycle()) {
            set_priority(0, *intid, level << 4);
            mmio::write8(GICD + ITARGETSR + u64::from(*intid), *target);
        }
        for (cpu, bank) in places() {
            if bank != 0 {
                store(0, GICD + ICFGR + 8 * u64::from(bank), 0xAAAA_AAAA);
            }
            if self.plan.both_groups {
                let groups = self.draw();
                write_bits(IGROUPR, cpu, bank, groups);
            }
            write_bits(ISENABLER, cpu, bank, population(bank));
        }
        store(0, GICD, 0b11);
    }

    fn draw(&mut self) -> u32 {
        (self.random.draw() >> 32) as u32
    }

    fn number(&mut self, bound: u32) -> u32 {
        self.draw() % bound
    }

    fn cpu(&mut self) -> usize {
        self.random.index(CPUS)
    }

    fn place(&mut self) -> (usize, u32) {
        if self.number(2) == 0 {
            (self.cpu(), 0)
        } else {
            (0, self.number(8) + 1)
        }
    }

    fn go(&mut self) {
        match self.number(64) {
            0..8 => self.touch("ISPENDR", ISPENDR),
            8..16 => self.send_sgi(),
            16..30 => self.acknowledge(),
            30..43 => self.end(),
            43..46 => self.touch("ICPENDR", ICPENDR),
            46 | 47 => self.touch("ICENABLER", ICENABLER),
            48..51 => self.touch("ISENABLER", ISENABLER),
            51..53 => self.touch_active(),
            53..55 => self.swap_priorities(),
            55..58 => self.aim(),
            58 => self.configure(),
            59 => self.regroup(),
            60 | 61 => self.mask(),
            62 => self.pend_sgi(),
            _ => self.gate(),
        }
    }

    fn touch(&mut self, name: &str, array: u64) {
        let (cpu, bank) = match array {
            // Of SGIs and PPIs QEMU makes it pending, or not, on all CPUs.
            ISPENDR | ICPENDR => (0, self.number(8) + 1),
            _ => self.place(),
        };
        let bits = self.draw() & population(bank);
        add!(" {name}{bank}/{cpu}={bits:x}");
        write_bits(array, cpu, bank, bits);
    }

    /// Chooses an SGI; each has one sender, CPU 0 or 1 by its number.
    fn sgi(&mut self) -> (u32, usize) {
        let index = self.random.index(SGIS);
        (PRIVATE.get(index).copied().unwrap_or(1), index % CPUS)
    }

    fn send_sgi(&mut self) {
        let (intid, sender) = self.sgi();
        let filter = self.number(3);
        let targets = self.number(4);
        // NSATT is a matter of two security states.
        let value = filter << 24 | targets << 16 | intid;
        add!(" SGIR/{sender}={value:x}");
        store(sender, GICD + SGIR, value);
    }

    fn pend_sgi(&mut self) {
        let (intid, sender) = self.sgi();
        let cpu = self.cpu();
        let (name, array) = if self.number(2) == 0 {
            ("SPENDSGIR", SPENDSGIR)
        } else {
            ("CPENDSGIR", CPENDSGIR)
        };
        add!(" {name}{intid}/{cpu}:{sender}");
        store_byte(cpu, GICD + array + u64::from(intid), 1 << sender);
    }

    fn acknowledge(&mut self) {
        let cpu = self.cpu();
        self.acknowledge_on(cpu);
    }

    fn acknowledge_on(&mut self, cpu: usize) -> bool {
        let value = Gicc::Iar.read(cpu);
        add!(" C{cpu}.Iar:{value:x}");
        let taken = value & 0x3FF < SPURIOUS;
        if taken && let Some(begun) = self.begun.get_mut(cpu) {
            begun.push(value);
        }
        taken
    }

    fn end(&mut self) {
        let cpu = self.cpu();
        let owed = self.dropped.get(cpu).map_or(0, Debts::count);
        if owed != 0 && self.number(2) == 0 {
            let index = self.random.index(owed);
            self.deactivate(cpu, index);
        } else if !self.drop_priority(cpu) {
            add!(" -");
        }
    }

    fn drop_priority(&mut self, cpu: usize) -> bool {
        let Some(value) = self.begun.get_mut(cpu).and_then(Debts::pop) else {
            return false;
        };
        add!(" C{cpu}.Eoir={value:x}");
        Gicc::Eoir.write(cpu, value);
        if self.plan.two_steps
            && let Some(dropped) = self.dropped.get_mut(cpu)
        {
            dropped.push(value);
        }
        true
    }

    fn deactivate(&mut self, cpu: usize, index: usize) {
        let taken = self.dropped.get_mut(cpu).and_then(|list| list.take(index));
        if let Some(value) = taken {
            add!(" C{cpu}.Dir={value:x}");
            Gicc::Dir.write(cpu, value);
        }
    }

    fn touch_active(&mut self) {
        if !self.plan.sets_active {
            return self.touch("ISPENDR", ISPENDR);
        }
        let (cpu, bank) = self.place();
        // SGIs are active for a sender.
        let possible = population(bank) & if bank == 0 { 0xFFFF_0000 } else { u32::MAX };
        let bits = self.draw() & self.draw() & possible & !self.owed(cpu, bank);
        let (name, array) = if self.number(3) == 0 {
            ("ISACTIVER", ISACTIVER)
        } else {
            ("ICACTIVER", ICACTIVER)
        };
        add!(" {name}{bank}/{cpu}={bits:x}");
        write_bits(array, cpu, bank, bits);
    }

    /// Returns the interrupts of a bank that some CPU has acknowledged and not
    /// deactivated.
    fn owed(&self, cpu: usize, bank: u32) -> u32 {
        let mut bits = 0;
        for (holder, lists) in self.begun.iter().zip(&self.dropped).enumerate() {
            for list in [lists.0, lists.1] {
                for intid in list.as_slice().iter().map(|value| value & 0x3FF) {
                    if intid / 32 == bank && (bank != 0 || holder == cpu) {
                        bits |= 1 << (intid % 32);
                    }
                }
            }
        }
        bits
    }

    fn swap_priorities(&mut self) {
        let cpu = self.cpu();
        let intids = if self.number(2) == 0 {
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

    /// Gives an SPI to one CPU. To none, and while it is pending or active, is out of
    /// the question here: then QEMU forgets it, or signals it to both.
    fn aim(&mut self) {
        let index = self.random.index(SHARED.len());
        let intid = SHARED.get(index).copied().unwrap_or(32);
        let target = u8::try_from(self.number(2) + 1).unwrap_or(1);
        if self.now.is_pending(0, intid) || self.now.is_active(0, intid) {
            return add!(" -");
        }
        add!(" target {intid}={target}");
        mmio::write8(GICD + ITARGETSR + u64::from(intid), target);
    }

    fn configure(&mut self) {
        let bank = self.number(8) + 1;
        let half = self.number(2);
        let choice = self.draw();
        let address = GICD + ICFGR + 4 * u64::from(2 * bank + half);
        let mut value = load(0, address);
        for bit in 0..16 {
            let intid = 32 * bank + 16 * half + bit;
            if choice >> bit & 1 != 0 && self.now.is_idle(0, intid) {
                value ^= 0b10 << (2 * bit);
            }
        }
        add!(" ICFGR{}={value:x}", 2 * bank + half);
        store(0, address, value);
    }

    fn regroup(&mut self) {
        let (cpu, bank) = self.place();
        let mut groups = load(cpu, GICD + IGROUPR + 4 * u64::from(bank));
        let choice = self.draw() & self.draw();
        for bit in 0..32 {
            let active = self.now.is_active(cpu, 32 * bank + bit);
            if self.plan.both_groups && choice >> bit & 1 != 0 && !active {
                groups ^= 1 << bit;
            }
        }
        add!(" IGROUPR{bank}/{cpu}={groups:x}");
        write_bits(IGROUPR, cpu, bank, groups);
    }

    fn mask(&mut self) {
        let cpu = self.cpu();
        let mask = if self.number(2) == 0 {
            self.number(32) << 3
        } else {
            0xF8
        };
        add!(" C{cpu}.Pmr={mask:x}");
        Gicc::Pmr.write(cpu, mask);
    }

    /// Turns the distributor off or on: both groups, since QEMU forwards both as
    /// long as one is on.
    fn gate(&mut self) {
        let value = if self.number(3) == 0 { 0 } else { 0b11 };
        add!(" CTLR={value:x}");
        store(0, GICD, value);
    }

    /// Ends what was begun and takes everything that is still pending.
    fn come_to_rest(&mut self) {
        store(0, GICD, 0b11);
        (0..CPUS).for_each(|cpu| Gicc::Pmr.write(cpu, 0xF8));
        add!("rest");
        self.now.advance();
        for cpu in [0, 1, 0, 1] {
            loop {
                add!("rest");
                let ended = self.drop_priority(cpu);
                let owed = self.dropped.get(cpu).map_or(0, Debts::count);
                (0..owed).for_each(|_| self.deactivate(cpu, 0));
                snapshot::settle();
                let quiet = !ended && owed == 0;
                let taken = quiet && self.acknowledge_on(cpu);
                self.now.advance();
                if quiet && !taken {
                    break;
                }
            }
        }
    }
}

fn population(bank: u32) -> u32 {
    let all = PRIVATE.iter().chain(&SHARED);
    let inside = all.filter(|intid| **intid / 32 == bank);
    inside.fold(0, |bits, intid| bits | 1 << (intid % 32))
}

fn write_bits(array: u64, cpu: usize, bank: u32, bits: u32) {
    store(cpu, GICD + array + 4 * u64::from(bank), bits);
}

fn place_of(intid: u32) -> (u64, u32) {
    (GICD + IPRIORITYR + u64::from(intid & !3), 8 * (intid % 4))
}

fn priority(cpu: usize, intid: u32) -> u32 {
    let (address, shift) = place_of(intid);
    load(cpu, address) >> shift & 0xF8
}

fn set_priority(cpu: usize, intid: u32, priority: u32) {
    let (address, shift) = place_of(intid);
    let others = load(cpu, address) & !(0xFF << shift);
    store(cpu, address, others | priority << shift);
}

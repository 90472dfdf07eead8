//! The walks on a GICv2.

use test_guests::runtime::gic;

use super::interface::{CPENDSGIR, Gicc, SGIR, SPENDSGIR};
use crate::interface::{CPUS, Interface};
use crate::place::{Place, word};
use crate::transcript::add;
use crate::walk::{Plan, Steps, Walk, gate};

const PLAIN: Plan = Plan {
    name: "Group 0",
    seed: 41,
    steps: 400,
    both_groups: false,
    two_steps: false,
    sets_active: false,
    shapes_priorities: true,
    closes_groups: false,
};

impl Steps for Gicc {
    const PLANS: &'static [Plan] = &[
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
            ..PLAIN
        },
    ];
    const SETS_PRIVATE_ACTIVE: u32 = 0xFFFF_0000;

    fn go(walk: &mut Walk<Self>) {
        match walk.number(64) {
            0..8 => walk.pend(),
            8..16 => walk.send_sgi(),
            16..30 => walk.acknowledge(),
            30..43 => walk.end(),
            43..46 => walk.touch("ICPENDR", gic::ICPENDR),
            46 | 47 => walk.touch("ICENABLER", gic::ICENABLER),
            48..51 => walk.touch("ISENABLER", gic::ISENABLER),
            51..53 => walk.touch_active(),
            53..55 => walk.swap_priorities(),
            55..58 => walk.aim(),
            58 => walk.configure(),
            59 => walk.regroup(),
            60 | 61 => walk.mask(),
            62 => walk.pend_sgi(),
            // Both groups, since QEMU forwards both as long as one is on.
            _ => match walk.number(3) {
                0 => gate(0),
                _ => gate(0b11),
            },
        }
    }

    fn acknowledge_any(walk: &mut Walk<Self>, cpu: usize) -> bool {
        let value = word(Self::Iar.read(cpu));
        add!(" C{cpu}.Iar:{value}");
        let taken = value & 0x3FF < 1020;
        if taken {
            walk.ledger.begin(cpu, value);
        }
        taken
    }

    fn end_of(begun: u32) -> (Self, u32) {
        (Self::Eoir, begun)
    }

    fn reopen(cpu: usize) {
        Self::Pmr.write(cpu, 0xF8);
    }
}

impl Walk<Gicc> {
    fn acknowledge(&mut self) {
        let cpu = self.cpu();
        Gicc::acknowledge_any(self, cpu);
    }

    /// Each SGI has one sender, CPU 0 or 1 by its number.
    fn sender(intid: u32) -> Place {
        let cpu = intid as usize % CPUS;
        Place { cpu, bank: 0 }
    }

    fn send_sgi(&mut self) {
        let intid = self.sgi();
        let sender = Self::sender(intid);
        let filter = self.number(3);
        let targets = self.number(4);
        // NSATT is a matter of two security states.
        let value = filter << 24 | targets << 16 | intid;
        add!(" SGIR/{}={value:x}", sender.cpu);
        sender.store::<Gicc>(SGIR, value);
    }

    fn pend_sgi(&mut self) {
        let intid = self.sgi();
        let sender = Self::sender(intid).cpu;
        let cpu = self.cpu();
        let (name, array) = if self.number(2) == 0 {
            ("SPENDSGIR", SPENDSGIR)
        } else {
            ("CPENDSGIR", CPENDSGIR)
        };
        add!(" {name}{intid}/{cpu}:{sender}");
        Place { cpu, bank: 0 }.store_byte::<Gicc>(array + u64::from(intid), 1 << sender);
    }

    /// Gives an SPI to one CPU. To none, and while it is pending or active, is out of
    /// the question here: then QEMU forgets it, or signals it to both.
    fn aim(&mut self) {
        let intid = self.spi();
        let cpu = self.cpu();
        if self.now.bit(gic::ISPENDR, 0, intid) || self.now.is_active(0, intid) {
            return add!(" -");
        }
        add!(" target {intid}={cpu}");
        Gicc::route(intid, cpu);
    }

    fn mask(&mut self) {
        let cpu = self.cpu();
        let mask = match self.number(2) {
            0 => u64::from(self.number(32)) << 3,
            _ => 0xF8,
        };
        add!(" C{cpu}.Pmr={mask:x}");
        Gicc::Pmr.write(cpu, mask);
    }
}

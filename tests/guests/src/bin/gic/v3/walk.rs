//! The walks on a GICv3.

use test_guests::runtime::{gic, mmio};

use super::interface::Icc;
use crate::interface::{CPUS, Interface};
use crate::place::word;
use crate::transcript::add;
use crate::walk::{Plan, Steps, Walk, gate};

/// Set in what a CPU owes for interrupts of Group 0.
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
const PLANS: &[Plan] = &[
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

impl Steps for Icc {
    const PLANS: &'static [Plan] = PLANS;
    const SETS_PRIVATE_ACTIVE: u32 = u32::MAX;

    fn go(walk: &mut Walk<Self>) {
        match walk.random.below(64) {
            0..8 => walk.pend(),
            8..14 => walk.send_sgi(),
            14..28 => walk.acknowledge(),
            28..40 => walk.end(),
            40..43 => walk.touch("ICPENDR", gic::ICPENDR),
            43..45 => walk.touch("ICENABLER", gic::ICENABLER),
            45..49 => walk.touch("ISENABLER", gic::ISENABLER),
            49..51 => walk.touch_active(),
            51..53 => walk.swap_priorities(),
            53..56 => walk.route(),
            56..58 => walk.configure(),
            58 => walk.regroup(),
            59..62 => walk.shape_priorities(),
            62 => walk.close_groups(),
            _ => match walk.random.below(6) {
                0 => gate(0b01),
                1 => gate(0b10),
                2 => gate(0),
                _ => gate(0b11),
            },
        }
    }

    fn acknowledge_any(walk: &mut Walk<Self>, cpu: usize) -> bool {
        let mut registers = [Self::Iar0, Self::Iar1].into_iter();
        registers.any(|register| walk.acknowledge_by(cpu, register))
    }

    fn end_of(begun: u32) -> (Self, u32) {
        if begun & GROUP0 == 0 {
            (Self::Eoir1, begun)
        } else {
            (Self::Eoir0, begun & !GROUP0)
        }
    }

    fn reopen(cpu: usize) {
        Self::Pmr.write(cpu, 0xFF);
        Self::Igrpen1.write(cpu, 1);
    }
}

impl Walk<Icc> {
    fn send_sgi(&mut self) {
        let sender = self.cpu();
        let intid = self.sgi();
        let all_group1 = (0..CPUS).all(|cpu| self.now.bit(gic::IGROUPR, cpu, intid));
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

    fn acknowledge_by(&mut self, cpu: usize, register: Icc) -> bool {
        let intid = word(register.read(cpu));
        add!(" C{cpu}.{register:?}:{intid}");
        let taken = intid < 1020;
        if taken {
            let group = if register == Icc::Iar0 { GROUP0 } else { 0 };
            self.ledger.begin(cpu, intid | group);
        }
        taken
    }

    fn route(&mut self) {
        let intid = self.spi();
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

    fn shape_priorities(&mut self) {
        if !self.plan.shapes_priorities {
            return self.touch("ISENABLER", gic::ISENABLER);
        }
        let cpu = self.cpu();
        // Binary points change only while nothing runs: what an EOI drops
        // depends on them.
        let idle = self.ledger.runs_nothing(cpu);
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
}

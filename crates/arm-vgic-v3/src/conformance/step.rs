//! What guests and devices do, drawn from numbers.

use vm_contract::Width;

use super::IccRegister;
use super::board::{
    ANY_VCPU, GICD_CTLR, GICR_STRIDE, GICR_WAKER, ICACTIVER, ICENABLER, ICFGR, ICPENDR, IGROUPR,
    IPRIORITYR, IROUTER, ISACTIVER, ISENABLER, ISPENDR, SGI_BASE,
};
use super::compare::{AFFINITIES, PLAYED};
use crate::Frame;

/// One thing that happens to a GIC of three vCPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A vCPU reads a register.
    Read {
        /// Who.
        vcpu: usize,
        /// Where.
        frame: Frame,
        /// Where there.
        offset: u64,
        /// How much.
        width: Width,
    },
    /// A vCPU writes a register.
    Write {
        /// Who.
        vcpu: usize,
        /// Where.
        frame: Frame,
        /// Where there.
        offset: u64,
        /// How much.
        width: Width,
        /// What.
        value: u64,
    },
    /// The wire of an SPI changes.
    Spi {
        /// Which.
        intid: u32,
        /// To what.
        asserted: bool,
    },
    /// The wire of an SPI rises and falls.
    Pulse {
        /// Which.
        intid: u32,
    },
    /// The wire of a PPI changes.
    Ppi {
        /// Whose.
        vcpu: usize,
        /// Which.
        intid: u32,
        /// To what.
        asserted: bool,
    },
    /// A vCPU acknowledges.
    Acknowledge {
        /// Who.
        vcpu: usize,
        /// By ICC_IAR1_EL1 rather than ICC_IAR0_EL1.
        group1: bool,
    },
    /// A vCPU ends what it took last.
    End {
        /// Who.
        vcpu: usize,
    },
    /// A vCPU deactivates one of those that it has ended without doing so.
    Deactivate {
        /// Who.
        vcpu: usize,
        /// Which of them.
        which: usize,
    },
    /// A vCPU writes a system register and reads it back.
    Icc {
        /// Who.
        vcpu: usize,
        /// What.
        register: IccRegister,
        /// The value.
        value: u64,
    },
    /// A vCPU moves to another CPU.
    Move {
        /// Who.
        vcpu: usize,
    },
    /// All registers are compared.
    Look,
}

/// A number from which smaller ones are drawn until it is used up.
struct Dice(u64);

impl Dice {
    /// Draws a number below `count`.
    fn below(&mut self, count: usize) -> usize {
        let count = count.max(1) as u64;
        let drawn = self.0 % count;
        self.0 /= count;
        usize::try_from(drawn).unwrap_or_default()
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn coin(&mut self) -> bool {
        self.below(2) == 1
    }

    fn vcpu(&mut self) -> usize {
        self.below(AFFINITIES.len())
    }

    /// Draws one of `all`.
    fn pick<T: Copy + Default>(&mut self, all: &[T]) -> T {
        let index = self.below(all.len());
        all.get(index).copied().unwrap_or_default()
    }

    fn intid(&mut self) -> u32 {
        self.pick(PLAYED)
    }

    fn spi(&mut self) -> u32 {
        self.pick(PLAYED.get(7..).unwrap_or(PLAYED))
    }
}

impl Step {
    /// Returns the step that a number stands for. Every number stands for one.
    #[must_use]
    pub fn decode(number: u64) -> Self {
        let mut dice = Dice(number);
        match dice.below(32) {
            0..8 => Self::Acknowledge {
                vcpu: dice.vcpu(),
                group1: !dice.one_in(3),
            },
            8..13 => Self::End { vcpu: dice.vcpu() },
            13 => Self::Deactivate {
                vcpu: dice.vcpu(),
                which: dice.below(16),
            },
            14..17 => Self::wire(&mut dice),
            17..20 => Self::sgi(&mut dice),
            20..23 => Self::state_access(&mut dice),
            23 | 24 => Self::priority(&mut dice),
            25 => Self::route(&mut dice),
            26 => Self::control(&mut dice),
            27 | 28 => Self::icc(&mut dice),
            29 => Self::Move { vcpu: dice.vcpu() },
            30 => Self::wild_access(&mut dice),
            _ => Self::Look,
        }
    }

    fn wire(dice: &mut Dice) -> Self {
        match dice.below(4) {
            0 => Self::Pulse { intid: dice.spi() },
            1 => Self::Ppi {
                vcpu: dice.vcpu(),
                intid: dice.pick(&[16, 20, 27]),
                asserted: dice.coin(),
            },
            _ => Self::Spi {
                intid: dice.spi(),
                asserted: dice.coin(),
            },
        }
    }

    fn sgi(dice: &mut Dice) -> Self {
        let cluster = dice.pick(&[0, 0, 1 << 48 | 1 << 16, 1 << 40, 1 << 44]);
        let intid = dice.pick(&[0, 1, 2, 15]);
        let targets = dice.below(4) as u64;
        Self::Icc {
            vcpu: dice.vcpu(),
            register: match dice.below(4) {
                0 => IccRegister::Sgi0r,
                1 if dice.coin() => IccRegister::Asgi1r,
                _ => IccRegister::Sgi1r,
            },
            value: cluster | intid << 24 | targets,
        }
    }

    /// Reads or writes a register with a bit for each interrupt.
    fn state_access(dice: &mut Dice) -> Self {
        let register = dice.pick(&[
            ISENABLER, ISENABLER, ICENABLER, ISPENDR, ICPENDR, ISACTIVER, ICACTIVER, IGROUPR,
        ]);
        let intid = dice.intid();
        let vcpu = dice.vcpu();
        let (frame, base) = if intid < 32 {
            (
                Frame::Redistributors,
                GICR_STRIDE * dice.vcpu() as u64 + SGI_BASE,
            )
        } else {
            (Frame::Distributor, u64::from(intid / 32) * 4)
        };
        let offset = base + register;
        if dice.one_in(4) {
            return Self::Read {
                vcpu,
                frame,
                offset,
                width: Width::Word,
            };
        }
        let one = 1_u64 << (intid % 32);
        let value = match (register, dice.one_in(4)) {
            // All others stay in Group 1.
            (IGROUPR, false) => !one & 0xFFFF_FFFF,
            (IGROUPR, true) => 0xFFFF_FFFF,
            (_, false) => one,
            (_, true) => dice.0 & 0xFFFF_FFFF,
        };
        Self::Write {
            vcpu,
            frame,
            offset,
            width: Width::Word,
            value,
        }
    }

    /// Writes the priority of an interrupt.
    fn priority(dice: &mut Dice) -> Self {
        let intid = dice.intid();
        let (frame, base) = if intid < 32 {
            (
                Frame::Redistributors,
                GICR_STRIDE * dice.vcpu() as u64 + SGI_BASE,
            )
        } else {
            (Frame::Distributor, 0)
        };
        Self::Write {
            vcpu: dice.vcpu(),
            frame,
            offset: base + IPRIORITYR + u64::from(intid),
            width: Width::Byte,
            value: dice.below(0x100) as u64,
        }
    }

    fn route(dice: &mut Dice) -> Self {
        let [first, second, third] = AFFINITIES;
        Self::Write {
            vcpu: dice.vcpu(),
            frame: Frame::Distributor,
            offset: IROUTER + 8 * u64::from(dice.spi()),
            width: Width::Dword,
            value: dice.pick(&[first, second, third, first, second, 0x77, ANY_VCPU]),
        }
    }

    /// Writes what is about more than one interrupt.
    fn control(dice: &mut Dice) -> Self {
        let vcpu = dice.vcpu();
        let distributor = |offset: u64, width: Width, value: u64| Self::Write {
            vcpu,
            frame: Frame::Distributor,
            offset,
            width,
            value,
        };
        match dice.below(8) {
            0 => distributor(GICD_CTLR, Width::Word, dice.pick(&[3, 3, 2, 1, 0])),
            1 | 2 => {
                let offset = dice.pick(&[0x40, 0x40, 0x48]);
                let width = if dice.coin() {
                    Width::Half
                } else {
                    Width::Word
                };
                distributor(offset, width, dice.spi().into())
            }
            3 => {
                // Of INTIDs 32–47 and 64–79.
                let offset = ICFGR + dice.pick(&[8, 16]);
                distributor(offset, Width::Word, dice.0 & 0xFFFF_FFFF)
            }
            4 => Self::Write {
                vcpu,
                frame: Frame::Redistributors,
                offset: GICR_STRIDE * vcpu as u64 + SGI_BASE + ICFGR + 4,
                width: Width::Word,
                value: dice.0 & 0xFFFF_FFFF,
            },
            _ => Self::Write {
                vcpu,
                frame: Frame::Redistributors,
                offset: GICR_STRIDE * vcpu as u64 + GICR_WAKER,
                width: Width::Word,
                value: dice.pick(&[0, 0, 0, 2]),
            },
        }
    }

    fn icc(dice: &mut Dice) -> Self {
        let vcpu = dice.vcpu();
        let (register, value) = match dice.below(8) {
            0 | 1 => (
                IccRegister::Pmr,
                dice.pick(&[0xFF, 0xFF, 0xF0, 0x80, 0x50, 0]),
            ),
            2 => (IccRegister::Bpr0, dice.below(8) as u64),
            3 => (IccRegister::Bpr1, dice.below(8) as u64),
            4 => (IccRegister::Ctlr, dice.pick(&[0, 2, 2, 1, 3])),
            5 => (IccRegister::Igrpen0, dice.pick(&[1, 1, 0])),
            6 => (IccRegister::Igrpen1, dice.pick(&[1, 1, 0])),
            _ => (IccRegister::Rpr, 0),
        };
        Self::Icc {
            vcpu,
            register,
            value,
        }
    }

    /// Accesses anything at any width.
    fn wild_access(dice: &mut Dice) -> Self {
        let vcpu = dice.vcpu();
        let write = dice.coin();
        let width = match dice.below(8) {
            0 => Width::Byte,
            1 => Width::Half,
            2 => Width::Dword,
            _ => Width::Word,
        };
        let (frame, base) = match dice.below(8) {
            0..3 => (Frame::Distributor, 0),
            3 => (Frame::Redistributors, GICR_STRIDE * dice.vcpu() as u64),
            4 => (Frame::Redistributors, GICR_STRIDE * 3),
            _ => {
                let base = GICR_STRIDE * dice.vcpu() as u64 + SGI_BASE;
                (Frame::Redistributors, base)
            }
        };
        let place = match dice.below(4) {
            0 => dice.below(0x1_0008),
            1 => dice.below(0x100) + 0x6000,
            _ => dice.below(0xD00),
        } as u64;
        // Most are aligned.
        let offset = if dice.one_in(8) {
            place
        } else {
            place & !(width.bytes() - 1)
        };
        let offset = base + offset;
        if write {
            Self::Write {
                vcpu,
                frame,
                offset,
                width,
                value: dice.0 | dice.0 << 32,
            }
        } else {
            Self::Read {
                vcpu,
                frame,
                offset,
                width,
            }
        }
    }
}

//! A GIC under test with everything that rules ask of it more than once.

use alloc::boxed::Box;
use alloc::format;
use core::fmt::Debug;

use vm_contract::Width;

use super::{Factory, Failure, GicUnderTest, IccRegister, SPURIOUS, Shape};
use crate::Frame;

/// Offsets of registers with a bit per interrupt, in GICD and in SGI_base.
pub(super) const IGROUPR: u64 = 0x080;
pub(super) const ISENABLER: u64 = 0x100;
pub(super) const ICENABLER: u64 = 0x180;
pub(super) const ISPENDR: u64 = 0x200;
pub(super) const ICPENDR: u64 = 0x280;
pub(super) const ISACTIVER: u64 = 0x300;
pub(super) const ICACTIVER: u64 = 0x380;
/// One byte for each interrupt.
pub(super) const IPRIORITYR: u64 = 0x400;
/// Two bits for each interrupt.
pub(super) const ICFGR: u64 = 0xC00;
/// Eight bytes for each SPI.
pub(super) const IROUTER: u64 = 0x6000;
/// IROUTER.Interrupt_Routing_Mode: 1 of N.
pub(super) const ANY_VCPU: u64 = 1 << 31;
pub(super) const GICD_CTLR: u64 = 0x0;
pub(super) const GICD_TYPER: u64 = 0x4;
pub(super) const GICR_TYPER: u64 = 0x8;
pub(super) const GICR_WAKER: u64 = 0x14;
pub(super) const PIDR2: u64 = 0xFFE8;
pub(super) const PROCESSOR_SLEEP: u32 = 1 << 1;
pub(super) const CHILDREN_ASLEEP: u32 = 1 << 2;
/// From the RD_base frame of a vCPU to the next.
pub(super) const GICR_STRIDE: u64 = 0x2_0000;
/// From the RD_base frame to the SGI_base frame.
pub(super) const SGI_BASE: u64 = 0x1_0000;
/// The priority of all interrupts of a [`Board::ready`].
pub(super) const USUAL: u8 = 0xA0;
/// GICD_CTLR with affinity routing and both groups.
const FORWARD_ALL: u32 = 0x13;

pub(super) type Verdict = Result<(), Failure>;

/// Fails unless `seen` is what was expected.
pub(super) fn expect<T: PartialEq + Debug>(what: &str, seen: T, expected: T) -> Verdict {
    if seen == expected {
        Ok(())
    } else {
        Err(Failure::new(format!(
            "{what}: {seen:x?} instead of {expected:x?}"
        )))
    }
}

/// Fails unless `holds`.
pub(super) fn require(what: &str, holds: bool) -> Verdict {
    if holds {
        Ok(())
    } else {
        Err(Failure::new(what.into()))
    }
}

/// A machine on which a rule is tried.
pub(super) struct Board {
    gic: Box<dyn GicUnderTest>,
    vcpus: usize,
    spi_count: u16,
}

impl Board {
    /// Returns a machine out of reset.
    pub(super) fn out_of_reset(make: &Factory<'_>, affinities: &[u64], spi_count: u16) -> Self {
        Self {
            gic: make(&Shape {
                affinities,
                spi_count,
            }),
            vcpus: affinities.len(),
            spi_count,
        }
    }

    /// Returns a machine whose firmware has run: redistributors awake, CPU
    /// interfaces open, both groups forwarded, no interrupt enabled.
    pub(super) fn awake(
        make: &Factory<'_>,
        affinities: &[u64],
        spi_count: u16,
    ) -> Result<Self, Failure> {
        let mut board = Self::out_of_reset(make, affinities, spi_count);
        for vcpu in 0..board.vcpus {
            board.wake(vcpu)?;
            board.open(vcpu);
        }
        board.set_gicd(GICD_CTLR, FORWARD_ALL)?;
        Ok(board)
    }

    /// Returns a machine with up to 16 vCPUs of affinities 0, 1, … and 64 SPIs; all
    /// interrupts are enabled, in Group 1, of priority [`USUAL`], SPIs
    /// level-sensitive and routed to vCPU 0.
    pub(super) fn ready(make: &Factory<'_>, vcpus: usize) -> Result<Self, Failure> {
        const AFFINITIES: [u64; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
        let affinities = AFFINITIES.get(..vcpus).unwrap_or(&AFFINITIES);
        let mut board = Self::awake(make, affinities, 64)?;
        board.enable_all()?;
        Ok(board)
    }

    /// Puts all interrupts in Group 1 and enables them.
    pub(super) fn enable_all(&mut self) -> Verdict {
        let usual = u32::from_le_bytes([USUAL; 4]);
        for vcpu in 0..self.vcpus {
            self.set_sgi_base(vcpu, IGROUPR, u32::MAX)?;
            for n in 0..8 {
                self.set_sgi_base(vcpu, IPRIORITYR + 4 * n, usual)?;
            }
            self.set_sgi_base(vcpu, ISENABLER, u32::MAX)?;
        }
        for bank in 1..=u64::from(self.spi_count.div_ceil(32)) {
            self.set_gicd(ICENABLER + 4 * bank, u32::MAX)?;
            self.set_gicd(IGROUPR + 4 * bank, u32::MAX)?;
            for n in 0..8 {
                self.set_gicd(IPRIORITYR + 32 * bank + 4 * n, usual)?;
            }
            for n in 0..2 {
                self.set_gicd(ICFGR + 8 * bank + 4 * n, 0)?;
            }
            self.set_gicd(ISENABLER + 4 * bank, u32::MAX)?;
        }
        for intid in 32..32 + u64::from(self.spi_count) {
            self.write(Frame::Distributor, IROUTER + 8 * intid, Width::Dword, 0)?;
        }
        Ok(())
    }

    /// Wakes the redistributor of `vcpu` as the specification says.
    pub(super) fn wake(&mut self, vcpu: usize) -> Verdict {
        self.set_rd(vcpu, GICR_WAKER, 0)?;
        expect(
            "GICR_WAKER.ChildrenAsleep after waking",
            self.rd(vcpu, GICR_WAKER)? & CHILDREN_ASLEEP,
            0,
        )
    }

    /// Puts the redistributor of `vcpu` to sleep.
    pub(super) fn sleep(&mut self, vcpu: usize) -> Verdict {
        self.set_rd(vcpu, GICR_WAKER, PROCESSOR_SLEEP)?;
        expect(
            "GICR_WAKER.ChildrenAsleep when asleep",
            self.rd(vcpu, GICR_WAKER)? & CHILDREN_ASLEEP,
            CHILDREN_ASLEEP,
        )
    }

    /// Opens the CPU interface of `vcpu` to both groups and all priorities.
    pub(super) fn open(&mut self, vcpu: usize) {
        for (register, value) in [
            (IccRegister::Ctlr, 0),
            (IccRegister::Bpr0, 0),
            (IccRegister::Bpr1, 0),
            (IccRegister::Pmr, 0xFF),
            (IccRegister::Igrpen0, 1),
            (IccRegister::Igrpen1, 1),
        ] {
            self.set_icc(vcpu, register, value);
        }
    }

    /// Returns how many vCPUs there are.
    pub(super) fn vcpus(&self) -> usize {
        self.vcpus
    }

    /// Reads as vCPU 0, which may be answered with a fault.
    pub(super) fn try_read(&mut self, frame: Frame, offset: u64, width: Width) -> Option<u64> {
        self.gic.read(0, frame, offset, width).ok()
    }

    /// Writes as vCPU 0, which may be answered with a fault.
    pub(super) fn try_write(&mut self, frame: Frame, offset: u64, width: Width, value: u64) {
        // Whether there is a fault is not what the rule is about.
        let _ = self.gic.write(0, frame, offset, width, value);
    }

    /// Reads as vCPU 0.
    pub(super) fn read(&mut self, frame: Frame, offset: u64, width: Width) -> Result<u64, Failure> {
        self.gic
            .read(0, frame, offset, width)
            .map_err(|error| Failure::new(format!("read {frame:?}+{offset:#x} {width:?}: {error}")))
    }

    /// Writes as vCPU 0.
    pub(super) fn write(&mut self, frame: Frame, offset: u64, width: Width, value: u64) -> Verdict {
        self.gic
            .write(0, frame, offset, width, value)
            .map_err(|error| {
                Failure::new(format!("write {frame:?}+{offset:#x} {width:?}: {error}"))
            })
    }

    /// Reads a word of the distributor.
    pub(super) fn gicd(&mut self, offset: u64) -> Result<u32, Failure> {
        self.word(Frame::Distributor, offset)
    }

    /// Writes a word of the distributor.
    pub(super) fn set_gicd(&mut self, offset: u64, value: u32) -> Verdict {
        self.write(Frame::Distributor, offset, Width::Word, value.into())
    }

    /// Reads a word of the RD_base frame of `vcpu`.
    pub(super) fn rd(&mut self, vcpu: usize, offset: u64) -> Result<u32, Failure> {
        self.word(Frame::Redistributors, rd_base(vcpu) + offset)
    }

    /// Writes a word of the RD_base frame of `vcpu`.
    pub(super) fn set_rd(&mut self, vcpu: usize, offset: u64, value: u32) -> Verdict {
        let offset = rd_base(vcpu) + offset;
        self.write(Frame::Redistributors, offset, Width::Word, value.into())
    }

    /// Reads a word of the SGI_base frame of `vcpu`.
    pub(super) fn sgi_base(&mut self, vcpu: usize, offset: u64) -> Result<u32, Failure> {
        self.rd(vcpu, SGI_BASE + offset)
    }

    /// Writes a word of the SGI_base frame of `vcpu`.
    pub(super) fn set_sgi_base(&mut self, vcpu: usize, offset: u64, value: u32) -> Verdict {
        self.set_rd(vcpu, SGI_BASE + offset, value)
    }

    fn word(&mut self, frame: Frame, offset: u64) -> Result<u32, Failure> {
        let value = self.read(frame, offset, Width::Word)?;
        u32::try_from(value)
            .map_err(|_| Failure::new(format!("{frame:?}+{offset:#x} reads {value:#x} as a word")))
    }

    /// Reads the bit of an interrupt: of a private one, that of `vcpu`.
    pub(super) fn bit(&mut self, vcpu: usize, register: u64, intid: u32) -> Result<bool, Failure> {
        let (frame, offset) = bit_register(vcpu, register, intid);
        Ok(self.word(frame, offset)? >> (intid % 32) & 1 != 0)
    }

    /// Writes one to the bit of an interrupt and zero to its neighbours.
    pub(super) fn set_bit(&mut self, vcpu: usize, register: u64, intid: u32) -> Verdict {
        let (frame, offset) = bit_register(vcpu, register, intid);
        self.write(frame, offset, Width::Word, 1 << (intid % 32))
    }

    /// Fails unless ISPENDR and ICPENDR show the interrupt as expected.
    pub(super) fn expect_pending(&mut self, vcpu: usize, intid: u32, expected: bool) -> Verdict {
        for register in [ISPENDR, ICPENDR] {
            let seen = self.bit(vcpu, register, intid)?;
            expect(&format!("pending state of {intid}"), seen, expected)?;
        }
        Ok(())
    }

    /// Fails unless ISACTIVER and ICACTIVER show the interrupt as expected.
    pub(super) fn expect_active(&mut self, vcpu: usize, intid: u32, expected: bool) -> Verdict {
        for register in [ISACTIVER, ICACTIVER] {
            let seen = self.bit(vcpu, register, intid)?;
            expect(&format!("active state of {intid}"), seen, expected)?;
        }
        Ok(())
    }

    /// Sets the priority of an interrupt.
    pub(super) fn set_priority(&mut self, vcpu: usize, intid: u32, priority: u8) -> Verdict {
        let (frame, base) = home(vcpu, intid);
        let offset = base + IPRIORITYR + u64::from(intid);
        self.write(frame, offset, Width::Byte, priority.into())
    }

    /// Puts an interrupt in Group 0 or Group 1.
    pub(super) fn set_group(&mut self, vcpu: usize, intid: u32, group1: bool) -> Verdict {
        let (frame, offset) = bit_register(vcpu, IGROUPR, intid);
        let bit = 1 << (intid % 32);
        let old = self.word(frame, offset)?;
        let value = if group1 { old | bit } else { old & !bit };
        self.write(frame, offset, Width::Word, value.into())
    }

    /// Makes an SPI edge-triggered or level-sensitive, as one must: while disabled.
    pub(super) fn configure(&mut self, spi: u32, edge: bool) -> Verdict {
        let offset = ICFGR + 4 * u64::from(spi / 16);
        let bit = 0b10 << (2 * (spi % 16));
        let enabled = self.bit(0, ISENABLER, spi)?;
        self.set_bit(0, ICENABLER, spi)?;
        let old = self.gicd(offset)?;
        self.set_gicd(offset, if edge { old | bit } else { old & !bit })?;
        if enabled {
            self.set_bit(0, ISENABLER, spi)?;
        }
        Ok(())
    }

    /// Writes `GICD_IROUTER<n>`.
    pub(super) fn route(&mut self, spi: u32, route: u64) -> Verdict {
        let offset = IROUTER + 8 * u64::from(spi);
        self.write(Frame::Distributor, offset, Width::Dword, route)
    }

    /// Drives the wire of an SPI.
    pub(super) fn spi(&mut self, intid: u32, asserted: bool) {
        self.gic.set_spi(intid, asserted);
    }

    /// Raises and lowers the wire of an SPI.
    pub(super) fn pulse(&mut self, intid: u32) {
        self.gic.set_spi(intid, true);
        self.gic.set_spi(intid, false);
    }

    /// Drives the wire of a PPI.
    pub(super) fn ppi(&mut self, vcpu: usize, intid: u32, asserted: bool) {
        self.gic.set_ppi(vcpu, intid, asserted);
    }

    /// Reads a system register.
    pub(super) fn icc(&mut self, vcpu: usize, register: IccRegister) -> u64 {
        self.gic.read_icc(vcpu, register)
    }

    /// Writes a system register.
    pub(super) fn set_icc(&mut self, vcpu: usize, register: IccRegister, value: u64) {
        self.gic.write_icc(vcpu, register, value);
    }

    /// Sends the SGI `intid` to the vCPUs below 16 in `targets`.
    pub(super) fn send(&mut self, sender: usize, intid: u32, targets: u16) {
        let value = u64::from(intid) << 24 | u64::from(targets);
        self.set_icc(sender, IccRegister::Sgi1r, value);
    }

    /// Fails unless `vcpu` acknowledges `intid` in Group 1.
    pub(super) fn take(&mut self, vcpu: usize, intid: u32) -> Verdict {
        self.acknowledge(vcpu, IccRegister::Iar1, intid)
    }

    /// Fails unless reading `register` (ICC_IAR*_EL1) of `vcpu` gives `intid`.
    pub(super) fn acknowledge(
        &mut self,
        vcpu: usize,
        register: IccRegister,
        intid: u32,
    ) -> Verdict {
        let seen = self.icc(vcpu, register);
        let what = format!("vCPU {vcpu} reads {register:?}");
        expect(&what, seen, intid.into())?;
        self.gic.check().map_err(Failure::new)
    }

    /// Fails unless there is nothing for `vcpu` to take in either group.
    pub(super) fn nothing(&mut self, vcpu: usize) -> Verdict {
        expect(
            &format!("signals to vCPU {vcpu}"),
            self.gic.signals(vcpu),
            super::Signals::default(),
        )?;
        self.acknowledge(vcpu, IccRegister::Iar1, SPURIOUS)?;
        self.acknowledge(vcpu, IccRegister::Iar0, SPURIOUS)
    }

    /// Ends `intid` in Group 1.
    pub(super) fn end(&mut self, vcpu: usize, intid: u32) {
        self.set_icc(vcpu, IccRegister::Eoir1, intid.into());
    }

    /// Fails unless `vcpu` acknowledges `intid` in Group 1; ends it then.
    pub(super) fn take_and_end(&mut self, vcpu: usize, intid: u32) -> Verdict {
        self.take(vcpu, intid)?;
        self.end(vcpu, intid);
        Ok(())
    }

    /// Returns what is signalled to `vcpu`.
    pub(super) fn signals(&mut self, vcpu: usize) -> super::Signals {
        self.gic.signals(vcpu)
    }

    /// Moves `vcpu` to another CPU.
    pub(super) fn move_vcpu(&mut self, vcpu: usize) {
        self.gic.move_vcpu(vcpu);
    }
}

/// Returns the offset of the RD_base frame of `vcpu`.
pub(super) fn rd_base(vcpu: usize) -> u64 {
    GICR_STRIDE * vcpu as u64
}

/// Returns the frame with the registers of an interrupt and where they begin.
fn home(vcpu: usize, intid: u32) -> (Frame, u64) {
    if intid < 32 {
        (Frame::Redistributors, rd_base(vcpu) + SGI_BASE)
    } else {
        (Frame::Distributor, 0)
    }
}

/// Returns where the word of `register` with the bit of an interrupt lies.
fn bit_register(vcpu: usize, register: u64, intid: u32) -> (Frame, u64) {
    let (frame, base) = home(vcpu, intid);
    (frame, base + register + 4 * u64::from(intid / 32))
}

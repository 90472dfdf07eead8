//! A GIC under test and the reference, side by side.

use alloc::format;
use alloc::vec::Vec;

use vm_contract::Width;

use super::board::{
    GICD_CTLR, GICR_STRIDE, GICR_WAKER, ICACTIVER, ICFGR, ICPENDR, IGROUPR, IPRIORITYR, IROUTER,
    ISACTIVER, ISENABLER, ISPENDR, SGI_BASE, Verdict, expect, require,
};
use super::{Failure, GicUnderTest, IccRegister, ReferenceGic, SPURIOUS, Shape, Step};
use crate::Frame;

/// The vCPUs of a comparison: two neighbours and one far away.
pub(super) const AFFINITIES: [u64; 3] = [0, 1, 0x1_0000_0100];

/// The interrupts that most steps are about: SGIs, PPIs, then SPIs. Sixteen, so that
/// some CPUs have a list register for each.
pub(super) const PLAYED: &[u32] = &[0, 1, 2, 15, 16, 20, 27, 32, 33, 34, 35, 47, 64, 65, 66, 95];

/// What a GIC under test is spared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// No more than 16 interrupts are enabled or active. For vGICs on CPUs without a
    /// trap for ICC_DIR_EL1: of an interrupt that no list register holds they are told
    /// that the guest deactivated one, not which.
    pub at_most_16: bool,
    /// ICC_CTLR_EL1.EOImode stays zero. For those vGICs, if they have fewer list
    /// registers.
    pub no_separate_deactivation: bool,
    /// These PPIs and SPIs stay level-sensitive and their pending state is not
    /// compared while they are active: their wires are physical interrupts, which do
    /// not show then.
    pub linked: [Option<u32>; 2],
}

/// What the guest remembers of one vCPU.
#[derive(Clone, Debug, Default)]
struct Memory {
    /// What it took and has not ended, with the groups; the latest last.
    taken: Vec<(bool, u32)>,
    /// What it ended and has not deactivated.
    dropped: Vec<u32>,
}

struct Comparison<'a> {
    gic: &'a mut dyn GicUnderTest,
    model: ReferenceGic,
    limits: Limits,
    guests: [Memory; 3],
}

/// Returns the shape of the GICs that can be compared.
#[must_use]
pub fn shape() -> Shape<'static> {
    Shape {
        affinities: &AFFINITIES,
        spi_count: 64,
    }
}

/// Does all of `steps` to `gic`, which is of the [`shape`] and out of reset, and to
/// `model`, which is as well, and compares what the guest sees. Steps of which the
/// specification does not say what comes are passed over.
///
/// # Errors
/// The first thing that differs, and after which step.
pub fn compare(
    gic: &mut dyn GicUnderTest,
    model: ReferenceGic,
    limits: Limits,
    steps: impl IntoIterator<Item = Step>,
) -> Result<(), Failure> {
    let mut both = Comparison {
        gic,
        model,
        limits,
        guests: Default::default(),
    };
    both.open()?;
    for (n, step) in steps.into_iter().enumerate() {
        let verdict = both.take(step).and_then(|()| both.look_at_signals());
        verdict.map_err(|failure| Failure::new(format!("step {n}, {step:x?}: {failure}")))?;
    }
    both.look()
}

impl Comparison<'_> {
    /// Does what firmware does: everything awake and open, the interrupts that are
    /// played enabled, all but two in Group 1.
    fn open(&mut self) -> Verdict {
        for vcpu in 0..AFFINITIES.len() {
            let rd_base = GICR_STRIDE * vcpu as u64;
            let sgi_base = rd_base + SGI_BASE;
            for (offset, value) in [
                (rd_base + 0x14, 0),
                (sgi_base + IGROUPR, !(1 << 2)),
                (sgi_base + ISENABLER, played(0)),
            ] {
                self.write(0, Frame::Redistributors, offset, Width::Word, value.into())?;
            }
            for (register, value) in [
                (IccRegister::Pmr, 0xFF),
                (IccRegister::Igrpen0, 1),
                (IccRegister::Igrpen1, 1),
            ] {
                self.icc(vcpu, register, value)?;
            }
        }
        for (offset, value) in [
            (0, 0b11),
            (IGROUPR + 4, u32::MAX),
            (IGROUPR + 8, !1),
            (ISENABLER + 4, played(1)),
            (ISENABLER + 8, played(2)),
        ] {
            self.write(0, Frame::Distributor, offset, Width::Word, value.into())?;
        }
        for &intid in PLAYED {
            let offset = IPRIORITYR + u64::from(intid);
            if intid >= 32 {
                self.write(0, Frame::Distributor, offset, Width::Byte, 0xA0)?;
            } else {
                for vcpu in 0..AFFINITIES.len() {
                    let offset = GICR_STRIDE * vcpu as u64 + SGI_BASE + offset;
                    self.write(0, Frame::Redistributors, offset, Width::Byte, 0xA0)?;
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, step: Step) -> Verdict {
        match step {
            Step::Read {
                vcpu,
                frame,
                offset,
                width,
            } => self.read(vcpu, frame, offset, width),
            Step::Write {
                vcpu,
                frame,
                offset,
                width,
                value,
            } => {
                let value = self.foreseen(frame, offset, width, value);
                self.write(vcpu, frame, offset, width, value)
            }
            Step::Spi { intid, asserted } => {
                self.set_spi(intid, asserted);
                Ok(())
            }
            Step::Pulse { intid } => {
                self.set_spi(intid, true);
                self.set_spi(intid, false);
                Ok(())
            }
            Step::Ppi {
                vcpu,
                intid,
                asserted,
            } => {
                self.gic.set_ppi(vcpu, intid, asserted);
                self.model.set_ppi(vcpu, intid, asserted);
                Ok(())
            }
            Step::Acknowledge { vcpu, group1 } => self.acknowledge(vcpu, group1),
            Step::End { vcpu } => self.end(vcpu),
            Step::Deactivate { vcpu, which } => {
                self.deactivate(vcpu, which);
                Ok(())
            }
            Step::Icc {
                vcpu,
                register,
                value,
            } => {
                if self.is_allowed_now(vcpu, register, value) {
                    self.icc(vcpu, register, value)?;
                }
                Ok(())
            }
            Step::Move { vcpu } => {
                self.gic.move_vcpu(vcpu);
                Ok(())
            }
            Step::Look => self.look(),
        }
    }

    fn read(&mut self, vcpu: usize, frame: Frame, offset: u64, width: Width) -> Verdict {
        let mut seen = self.gic.read(vcpu, frame, offset, width);
        let mut expected = self.model.read(vcpu, frame, offset, width);
        if is_identification(frame, offset) {
            return expect("whether it can be read", seen.is_ok(), expected.is_ok());
        }
        let hidden = self.hidden(frame, offset);
        for value in [&mut seen, &mut expected] {
            *value = value.map(|value| value & !hidden);
        }
        expect(&format!("{frame:?}+{offset:#x} {width:?}"), seen, expected)
    }

    fn write(
        &mut self,
        vcpu: usize,
        frame: Frame,
        offset: u64,
        width: Width,
        value: u64,
    ) -> Verdict {
        let written = self.gic.write(vcpu, frame, offset, width, value);
        let expected = self.model.write(vcpu, frame, offset, width, value);
        expect("whether it can be written", written, expected)?;
        if expected.is_ok() && writes(frame, offset, ICACTIVER) {
            let model = &self.model;
            for (vcpu, guest) in self.guests.iter_mut().enumerate() {
                guest.dropped.retain(|&intid| model.is_active(vcpu, intid));
            }
        }
        Ok(())
    }

    /// Returns what of a write has an outcome that can be compared.
    fn foreseen(&self, frame: Frame, offset: u64, width: Width, value: u64) -> u64 {
        let (bank, vcpu) = match frame {
            Frame::Distributor => (usize::try_from(offset % 0x80 / 4).unwrap_or_default(), 0),
            Frame::Redistributors => (
                0,
                usize::try_from(offset / GICR_STRIDE).unwrap_or(usize::MAX),
            ),
        };
        for intid in self.limits.linked.into_iter().flatten() {
            let shared = frame == Frame::Distributor;
            let register = ICFGR + 4 * u64::from(intid / 16);
            let here = match frame {
                Frame::Distributor => offset & !3 == register,
                Frame::Redistributors => (offset % GICR_STRIDE) & !3 == SGI_BASE + register,
            };
            if here && shared == (intid >= 32) {
                return value & !(0b10 << (2 * (intid % 16)));
            }
        }
        if width != Width::Word {
            return value;
        }
        let played = u64::from(played(bank));
        let sets = writes(frame, offset, ISACTIVER) || writes(frame, offset, ISENABLER);
        if self.limits.at_most_16 && sets {
            return value & played;
        } else if writes(frame, offset, ICACTIVER) {
            // Ending later what is not active any more is not foreseen.
            let mut value = value;
            for (guest, memory) in self.guests.iter().enumerate() {
                for &(_, intid) in &memory.taken {
                    let same = intid as usize / 32 == bank && (bank > 0 || guest == vcpu);
                    if same {
                        value &= !(1 << (intid % 32));
                    }
                }
            }
            return value;
        }
        value
    }

    fn set_spi(&mut self, intid: u32, asserted: bool) {
        self.gic.set_spi(intid, asserted);
        self.model.set_spi(intid, asserted);
    }

    fn acknowledge(&mut self, vcpu: usize, group1: bool) -> Verdict {
        let register = if group1 {
            IccRegister::Iar1
        } else {
            IccRegister::Iar0
        };
        let choices = self.model.choices(vcpu, group1);
        let seen = u32::try_from(self.gic.read_icc(vcpu, register)).unwrap_or(u32::MAX);
        require(
            &format!("{seen} is acknowledged, not one of {choices:?}"),
            choices.contains(&seen),
        )?;
        if seen != SPURIOUS {
            self.model.take(vcpu, seen);
            if let Some(guest) = self.guests.get_mut(vcpu) {
                guest.taken.push((group1, seen));
            }
        }
        self.compare_icc(vcpu, IccRegister::Rpr)
    }

    fn end(&mut self, vcpu: usize) -> Verdict {
        let Some(guest) = self.guests.get_mut(vcpu) else {
            return Ok(());
        };
        let Some((group1, intid)) = guest.taken.pop() else {
            return Ok(());
        };
        if self.model.read_icc(vcpu, IccRegister::Ctlr) & 0b10 != 0
            && self.model.is_active(vcpu, intid)
        {
            guest.dropped.push(intid);
        }
        let register = if group1 {
            IccRegister::Eoir1
        } else {
            IccRegister::Eoir0
        };
        self.icc(vcpu, register, intid.into())?;
        self.compare_icc(vcpu, IccRegister::Rpr)
    }

    fn deactivate(&mut self, vcpu: usize, which: usize) {
        let Some(guest) = self.guests.get_mut(vcpu) else {
            return;
        };
        if which < guest.dropped.len() {
            let intid = guest.dropped.swap_remove(which);
            self.gic.write_icc(vcpu, IccRegister::Dir, intid.into());
            self.model.write_icc(vcpu, IccRegister::Dir, intid.into());
        }
    }

    /// Tells whether what comes of a write to a system register is foreseen.
    fn is_allowed_now(&self, vcpu: usize, register: IccRegister, value: u64) -> bool {
        let Some(guest) = self.guests.get(vcpu) else {
            return false;
        };
        match register {
            // How priorities are split must not change under what runs.
            IccRegister::Bpr0 | IccRegister::Bpr1 => guest.taken.is_empty(),
            IccRegister::Ctlr => {
                let separate = value & 0b10 != 0;
                guest.taken.is_empty()
                    && guest.dropped.is_empty()
                    && !(separate && self.limits.no_separate_deactivation)
            }
            _ => true,
        }
    }

    /// Writes a system register and reads it back.
    fn icc(&mut self, vcpu: usize, register: IccRegister, value: u64) -> Verdict {
        self.gic.write_icc(vcpu, register, value);
        self.model.write_icc(vcpu, register, value);
        self.compare_icc(vcpu, register)
    }

    fn compare_icc(&mut self, vcpu: usize, register: IccRegister) -> Verdict {
        let seen = self.gic.read_icc(vcpu, register);
        let expected = self.model.read_icc(vcpu, register);
        expect(&format!("{register:?} of vCPU {vcpu}"), seen, expected)
    }

    fn look_at_signals(&mut self) -> Verdict {
        for vcpu in 0..AFFINITIES.len() {
            let seen = self.gic.signals(vcpu);
            let possible = self.model.possible_signals(vcpu);
            if !possible.contains(&seen) {
                return Err(Failure::new(format!(
                    "vCPU {vcpu} is signalled {seen:?} instead of {possible:?}"
                )));
            }
        }
        self.gic.check().map_err(Failure::new)
    }

    /// Compares all that registers show.
    fn look(&mut self) -> Verdict {
        for vcpu in 0..AFFINITIES.len() {
            let rd_base = GICR_STRIDE * vcpu as u64;
            let bits = [IGROUPR, ISENABLER, ISPENDR, ISACTIVER, ICFGR, ICFGR + 4];
            let priorities = (0..8).map(|n| IPRIORITYR + 4 * n);
            let private = bits.into_iter().chain(priorities);
            let offsets = private.map(|register| SGI_BASE + register);
            for offset in offsets.chain([GICR_WAKER]) {
                self.read(vcpu, Frame::Redistributors, rd_base + offset, Width::Word)?;
            }
            for group1 in [false, true] {
                self.look_at_highest_pending(vcpu, group1)?;
            }
        }
        self.read(0, Frame::Distributor, GICD_CTLR, Width::Word)?;
        for bank in [1, 2] {
            let bits = [IGROUPR, ISENABLER, ISPENDR, ISACTIVER].map(|bits| bits + 4 * bank);
            let configurations = (0..2).map(|n| ICFGR + 8 * bank + 4 * n);
            let priorities = (0..8).map(|n| IPRIORITYR + 32 * bank + 4 * n);
            for offset in bits.into_iter().chain(configurations).chain(priorities) {
                self.read(1, Frame::Distributor, offset, Width::Word)?;
            }
        }
        for &intid in PLAYED.iter().filter(|&&intid| intid >= 32) {
            let offset = IROUTER + 8 * u64::from(intid);
            self.read(0, Frame::Distributor, offset, Width::Dword)?;
        }
        Ok(())
    }

    fn look_at_highest_pending(&mut self, vcpu: usize, group1: bool) -> Verdict {
        let register = if group1 {
            IccRegister::Hppir1
        } else {
            IccRegister::Hppir0
        };
        let choices = self.model.highest_choices(vcpu, group1);
        let seen = u32::try_from(self.gic.read_icc(vcpu, register)).unwrap_or(u32::MAX);
        require(
            &format!("{register:?} of vCPU {vcpu} is {seen}, not one of {choices:?}"),
            choices.contains(&seen),
        )
    }

    /// Returns the bits that are not compared.
    fn hidden(&self, frame: Frame, offset: u64) -> u64 {
        let shows_pending = [ISPENDR, ICPENDR]
            .iter()
            .any(|&register| writes(frame, offset, register));
        if !shows_pending {
            return 0;
        }
        let (bank, vcpu) = match frame {
            Frame::Distributor => (offset % 0x80 / 4, 0),
            Frame::Redistributors => (0, offset / GICR_STRIDE),
        };
        let vcpu = usize::try_from(vcpu).unwrap_or(usize::MAX);
        let linked = self.limits.linked.into_iter().flatten();
        linked
            .filter(|&intid| u64::from(intid / 32) == bank && self.model.is_active(vcpu, intid))
            .fold(0, |hidden, intid| hidden | 1 << (intid % 32))
    }
}

/// Tells whether an offset is that of a register with a bit for each interrupt.
fn writes(frame: Frame, offset: u64, register: u64) -> bool {
    match frame {
        Frame::Distributor => offset & !0x7F == register,
        Frame::Redistributors => (offset % GICR_STRIDE) & !3 == SGI_BASE + register,
    }
}

/// Tells whether the value at an offset is the implementation's own.
fn is_identification(frame: Frame, offset: u64) -> bool {
    let place = match frame {
        Frame::Distributor => offset,
        Frame::Redistributors => offset % GICR_STRIDE,
    };
    let implementer = match frame {
        Frame::Distributor => 0x8,
        Frame::Redistributors => 0x4,
    };
    place & !3 == implementer || (0xFFD0..0x1_0000).contains(&place)
}

/// Returns which interrupts of a bank are played.
fn played(bank: usize) -> u32 {
    let of_bank = PLAYED.iter().filter(|&&intid| intid as usize / 32 == bank);
    of_bank.fold(0, |bits, intid| bits | 1 << (intid % 32))
}

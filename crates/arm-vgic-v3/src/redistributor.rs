//! The redistributors: SGIs and PPIs of each vCPU, and the GICR frames.

use vm_contract::{AccessError, VcpuId, Width};

use crate::affinity::Affinity;
use crate::cpu_interface::CpuInterface;
use crate::irq::{Bank, Groups, Sent};
use crate::kicks::Kicks;
use crate::regs::{self, IrqRegister, gicr};
use crate::spi::SpiBank;
use crate::vgic::Vgic;

/// SGIs, which are always edge-triggered.
const SGIS: u32 = 0xFFFF;

/// What belongs to one vCPU.
#[derive(Clone, Debug)]
pub(crate) struct Redistributor {
    pub(crate) affinity: Affinity,
    /// GICR_WAKER.ProcessorSleep. Sleep does not hold back interrupts: much
    /// software never writes this register, and on most machines need not.
    pub(crate) asleep: bool,
    /// The redistributor behind this one, if any, lies in another region.
    pub(crate) ends_region: bool,
    pub(crate) bank: Bank,
    /// The physical interrupts behind linked PPIs.
    pub(crate) physical: [u16; 16],
    pub(crate) interface: CpuInterface,
}

impl Redistributor {
    /// Returns the redistributor of a vCPU at reset.
    pub(crate) fn new(affinity: Affinity) -> Self {
        Self {
            affinity,
            asleep: true,
            ends_region: false,
            bank: Bank::new(SGIS),
            physical: [0; 16],
            interface: CpuInterface::new(),
        }
    }

    /// Resets everything but its place, the wires and the links to physical
    /// interrupts.
    pub(crate) fn reset(&mut self) {
        self.asleep = true;
        self.bank.reset(SGIS);
        self.interface = CpuInterface::new();
    }

    /// Brings the vCPU's claims in line with its SGIs and PPIs. Tells whether
    /// there is a new one.
    pub(crate) fn settle(&mut self, groups: Groups) -> bool {
        let wanting = self.bank.wanting(groups, u32::MAX);
        let before = self.interface.claims.replace_private(wanting);
        wanting & !before != 0
    }

    /// Settles a change of SGIs or PPIs. Tells whether the vCPU must look again
    /// at what it put into its list registers.
    pub(crate) fn changed(&mut self, touched: u32, groups: Groups) -> bool {
        let waiting = touched & self.interface.claims.private() != 0;
        self.bank.mark_stale(touched) | waiting | self.settle(groups)
    }

    /// Sends the SGI `bit`. Tells whether the vCPU must take note.
    #[inline]
    pub(crate) fn send(&mut self, bit: u32, groups: Groups) -> bool {
        match self.bank.send(bit, groups) {
            Sent::Listed => true,
            // If it was claimed already, the vCPU has been told.
            Sent::Deliverable => self.interface.claims.add_private(bit),
            Sent::Waiting => false,
        }
    }

    /// Returns the bank of the interrupt `intid` as this vCPU sees it.
    pub(crate) fn bank_of<'a>(&'a self, intid: u32, spis: &'a [SpiBank]) -> Option<&'a Bank> {
        match (intid as usize / 32).checked_sub(1) {
            None => Some(&self.bank),
            Some(index) => spis.get(index).map(|spis| &spis.bank),
        }
    }

    fn waker(&self) -> u32 {
        if self.asleep {
            gicr::WAKER_PROCESSOR_SLEEP | gicr::WAKER_CHILDREN_ASLEEP
        } else {
            0
        }
    }
}

impl Vgic {
    /// Reads from the redistributor region.
    pub(crate) fn read_redistributor(&self, offset: u64, width: Width) -> Result<u64, AccessError> {
        let (index, offset) = split(offset)?;
        let one = self
            .redistributors
            .get(index)
            .ok_or(AccessError::NoDevice)?;
        if let Some(offset) = offset.checked_sub(gicr::FRAME_BYTES) {
            let Some(register) = private_register(offset) else {
                return Ok(0);
            };
            register.check_width(width)?;
            return Ok(register.read(&one.bank, width));
        }
        check_width(offset, width)?;
        Ok(match offset & !3 {
            gicr::IIDR => regs::IIDR_VALUE.into(),
            gicr::TYPER => width.truncate(self.redistributor_type(index, one)),
            gicr::TYPER_UPPER => self.redistributor_type(index, one) >> 32,
            gicr::WAKER => one.waker().into(),
            // Reserved, or write-only. GICR_CTLR has nothing to say without LPIs.
            aligned => regs::identification(aligned).unwrap_or_default().into(),
        })
    }

    /// Writes to the redistributor region.
    pub(crate) fn write_redistributor(
        &mut self,
        offset: u64,
        width: Width,
        value: u64,
        kicks: &mut Kicks,
    ) -> Result<(), AccessError> {
        let (index, offset) = split(offset)?;
        let one = self
            .redistributors
            .get_mut(index)
            .ok_or(AccessError::NoDevice)?;
        if let Some(offset) = offset.checked_sub(gicr::FRAME_BYTES) {
            let Some(register) = private_register(offset) else {
                return Ok(());
            };
            register.check_width(width)?;
            let valid = match register {
                // SGIs cannot be configured.
                IrqRegister::Config { .. } => !SGIS,
                _ => u32::MAX,
            };
            let touched = register.write(&mut one.bank, width, value, valid, self.priority_mask);
            if touched != 0 {
                self.private_changed(index, touched, kicks);
            }
            return Ok(());
        }
        check_width(offset, width)?;
        // All others are read-only or reserved.
        if offset == gicr::WAKER {
            let asleep = value & u64::from(gicr::WAKER_PROCESSOR_SLEEP) != 0;
            if core::mem::replace(&mut one.asleep, asleep) != asleep {
                self.resolve_any_vcpu_routes(kicks);
            }
        }
        Ok(())
    }

    fn redistributor_type(&self, index: usize, one: &Redistributor) -> u64 {
        let last = one.ends_region || index + 1 == self.redistributors.len();
        let number = index as u64;
        u64::from(one.affinity.raw()) << gicr::TYPER_AFFINITY_SHIFT
            | number << gicr::TYPER_PROCESSOR_NUMBER_SHIFT
            | if last { gicr::TYPER_LAST } else { 0 }
    }

    /// Settles a change of SGIs or PPIs of the vCPU `index`; the list registers
    /// that have to do with those in `touched` may be wrong.
    pub(crate) fn private_changed(&mut self, index: usize, touched: u32, kicks: &mut Kicks) {
        if let Some(one) = self.redistributors.get_mut(index)
            && one.changed(touched, self.groups)
            && let Ok(vcpu) = u16::try_from(index)
        {
            kicks.insert(VcpuId::new(vcpu));
        }
    }
}

/// Checks the width of an access to the RD_base frame. Reserved places take
/// any.
fn check_width(offset: u64, width: Width) -> Result<(), AccessError> {
    let fits = match offset & !3 {
        gicr::TYPER | gicr::TYPER_UPPER => matches!(width, Width::Word | Width::Dword),
        regs::CTLR | gicr::IIDR | gicr::WAKER => width == Width::Word,
        aligned => width == Width::Word || regs::identification(aligned).is_none(),
    };
    fits.then_some(()).ok_or(AccessError::InvalidWidth)
}

/// Splits an offset in the region into a vCPU and an offset in its frames.
fn split(offset: u64) -> Result<(usize, u64), AccessError> {
    let index = usize::try_from(offset / gicr::STRIDE).map_err(|_| AccessError::NoDevice)?;
    Ok((index, offset % gicr::STRIDE))
}

/// Decodes an offset in the SGI_base frame. Only the first bank has registers
/// there.
pub(crate) fn private_register(offset: u64) -> Option<IrqRegister> {
    IrqRegister::decode(offset).filter(|register| register.bank() == 0)
}

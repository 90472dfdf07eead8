//! The virtual CPU interface of a vCPU: what travels with it from CPU to CPU.

use vm_contract::VcpuId;

use crate::bank::set_bits;
use crate::claims::Claims;
use crate::controller::Controller;
use crate::flush::hand_out;
use crate::fold::Folded;
use crate::ich::IchRegs;
use crate::list_register::ListRegister;
use crate::regs::{hcr, vmcr};

/// The largest number of list registers that a CPU can have.
pub(crate) const MAX_LRS: usize = 16;

/// Active-priority registers per group: at most four.
const MAX_APRS: usize = 4;

/// The CPU interface of one vCPU.
#[derive(Clone, Debug)]
pub(crate) struct CpuInterface {
    /// The interrupts that want a list register and have none.
    pub(crate) claims: Claims,
    /// The registers are in a CPU.
    pub(crate) loaded: bool,
    pub(crate) lr_count: u8,
    pub(crate) preemption_bits: u8,
    /// How many active-priority registers there are per group.
    pub(crate) apr_count: u8,
    /// ICH_HCR_EL2 when nothing waits for a list register.
    pub(crate) idle: u64,
    /// The list registers that hold something of ours, by number.
    pub(crate) listed: u16,
    /// The list registers that may not be empty.
    pub(crate) occupied: u16,
    /// What is in those of `occupied` as last written or read.
    pub(crate) lrs: [ListRegister; MAX_LRS],
    /// The list register that an SGI or PPI was put into last.
    pub(crate) slots: [u8; 32],
    pub(crate) hcr: u64,
    pub(crate) vmcr: u64,
    pub(crate) ap0r: [u64; MAX_APRS],
    pub(crate) ap1r: [u64; MAX_APRS],
}

impl CpuInterface {
    /// Returns the interface at reset: priority mask zero, both groups
    /// disabled, binary points at their minimum, nothing active. A GICv2's does not
    /// use FIQs.
    pub(crate) fn new(gicv2: bool) -> Self {
        Self {
            claims: Claims::new(),
            loaded: false,
            lr_count: 1,
            preemption_bits: 5,
            apr_count: 1,
            idle: hcr::EN,
            listed: 0,
            occupied: 0,
            lrs: [ListRegister::EMPTY; MAX_LRS],
            slots: [0; 32],
            hcr: 0,
            // A binary point below the minimum becomes the minimum.
            vmcr: if gicv2 { 0 } else { vmcr::VFIQEN },
            ap0r: [0; MAX_APRS],
            ap1r: [0; MAX_APRS],
        }
    }

    /// Takes the active priorities out of the CPU, and what is left in its list
    /// registers, if this is loaded there.
    #[inline(always)]
    fn leave(&mut self, ich: &mut impl IchRegs) {
        if !core::mem::take(&mut self.loaded) {
            return;
        }
        let aprs = self.ap0r.iter_mut().zip(&mut self.ap1r);
        for (n, (ap0r, ap1r)) in aprs.take(self.apr_count.into()).enumerate() {
            *ap0r = ich.read_ap0r(n);
            *ap1r = ich.read_ap1r(n);
        }
        let mut rest = core::mem::take(&mut self.occupied);
        while rest != 0 {
            ich.write_lr(rest.trailing_zeros() as usize, ListRegister::EMPTY);
            rest &= rest - 1;
        }
    }

    /// Tells whether the registers are in a CPU.
    pub(crate) fn is_loaded(&self) -> bool {
        self.loaded
    }

    /// Returns what the list registers hold, as last flushed; nothing after a
    /// fold.
    pub(crate) fn entries(&self) -> impl Iterator<Item = ListRegister> + use<'_> {
        set_bits(self.listed.into()).filter_map(|n| self.lrs.get(n as usize).copied())
    }
}

/// Empties the list registers of a CPU, which hold anything after its reset, and
/// disables its virtual CPU interface: once before a vCPU is first
/// [`load`](Controller::load)ed there.
pub fn prepare(ich: &mut impl IchRegs) {
    ich.write_hcr(0);
    for n in 0..ich.lr_count().clamp(1, MAX_LRS) {
        ich.write_lr(n, ListRegister::EMPTY);
    }
}

impl Controller {
    /// Puts the state of `vcpu` into the CPU that it is to run on, list
    /// registers included, and enables the virtual CPU interface. The list registers
    /// must be empty, as [`prepare`] and [`save`](Self::save) leave them. Tells whether
    /// a PPI of the vCPU is [`link`](Self::link)ed to an active physical interrupt.
    #[inline]
    pub fn load(&mut self, vcpu: VcpuId, ich: &mut impl IchRegs) -> bool {
        let Some(one) = self.vcpus.get_mut(vcpu.index()) else {
            return false;
        };
        let has_linked = one.bank.linked != 0;
        let interface = &mut one.interface;
        debug_assert!(!interface.loaded, "vCPU {vcpu} runs already");
        interface.loaded = true;
        let lr_count = ich.lr_count().clamp(1, MAX_LRS);
        #[expect(clippy::cast_possible_truncation, reason = "at most 16")]
        let count = lr_count as u8;
        interface.lr_count = count;
        let preemption_bits = ich.preemption_bits().clamp(5, 7) as u8;
        interface.preemption_bits = preemption_bits;
        interface.apr_count = 1 << (preemption_bits - 5);
        let trap = if ich.can_trap_dir() { hcr::TDIR } else { 0 };
        interface.idle = hcr::EN | trap;
        ich.write_vmcr(interface.vmcr);
        let aprs = interface
            .ap0r
            .iter()
            .zip(&interface.ap1r)
            .take(interface.apr_count.into());
        for (n, (ap0r, ap1r)) in aprs.enumerate() {
            ich.write_ap0r(n, *ap0r);
            ich.write_ap1r(n, *ap1r);
        }
        interface.listed = 0;
        interface.occupied = 0;
        if interface.claims.is_empty() {
            interface.hcr = interface.idle;
            ich.write_hcr(interface.idle);
        } else {
            interface.hcr = 0;
            hand_out(one, &mut self.shared, self.groups, ich);
        }
        has_linked
    }

    /// Takes the state of `vcpu` out of the CPU that it ran on, whose list registers
    /// are empty afterwards, and disables the virtual CPU interface there: of a vCPU
    /// that is not loaded there is nothing to take, but nothing is signalled
    /// afterwards either way.
    #[inline]
    pub fn save(&mut self, vcpu: VcpuId, ich: &mut impl IchRegs) -> Folded {
        let folded = self.fold(vcpu, ich);
        if let Some(one) = self.vcpus.get_mut(vcpu.index()) {
            one.interface.leave(ich);
        }
        ich.write_hcr(0);
        folded
    }

    /// Does what [`save`](Self::save) does to a vCPU whose list registers are empty, or
    /// hold but one SGI or PPI, in the first, with which the guest is done, and none of
    /// whose PPIs is linked any more: nobody has to be told of anything. Returns whether
    /// the vCPU has an interrupt that is [`deliverable`](Self::deliverable). Otherwise
    /// does nothing and returns `None`: [`save`](Self::save) it is then.
    #[inline(always)]
    pub fn save_settled(&mut self, vcpu: VcpuId, ich: &mut impl IchRegs) -> Option<bool> {
        if self.released != 0 {
            return None;
        }
        let one = self.vcpus.get_mut(vcpu.index())?;
        if !one.take_last_back(ich) {
            return None;
        }
        one.interface.leave(ich);
        ich.write_hcr(0);
        if one.interface.claims.is_empty() {
            return Some(false);
        }
        Some(self.deliverable(vcpu))
    }

    /// Returns the CPU interface of `vcpu` to its reset state, as turning the
    /// CPU off and on does. What is pending or active in the redistributor and
    /// the distributor stays so. The vCPU must not be loaded.
    pub fn reset_cpu_interface(&mut self, vcpu: VcpuId) {
        if let Some(one) = self.vcpus.get_mut(vcpu.index()) {
            debug_assert!(!one.interface.loaded, "vCPU {vcpu} runs");
            one.reset_interface();
        }
    }
}

//! Whether a vCPU that waits has a reason to wake.

use core::cmp::Ordering;

use vm_contract::VcpuId;

use crate::controller::Controller;
use crate::cpu_interface::CpuInterface;
use crate::private::Private;
use crate::regs::vmcr;

impl Controller {
    /// Tells whether an IRQ or FIQ would be signalled to `vcpu`: whether an
    /// interrupt is pending, enabled, forwarded by the distributor, in a group
    /// that the guest's CPU interface has enabled, and of a priority above its
    /// mask and above what it is handling.
    ///
    /// A loaded vCPU must have been folded, or what the guest has done since to
    /// the interrupts in its list registers is not seen. What a loaded vCPU is
    /// handling is not known either, so the answer may then be `true` too often.
    #[inline]
    #[must_use]
    pub fn deliverable(&self, vcpu: VcpuId) -> bool {
        let Some(one) = self.vcpus.get(vcpu.index()) else {
            return false;
        };
        // With most who wait, there is nothing to look at.
        let interface = &one.interface;
        !(interface.claims.is_empty() && interface.listed == 0) && self.is_signalled(one)
    }

    /// Tells whether one of the interrupts of `one` would be signalled.
    #[inline(never)]
    fn is_signalled(&self, one: &Private) -> bool {
        let interface = &one.interface;
        let running = if interface.is_loaded() {
            0x100
        } else {
            interface.running_priority()
        };
        let claimed = interface.claims.iter().filter_map(|intid| {
            let bank = one.bank_of(intid, &self.shared)?;
            let (priority, active, group1) = bank.rank(intid % 32);
            (!active).then_some((priority, group1))
        });
        let listed = interface
            .entries()
            .filter(|entry| entry.is_pending() && !entry.is_active())
            .map(|entry| (entry.priority(), entry.is_group1()));
        // The one of the highest priority stands for all: what cannot preempt by its
        // group's binary point holds back lower ones that could by theirs. Which of
        // several equals that is, is the CPU's choice.
        let (_, signalled) = claimed
            .chain(listed)
            .filter(|&(_, group1)| interface.is_enabled(group1))
            .map(|(priority, group1)| (priority, interface.signals(priority, group1, running)))
            .fold((u8::MAX, false), |best, next| match next.0.cmp(&best.0) {
                Ordering::Less => next,
                Ordering::Equal => (best.0, best.1 | next.1),
                Ordering::Greater => best,
            });
        signalled
    }
}

impl CpuInterface {
    /// Tells whether the guest has enabled a group.
    pub(crate) fn is_enabled(&self, group1: bool) -> bool {
        let enabled = if group1 { vmcr::VENG1 } else { vmcr::VENG0 };
        self.vmcr & enabled != 0
    }

    /// Tells whether an interrupt of this priority and enabled group is signalled while
    /// `running` is the running priority (0x100: idle).
    fn signals(&self, priority: u8, group1: bool, running: u16) -> bool {
        let mask = self.vmcr >> vmcr::VPMR_SHIFT & 0xFF;
        u64::from(priority) < mask && u16::from(priority & self.preemption_mask(group1)) < running
    }

    /// Returns the bits of a priority that decide about preemption.
    pub(crate) fn preemption_mask(&self, group1: bool) -> u8 {
        let minimum = u64::from(7 - self.preemption_bits.min(7));
        let field = |shift: u32| self.vmcr >> shift & 0b111;
        // Group 0 counts subpriority bits from one, Group 1 from zero.
        let subpriority_bits = if group1 && self.vmcr & vmcr::VCBPR == 0 {
            field(vmcr::VBPR1_SHIFT).max(minimum + 1)
        } else {
            field(vmcr::VBPR0_SHIFT).max(minimum) + 1
        };
        #[expect(clippy::cast_possible_truncation, reason = "the lowest byte is meant")]
        let mask = (0xFF_u16 << subpriority_bits) as u8;
        mask
    }

    /// Returns the priority of what the guest is handling, as last saved, or
    /// 0x100 if it handles nothing.
    fn running_priority(&self) -> u16 {
        let pairs = self.ap0r.iter().zip(&self.ap1r);
        let pairs = pairs.take(self.apr_count.into());
        let highest = (0u32..)
            .zip(pairs)
            .map(|(n, (ap0r, ap1r))| (n, (ap0r | ap1r) & 0xFFFF_FFFF))
            .find(|(_, active)| *active != 0)
            .map(|(n, active)| (32 * n + active.trailing_zeros()) << (8 - self.preemption_bits));
        highest
            .and_then(|priority| u16::try_from(priority).ok())
            .unwrap_or(0x100)
    }
}

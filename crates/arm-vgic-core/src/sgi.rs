//! Software-generated interrupts: sent to one vCPU, and remembered by sender
//! where the guest's GIC does that (GICv2).

use vm_contract::VcpuId;

use crate::bank::Bank;
use crate::controller::Controller;
use crate::kicks::Kicks;
use crate::list_register::ListRegister;

/// Which SGIs a request reaches, by the group that the target has them in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SgiFilter {
    /// Those of either group.
    AnyGroup,
    /// Those of Group 0.
    Group0,
}

/// The senders of one vCPU's SGIs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    /// By SGI, the vCPUs whose request is pending and in no list register: bit
    /// `n` for vCPU `n`.
    pending: [u8; 16],
    /// By SGI, the sender of the one that is active.
    taken: [u8; 16],
}

impl Sources {
    /// Puts a sender into the list register that was filled for an SGI of `bank`.
    /// If there are more, the guest is to be watched for its end.
    pub(crate) fn hand_out(&mut self, entry: ListRegister, bank: &mut Bank) -> ListRegister {
        let sgi = entry.intid() as usize % 16;
        if entry.is_active() {
            let taken = self.taken.get(sgi).copied();
            return entry.with_source(taken.unwrap_or_default());
        }
        let Some(pending) = self.pending.get_mut(sgi) else {
            return entry;
        };
        #[expect(clippy::cast_possible_truncation, reason = "at most 8")]
        let source = pending.trailing_zeros() as u8 % 8;
        *pending &= pending.wrapping_sub(1);
        let entry = entry.with_source(source);
        if *pending == 0 {
            return entry;
        }
        let _ = bank.latch(1 << sgi);
        entry.with_eoi_maintenance()
    }

    /// Takes the sender back from a list register that now reads `now`.
    pub(crate) fn take_back(&mut self, now: ListRegister) {
        let sgi = now.intid() as usize % 16;
        if now.is_pending()
            && let Some(pending) = self.pending.get_mut(sgi)
        {
            *pending |= 1 << now.source();
        }
        if now.is_active()
            && let Some(taken) = self.taken.get_mut(sgi)
        {
            *taken = now.source();
        }
    }
}

impl Controller {
    /// Sends SGI `sgi`, 0 to 15, to `target`, if `filter` lets it through, and adds to
    /// `kicks` whoever must take note. Several requests merge into one pending
    /// interrupt. A target or an SGI that does not exist is passed over. List
    /// registers need not have been folded.
    #[inline]
    pub fn send_sgi(&mut self, target: VcpuId, sgi: u32, filter: SgiFilter, kicks: &mut Kicks) {
        let bit = 1 << (sgi % 16);
        let groups = self.groups;
        if let Some(one) = self.vcpus.get_mut(target.index())
            && (filter == SgiFilter::AnyGroup || one.bank.group & bit == 0)
            && one.send(bit, groups)
        {
            kicks.insert(target);
        }
    }

    /// Tells whether the SGIs of `vcpu` remember who sent them.
    pub(crate) fn tells_senders_apart(&self, vcpu: VcpuId) -> bool {
        let one = self.vcpus.get(vcpu.index());
        one.is_some_and(|one| one.sources.is_some())
    }

    /// Returns the vCPUs whose request of `sgi` is pending for `vcpu`, bit `n`
    /// for vCPU `n`. Its list registers have been folded.
    #[must_use]
    pub fn sgi_sources(&self, vcpu: VcpuId, sgi: u32) -> u8 {
        let sources = self.vcpus.get(vcpu.index());
        sources
            .and_then(|one| one.sources.as_ref()?.pending.get(sgi as usize))
            .copied()
            .unwrap_or_default()
    }

    /// Makes `sgi` pending for `target` as sent by each of `sources`, bit `n` for
    /// vCPU `n`, where [senders are told apart](Self::follow_gicv2). List registers
    /// need not have been folded.
    pub fn send_sgi_from(&mut self, sources: u8, target: VcpuId, sgi: u32, kicks: &mut Kicks) {
        let Some(one) = self.vcpus.get_mut(target.index()) else {
            return;
        };
        let known = one.sources.as_mut();
        let Some(pending) = known.and_then(|known| known.pending.get_mut(sgi as usize)) else {
            return;
        };
        if sources != 0 {
            *pending |= sources;
            self.send_sgi(target, sgi, SgiFilter::AnyGroup, kicks);
        }
    }

    /// Withdraws from `vcpu` the requests of `sgi` by each of `sources`, bit `n`
    /// for vCPU `n`. Its list registers have been folded.
    pub fn withdraw_sgi(&mut self, sources: u8, vcpu: VcpuId, sgi: u32) -> Kicks {
        let mut kicks = Kicks::NONE;
        let Some(one) = self.vcpus.get_mut(vcpu.index()) else {
            return kicks;
        };
        let known = one.sources.as_mut();
        let pending = known.and_then(|known| known.pending.get_mut(sgi as usize));
        if let Some(pending) = pending
            && *pending & sources != 0
        {
            *pending &= !sources;
            if *pending == 0 {
                let touched = one.bank.set_message(1 << sgi, false);
                self.private_changed(vcpu.index(), touched, &mut kicks);
            }
        }
        kicks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FakeIch, IrqRegister};
    use vm_contract::{IntId, Width};

    const ONE: VcpuId = VcpuId::new(1);

    fn ready() -> (Controller, FakeIch) {
        let mut controller = Controller::new(2, 32).expect("a good shape");
        controller.follow_gicv2();
        let _ = controller.enable_groups(true, true);
        for (offset, value) in [(0x080, u32::MAX), (0x100, u32::MAX)] {
            let register = IrqRegister::decode(offset).expect("a register");
            let _ = controller.write_register(ONE, register, Width::Word, value.into());
        }
        let mut ich = FakeIch::new(2);
        controller.load(ONE, &mut ich);
        ich.open();
        (controller, ich)
    }

    #[test]
    fn an_sgi_comes_once_for_each_sender_and_names_it() {
        let (mut controller, mut ich) = ready();
        let mut kicks = Kicks::NONE;
        controller.send_sgi_from(0b1010_0001, ONE, 5, &mut kicks);
        controller.send_sgi_from(0b0000_0001, ONE, 5, &mut kicks);
        assert!(kicks.contains(ONE));
        for source in [0, 5, 7] {
            let _ = controller.refresh(ONE, &mut ich);
            let listed = ich.list_registers().iter().find(|lr| lr.is_pending());
            assert_eq!(listed.map(|lr| lr.source()), Some(source));
            assert_eq!(ich.acknowledge(crate::Group::One), Some(5));
            let _ = controller.refresh(ONE, &mut ich);
            assert_eq!(ich.acknowledge(crate::Group::One), None, "still active");
            let _ = controller.fold(ONE, &ich);
            controller.flush(ONE, &mut ich);
            let held = ich.list_registers().iter().find(|lr| lr.is_active());
            assert_eq!(held.map(|lr| lr.source()), Some(source), "as it was taken");
            ich.end(crate::Group::One, 5);
        }
        let _ = controller.refresh(ONE, &mut ich);
        assert_eq!(ich.signalled(), None);
        assert!(!ich.maintenance());
    }

    #[test]
    fn senders_are_withdrawn_one_by_one() {
        let (mut controller, mut ich) = ready();
        let mut kicks = Kicks::NONE;
        controller.send_sgi_from(0b11, ONE, 2, &mut kicks);
        let _ = controller.refresh(ONE, &mut ich);
        let _ = controller.fold(ONE, &ich);
        assert_eq!(controller.sgi_sources(ONE, 2), 0b11);
        let _ = controller.withdraw_sgi(0b01, ONE, 2);
        controller.flush(ONE, &mut ich);
        assert!(ich.signalled().is_some());
        let _ = controller.fold(ONE, &ich);
        let _ = controller.withdraw_sgi(0b10, ONE, 2);
        controller.flush(ONE, &mut ich);
        assert_eq!(ich.signalled(), None);
    }

    #[test]
    fn a_ppi_has_no_sender() {
        let (mut controller, mut ich) = ready();
        let (timer, physical) = (IntId::ppi(11), IntId::ppi(14));
        let (timer, physical) = timer.zip(physical).expect("PPIs");
        let _ = controller.raise_linked(ONE, timer, physical);
        let _ = controller.refresh(ONE, &mut ich);
        assert_eq!(ich.acknowledge(crate::Group::One), Some(27));
        ich.end(crate::Group::One, 27);
        assert_eq!(ich.take_deactivated(), [30]);
    }
}

//! The short way of an SGI or a PPI to the guest on this CPU: the list register that
//! brought it last is filled again.
//!
//! As long as nothing about an interrupt has changed since it was put into its list
//! register, that one's first content says all: once the guest is done with the
//! interrupt, taking it back and handing it out anew would change nothing but the
//! list register.

use vm_contract::{IntId, VcpuId};

use crate::bank::Groups;
use crate::controller::Controller;
use crate::ich::IchRegs;
use crate::list_register::ListRegister;
use crate::private::Private;

impl Controller {
    /// Sends SGI `sgi`, 0 to 15, in any group, to `vcpu`, which is loaded in this CPU
    /// and runs this code, if its list register needs no more than to be filled again.
    /// Otherwise does nothing and returns `false`:
    /// [`send_sgi`](Self::send_sgi) does what is to be done.
    #[inline(always)]
    #[must_use]
    pub fn send_sgi_again(&self, vcpu: VcpuId, sgi: u32, ich: &mut impl IchRegs) -> bool {
        let one = self.vcpus.get(vcpu.index());
        one.is_some_and(|one| one.sources.is_none() && one.refill(sgi % 16, None, ich))
    }

    /// Makes the PPI `intid` of `vcpu`, which is loaded in this CPU and runs this code,
    /// pending because `physical` was acknowledged, if its list register needs no more
    /// than to be filled again. Otherwise does nothing and returns `false`:
    /// [`raise_linked`](Self::raise_linked) does what is to be done.
    #[inline(always)]
    #[must_use]
    pub fn raise_linked_again(
        &self,
        vcpu: VcpuId,
        intid: IntId,
        physical: IntId,
        ich: &mut impl IchRegs,
    ) -> bool {
        let one = self.vcpus.get(vcpu.index());
        one.is_some_and(|one| {
            intid.is_ppi() && one.refill(intid.raw() % 32, Some(physical.raw()), ich)
        })
    }
}

impl Private {
    /// Takes the SGI or edge-triggered PPI `number` back from the list register that was
    /// filled with `written` and now reads `now`, and hands it out again, if the guest
    /// was done with it and it has come again: what
    /// [`take_back`](Self::take_back) and [`hand_out`](Self::hand_out) come to then.
    #[inline(always)]
    pub(crate) fn put_again(
        &mut self,
        number: u32,
        written: ListRegister,
        now: ListRegister,
        groups: Groups,
    ) -> Option<ListRegister> {
        let is_done = now.is_inactive() && written.is_merely_pending();
        if is_done && self.awake && self.sources.is_none() {
            self.bank.lend_again(number, groups)
        } else {
            None
        }
    }

    /// Fills the list register of the SGI or PPI `number` again, if that is all there
    /// is to do. `physical` is the interrupt behind it.
    #[inline(always)]
    fn refill(&self, number: u32, physical: Option<u32>, ich: &mut impl IchRegs) -> bool {
        let interface = &self.interface;
        // With interrupts left over, which one comes next is a question of priority.
        let is_plain = interface.loaded && interface.hcr == interface.idle;
        let unchanged = self.bank.listed & !self.bank.stale & 1 << number != 0;
        if !(is_plain && unchanged) {
            return false;
        }
        let Some(&slot) = interface.slots.get(number as usize) else {
            return false;
        };
        let Some(&written) = interface.lrs.get(usize::from(slot)) else {
            return false;
        };
        let is_same = written.intid() == number && written.pintid().map(u32::from) == physical;
        if !(is_same && written.is_merely_pending()) {
            return false;
        }
        let now = ich.read_lr(slot.into());
        if now.is_inactive() {
            ich.write_lr(slot.into(), written);
            return true;
        }
        // Requests of an SGI that has not been taken yet merge.
        physical.is_none() && now.is_merely_pending()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FakeIch, Group, IrqRegister};
    use vm_contract::Width;

    const VCPU: VcpuId = VcpuId::new(0);
    const GICR_ISENABLER: u64 = 0x100;
    const GICR_ICENABLER: u64 = 0x180;
    const GICR_ISPENDR: u64 = 0x200;

    struct Machine {
        controller: Controller,
        ich: FakeIch,
    }

    impl Machine {
        fn new(lr_count: usize) -> Self {
            let mut controller = Controller::new(1, 0).expect("a good shape");
            let _ = controller.enable_groups(false, true);
            let mut ich = FakeIch::new(lr_count).after_reset();
            crate::prepare(&mut ich);
            controller.load(VCPU, &mut ich);
            ich.open();
            let mut machine = Self { controller, ich };
            machine.write(0x080, u32::MAX);
            machine.write(GICR_ISENABLER, u32::MAX);
            machine
        }

        /// Writes without a look at the list registers.
        fn write_only(&mut self, offset: u64, value: u32) {
            let register = IrqRegister::decode(offset).expect("a register");
            let controller = &mut self.controller;
            let _ = controller.write_register(VCPU, register, Width::Word, value.into());
        }

        fn write(&mut self, offset: u64, value: u32) {
            let _ = self.controller.fold(VCPU, &self.ich);
            self.write_only(offset, value);
            self.controller.flush(VCPU, &mut self.ich);
        }

        /// Sends SGI 3, and tells whether that went the short way.
        fn send(&mut self) -> bool {
            if self.controller.send_sgi_again(VCPU, 3, &mut self.ich) {
                return true;
            }
            let mut kicks = crate::Kicks::NONE;
            let filter = crate::SgiFilter::AnyGroup;
            self.controller.send_sgi(VCPU, 3, filter, &mut kicks);
            if kicks.contains(VCPU) {
                let _ = self.controller.refresh(VCPU, &mut self.ich);
            }
            false
        }

        fn fire(&mut self, physical: u32) -> bool {
            let timer = IntId::ppi(11).expect("a PPI");
            let physical = IntId::new(physical).expect("an INTID");
            let ich = &mut self.ich;
            if self
                .controller
                .raise_linked_again(VCPU, timer, physical, ich)
            {
                return true;
            }
            let kicks = self.controller.raise_linked(VCPU, timer, physical);
            assert!(kicks.contains(VCPU));
            let _ = self.controller.refresh(VCPU, &mut self.ich);
            false
        }

        fn take(&mut self) -> Option<u32> {
            let taken = self.ich.acknowledge(Group::One);
            if let Some(intid) = taken {
                self.ich.end(Group::One, intid);
            }
            taken
        }

        fn pending(&mut self) -> u64 {
            let _ = self.controller.fold(VCPU, &self.ich);
            let register = IrqRegister::decode(GICR_ISPENDR).expect("a register");
            let pending = self.controller.read_register(VCPU, register, Width::Word);
            self.controller.flush(VCPU, &mut self.ich);
            pending
        }
    }

    #[test]
    fn the_second_of_two_goes_the_short_way_and_is_taken_once() {
        let mut machine = Machine::new(4);
        assert!(!machine.send());
        assert_eq!(machine.take(), Some(3));
        for _ in 0..3 {
            assert!(machine.send());
            assert_eq!(machine.pending(), 1 << 3);
            assert_eq!(machine.take(), Some(3));
            assert_eq!(machine.take(), None);
            assert_eq!(machine.pending(), 0);
            assert!(!machine.send(), "it was taken back meanwhile");
            assert_eq!(machine.take(), Some(3));
        }
    }

    #[test]
    fn two_requests_merge_and_one_during_the_handler_comes_after_it() {
        let mut machine = Machine::new(4);
        assert!(!machine.send());
        assert!(machine.send(), "it is still pending");
        assert_eq!(machine.take(), Some(3));
        assert_eq!(machine.take(), None);
        assert!(machine.send());
        assert_eq!(machine.ich.acknowledge(Group::One), Some(3));
        assert!(!machine.send(), "it is active");
        machine.ich.end(Group::One, 3);
        let _ = machine.controller.refresh(VCPU, &mut machine.ich);
        assert_eq!(machine.take(), Some(3));
    }

    #[test]
    fn what_the_guest_has_disabled_meanwhile_does_not_come() {
        let mut machine = Machine::new(4);
        assert!(!machine.send());
        assert_eq!(machine.take(), Some(3));
        machine.write_only(GICR_ICENABLER, 1 << 3);
        assert!(!machine.send());
        assert_eq!(machine.take(), None);
        machine.write(GICR_ISENABLER, 1 << 3);
        assert_eq!(machine.take(), Some(3));
    }

    #[test]
    fn nobody_overtakes_those_that_wait_for_list_registers() {
        let mut machine = Machine::new(1);
        assert!(!machine.send());
        assert_eq!(machine.take(), Some(3));
        // More urgent by number, and one list register for both.
        machine.write(GICR_ISPENDR, 0b11);
        while machine.take().is_some() {
            assert!(!machine.send());
        }
        assert!(machine.ich.maintenance());
    }

    #[test]
    fn a_timer_comes_again_by_the_same_physical_interrupt_only() {
        let mut machine = Machine::new(4);
        assert!(!machine.fire(30));
        assert_eq!(machine.take(), Some(27));
        assert_eq!(machine.ich.take_deactivated(), [30]);
        assert!(machine.fire(30));
        assert_eq!(machine.take(), Some(27));
        assert_eq!(machine.ich.take_deactivated(), [30]);
        assert!(!machine.fire(26));
        assert_eq!(machine.take(), Some(27));
        assert_eq!(machine.ich.take_deactivated(), [26]);
    }

    #[test]
    fn a_vcpu_that_is_not_loaded_has_no_list_register() {
        let mut machine = Machine::new(4);
        assert!(!machine.send());
        assert_eq!(machine.take(), Some(3));
        let _ = machine.controller.save(VCPU, &mut machine.ich);
        assert!(!machine.send());
    }
}

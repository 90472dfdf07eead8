//! Interrupts linked to physical ones: the guest's deactivation of the virtual
//! interrupt deactivates the physical one.

use vm_contract::{IntId, VcpuId};

use crate::bank::Bank;
use crate::controller::{Controller, place};
use crate::fold::Folded;
use crate::kicks::Kicks;

impl Controller {
    /// Makes the interrupt `intid` pending, a PPI of `vcpu` or an SPI, because the
    /// interrupt `physical` behind it was acknowledged: its priority is dropped,
    /// it is still active, and it stays so until the guest deactivates the virtual
    /// one, which the list register passes on, or until
    /// [`lower_linked`](Self::lower_linked) or
    /// [`Folded::deactivate`](crate::Folded::deactivate) hands it back.
    ///
    /// `intid` must be a PPI or an SPI and `physical` too; anything else is
    /// ignored. An SPI needs a `physical` SPI: its vCPU may be in any CPU.
    pub fn raise_linked(&mut self, vcpu: VcpuId, intid: IntId, physical: IntId) -> Kicks {
        let Ok(number) = u16::try_from(physical.raw()) else {
            return Kicks::NONE;
        };
        let slot = if intid.is_ppi() && (physical.is_ppi() || physical.is_spi()) {
            let one = self.vcpus.get_mut(vcpu.index());
            one.and_then(|one| one.physical.get_mut((intid.raw() % 16) as usize))
        } else if intid.is_spi() && physical.is_spi() {
            let spis = place(intid).0.checked_sub(1);
            let spis = spis.and_then(|index| self.shared.spis.get_mut(index));
            spis.and_then(|spis| spis.physical.get_mut((intid.raw() % 32) as usize))
        } else {
            None
        };
        let Some(slot) = slot else {
            return Kicks::NONE;
        };
        *slot = number;
        if intid.is_ppi() {
            self.change_private(vcpu, intid, Bank::link)
        } else {
            self.change_spi(intid, Bank::link)
        }
    }

    /// Takes back the linked interrupt `intid`, a PPI of `vcpu` or an SPI, whose
    /// source was found low, if it is merely pending: neither in a list register
    /// nor active. Returns the physical interrupt that the caller must now
    /// deactivate.
    pub fn lower_linked(&mut self, vcpu: VcpuId, intid: IntId) -> Option<IntId> {
        let physical = self.link(vcpu, intid)?;
        let (word, bit) = place(intid);
        match word.checked_sub(1) {
            None => {
                let one = self.vcpus.get_mut(vcpu.index())?;
                if one.bank.unlink(bit) == 0 {
                    return None;
                }
                one.settle(self.groups);
            }
            Some(index) => {
                let spis = self.shared.spis.get_mut(index)?;
                if spis.bank.unlink(bit) == 0 {
                    return None;
                }
                // Who had it claimed finds it gone.
                let mut nobody = Kicks::NONE;
                self.spis_changed(index, 0, &mut nobody);
            }
        }
        Some(physical)
    }

    /// Tells whether the linked interrupt `intid`, a PPI of `vcpu` or an SPI, is
    /// merely pending, so that [`lower_linked`](Self::lower_linked) would take it
    /// back: only then its source is worth a look.
    #[must_use]
    pub fn is_linked_pending(&self, vcpu: VcpuId, intid: IntId) -> bool {
        let bank = self.vcpus.get(vcpu.index());
        bank.and_then(|one| one.bank_of(intid.raw(), &self.shared))
            .is_some_and(|bank| {
                bank.linked & bank.line & !bank.active & !bank.listed & place(intid).1 != 0
            })
    }

    /// Says whether the source of the linked interrupt `intid`, a PPI of `vcpu` or an
    /// SPI, is high. While the guest handles the interrupt, ISPENDR shows that: to be
    /// called before the guest looks there, as its list register cannot tell.
    pub fn show_linked_source(&mut self, vcpu: VcpuId, intid: IntId, high: bool) {
        let (word, bit) = place(intid);
        let bank = match word.checked_sub(1) {
            None => self.vcpus.get_mut(vcpu.index()).map(|one| &mut one.bank),
            Some(index) => self.shared.get_mut(index).map(|spis| &mut spis.bank),
        };
        if let Some(bank) = bank {
            bank.source = bank.source & !bit | if high { bit } else { 0 };
        }
    }

    /// Returns the physical interrupt that is active on behalf of `intid`, a PPI
    /// of `vcpu` or an SPI, if one is, as last folded. Whoever moves a vCPU to
    /// another CPU moves the active state of its PPIs along.
    #[must_use]
    pub fn link(&self, vcpu: VcpuId, intid: IntId) -> Option<IntId> {
        let one = self.vcpus.get(vcpu.index())?;
        let (word, bit) = place(intid);
        if one.bank_of(intid.raw(), &self.shared)?.linked & bit == 0 {
            return None;
        }
        let physical = match word.checked_sub(1) {
            None => one.physical.get((intid.raw() % 16) as usize)?,
            Some(index) => self
                .shared
                .get(index)?
                .physical
                .get((intid.raw() % 32) as usize)?,
        };
        IntId::new((*physical).into())
    }

    /// Notes that physical interrupts behind SPIs of bank `index` wait to be
    /// deactivated, if any do.
    pub(crate) fn note_released(&mut self, index: usize) {
        if let Some(spis) = self.shared.spis.get_mut(index)
            && spis.has_released()
        {
            self.released |= 1 << index;
        }
    }

    /// Adds to `folded`, of `vcpu`, the physical interrupts behind SPIs that wait to be
    /// deactivated. If there are more than it has room for, the vCPU is kicked.
    #[cold]
    pub(crate) fn hand_back_released(&mut self, vcpu: VcpuId, folded: &mut Folded) {
        for index in crate::set_bits(self.released) {
            if let Some(spis) = self.shared.spis.get_mut(index as usize)
                && spis.hand_back_released(folded)
            {
                self.released &= !(1 << index);
            }
        }
        if self.released != 0 {
            folded.kicks.insert(vcpu);
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::*;
    use crate::{FakeIch, Group, IrqRegister};
    use vm_contract::Width;

    const FIRST: VcpuId = VcpuId::new(0);
    const SECOND: VcpuId = VcpuId::new(1);

    /// Two vCPUs on two CPUs; SPIs 32–63 are enabled in Group 1, level-sensitive,
    /// and go to the first.
    struct Machine {
        controller: Controller,
        cpus: [FakeIch; 2],
        /// Physical interrupts deactivated by order.
        ordered: Vec<u32>,
    }

    fn spi(intid: u32) -> IntId {
        IntId::new(intid).expect("an SPI")
    }

    impl Machine {
        fn new(lr_count: usize) -> Self {
            let mut controller = Controller::new(2, 32).expect("a good shape");
            let _ = controller.enable_groups(false, true);
            let mut cpus = [FakeIch::new(lr_count), FakeIch::new(lr_count)];
            for (vcpu, ich) in [FIRST, SECOND].into_iter().zip(&mut cpus) {
                controller.load(vcpu, ich);
                ich.open();
            }
            let mut machine = Self {
                controller,
                cpus,
                ordered: Vec::new(),
            };
            machine.write(FIRST, 0x084, u32::MAX);
            machine.write(FIRST, 0x104, u32::MAX);
            for intid in 32..64 {
                machine.route(intid, FIRST);
            }
            machine
        }

        fn route(&mut self, intid: u32, vcpu: VcpuId) {
            let kicks = self.controller.route(spi(intid), Some(vcpu));
            self.serve(kicks);
        }

        fn fire(&mut self, intid: u32, physical: u32) {
            let kicks = self
                .controller
                .raise_linked(FIRST, spi(intid), spi(physical));
            self.serve(kicks);
        }

        /// Writes a register of SPIs as `vcpu`.
        fn write(&mut self, vcpu: VcpuId, offset: u64, value: u32) {
            let register = IrqRegister::decode(offset).expect("a register");
            let ich = &mut self.cpus[vcpu.index()];
            let folded = self.controller.fold(vcpu, ich);
            self.ordered.extend(folded.deactivate().map(IntId::raw));
            let kicks = self
                .controller
                .write_register(vcpu, register, Width::Word, value.into());
            self.controller.flush(vcpu, ich);
            self.serve(folded.kicks);
            self.serve(kicks);
        }

        fn refresh(&mut self, vcpu: VcpuId) {
            let mut due = Kicks::NONE;
            due.insert(vcpu);
            self.serve(due);
        }

        fn serve(&mut self, kicks: Kicks) {
            for vcpu in kicks {
                let ich = &mut self.cpus[vcpu.index()];
                let folded = self.controller.refresh(vcpu, ich);
                self.ordered.extend(folded.deactivate().map(IntId::raw));
                self.serve(folded.kicks);
            }
        }

        fn acknowledge(&mut self, vcpu: VcpuId) -> Option<u32> {
            let taken = self.cpus[vcpu.index()].acknowledge(Group::One);
            self.maintain(vcpu);
            taken
        }

        fn end(&mut self, vcpu: VcpuId, intid: u32) {
            self.cpus[vcpu.index()].end(Group::One, intid);
            self.maintain(vcpu);
        }

        fn maintain(&mut self, vcpu: VcpuId) {
            while self.cpus[vcpu.index()].maintenance() {
                self.refresh(vcpu);
            }
        }

        /// Returns the physical interrupts deactivated since last asked.
        fn deactivated(&mut self) -> Vec<u32> {
            let mut all = core::mem::take(&mut self.ordered);
            for ich in &mut self.cpus {
                all.extend(ich.take_deactivated().into_iter().map(u32::from));
            }
            all
        }
    }

    #[test]
    fn the_guests_eoi_deactivates_the_physical_interrupt() {
        let mut machine = Machine::new(4);
        machine.fire(40, 77);
        assert_eq!(machine.controller.link(FIRST, spi(40)), Some(spi(77)));
        assert_eq!(machine.acknowledge(FIRST), Some(40));
        assert_eq!(machine.deactivated(), []);
        machine.end(FIRST, 40);
        assert_eq!(machine.deactivated(), [77]);
        machine.fire(40, 77);
        assert_eq!(machine.acknowledge(FIRST), Some(40), "it comes again");
    }

    #[test]
    fn interrupts_in_excess_of_list_registers_are_each_deactivated_once() {
        let mut machine = Machine::new(2);
        for intid in 32..48 {
            machine.fire(intid, intid + 100);
        }
        let mut all = Vec::new();
        for _ in 32..48 {
            let intid = machine.acknowledge(FIRST).expect("one is pending");
            machine.end(FIRST, intid);
            all.push(intid + 100);
        }
        assert_eq!(machine.acknowledge(FIRST), None);
        let mut deactivated = machine.deactivated();
        deactivated.sort_unstable();
        all.sort_unstable();
        assert_eq!(deactivated, all);
    }

    #[test]
    fn an_active_interrupt_whose_route_changed_is_deactivated_by_its_holder() {
        let mut machine = Machine::new(1);
        machine.fire(40, 77);
        assert_eq!(machine.acknowledge(FIRST), Some(40));
        machine.route(40, SECOND);
        assert_eq!(machine.acknowledge(SECOND), None);
        machine.end(FIRST, 40);
        assert_eq!(machine.deactivated(), [77]);
        machine.fire(40, 77);
        assert_eq!(machine.acknowledge(SECOND), Some(40));
        machine.end(SECOND, 40);
        assert_eq!(machine.deactivated(), [77]);
    }

    #[test]
    fn deactivation_by_register_reaches_the_physical_interrupt_from_any_vcpu() {
        const GICD_ICACTIVER1: u64 = 0x384;
        for writer in [FIRST, SECOND] {
            let mut machine = Machine::new(4);
            machine.fire(40, 77);
            assert_eq!(machine.acknowledge(FIRST), Some(40));
            machine.write(writer, GICD_ICACTIVER1, 1 << 8);
            machine.refresh(FIRST);
            assert_eq!(machine.deactivated(), [77], "written by {writer}");
            assert_eq!(machine.controller.link(FIRST, spi(40)), None);
            machine.fire(40, 77);
            machine.cpus[0].end(Group::One, 40);
            assert_eq!(machine.acknowledge(FIRST), Some(40));
        }
    }

    #[test]
    fn more_released_at_once_than_one_fold_reports_follow_with_the_next() {
        const GICD_ICACTIVER1: u64 = 0x384;
        let mut machine = Machine::new(16);
        machine.cpus[0].set_eoi_mode(true);
        for intid in 32..44 {
            machine.fire(intid, intid);
            assert_eq!(machine.acknowledge(FIRST), Some(intid));
            machine.end(FIRST, intid);
        }
        machine.write(FIRST, GICD_ICACTIVER1, u32::MAX);
        (0..4).for_each(|_| machine.refresh(FIRST));
        let mut deactivated = machine.deactivated();
        deactivated.sort_unstable();
        assert!(deactivated.into_iter().eq(32..44));
    }

    #[test]
    fn a_pending_interrupt_whose_source_is_low_is_taken_back() {
        let mut machine = Machine::new(4);
        let _ = machine.controller.set_awake(FIRST, false);
        machine.fire(40, 77);
        assert!(machine.controller.is_linked_pending(FIRST, spi(40)));
        assert_eq!(
            machine.controller.lower_linked(FIRST, spi(40)),
            Some(spi(77))
        );
        let kicks = machine.controller.set_awake(FIRST, true);
        assert!(!kicks.contains(FIRST));
        assert_eq!(machine.acknowledge(FIRST), None);
    }

    #[test]
    fn a_source_that_is_high_shows_while_its_interrupt_is_active() {
        const GICD_ISPENDR1: u64 = 0x204;
        let mut machine = Machine::new(4);
        machine.fire(40, 77);
        assert_eq!(machine.acknowledge(FIRST), Some(40));
        let register = IrqRegister::decode(GICD_ISPENDR1).expect("a register");
        for high in [true, false, true] {
            let _ = machine.controller.fold(FIRST, &machine.cpus[0]);
            machine.controller.show_linked_source(FIRST, spi(40), high);
            let pending = machine
                .controller
                .read_register(FIRST, register, Width::Word);
            assert_eq!(pending, u64::from(high) << 8);
            machine.controller.flush(FIRST, &mut machine.cpus[0]);
        }
        machine.end(FIRST, 40);
        machine.refresh(FIRST);
        let pending = machine
            .controller
            .read_register(FIRST, register, Width::Word);
        assert_eq!(pending, 0, "it comes again by itself");
        assert_eq!(machine.acknowledge(FIRST), None);
    }

    #[test]
    fn only_spis_stand_behind_spis() {
        let mut machine = Machine::new(4);
        let ppi = IntId::ppi(11).expect("a PPI");
        let kicks = machine.controller.raise_linked(FIRST, spi(40), ppi);
        assert!(kicks.is_empty());
        assert_eq!(machine.controller.link(FIRST, spi(40)), None);
    }
}

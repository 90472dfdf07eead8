//! LPIs through list registers, of CPUs that follow the architecture and of
//! QEMU's.

extern crate std;
use std::vec::Vec;

use super::*;
use crate::{FakeIch, Group, IrqRegister};
use vm_contract::Width;

const FIRST: VcpuId = VcpuId::new(0);
const SECOND: VcpuId = VcpuId::new(1);
/// Enabled, of priority 0xA0.
const ENABLED: u8 = 0xA1;

fn lpi(raw: u32) -> IntId {
    IntId::new(raw).expect("an LPI")
}

/// Two vCPUs on two CPUs, with 128 LPIs, all enabled.
struct Machine {
    controller: Controller,
    cpus: [FakeIch; 2],
    /// Nobody serves kicks.
    deaf: bool,
}

impl Machine {
    fn new(ich: &FakeIch) -> Self {
        let mut controller = Controller::new(2, 32).expect("a good shape");
        controller.add_lpis(128);
        let _ = controller.enable_groups(true, true);
        let mut cpus = [ich.clone(), ich.clone()];
        for (vcpu, ich) in [FIRST, SECOND].into_iter().zip(&mut cpus) {
            controller.load(vcpu, ich);
            ich.open();
            let _ = controller.enable_lpis(vcpu, true);
        }
        for bank in 0..4 {
            let _ = controller.configure_lpis(lpi(8192 + 32 * bank), &[ENABLED; 32]);
        }
        Self {
            controller,
            cpus,
            deaf: false,
        }
    }

    /// Runs a test on a CPU of either kind.
    fn on_both(lr_count: usize, test: impl Fn(Self)) {
        test(Self::new(&FakeIch::new(lr_count)));
        test(Self::new(&FakeIch::new(lr_count).with_active_lpis()));
    }

    fn serve(&mut self, kicks: Kicks) {
        if self.deaf {
            return;
        }
        for vcpu in kicks {
            let folded = self.controller.refresh(vcpu, &mut self.cpus[vcpu.index()]);
            self.serve(folded.kicks);
        }
    }

    fn pend(&mut self, vcpu: VcpuId, raw: u32) {
        let kicks = self.controller.pend_lpis(vcpu, lpi(raw), 1 << (raw % 32));
        self.serve(kicks);
    }

    fn configure(&mut self, raw: u32, properties: u8) {
        let kicks = self.controller.configure_lpis(lpi(raw), &[properties]);
        self.serve(kicks);
    }

    fn enable(&mut self, vcpu: VcpuId, enabled: bool) {
        let kicks = self.controller.enable_lpis(vcpu, enabled);
        self.serve(kicks);
    }

    fn fold(&mut self, vcpu: VcpuId) {
        let ich = &mut self.cpus[vcpu.index()];
        let folded = self.controller.fold(vcpu, ich);
        self.controller.flush(vcpu, ich);
        self.serve(folded.kicks);
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
        let mut kicks = Kicks::NONE;
        kicks.insert(vcpu);
        for _ in 0..4 {
            if self.cpus[vcpu.index()].maintenance() {
                self.serve(kicks);
            }
        }
        assert!(!self.cpus[vcpu.index()].maintenance(), "it never ends");
    }

    /// Takes an interrupt and ends it.
    fn take(&mut self, vcpu: VcpuId) -> Option<u32> {
        let taken = self.acknowledge(vcpu)?;
        self.end(vcpu, taken);
        Some(taken)
    }

    fn pending(&mut self, vcpu: VcpuId) -> Vec<u32> {
        self.fold(vcpu);
        let banks = (0..4).map(|bank| 8192 + 32 * bank);
        banks
            .flat_map(|first| {
                let pending = self.controller.pending_lpis(vcpu, lpi(first));
                set_bits(pending).map(move |number| first + number)
            })
            .collect()
    }
}

#[test]
fn a_number_lies_in_one_bank_and_banks_have_their_first_numbers() {
    assert_eq!([0, 31, 32, 1019].map(word_of), [0, 0, 1, 31]);
    assert_eq!([8192, 8223, 8224].map(word_of), [32, 32, 33]);
    assert_eq!([32, 33].map(first_intid), [8192, 8224]);
}

#[test]
fn groups_of_banks_do_not_overlap_and_leave_nothing_out() {
    for count in [1usize, 2, 32, 64, 128, 256] {
        let grouping = Grouping::of(count);
        let grouped = (0..32).flat_map(|group| grouping.words(group));
        assert!(grouped.take(count).eq(32..32 + count));
        for word in 32..32 + count {
            let group = grouping.bit(word) - 32;
            assert!(grouping.words(group).contains(&word));
        }
    }
}

#[test]
fn the_number_of_lpis_is_a_power_of_two_within_limits() {
    let count_of = |count| {
        let mut controller = Controller::new(1, 0).expect("a good shape");
        assert_eq!(controller.lpi_count(), 0);
        controller.add_lpis(count);
        controller.lpi_count()
    };
    assert_eq!([0, 33, 2048, u32::MAX].map(count_of), [32, 64, 2048, 8192]);
}

#[test]
fn a_pending_lpi_is_taken_once_and_is_never_active() {
    Machine::on_both(4, |mut machine| {
        machine.pend(SECOND, 8200);
        assert_eq!(machine.acknowledge(FIRST), None);
        assert_eq!(machine.acknowledge(SECOND), Some(8200));
        machine.fold(SECOND);
        assert_eq!(machine.acknowledge(SECOND), None);
        machine.end(SECOND, 8200);
        assert_eq!(machine.acknowledge(SECOND), None);
        assert_eq!(machine.pending(SECOND), []);
        let view = machine.controller.inspect(SECOND, lpi(8200));
        assert!(view.is_some_and(|view| view.enabled && !view.active && !view.pending));
        machine.pend(SECOND, 8200);
        assert_eq!(machine.take(SECOND), Some(8200), "it comes again");
    });
}

#[test]
fn an_lpi_that_comes_while_it_is_handled_comes_again_afterwards() {
    Machine::on_both(4, |mut machine| {
        machine.pend(FIRST, 8319);
        assert_eq!(machine.acknowledge(FIRST), Some(8319));
        machine.pend(FIRST, 8319);
        assert_eq!(machine.acknowledge(FIRST), None, "of the same priority");
        machine.end(FIRST, 8319);
        assert_eq!(machine.take(FIRST), Some(8319));
        assert_eq!(machine.take(FIRST), None);
    });
}

#[test]
fn with_separate_deactivation_an_lpi_needs_none() {
    Machine::on_both(2, |mut machine| {
        machine.cpus[0].set_eoi_mode(true);
        for raw in 8192..8200 {
            machine.pend(FIRST, raw);
            assert_eq!(machine.take(FIRST), Some(raw));
        }
        assert_eq!(machine.pending(FIRST), []);
    });
}

#[test]
fn more_lpis_than_list_registers_come_in_order_of_their_priority() {
    for lr_count in [1, 2, 4] {
        Machine::on_both(lr_count, |mut machine| {
            for (raw, n) in (8192..8320u32).zip(0u8..) {
                machine.configure(raw, ((n.wrapping_mul(37) % 31) << 3) | 1);
                machine.pend(FIRST, raw);
            }
            let mut last = 0;
            for _ in 8192..8320 {
                let raw = machine.acknowledge(FIRST).expect("none is lost");
                let n = u8::try_from(raw - 8192).expect("128 LPIs");
                let priority = n.wrapping_mul(37) % 31;
                assert!(priority >= last, "{raw} came too late");
                last = priority;
                machine.end(FIRST, raw);
            }
            assert_eq!(machine.acknowledge(FIRST), None);
            assert_eq!(machine.pending(FIRST), []);
        });
    }
}

#[test]
fn ends_of_lpis_are_not_taken_for_those_of_other_interrupts() {
    Machine::on_both(1, |mut machine| {
        // An SPI is active without a list register while LPIs come and go.
        let spi = IntId::spi(3).expect("an SPI");
        for (offset, value) in [(0x084, u32::MAX), (0x104, u32::MAX)] {
            let register = IrqRegister::decode(offset).expect("a register");
            let _ = machine
                .controller
                .write_register(FIRST, register, Width::Word, value.into());
        }
        let register = IrqRegister::decode(0x423).expect("a register");
        let _ = machine
            .controller
            .write_register(FIRST, register, Width::Byte, 0xC0);
        let _ = machine.controller.route(spi, Some(FIRST));
        let kicks = machine.controller.set_spi_level(spi, true);
        machine.serve(kicks);
        assert_eq!(machine.acknowledge(FIRST), Some(35));
        for raw in 8192..8210 {
            machine.pend(FIRST, raw);
            machine.pend(FIRST, raw + 32);
            assert_eq!(machine.take(FIRST), Some(raw));
            assert_eq!(machine.take(FIRST), Some(raw + 32));
        }
        machine.fold(FIRST);
        let view = machine.controller.inspect(FIRST, spi).expect("it exists");
        assert!(view.active, "nobody has ended it");
        let kicks = machine.controller.set_spi_level(spi, false);
        machine.serve(kicks);
        machine.end(FIRST, 35);
        machine.fold(FIRST);
        let view = machine.controller.inspect(FIRST, spi).expect("it exists");
        assert!(!view.active && !view.pending);
    });
}

#[test]
fn properties_count_at_once_even_in_a_list_register() {
    Machine::on_both(4, |mut machine| {
        machine.pend(FIRST, 8200);
        machine.pend(FIRST, 8201);
        machine.configure(8201, 0x41);
        assert_eq!(machine.acknowledge(FIRST), Some(8201), "more urgent now");
        machine.configure(8200, 0xA0);
        machine.end(FIRST, 8201);
        assert_eq!(machine.acknowledge(FIRST), None, "disabled while listed");
        assert_eq!(machine.pending(FIRST), [8200], "but still pending");
        machine.configure(8200, 0xA1);
        assert_eq!(machine.take(FIRST), Some(8200));
    });
}

#[test]
fn the_first_lpi_of_a_bank_is_enabled_without_a_new_priority() {
    Machine::on_both(2, |mut machine| {
        let kicks = machine.controller.configure_lpis(lpi(8192), &[0xA0; 32]);
        machine.serve(kicks);
        machine.pend(FIRST, 8200);
        assert_eq!(machine.take(FIRST), None, "disabled");
        machine.configure(8200, ENABLED);
        assert_eq!(machine.take(FIRST), Some(8200));
    });
}

#[test]
fn the_priority_has_as_many_bits_as_are_implemented_and_never_the_lowest_two() {
    for (bits, expected) in [(4, 0xF0), (5, 0xF8), (6, 0xFC), (8, 0xFC)] {
        let mut controller = Controller::new(1, 0).expect("a good shape");
        controller.add_lpis(32);
        controller.set_priority_bits(bits);
        let _ = controller.configure_lpis(lpi(8192), &[0xFF]);
        let view = controller.inspect(FIRST, lpi(8192)).expect("it exists");
        assert_eq!((view.priority, view.enabled), (expected, true));
    }
}

#[test]
fn a_cleared_lpi_is_not_taken() {
    Machine::on_both(4, |mut machine| {
        machine.pend(FIRST, 8200);
        machine.pend(FIRST, 8201);
        let kicks = machine.controller.clear_lpis(SECOND, lpi(8192), u32::MAX);
        machine.serve(kicks);
        let kicks = machine.controller.clear_lpis(FIRST, lpi(8200), 1 << 8);
        machine.serve(kicks);
        assert_eq!(machine.take(FIRST), Some(8201));
        assert_eq!(machine.take(FIRST), None);
    });
}

#[test]
fn a_pending_lpi_moves_from_list_registers_and_from_the_queue_for_them() {
    Machine::on_both(1, |mut machine| {
        for raw in [8200, 8201, 8202, 8300] {
            machine.pend(FIRST, raw);
        }
        let kicks = machine
            .controller
            .move_lpis(lpi(8192), 0b111 << 8, FIRST, SECOND);
        machine.serve(kicks);
        for raw in [8200, 8201, 8202] {
            assert_eq!(machine.take(SECOND), Some(raw));
        }
        assert_eq!(machine.take(FIRST), Some(8300));
        assert_eq!([machine.take(FIRST), machine.take(SECOND)], [None; 2]);
    });
}

#[test]
fn an_lpi_that_was_taken_meanwhile_does_not_move() {
    Machine::on_both(2, |mut machine| {
        machine.pend(FIRST, 8200);
        assert_eq!(machine.acknowledge(FIRST), Some(8200));
        let kicks = machine
            .controller
            .move_lpis(lpi(8192), u32::MAX, FIRST, SECOND);
        machine.serve(kicks);
        assert_eq!(machine.acknowledge(SECOND), None);
        machine.end(FIRST, 8200);
        assert_eq!([machine.take(FIRST), machine.take(SECOND)], [None; 2]);
    });
}

#[test]
fn a_move_leaves_alone_what_is_pending_elsewhere() {
    let third = VcpuId::new(2);
    let mut controller = Controller::new(3, 0).expect("a good shape");
    controller.add_lpis(32);
    for vcpu in [FIRST, SECOND, third] {
        let _ = controller.enable_lpis(vcpu, true);
    }
    let _ = controller.pend_lpis(FIRST, lpi(8192), 0b001);
    let _ = controller.pend_lpis(third, lpi(8192), 0b110);
    let _ = controller.move_lpis(lpi(8192), 0b011, FIRST, SECOND);
    let pending = |vcpu| controller.pending_lpis(vcpu, lpi(8192));
    assert_eq!([FIRST, SECOND, third].map(pending), [0, 0b001, 0b110]);
}

#[test]
fn only_who_gets_an_lpi_is_kicked() {
    let mut machine = Machine::new(&FakeIch::new(2));
    machine.pend(FIRST, 8200);
    let kicks = machine.controller.pend_lpis(SECOND, lpi(8192), 1 << 9);
    assert!(kicks.into_iter().eq([SECOND]));
    let kicks = machine.controller.pend_lpis(SECOND, lpi(8192), 1 << 9);
    assert!(kicks.is_empty(), "it has been told");
    let kicks = machine.controller.pend_lpis(SECOND, lpi(8200), 1 << 8);
    assert!(kicks.contains(FIRST), "who must give it back");
}

#[test]
fn an_lpi_signalled_elsewhere_goes_there_once() {
    Machine::on_both(2, |mut machine| {
        machine.pend(FIRST, 8200);
        machine.pend(SECOND, 8200);
        assert_eq!(machine.take(FIRST), None);
        assert_eq!(machine.take(SECOND), Some(8200));
        assert_eq!(machine.take(SECOND), None);
    });
}

#[test]
fn disabled_lpis_cannot_become_pending_and_are_not_moved_to() {
    Machine::on_both(2, |mut machine| {
        machine.enable(SECOND, false);
        machine.pend(SECOND, 8200);
        machine.pend(FIRST, 8201);
        let kicks = machine
            .controller
            .move_lpis(lpi(8192), u32::MAX, FIRST, SECOND);
        machine.serve(kicks);
        machine.enable(SECOND, true);
        assert_eq!([machine.take(FIRST), machine.take(SECOND)], [None; 2]);
    });
}

#[test]
fn lpis_disabled_while_listed_stay_pending_and_are_held_back() {
    Machine::on_both(1, |mut machine| {
        machine.pend(FIRST, 8200);
        machine.pend(FIRST, 8300);
        assert!(machine.controller.has_listed_lpis(FIRST));
        machine.deaf = true;
        machine.enable(FIRST, false);
        assert!(machine.controller.has_listed_lpis(FIRST), "not folded yet");
        machine.deaf = false;
        machine.fold(FIRST);
        assert!(!machine.controller.has_listed_lpis(FIRST));
        assert_eq!(machine.take(FIRST), None);
        assert!(!machine.controller.deliverable(FIRST));
        assert_eq!(machine.pending(FIRST), [8200, 8300]);
        machine.enable(FIRST, true);
        assert_eq!(machine.take(FIRST), Some(8200));
        assert_eq!(machine.take(FIRST), Some(8300));
    });
}

#[test]
fn a_sleeping_redistributor_holds_lpis_back() {
    Machine::on_both(2, |mut machine| {
        let kicks = machine.controller.set_awake(FIRST, false);
        machine.serve(kicks);
        machine.pend(FIRST, 8200);
        assert_eq!(machine.take(FIRST), None);
        let kicks = machine.controller.set_awake(FIRST, true);
        assert!(kicks.contains(FIRST));
        machine.serve(kicks);
        assert_eq!(machine.take(FIRST), Some(8200));
    });
}

#[test]
fn waking_does_not_enable_lpis() {
    let mut machine = Machine::new(&FakeIch::new(2));
    machine.pend(FIRST, 8200);
    machine.enable(FIRST, false);
    let _ = machine.controller.set_awake(FIRST, false);
    let kicks = machine.controller.set_awake(FIRST, true);
    machine.serve(kicks);
    assert_eq!(machine.take(FIRST), None);
}

#[test]
fn group_1_must_be_enabled() {
    let mut machine = Machine::new(&FakeIch::new(2));
    let kicks = machine.controller.enable_groups(true, false);
    machine.serve(kicks);
    machine.pend(FIRST, 8200);
    assert_eq!(machine.take(FIRST), None);
    let kicks = machine.controller.enable_groups(false, true);
    machine.serve(kicks);
    assert_eq!(machine.take(FIRST), Some(8200));
}

#[test]
fn a_waiting_vcpu_wakes_for_an_lpi() {
    let mut machine = Machine::new(&FakeIch::new(2));
    let _ = machine.controller.save(FIRST, &mut machine.cpus[0]);
    assert!(!machine.controller.deliverable(FIRST));
    let kicks = machine.controller.pend_lpis(FIRST, lpi(8300), 1 << 12);
    assert!(kicks.contains(FIRST));
    assert!(machine.controller.deliverable(FIRST));
    machine.controller.load(FIRST, &mut machine.cpus[0]);
    assert_eq!(machine.take(FIRST), Some(8300));
}

#[test]
fn lpis_that_do_not_exist_are_passed_over() {
    let mut machine = Machine::new(&FakeIch::new(2));
    for raw in [0, 27, 32, 63, 1019, 8320, 1 << 20] {
        let other = lpi(raw);
        let controller = &mut machine.controller;
        assert!(controller.pend_lpis(FIRST, other, u32::MAX).is_empty());
        assert!(controller.clear_lpis(FIRST, other, u32::MAX).is_empty());
        assert!(controller.configure_lpis(other, &[0xFF; 32]).is_empty());
        let moved = controller.move_lpis(other, u32::MAX, FIRST, SECOND);
        assert!(moved.is_empty());
        assert_eq!(controller.pending_lpis(FIRST, other), 0);
        assert!(controller.set_pending(FIRST, lpi(8200)).is_empty());
        assert!(controller.route(lpi(8200), Some(SECOND)).is_empty());
    }
    assert_eq!([machine.take(FIRST), machine.take(SECOND)], [None; 2]);
}

#[test]
fn a_reset_clears_lpis_and_keeps_their_room() {
    let mut machine = Machine::new(&FakeIch::new(2));
    machine.pend(FIRST, 8200);
    for (vcpu, ich) in [FIRST, SECOND].into_iter().zip(&mut machine.cpus) {
        let _ = machine.controller.save(vcpu, ich);
    }
    machine.controller.reset();
    assert!(!machine.controller.lpis_enabled(FIRST));
    assert_eq!(machine.controller.lpi_count(), 128);
    let _ = machine.controller.enable_groups(true, true);
    let _ = machine.controller.enable_lpis(FIRST, true);
    machine.controller.load(FIRST, &mut machine.cpus[0]);
    machine.cpus[0].open();
    assert_eq!(machine.take(FIRST), None);
    machine.pend(FIRST, 8200);
    assert_eq!(machine.take(FIRST), None, "disabled");
    machine.configure(8200, ENABLED);
    assert_eq!(machine.take(FIRST), Some(8200));
}

#[test]
fn four_vcpus_256_spis_and_2048_lpis_leave_room_within_64_kib() {
    let mut controller = Controller::new(4, 256).expect("a good shape");
    controller.add_lpis(2048);
    let shared = controller.shared.spis.len() + controller.shared.lpis.len();
    let claims = 4 * 2048 / 8;
    let bytes = size_of_val(&controller)
        + shared * size_of::<SpiBank>()
        + size_of_val(&*controller.vcpus)
        + claims;
    assert!(bytes < 32 * 1024, "{bytes}");
}

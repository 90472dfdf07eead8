//! What moves when a vCPU is bound and unbound, and what a reset leaves.

use arm_vcpu::fakes::{ScriptedGuest, hypercall};
use arm_vcpu::{
    Aarch64VCpu, AxArchVCpu, AxVCpuExitReason, CpuFeatures, CreateConfig, IdRegisters, RawExit,
    SCTLR_EL1_RESET, SetupConfig, SystemRegister, TimerState, VcpuError,
};
use vm_contract::{GuestPhysAddr, HostPhysAddr, VcpuId, VmId};

// A vCPU moves between CPUs, and so between the threads of a host.
static_assertions::assert_impl_all!(Aarch64VCpu<ScriptedGuest>: Send);

const ENTRY: u64 = 0x4008_0000;
const TWI: u64 = 1 << 13;
const VSE: u64 = 1 << 8;

fn setup_config(ids: IdRegisters) -> SetupConfig {
    SetupConfig {
        hw_vmid: 0x1234,
        vtcr: 0x8000_3559,
        cntvoff: 77,
        trap_wfi: true,
        id_registers: ids,
        x0: 0x4800_0000,
    }
}

#[expect(clippy::unwrap_used, reason = "a failure here fails the test")]
fn created(guest: ScriptedGuest) -> Aarch64VCpu<ScriptedGuest> {
    let config = CreateConfig {
        hal: guest,
        mpidr: 3,
        midr: 0x410F_D034,
    };
    let mut vcpu = Aarch64VCpu::new(VmId::new(5), VcpuId::new(3), config).unwrap();
    vcpu.set_entry(GuestPhysAddr::from(usize::try_from(ENTRY).unwrap()))
        .unwrap();
    vcpu.set_ept_root(HostPhysAddr::from(0x8_4000)).unwrap();
    vcpu
}

#[expect(clippy::unwrap_used, reason = "a failure here fails the test")]
fn bound(guest: ScriptedGuest) -> Aarch64VCpu<ScriptedGuest> {
    let mut vcpu = created(guest);
    vcpu.setup(setup_config(IdRegisters::default())).unwrap();
    vcpu.bind().unwrap();
    vcpu
}

#[test]
fn a_vcpu_starts_at_its_entry_with_everything_masked_and_its_argument() {
    let guest = ScriptedGuest::new().then(|frame, registers| {
        assert_eq!(frame.elr, ENTRY);
        assert_eq!(frame.spsr, 0x3C5);
        assert_eq!(frame.gpr[0], 0x4800_0000);
        assert!(frame.gpr[1..].iter().all(|register| *register == 0));
        assert_eq!(registers.sctlr_el1, SCTLR_EL1_RESET);
        assert_eq!(registers.sctlr_el1 & 0b101, 0, "MMU and data cache off");
        RawExit::Irq
    });
    let mut vcpu = bound(guest);
    assert_eq!(vcpu.run(), Ok(AxVCpuExitReason::ExternalInterrupt));
    assert_eq!(vcpu.id(), VcpuId::new(3));
    assert_eq!(vcpu.vm(), VmId::new(5));
}

#[test]
fn the_el2_controls_carry_what_setup_was_told() {
    let guest = ScriptedGuest::new().then(|_, registers| {
        let controls = registers.controls;
        assert_eq!(controls.vttbr, 0x1234 << 48 | 0x8_4000);
        assert_eq!(controls.vtcr, 0x8000_3559);
        assert_eq!(controls.vmpidr, 1 << 31 | 3);
        assert_eq!(controls.vpidr, 0x410F_D034);
        assert_eq!(controls.cntvoff, 77);
        assert_eq!(controls.hcrx, 0);
        assert_ne!(controls.hcr & TWI, 0);
        assert_ne!(controls.hcr & 1, 0, "stage 2 is on");
        RawExit::Irq
    });
    let mut vcpu = bound(guest);
    assert_eq!(vcpu.run(), Ok(AxVCpuExitReason::ExternalInterrupt));
    assert_eq!(vcpu.mpidr(), 1 << 31 | 3);
    assert_eq!(vcpu.counter_offset(), 77);
}

#[test]
fn the_root_and_the_vmid_may_come_in_either_order() {
    let mut vcpu = created(ScriptedGuest::new().then(|_, registers| {
        assert_eq!(registers.controls.vttbr, 0x1234 << 48 | 0xA_0000);
        RawExit::Irq
    }));
    vcpu.setup(setup_config(IdRegisters::default())).unwrap();
    vcpu.set_ept_root(HostPhysAddr::from(0xA_0000)).unwrap();
    vcpu.bind().unwrap();
    assert_eq!(vcpu.run(), Ok(AxVCpuExitReason::ExternalInterrupt));
}

#[test]
fn a_root_that_vttbr_cannot_hold_is_refused() {
    let mut vcpu = created(ScriptedGuest::new());
    for root in [1, 1 << 48, usize::MAX] {
        assert_eq!(
            vcpu.set_ept_root(HostPhysAddr::from(root)),
            Err(VcpuError::InvalidAddress)
        );
    }
}

#[test]
fn what_a_guest_wrote_comes_back_with_it() {
    let guest = ScriptedGuest::new()
        .then(|frame, registers| {
            frame.gpr[19] = 19;
            registers.tpidr_el1 = 0xAAAA;
            registers.fp.v[31] = u128::MAX;
            registers.pauth.apga.high = 9;
            hypercall(0)
        })
        .then(|frame, registers| {
            assert_eq!(frame.gpr[19], 19);
            assert_eq!(registers.tpidr_el1, 0xAAAA);
            assert_eq!(registers.fp.v[31], u128::MAX);
            assert_eq!(registers.pauth.apga.high, 9);
            hypercall(1)
        });
    let mut vcpu = bound(guest);
    assert_eq!(vcpu.run(), Ok(AxVCpuExitReason::Hypercall { immediate: 0 }));
    vcpu.unbind().unwrap();
    vcpu.bind().unwrap();
    assert_eq!(vcpu.run(), Ok(AxVCpuExitReason::Hypercall { immediate: 1 }));
    assert_eq!(vcpu.hal().steps_left(), 0);
}

#[test]
fn a_reset_leaves_no_trace_of_the_life_before() {
    for stay_bound in [true, false] {
        let guest = ScriptedGuest::new()
            .then(|frame, registers| {
                frame.gpr.fill(0x5EC2E7);
                registers.fp.v.fill(0x5EC2E7);
                registers.fp.fpcr = 0x5EC2E7;
                registers.pauth.apia.low = 0x5EC2E7;
                registers.sctlr_el1 = u64::MAX;
                registers.sp_el0 = 0x5EC2E7;
                registers.timer = TimerState { ctl: 1, cval: 3 };
                registers.controls.hcr |= VSE;
                RawExit::Irq
            })
            .then(|frame, registers| {
                assert_eq!((frame.elr, frame.spsr), (0x9000, 0x3C5));
                assert_eq!(frame.gpr[0], 42);
                assert!(frame.gpr[1..].iter().all(|register| *register == 0));
                let mut fresh = arm_vcpu::GuestSystemRegisters::new(
                    registers.features,
                    &IdRegisters::default(),
                );
                fresh.controls = registers.controls;
                assert_eq!(*registers, fresh);
                assert_eq!(registers.controls.hcr & VSE, 0);
                assert_ne!(registers.controls.hcr & TWI, 0);
                assert_eq!(registers.controls.cntvoff, 77);
                RawExit::Irq
            });
        let mut vcpu = bound(guest);
        assert_eq!(vcpu.run(), Ok(AxVCpuExitReason::ExternalInterrupt));
        vcpu.inject_interrupt(33).unwrap();
        if !stay_bound {
            vcpu.unbind().unwrap();
        }
        vcpu.reset(GuestPhysAddr::from(0x9000), 42);
        if !stay_bound {
            vcpu.bind().unwrap();
        }
        assert_eq!(vcpu.take_injected_interrupts().count(), 0);
        assert_eq!(vcpu.run(), Ok(AxVCpuExitReason::ExternalInterrupt));
    }
}

#[test]
fn calls_out_of_order_are_refused() {
    let mut vcpu = created(ScriptedGuest::new());
    assert_eq!(vcpu.bind(), Err(VcpuError::NotSetUp));
    assert_eq!(vcpu.run(), Err(VcpuError::NotBound));
    assert_eq!(vcpu.unbind(), Err(VcpuError::NotBound));
    vcpu.setup(setup_config(IdRegisters::default())).unwrap();
    assert_eq!(vcpu.run(), Err(VcpuError::NotBound));
    vcpu.bind().unwrap();
    assert_eq!(vcpu.bind(), Err(VcpuError::Bound));
    assert_eq!(
        vcpu.set_entry(GuestPhysAddr::from(0)),
        Err(VcpuError::Bound)
    );
    assert_eq!(
        vcpu.set_ept_root(HostPhysAddr::from(0)),
        Err(VcpuError::Bound)
    );
    assert_eq!(
        vcpu.setup(setup_config(IdRegisters::default())),
        Err(VcpuError::Bound)
    );
}

#[test]
fn the_timer_can_be_read_and_set_bound_or_not() {
    let mut vcpu = bound(ScriptedGuest::new().then(|_, registers| {
        assert_eq!(registers.timer, TimerState { ctl: 1, cval: 500 });
        RawExit::Irq
    }));
    vcpu.set_virtual_timer(TimerState { ctl: 1, cval: 500 });
    assert_eq!(vcpu.virtual_timer().deadline(), Some(500));
    assert_eq!(vcpu.run(), Ok(AxVCpuExitReason::ExternalInterrupt));
    vcpu.unbind().unwrap();
    assert_eq!(vcpu.virtual_timer().deadline(), Some(500));
    vcpu.set_virtual_timer(TimerState { ctl: 3, cval: 600 });
    vcpu.bind().unwrap();
    assert_eq!(vcpu.virtual_timer(), TimerState { ctl: 3, cval: 600 });
    assert_eq!(vcpu.virtual_timer().deadline(), None, "masked");
}

#[test]
fn a_timer_is_due_from_its_compare_value_on() {
    let timer = TimerState { ctl: 1, cval: 100 };
    assert!(!timer.asserted_at(99));
    assert!(timer.asserted_at(100));
    assert!(!TimerState { ctl: 0, ..timer }.asserted_at(100));
    assert!(!TimerState { ctl: 3, ..timer }.asserted_at(100));
}

#[test]
fn trapping_of_wfi_can_be_changed_while_bound() {
    let mut vcpu = bound(
        ScriptedGuest::new()
            .then(|_, registers| {
                assert_eq!(registers.controls.hcr & TWI, 0);
                RawExit::Irq
            })
            .then(|_, registers| {
                assert_ne!(registers.controls.hcr & TWI, 0);
                RawExit::Irq
            }),
    );
    vcpu.set_trap_wfi(false);
    assert_eq!(vcpu.run(), Ok(AxVCpuExitReason::ExternalInterrupt));
    vcpu.unbind().unwrap();
    vcpu.set_trap_wfi(true);
    vcpu.bind().unwrap();
    assert_eq!(vcpu.run(), Ok(AxVCpuExitReason::ExternalInterrupt));
}

#[test]
fn a_pending_serror_ends_when_the_guest_has_taken_it() {
    let mut vcpu = bound(
        ScriptedGuest::new()
            .then(|_, registers| {
                assert_ne!(registers.controls.hcr & VSE, 0);
                registers.controls.hcr &= !VSE;
                RawExit::Irq
            })
            .then(|_, registers| {
                assert_eq!(registers.controls.hcr & VSE, 0);
                RawExit::Irq
            }),
    );
    vcpu.inject_serror();
    assert_eq!(vcpu.run(), Ok(AxVCpuExitReason::ExternalInterrupt));
    vcpu.unbind().unwrap();
    vcpu.bind().unwrap();
    assert_eq!(vcpu.run(), Ok(AxVCpuExitReason::ExternalInterrupt));
}

#[test]
fn interrupts_asked_for_are_handed_over_once() {
    let mut vcpu = bound(ScriptedGuest::new());
    for vector in [48, 27, 48] {
        vcpu.inject_interrupt(vector).unwrap();
    }
    assert_eq!(vcpu.inject_interrupt(1020), Err(VcpuError::NoSuchInterrupt));
    let taken: Vec<u32> = vcpu.take_injected_interrupts().map(|id| id.raw()).collect();
    assert_eq!(taken, [27, 48]);
    assert_eq!(vcpu.take_injected_interrupts().count(), 0);
}

#[test]
fn pointer_authentication_is_enabled_exactly_when_it_is_shown() {
    const API_APK: u64 = 0b11 << 40;
    let host = |register| match register {
        SystemRegister::ID_AA64ISAR1_EL1 => 1 << 4,
        _ => 0,
    };
    for (ids, enabled) in [
        (IdRegisters::new(host, 40), API_APK),
        (IdRegisters::default(), 0),
    ] {
        let guest = ScriptedGuest::new()
            .with_features(CpuFeatures::detect(host))
            .then(move |_, registers| {
                assert_eq!(registers.controls.hcr & API_APK, enabled);
                RawExit::Irq
            });
        let mut vcpu = created(guest);
        vcpu.setup(setup_config(ids)).unwrap();
        vcpu.bind().unwrap();
        assert_eq!(vcpu.run(), Ok(AxVCpuExitReason::ExternalInterrupt));
    }
}

#[test]
fn a_counter_offset_holds_from_the_next_turn_on() {
    let seen = |offset| {
        move |_: &mut _, registers: &mut arm_vcpu::GuestSystemRegisters| {
            assert_eq!(registers.controls.cntvoff, offset);
            RawExit::Irq
        }
    };
    let mut vcpu = bound(ScriptedGuest::new().then(seen(77)).then(seen(1077)));
    assert_eq!(vcpu.run(), Ok(AxVCpuExitReason::ExternalInterrupt));
    assert_eq!(vcpu.unbind(), Ok(()));
    vcpu.set_counter_offset(1077);
    assert_eq!(vcpu.counter_offset(), 1077);
    assert_eq!(vcpu.bind(), Ok(()));
    assert_eq!(vcpu.run(), Ok(AxVCpuExitReason::ExternalInterrupt));
}

#[test]
fn a_guest_at_the_vector_of_its_own_exceptions_is_found_there() {
    const VECTORS: u64 = 0x4010_0000;
    let guest = ScriptedGuest::new().then(|frame, registers| {
        registers.vbar_el1 = VECTORS;
        frame.elr = VECTORS + 0x1000;
        RawExit::Irq
    });
    let mut vcpu = bound(guest);
    assert_eq!(vcpu.run(), Ok(AxVCpuExitReason::ExternalInterrupt));
    assert!(!vcpu.is_at_own_vector());
    vcpu.inject_undefined();
    assert_eq!(vcpu.pc(), VECTORS + 0x200);
    assert!(vcpu.is_at_own_vector(), "another one leads here again");
}

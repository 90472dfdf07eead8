//! Answering a guest: registers loaded, the PC stepped exactly once, and
//! exceptions delivered.

use arm_vcpu::exception::Exception;
use arm_vcpu::fakes::{
    ScriptedGuest, hypercall, load, secure_monitor_call, store, system_register,
    undescribed_access, wait_for_interrupt,
};
use arm_vcpu::{
    Aarch64VCpu, AxArchVCpu, AxVCpuExitReason, IdRegisters, RawExit, Syndrome, SystemRegister,
};
use vm_contract::{AccessError, GuestMemory, GuestPhysAddr, Width};

const ENTRY: u64 = 0x4000_0000;
const DEVICE: u64 = 0x0A00_0000;
const VBAR: u64 = 0x4010_0000;
/// The vector of a synchronous exception from EL1 with SP_EL1.
const VECTOR: u64 = VBAR + 0x200;

/// Guest memory that holds one instruction, at [`ENTRY`].
struct Instruction(u32);

impl GuestMemory for Instruction {
    fn read(&self, address: GuestPhysAddr, buffer: &mut [u8]) -> Result<(), AccessError> {
        if usize::from(address) as u64 == ENTRY && buffer.len() == 4 {
            buffer.copy_from_slice(&self.0.to_le_bytes());
            Ok(())
        } else {
            Err(AccessError::OutsideMemory)
        }
    }

    fn write(&self, _: GuestPhysAddr, _: &[u8]) -> Result<(), AccessError> {
        Err(AccessError::ReadOnly)
    }
}

#[expect(clippy::unwrap_used, reason = "a failure here fails the test")]
fn bound(guest: ScriptedGuest) -> Aarch64VCpu<ScriptedGuest> {
    let entry = GuestPhysAddr::from(usize::try_from(ENTRY).unwrap());
    guest.into_vcpu(entry, IdRegisters::default())
}

#[expect(clippy::unwrap_used, reason = "a failure here fails the test")]
fn next(vcpu: &mut Aarch64VCpu<ScriptedGuest>) -> AxVCpuExitReason {
    vcpu.run().unwrap()
}

/// A vCPU whose guest has set X0 to the device and then made `exit`.
fn after(exit: RawExit) -> Aarch64VCpu<ScriptedGuest> {
    bound(ScriptedGuest::new().then(move |frame, registers| {
        frame.gpr[0] = DEVICE;
        registers.vbar_el1 = VBAR;
        registers.sp_el1 = DEVICE;
        exit
    }))
}

#[expect(clippy::panic, reason = "a failure here fails the test")]
fn decoded(vcpu: &mut Aarch64VCpu<ScriptedGuest>, instruction: u32) -> Option<AxVCpuExitReason> {
    let AxVCpuExitReason::UndecodedAccess(access) = next(vcpu) else {
        panic!("the access has no valid syndrome");
    };
    vcpu.decode_undecoded(access, &Instruction(instruction))
}

#[expect(clippy::panic, reason = "a failure here fails the test")]
fn read_from(reason: AxVCpuExitReason) -> arm_vcpu::MmioRead {
    let AxVCpuExitReason::MmioRead(read) = reason else {
        panic!("{reason:?} is not a read");
    };
    read
}

#[expect(clippy::panic, reason = "a failure here fails the test")]
fn write_to(reason: AxVCpuExitReason) -> arm_vcpu::MmioWrite {
    let AxVCpuExitReason::MmioWrite(write) = reason else {
        panic!("{reason:?} is not a write");
    };
    write
}

#[test]
fn a_load_fills_its_register_and_steps_once() {
    let mut vcpu = after(load(DEVICE + 4, 2, 7));
    let read = read_from(next(&mut vcpu));
    assert_eq!(usize::from(read.address()) as u64, DEVICE + 4);
    assert_eq!(read.width(), Width::Word);
    vcpu.complete_read(read, 0xFFFF_FFFF_1234_5678);
    assert_eq!(vcpu.gpr(7), 0x1234_5678);
    assert_eq!(vcpu.pc(), ENTRY + 4);
}

#[test]
fn a_store_carries_its_value_and_steps_once() {
    let mut vcpu = after(store(DEVICE, 3, 0));
    let write = write_to(next(&mut vcpu));
    assert_eq!(write.value(), DEVICE);
    vcpu.complete_write(write);
    assert_eq!(vcpu.pc(), ENTRY + 4);
}

#[test]
fn a_hypercall_has_stepped_already_and_returns_in_x0() {
    let mut vcpu = bound(ScriptedGuest::new().then(|frame, _| {
        frame.elr += 4;
        hypercall(3)
    }));
    assert_eq!(
        next(&mut vcpu),
        AxVCpuExitReason::Hypercall { immediate: 3 }
    );
    vcpu.set_return_value(99);
    assert_eq!((vcpu.gpr(0), vcpu.pc()), (99, ENTRY + 4));
}

#[test]
fn trapped_instructions_are_stepped_over_by_their_length() {
    for (exit, length) in [
        (secure_monitor_call(0), 4),
        (wait_for_interrupt(), 4),
        // A WFI of two bytes, from T32 state: IL is clear.
        (
            RawExit::Synchronous(Syndrome {
                esr: 0x01 << 26,
                far: 0,
                hpfar: 0,
            }),
            2,
        ),
    ] {
        let mut vcpu = after(exit);
        let _ = next(&mut vcpu);
        assert_eq!(vcpu.pc(), ENTRY);
        vcpu.skip_instruction();
        assert_eq!(vcpu.pc(), ENTRY + length);
    }
}

#[test]
fn a_system_register_is_read_and_written_with_one_step_each() {
    let mut vcpu = bound(
        ScriptedGuest::new()
            .then_exit(system_register(SystemRegister::CNTP_CTL_EL0, 9, true))
            .then(|frame, _| {
                frame.gpr[3] = 0xABC;
                system_register(SystemRegister::ICC_SGI1R_EL1, 3, false)
            }),
    );
    let AxVCpuExitReason::SystemRegisterRead(read) = next(&mut vcpu) else {
        panic!("a read");
    };
    assert_eq!(read.register(), SystemRegister::CNTP_CTL_EL0);
    vcpu.complete_system_read(read, 5);
    assert_eq!((vcpu.gpr(9), vcpu.pc()), (5, ENTRY + 4));

    let AxVCpuExitReason::SystemRegisterWrite(write) = next(&mut vcpu) else {
        panic!("a write");
    };
    assert_eq!(write.register(), SystemRegister::ICC_SGI1R_EL1);
    assert_eq!(write.value(), 0xABC);
    vcpu.complete_system_write(write);
    assert_eq!(vcpu.pc(), ENTRY + 8);
}

#[test]
fn a_pair_is_two_loads_and_its_registers_change_at_the_end() {
    // LDP X1, X2, [X0], #16
    let mut vcpu = after(undescribed_access(DEVICE, false));
    let first = read_from(decoded(&mut vcpu, 0xA8C1_0801).unwrap());
    assert_eq!(usize::from(first.address()) as u64, DEVICE);
    vcpu.complete_read(first, 0x11);
    assert_eq!((vcpu.gpr(1), vcpu.pc()), (0, ENTRY), "half done");

    let second = read_from(next(&mut vcpu));
    assert_eq!(usize::from(second.address()) as u64, DEVICE + 8);
    vcpu.complete_read(second, 0x22);
    assert_eq!((vcpu.gpr(1), vcpu.gpr(2)), (0x11, 0x22));
    assert_eq!(vcpu.gpr(0), DEVICE + 16);
    assert_eq!(vcpu.pc(), ENTRY + 4);
}

#[test]
fn a_pair_of_stores_takes_both_values() {
    // STP W0, WZR, [X0]
    let mut vcpu = after(undescribed_access(DEVICE, true));
    let first = write_to(decoded(&mut vcpu, 0x2900_7C00).unwrap());
    assert_eq!((first.width(), first.value()), (Width::Word, DEVICE));
    vcpu.complete_write(first);
    let second = write_to(next(&mut vcpu));
    assert_eq!(usize::from(second.address()) as u64, DEVICE + 4);
    assert_eq!(second.value(), 0);
    vcpu.complete_write(second);
    assert_eq!((vcpu.pc(), vcpu.gpr(0)), (ENTRY + 4, DEVICE));
}

#[test]
fn an_abort_in_the_middle_of_a_pair_leaves_it_to_start_anew() {
    // LDP X1, X2, [X0], #16
    let mut vcpu = after(undescribed_access(DEVICE, false));
    let first = read_from(decoded(&mut vcpu, 0xA8C1_0801).unwrap());
    vcpu.complete_read(first, 0x11);
    let second = read_from(next(&mut vcpu));
    vcpu.inject_data_abort(Some(second.virtual_address()), false);
    assert_eq!((vcpu.gpr(0), vcpu.gpr(1)), (DEVICE, 0), "nothing changed");
    assert_eq!(vcpu.pc(), VECTOR);
}

#[test]
fn a_guest_goes_on_after_an_abort_in_the_middle_of_a_pair() {
    for in_two_turns in [false, true] {
        let mut vcpu = bound(
            ScriptedGuest::new()
                .then(|frame, registers| {
                    frame.gpr[0] = DEVICE;
                    registers.vbar_el1 = VBAR;
                    undescribed_access(DEVICE, false)
                })
                .then(|frame, _| {
                    assert_eq!((frame.elr, frame.gpr[1]), (VECTOR, 0));
                    RawExit::Irq
                }),
        );
        // LDP X1, X2, [X0], #16
        let first = read_from(decoded(&mut vcpu, 0xA8C1_0801).unwrap());
        vcpu.complete_read(first, 0x11);
        if in_two_turns {
            vcpu.unbind().unwrap();
            vcpu.bind().unwrap();
        }
        let second = read_from(next(&mut vcpu));
        assert_eq!(usize::from(second.address()) as u64, DEVICE + 8);
        vcpu.inject_data_abort(Some(second.virtual_address()), false);
        assert_eq!(next(&mut vcpu), AxVCpuExitReason::ExternalInterrupt);
    }
}

#[test]
fn write_back_reaches_the_stack_pointer_in_use() {
    // STR X0, [SP, #-16]!
    for (spsr, sp_el0, sp_el1) in [(0x3C5, 0, DEVICE), (0x3C4, DEVICE, 0)] {
        let mut vcpu = bound(
            ScriptedGuest::new()
                .then(move |frame, registers| {
                    frame.spsr = spsr;
                    (registers.sp_el0, registers.sp_el1) = (sp_el0, sp_el1);
                    undescribed_access(DEVICE - 16, true)
                })
                .then(move |_, registers| {
                    let moved = |sp: u64| if sp == 0 { 0 } else { sp - 16 };
                    assert_eq!(registers.sp_el0, moved(sp_el0));
                    assert_eq!(registers.sp_el1, moved(sp_el1));
                    RawExit::Irq
                }),
        );
        let write = write_to(decoded(&mut vcpu, 0xF81F_0FE0).unwrap());
        vcpu.complete_write(write);
        assert_eq!(vcpu.pc(), ENTRY + 4);
        assert_eq!(next(&mut vcpu), AxVCpuExitReason::ExternalInterrupt);
    }
}

#[test]
fn an_access_that_is_not_emulated_becomes_an_abort() {
    // LDXR X1, [X0]
    let mut vcpu = after(undescribed_access(DEVICE, false));
    let answer = decoded(&mut vcpu, 0xC85F_7C01);
    assert!(matches!(
        answer,
        Some(AxVCpuExitReason::Injected(Exception::DataAbort {
            address: Some(DEVICE),
            ..
        }))
    ));
    assert_eq!(vcpu.pc(), VECTOR);
}

#[test]
fn an_instruction_that_changed_meanwhile_is_run_again() {
    // LDR X1, [X2]: X2 is zero, so this did not fault at the device.
    let mut vcpu = after(undescribed_access(DEVICE, false));
    assert_eq!(decoded(&mut vcpu, 0xF940_0041), None);
    assert_eq!(vcpu.pc(), ENTRY);
}

#[test]
fn an_instruction_outside_memory_becomes_an_abort() {
    let mut vcpu = bound(ScriptedGuest::new().then(|frame, registers| {
        frame.elr = 0x1000;
        registers.vbar_el1 = VBAR;
        undescribed_access(DEVICE, true)
    }));
    assert!(matches!(
        decoded(&mut vcpu, 0),
        Some(AxVCpuExitReason::Injected(_))
    ));
    assert_eq!(vcpu.pc(), VECTOR);
}

#[test]
fn what_the_guest_does_not_have_is_undefined_for_it() {
    // An access trapped because SVE is off.
    let exit = RawExit::Synchronous(Syndrome {
        esr: 0x19 << 26 | 1 << 25,
        far: 0,
        hpfar: 0,
    });
    let mut vcpu = bound(
        ScriptedGuest::new()
            .then(move |_, registers| {
                registers.vbar_el1 = VBAR;
                exit
            })
            .then(|frame, registers| {
                assert_eq!(frame.elr, VECTOR);
                assert_eq!(registers.elr_el1, ENTRY);
                assert_eq!(registers.spsr_el1, 0x3C5);
                assert_eq!(registers.esr_el1, 1 << 25, "unknown reason");
                RawExit::Irq
            }),
    );
    assert_eq!(
        next(&mut vcpu),
        AxVCpuExitReason::Injected(Exception::Undefined)
    );
    assert_eq!(next(&mut vcpu), AxVCpuExitReason::ExternalInterrupt);
}

#[test]
fn aborts_report_the_address_if_there_is_one() {
    for (far, esr) in [
        (Some(0xFFFF_0000_0000_1234), 0x9600_0010),
        (None, 0x9600_0410_u64),
    ] {
        let mut vcpu = bound(
            ScriptedGuest::new()
                .then(|_, registers| {
                    registers.far_el1 = 0x77;
                    RawExit::Irq
                })
                .then(move |_, registers| {
                    assert_eq!(registers.esr_el1, esr);
                    assert_eq!(registers.far_el1, far.unwrap_or(0x77));
                    RawExit::Irq
                }),
        );
        let _ = next(&mut vcpu);
        vcpu.inject_data_abort(far, false);
        let _ = next(&mut vcpu);
    }
}

#[test]
fn injection_works_on_a_vcpu_that_is_not_bound() {
    let mut vcpu = bound(ScriptedGuest::new().then(|frame, registers| {
        assert_eq!(frame.elr, 0x200);
        assert_eq!(registers.elr_el1, ENTRY);
        assert_eq!(registers.esr_el1, 0x8600_0010);
        RawExit::Irq
    }));
    vcpu.unbind().unwrap();
    vcpu.inject_instruction_abort(Some(ENTRY));
    vcpu.bind().unwrap();
    assert_eq!(next(&mut vcpu), AxVCpuExitReason::ExternalInterrupt);
}

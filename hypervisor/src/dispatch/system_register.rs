//! Trapped system registers: those that arm-vcpu answers by itself, those of
//! the interrupt controller and those of the physical timer.

use arm_vcpu::{SystemRegister, SystemRegisterRead, SystemRegisterWrite};
use arm_vgic_v3::SgiRegister;

use super::Outcome;
use crate::cpu::Cpu;
use crate::telemetry::Reason;
use crate::vcpu::Vcpu;

/// Answers an MRS.
#[inline(always)]
pub(super) fn read<C: Cpu>(cpu: &C, vcpu: &mut Vcpu<C::Hal>, read: SystemRegisterRead) -> Outcome {
    vcpu.exits.reason = Reason::SystemRegisterRead;
    let register = read.register();
    let value = vcpu
        .arch
        .emulate_system_read(register)
        .or_else(|| vcpu.physical_timer.read(register, cpu.now_ticks()));
    match value {
        Some(value) => vcpu.arch.complete_system_read(read, value),
        None => vcpu.arch.inject_undefined(),
    }
    Outcome::Resume
}

/// Answers an MSR or a system instruction.
#[inline(always)]
pub(super) fn write<C: Cpu>(
    cpu: &mut C,
    vcpu: &mut Vcpu<C::Hal>,
    write: SystemRegisterWrite,
) -> Outcome {
    vcpu.exits.reason = Reason::SystemRegisterWrite;
    let (register, value) = (write.register(), write.value());
    let sgi = sgi_register(register);
    let is_of_gic = sgi.is_some() || register == SystemRegister::ICC_DIR_EL1;
    if is_of_gic && !vcpu.arch.has_gic_registers() {
        vcpu.arch.inject_undefined();
        return Outcome::Resume;
    }
    if let Some(sgi) = sgi {
        vcpu.exits.reason = Reason::Sgi;
        vcpu.send_sgi(cpu, sgi, value);
    } else if is_of_gic {
        vcpu.exits.reason = Reason::Deactivation;
        vcpu.deactivate_interrupt(cpu, |vgic, id| vgic.deactivate(id, value));
    } else if vcpu.physical_timer.write(register, value, cpu.now_ticks()) {
        vcpu.exits.reason = Reason::PhysicalTimer;
        let now = cpu.now_ticks();
        vcpu.update_physical_timer(now);
        cpu.set_deadline(vcpu.deadline(now));
    } else if !vcpu.arch.emulate_system_write(register, value) {
        vcpu.arch.inject_undefined();
        return Outcome::Resume;
    }
    vcpu.arch.complete_system_write(write);
    Outcome::Resume
}

fn sgi_register(register: SystemRegister) -> Option<SgiRegister> {
    match register {
        SystemRegister::ICC_SGI1R_EL1 => Some(SgiRegister::Sgi1),
        SystemRegister::ICC_ASGI1R_EL1 => Some(SgiRegister::Asgi1),
        SystemRegister::ICC_SGI0R_EL1 => Some(SgiRegister::Sgi0),
        _ => None,
    }
}

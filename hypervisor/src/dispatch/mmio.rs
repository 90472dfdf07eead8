//! Loads and stores that reach no memory: devices, the interrupt controller,
//! and nothing at all.

use arm_vcpu::{AxVCpuHal, MmioRead, MmioWrite};
use arm_vgic_v3::{Frame, Kicks, Vgic};
use vm_contract::{AccessError, DeviceContext, GuestPhysAddr, VcpuId, Width};

use super::Outcome;
use crate::cpu::Cpu;
use crate::vcpu::Vcpu;
use crate::vm::Line;
use crate::vm::bus::{SharedDevice, Target};

/// Answers a load.
#[inline]
pub(super) fn read<C: Cpu>(cpu: &mut C, vcpu: &mut Vcpu<C::Hal>, read: MmioRead) -> Outcome {
    let (address, width) = (read.address(), read.width());
    let value = match vgic_frame(vcpu, address, width) {
        Some((frame, offset)) => vgic_access(cpu, vcpu, frame, offset, |vgic, id| {
            (vgic.read(id, frame, offset, width), Kicks::NONE)
        }),
        None => device_access(cpu, vcpu, address, width, 0, |device, context, offset| {
            device.read(context, offset, width)
        }),
    };
    match value {
        Err(AccessError::NoDevice) => vcpu
            .arch
            .inject_data_abort(Some(read.virtual_address()), false),
        // A register that does not exist, or not at this width, reads as zero.
        value => vcpu.arch.complete_read(read, value.unwrap_or(0)),
    }
    Outcome::Resume
}

/// Answers a store.
#[inline]
pub(super) fn write<C: Cpu>(cpu: &mut C, vcpu: &mut Vcpu<C::Hal>, write: MmioWrite) -> Outcome {
    let (address, width, value) = (write.address(), write.width(), write.value());
    let done = match vgic_frame(vcpu, address, width) {
        Some((frame, offset)) => vgic_access(cpu, vcpu, frame, offset, |vgic, id| {
            match vgic.write(id, frame, offset, width, value) {
                Ok(kicks) => (Ok(()), kicks),
                Err(error) => (Err(error), Kicks::NONE),
            }
        }),
        None => device_access(cpu, vcpu, address, width, (), |device, context, offset| {
            device.write(context, offset, width, value)
        }),
    };
    match done {
        // Firmware lies in read-only memory, which ignores writes.
        Err(AccessError::NoDevice) if !vcpu.vm.ram().contains(address) => {
            vcpu.arch
                .inject_data_abort(Some(write.virtual_address()), true);
        }
        // A register that does not exist, or not at this width, ignores writes.
        _ => vcpu.arch.complete_write(write),
    }
    Outcome::Resume
}

/// Tells which of the interrupt controller's registers an access reaches.
#[inline]
fn vgic_frame<H: AxVCpuHal>(
    vcpu: &Vcpu<H>,
    address: GuestPhysAddr,
    width: Width,
) -> Option<(Frame, u64)> {
    match vcpu.vm.bus().find(address, width)? {
        (Target::Distributor, offset) => Some((Frame::Distributor, offset)),
        (Target::Redistributors { first_byte }, offset) => {
            Some((Frame::Redistributors, first_byte + offset))
        }
        (Target::Device { .. } | Target::Empty, _) => None,
    }
}

/// Works on the interrupt controller once it knows what the list registers say.
#[inline]
fn vgic_access<C: Cpu, R>(
    cpu: &mut C,
    vcpu: &mut Vcpu<C::Hal>,
    frame: Frame,
    offset: u64,
    work: impl FnOnce(&mut Vgic, VcpuId) -> (R, Kicks),
) -> R {
    if Vgic::needs_fold(frame, offset) {
        vcpu.fold_interrupts(cpu);
    }
    let id = vcpu.id();
    vcpu.vm.with_vgic(Some(id), |vgic| work(vgic, id))
}

/// Works on the device at `address`; where a window has none the answer is `empty`.
fn device_access<C: Cpu, R>(
    cpu: &mut C,
    vcpu: &mut Vcpu<C::Hal>,
    address: GuestPhysAddr,
    width: Width,
    empty: R,
    work: impl FnOnce(&dyn SharedDevice, &DeviceContext<'_>, u64) -> Result<R, AccessError>,
) -> Result<R, AccessError> {
    let (id, vm) = (vcpu.id(), &vcpu.vm);
    let (device, intid, offset) = match vm.bus().find(address, width) {
        Some((Target::Device { device, intid }, offset)) => (device, intid, offset),
        Some((Target::Empty, _)) => return Ok(empty),
        _ => return Err(AccessError::NoDevice),
    };
    let line = Line::new(vm, *intid, Some(id));
    let context = DeviceContext {
        vcpu: id,
        memory: vm.ram(),
        line: &line,
    };
    let result = work(&**device, &context, offset);
    let alarm = vm.after_device_access(*intid);
    if alarm.is_some() {
        vcpu.alarm = alarm;
        cpu.set_deadline(vcpu.deadline(cpu.now_ticks()));
    }
    // A device answers its whole window: what it refuses is no bus error.
    result.map_err(|error| match error {
        AccessError::NoDevice => AccessError::OutsideMemory,
        other => other,
    })
}

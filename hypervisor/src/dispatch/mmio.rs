//! Loads and stores that reach no memory: devices, the interrupt controller,
//! and nothing at all.
//!
//! An access after which the ITS still has work is not completed: the guest makes it
//! again, and whatever else waits for this CPU has its turn in between.

use arm_vcpu::{AxVCpuHal, MmioRead, MmioWrite};
use arm_vgic_core::Kicks;
use vm_contract::{AccessError, DeviceContext, GuestPhysAddr, IntId, VcpuId, Width};

use super::Outcome;
use crate::cpu::Cpu;
use crate::telemetry::Reason;
use crate::vcpu::Vcpu;
use crate::vm::Line;
use crate::vm::bus::{Hit, SharedDevice, Target};
use crate::vm::its::Left;
use crate::vm::vgic::{Frame, Vgic};

/// Answers a load.
#[inline]
pub(super) fn read<C: Cpu>(cpu: &mut C, vcpu: &mut Vcpu<C::Hal>, read: MmioRead) -> Outcome {
    let (address, width) = (read.address(), read.width());
    let id = vcpu.id();
    let value = match find(vcpu, address, width) {
        Place::Vgic(frame, offset) => {
            vcpu.exits.reason = Reason::VgicRead;
            let value = vgic_access(cpu, vcpu, frame, offset, |vgic, id| {
                (vgic.read(id, frame, offset, width), Kicks::NONE)
            });
            if serve_tables(vcpu, frame, offset) == Left::Work {
                return Outcome::Resume;
            }
            value
        }
        Place::Device(hit) => {
            vcpu.exits.reason = Reason::DeviceRead;
            device_access(cpu, vcpu, hit, |device, context| {
                device.read(context, hit.offset, width)
            })
        }
        Place::Its(offset) => {
            vcpu.exits.reason = Reason::ItsRead;
            vcpu.vm.its_read(id, offset, width)
        }
        Place::CpuInterface(_) => {
            vcpu.exits.reason = Reason::VgicRead;
            Ok(0)
        }
        Place::Empty => {
            vcpu.exits.reason = Reason::NothingRead;
            Ok(0)
        }
        Place::Nothing => {
            vcpu.exits.reason = Reason::NothingRead;
            let far = Some(read.virtual_address());
            vcpu.arch.inject_data_abort(far, false);
            return Outcome::Resume;
        }
    };
    // A register that does not exist, or not at this width, reads as zero.
    vcpu.arch.complete_read(read, value.unwrap_or(0));
    Outcome::Resume
}

/// Answers a store.
#[inline]
pub(super) fn write<C: Cpu>(cpu: &mut C, vcpu: &mut Vcpu<C::Hal>, write: MmioWrite) -> Outcome {
    let (address, width, value) = (write.address(), write.width(), write.value());
    // A register that does not exist, or not at this width, ignores writes.
    let id = vcpu.id();
    let _refused = match find(vcpu, address, width) {
        Place::Vgic(frame, offset) => {
            vcpu.exits.reason = Reason::VgicWrite;
            let written = vgic_access(cpu, vcpu, frame, offset, |vgic, id| {
                match vgic.write(id, frame, offset, width, value) {
                    Ok(kicks) => (Ok(()), kicks),
                    Err(error) => (Err(error), Kicks::NONE),
                }
            });
            if serve_tables(vcpu, frame, offset) == Left::Work {
                return Outcome::Resume;
            }
            written
        }
        Place::Its(offset) => {
            vcpu.exits.reason = Reason::ItsWrite;
            match vcpu.vm.its_write(id, offset, width, value) {
                Ok(Left::Work) => return Outcome::Resume,
                written => written.map(|_| ()),
            }
        }
        Place::Device(hit) => {
            vcpu.exits.reason = Reason::DeviceWrite;
            device_access(cpu, vcpu, hit, |device, context| {
                device.write(context, hit.offset, width, value)
            })
        }
        Place::CpuInterface(offset) => {
            vcpu.exits.reason = Reason::VgicWrite;
            vcpu.deactivate_interrupt(cpu, |vgic, id| {
                vgic.write_cpu_interface(id, offset, width, value)
            });
            Ok(())
        }
        Place::Empty => {
            vcpu.exits.reason = Reason::NothingWrite;
            Ok(())
        }
        // Firmware lies in read-only memory, which ignores writes.
        Place::Nothing if vcpu.vm.ram().contains(address) => Ok(()),
        Place::Nothing => {
            vcpu.exits.reason = Reason::NothingWrite;
            let far = Some(write.virtual_address());
            vcpu.arch.inject_data_abort(far, true);
            return Outcome::Resume;
        }
    };
    vcpu.arch.complete_write(write);
    Outcome::Resume
}

/// What an access reaches.
enum Place {
    /// A register of the interrupt controller, by frame and offset.
    Vgic(Frame, u64),
    /// A register of a GICv2's CPU interface, by offset: those that do not trap are
    /// not seen here.
    CpuInterface(u64),
    /// A register of the interrupt translation service, by offset.
    Its(u64),
    Device(Hit),
    Empty,
    Nothing,
}

#[inline]
fn find<H: AxVCpuHal>(vcpu: &mut Vcpu<H>, address: GuestPhysAddr, width: Width) -> Place {
    let bus = vcpu.vm.bus();
    let Some(hit) = bus.find(address, width, &mut vcpu.window) else {
        return Place::Nothing;
    };
    match bus.target(hit) {
        Some(Target::Device { .. }) => Place::Device(hit),
        Some(Target::Vgic { frame, first_byte }) => Place::Vgic(*frame, first_byte + hit.offset),
        Some(Target::CpuInterface { first_byte }) => Place::CpuInterface(first_byte + hit.offset),
        Some(Target::Its) => Place::Its(hit.offset),
        Some(Target::Empty) => Place::Empty,
        None => Place::Nothing,
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
    let id = vcpu.id();
    if !Vgic::needs_fold(frame, offset) {
        return vcpu.vm.with_vgic(Some(id), |vgic| work(vgic, id));
    }
    vcpu.fold_interrupts(cpu);
    vcpu.vm.with_vgic(Some(id), |vgic| {
        let (result, mut kicks) = work(vgic, id);
        kicks.extend(vgic.look_again(id, frame, offset));
        (result, kicks)
    })
}

/// Lets the ITS do what redistributors want of it after an access to the register at
/// `offset`.
#[inline]
fn serve_tables<H: AxVCpuHal>(vcpu: &Vcpu<H>, frame: Frame, offset: u64) -> Left {
    if Vgic::may_request_tables(frame, offset) {
        vcpu.vm.serve_lpi_tables(vcpu.id())
    } else {
        Left::Nothing
    }
}

/// Works on the device at `hit`.
#[inline]
fn device_access<C: Cpu, R>(
    cpu: &mut C,
    vcpu: &mut Vcpu<C::Hal>,
    hit: Hit,
    work: impl FnOnce(&dyn SharedDevice, &DeviceContext<'_>) -> Result<R, AccessError>,
) -> Result<R, AccessError> {
    let (id, vm) = (vcpu.id(), &vcpu.vm);
    let Some(Target::Device { device, intid }) = vm.bus().target(hit) else {
        return Err(AccessError::NoDevice);
    };
    let line = Line::new(vm, *intid, Some(id));
    let context = DeviceContext {
        vcpu: id,
        memory: vm.ram(),
        line: &line,
    };
    let result = work(&**device, &context);
    follow_up(cpu, vcpu, *intid);
    result
}

/// Arms the timer if the access gave a device an alarm.
#[inline]
fn follow_up<C: Cpu>(cpu: &mut C, vcpu: &mut Vcpu<C::Hal>, intid: IntId) {
    if let Some(alarm) = vcpu.vm.after_device_access(intid) {
        vcpu.alarm = Some(alarm);
        cpu.set_deadline(vcpu.deadline(cpu.now_ticks()));
    }
}

//! Loads and stores that reach no memory: devices, the interrupt controller,
//! and nothing at all.
//!
//! An access after which the ITS still has work is not completed: the guest makes it
//! again, and whatever else waits for this CPU has its turn in between.

use arm_vcpu::{AxVCpuExitReason as Exit, AxVCpuHal, MmioRead, MmioWrite};
use arm_vgic_core::Kicks;
use vm_contract::{AccessError, DeviceContext, IntId, VcpuId};

use super::Outcome;
use crate::cpu::Cpu;
use crate::telemetry::Reason;
use crate::vcpu::Vcpu;
use crate::vm::bus::{SharedDevice, Target};
use crate::vm::its::Left;
use crate::vm::vgic::{Frame, Vgic};
use crate::vm::{Line, Vm};

/// Answers a load or store that is not met as usual, and any other exit with nothing.
#[inline(never)]
pub(super) fn access<C: Cpu>(cpu: &mut C, vcpu: &mut Vcpu<C::Hal>, exit: Exit) -> Outcome {
    match exit {
        Exit::MmioRead(load) => read(cpu, vcpu, load),
        Exit::MmioWrite(store) => write(cpu, vcpu, store),
        _ => Outcome::Resume,
    }
}

/// Answers a load.
#[inline(always)]
pub(super) fn read<C: Cpu>(cpu: &mut C, vcpu: &mut Vcpu<C::Hal>, read: MmioRead) -> Outcome {
    let (id, width) = (vcpu.id(), read.width());
    let vm = &*vcpu.vm;
    let value = match vm.bus().find(read.address(), width, &mut vcpu.window) {
        Some((&Target::Vgic { frame, first_byte }, offset)) => {
            vcpu.exits.reason = Reason::VgicRead;
            let offset = first_byte + offset;
            if let Some(setup) = Vgic::spi_setup(frame, offset, width) {
                let value = vm.vgic().read_spi_setup(setup);
                vcpu.arch.complete_read(read, value.into());
                return Outcome::Resume;
            }
            if asks_others(frame, offset) {
                return read_live(cpu, vcpu, frame, offset, read);
            }
            vm.vgic().read(id, frame, offset, width)
        }
        Some((&Target::Device { ref device, intid }, offset)) => {
            vcpu.exits.reason = Reason::DeviceRead;
            let value = device_access(vm, id, &**device, intid, |device, context| {
                device.read(context, offset, width)
            });
            vm.after_device_access(intid);
            value
        }
        Some((Target::Its, offset)) => {
            vcpu.exits.reason = Reason::ItsRead;
            vm.its_read(id, offset, width)
        }
        Some((Target::CpuInterface { .. }, _)) => {
            vcpu.exits.reason = Reason::VgicRead;
            Ok(0)
        }
        Some((Target::Empty, _)) => {
            vcpu.exits.reason = Reason::NothingRead;
            Ok(0)
        }
        None => {
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
#[inline(always)]
pub(super) fn write<C: Cpu>(cpu: &mut C, vcpu: &mut Vcpu<C::Hal>, write: MmioWrite) -> Outcome {
    let (id, width, value) = (vcpu.id(), write.width(), write.value());
    let vm = &*vcpu.vm;
    // A register that does not exist, or not at this width, ignores writes.
    match vm.bus().find(write.address(), width, &mut vcpu.window) {
        Some((&Target::Vgic { frame, first_byte }, offset)) => {
            vcpu.exits.reason = Reason::VgicWrite;
            let offset = first_byte + offset;
            if let Some(setup) = Vgic::spi_setup(frame, offset, width) {
                #[expect(clippy::cast_possible_truncation, reason = "a word is written")]
                let kicks = vm.vgic().write_spi_setup(setup, value as u32);
                if let Some(kicks) = kicks {
                    vm.kick(Some(id), kicks);
                }
                vcpu.arch.complete_write(write);
                return Outcome::Resume;
            }
            if asks_others(frame, offset) {
                return write_live(cpu, vcpu, frame, offset, write);
            }
            let written = vm.vgic().write(id, frame, offset, width, value);
            if let Ok(kicks) = written {
                vm.kick(Some(id), kicks);
            }
        }
        Some((&Target::Device { ref device, intid }, offset)) => {
            vcpu.exits.reason = Reason::DeviceWrite;
            let written = device_access(vm, id, &**device, intid, |device, context| {
                device.write(context, offset, width, value)
            });
            if written == Ok(Left::Work) {
                return Outcome::Resume;
            }
            vm.after_device_access(intid);
            set_alarm(cpu, vcpu, intid);
        }
        Some((Target::Its, offset)) => {
            vcpu.exits.reason = Reason::ItsWrite;
            if vm.its_write(id, offset, width, value) == Ok(Left::Work) {
                return Outcome::Resume;
            }
        }
        Some((Target::CpuInterface { first_byte }, offset)) => {
            vcpu.exits.reason = Reason::VgicWrite;
            let offset = first_byte + offset;
            vcpu.deactivate_interrupt(cpu, |vgic, id| {
                vgic.write_cpu_interface(id, offset, width, value)
            });
        }
        Some((Target::Empty, _)) => vcpu.exits.reason = Reason::NothingWrite,
        // Firmware lies in read-only memory, which ignores writes.
        None if vm.ram().contains(write.address()) => {}
        None => {
            vcpu.exits.reason = Reason::NothingWrite;
            let far = Some(write.virtual_address());
            vcpu.arch.inject_data_abort(far, true);
            return Outcome::Resume;
        }
    }
    vcpu.arch.complete_write(write);
    Outcome::Resume
}

/// Tells whether the register at `offset` concerns more than the interrupt
/// controller's own memory: list registers, or the tables of the ITS.
#[inline(always)]
fn asks_others(frame: Frame, offset: u64) -> bool {
    Vgic::needs_fold(frame, offset) || Vgic::may_request_tables(frame, offset)
}

/// Answers a load from a register for which that is so.
#[inline(never)]
fn read_live<C: Cpu>(
    cpu: &mut C,
    vcpu: &mut Vcpu<C::Hal>,
    frame: Frame,
    offset: u64,
    read: MmioRead,
) -> Outcome {
    let value = live_access(cpu, vcpu, frame, offset, |vgic, id| {
        (vgic.read(id, frame, offset, read.width()), Kicks::NONE)
    });
    if serve_tables(vcpu, frame, offset) == Left::Nothing {
        vcpu.arch.complete_read(read, value.unwrap_or(0));
    }
    Outcome::Resume
}

/// Answers a store to a register for which that is so.
#[inline(never)]
fn write_live<C: Cpu>(
    cpu: &mut C,
    vcpu: &mut Vcpu<C::Hal>,
    frame: Frame,
    offset: u64,
    write: MmioWrite,
) -> Outcome {
    live_access(cpu, vcpu, frame, offset, |vgic, id| {
        let written = vgic.write(id, frame, offset, write.width(), write.value());
        ((), written.unwrap_or(Kicks::NONE))
    });
    if serve_tables(vcpu, frame, offset) == Left::Nothing {
        vcpu.arch.complete_write(write);
    }
    Outcome::Resume
}

/// Works on the interrupt controller once it knows what the list registers say.
fn live_access<C: Cpu, R>(
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
fn serve_tables<H: AxVCpuHal>(vcpu: &Vcpu<H>, frame: Frame, offset: u64) -> Left {
    if Vgic::may_request_tables(frame, offset) {
        vcpu.vm.serve_lpi_tables(vcpu.id())
    } else {
        Left::Nothing
    }
}

/// Works on a device whose interrupt is `intid`, on behalf of vCPU `id`.
#[inline(always)]
fn device_access<R>(
    vm: &Vm,
    id: VcpuId,
    device: &dyn SharedDevice,
    intid: IntId,
    work: impl FnOnce(&dyn SharedDevice, &DeviceContext<'_>) -> Result<R, AccessError>,
) -> Result<R, AccessError> {
    let line = Line::new(vm, intid, Some(id));
    let context = DeviceContext {
        vcpu: id,
        memory: vm.ram(),
        line: &line,
    };
    work(device, &context)
}

/// Arms the timer if a write gave the device that drives `intid` an alarm.
#[inline]
fn set_alarm<C: Cpu>(cpu: &mut C, vcpu: &mut Vcpu<C::Hal>, intid: IntId) {
    if let Some(alarm) = vcpu.vm.alarm_after_write(intid) {
        vcpu.alarm = Some(alarm);
        cpu.set_deadline(vcpu.deadline(cpu.now_ticks()));
    }
}

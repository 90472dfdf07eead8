//! What the monitor knows of the machine. All is looked up before the console is
//! locked.

use arm_vcpu::AxVCpuHal;
use arm_vgic_core::Kicks;
use vm_contract::{IntId, VcpuId, VmId};

use crate::console::Console;
use crate::frames::FRAME_BYTES;
use crate::machine::{Hypervisor, VmError};
use crate::vm::Vm;
use crate::vm::time::nanos;

const NANOS_PER_MS: u64 = 1_000_000;

/// Prints what each VM is and does.
pub(super) fn vms<H: AxVCpuHal>(hypervisor: &Hypervisor<H>) {
    let console = hypervisor.console();
    console.print(format_args!("VM  state      vCPUs on    memory  name"));
    for slot in hypervisor.slots() {
        let vcpus = slot.config().map_or(0, |config| config.cpus);
        let mib = slot.config().map_or(0, |config| config.memory_bytes >> 20);
        let on = slot
            .vm()
            .map_or(0, |vm| vm.vcpus().filter(|vcpu| vm.is_on(*vcpu)).count());
        let (id, condition, name) = (slot.id(), slot.condition(), slot.name());
        console.print(format_args!(
            "{id:<3} {condition:<10} {on:>3} of {vcpus:<3} {mib:>5} MiB  {name}"
        ));
    }
}

/// Prints where each vCPU is.
pub(super) fn vcpus<H: AxVCpuHal>(hypervisor: &Hypervisor<H>) {
    let console = hypervisor.console();
    console.print(format_args!(
        "VM  vCPU  CPU  state  weight  priority  may run on"
    ));
    for vm in present(hypervisor) {
        for vcpu in vm.vcpus() {
            let Some(mailbox) = vm.mailbox(vcpu) else {
                continue;
            };
            let mut running = hypervisor.cpus().running();
            let runs = running.any(|(_, running)| running == Some((vm.id(), vcpu)));
            let state = match (runs, vm.is_on(vcpu)) {
                (_, false) => "off",
                (true, true) => "runs",
                (false, true) => "on",
            };
            let (home, share, set) = (mailbox.home(), vm.share(), vm.cpu_set(vcpu));
            console.print(format_args!(
                "{:<3} {vcpu:<5} {home:<4} {state:<6} {:<7} {:<9} {set}",
                vm.id(),
                share.weight(),
                share.level(),
            ));
        }
    }
}

/// Prints the time that each vCPU has had, and what each CPU has to do.
pub(super) fn stats<H: AxVCpuHal>(hypervisor: &Hypervisor<H>) {
    let console = hypervisor.console();
    let frequency = hypervisor.machine().ticks_per_second();
    let ms = |ticks| nanos(ticks, frequency) / NANOS_PER_MS;
    let now = hypervisor.machine().now_ticks();
    console.print(format_args!(
        "VM  vCPU  CPU     run ms   stolen ms      turns  moves      exits"
    ));
    for vm in present(hypervisor) {
        for (vcpu, counters) in hypervisor.telemetry().of_vm(vm.id()) {
            let (Some(time), Some(mailbox)) = (vm.time(vcpu), vm.mailbox(vcpu)) else {
                continue;
            };
            let usage = time.usage(now);
            console.print(format_args!(
                "{:<3} {vcpu:<5} {:<4} {:>9}   {:>9}  {:>9}  {:>5} {:>10}",
                vm.id(),
                mailbox.home(),
                ms(usage.run),
                ms(usage.stolen),
                usage.turns,
                usage.moves,
                counters.total(),
            ));
        }
    }
    console.print(format_args!("CPU  ready or running  runs"));
    for (cpu, running) in hypervisor.cpus().running() {
        let load = hypervisor.cpus().load(cpu);
        match running {
            Some((vm, vcpu)) => {
                console.print(format_args!("{cpu:<4} {load:>16}  VM {vm} vCPU {vcpu}"));
            }
            None => console.print(format_args!("{cpu:<4} {load:>16}  nobody")),
        }
    }
    console.print(format_args!("uptime: {} ms", ms(now)));
}

/// Prints what memory there is, and who has it.
pub(super) fn mem<H: AxVCpuHal>(hypervisor: &Hypervisor<H>) {
    let console = hypervisor.console();
    let pool = &hypervisor.builder().pool;
    let (free, total) = (pool.free_frames(), pool.total_frames());
    console.print(format_args!("frames free: {free} of {total}"));
    let heap = hypervisor.machine().heap_used();
    console.print(format_args!("heap used: {heap} bytes"));
    for vm in present(hypervisor) {
        let segments = vm.ram().segments().iter();
        let bytes: usize = segments.map(|segment| segment.frames.size_bytes).sum();
        let (used, budget) = vm.space().table_frames();
        console.print(format_args!(
            "VM {}: {} frames of memory, {used} of at most {budget} frames of tables",
            vm.id(),
            bytes / FRAME_BYTES,
        ));
    }
}

fn present<H: AxVCpuHal>(hypervisor: &Hypervisor<H>) -> impl Iterator<Item = alloc::sync::Arc<Vm>> {
    hypervisor.slots().iter().filter_map(|slot| slot.vm())
}

/// Prints the interrupts of a VM. What the list registers of a vCPU that runs
/// hold is shown as when they were last looked at.
pub(super) fn irq<H: AxVCpuHal>(hypervisor: &Hypervisor<H>, id: VmId) -> Result<(), VmError> {
    let slot = hypervisor.slot(id)?;
    let vm = slot.vm().ok_or(VmError::Is("off"))?;
    let console = hypervisor.console();
    console.print(format_args!(
        "INTID  vCPU  enabled  pending  active  priority"
    ));
    for vcpu in vm.vcpus() {
        for intid in (0..32).filter_map(IntId::new) {
            interrupt(console, &vm, vcpu, intid);
        }
    }
    let spis = vm.with_vgic(None, |vgic| (vgic.spi_intids(), Kicks::NONE));
    for intid in spis {
        interrupt(console, &vm, VcpuId::new(0), intid);
    }
    Ok(())
}

/// Prints one interrupt, unless nothing is to be said of it.
fn interrupt(console: &Console, vm: &Vm, vcpu: VcpuId, intid: IntId) {
    let view = vm.with_vgic(None, |vgic| (vgic.inspect(vcpu, intid), Kicks::NONE));
    let Some(view) = view else {
        return;
    };
    // Software-generated interrupts are enabled nearly everywhere.
    let is_sgi = IntId::sgi(intid.raw()).is_some();
    if !(view.pending || view.active || view.enabled && !is_sgi) {
        return;
    }
    let mark = |flag| if flag { "yes" } else { "-" };
    let line = |owner: &dyn core::fmt::Display| {
        console.print(format_args!(
            "{:<6} {owner:<5} {:<8} {:<8} {:<7} {:#04x}",
            intid.raw(),
            mark(view.enabled),
            mark(view.pending),
            mark(view.active),
            view.priority,
        ));
    };
    if intid.is_private() {
        line(&vcpu);
    } else {
        line(&"any");
    }
}

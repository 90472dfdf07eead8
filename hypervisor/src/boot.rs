//! From the boot loader's hands to the main loops of all CPUs.
#![expect(unsafe_code, reason = "linker symbols, tables and the start of CPUs")]

mod layout;
mod modules;
mod network;
mod secondary;
mod telemetry;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::arch::global_asm;

use aarch64_cpu::registers::{ID_AA64MMFR0_EL1, ID_AA64MMFR1_EL1, MIDR_EL1, MPIDR_EL1, Readable};
use arm_vcpu::el2::{El2, read_id_register};
use arm_vcpu::{Aarch64PerCpu, IdRegisters};
use dtb_platform::{
    BlobError, ConfigError, CpuStatus, EnableMethod, Gic, HostOptions, MachineFacts, Platform,
    VmConfig, vm_configs_on,
};
use hypervisor::console::Console;
use hypervisor::cpu::PcpuId;
use hypervisor::frames::FramePool;
use hypervisor::lock::RankedLock;
use hypervisor::machine::{Hypervisor, MachineParts};
use hypervisor::run::Scheduler;
use hypervisor::sched::{Cpus, MAX_CPUS};
use hypervisor::vm::vgic::HostGic;
use hypervisor::vm::{HostFacts, VmBuilder};
use memory_addr::MemoryAddr;
use s2_mmu::{Stage2Config, VmidAllocator, VmidSize};
use vm_contract::HostPhysAddrRange;

use crate::board::crash::{self, Witness};
use crate::board::el2_cpu::El2Cpu;
use crate::board::firmware::Firmware;
use crate::board::gic::{CpuGic, Interrupts, MachineGic, Version};
use crate::board::host::Host;
use crate::board::{cache, heap, logger, tables, uart, virtio};

use modules::Modules;

pub(crate) use layout::{image, is_guard_page, is_mapped_memory, park};

global_asm!(
    ".set EARLY_TCR, {tcr}",
    ".set EARLY_MAIR, {mair}",
    ".set EARLY_SCTLR, {sctlr}",
    ".set EARLY_BLOCK, {block}",
    include_str!("boot/start.S"),
    tcr = const tables::EARLY_TCR,
    mair = const tables::MAIR.0,
    sctlr = const tables::EARLY_SCTLR,
    block = const tables::EARLY_BLOCK,
);
global_asm!(
    ".set FAULT_FRAME_SIZE, {size}",
    include_str!("boot/fault.S"),
    size = const size_of::<crash::FaultFrame>(),
);
global_asm!(include_str!("boot/copy.S"));
arm_vcpu::el2_vectors!(name: el2_vectors, host_fault: el2_fault);

unsafe extern "C" {
    fn el2_fault();
}

/// The most a device tree blob may span; the boot protocol says 2 MiB.
const MAX_BLOB_BYTES: usize = 2 << 20;
/// The size of a guest's physical address space, where the CPU has as much.
const IPA_BITS: u8 = 40;

/// The machine, as this image runs it.
pub(crate) type El2Hypervisor = Hypervisor<El2>;

/// What every CPU needs to come up.
pub(crate) struct Machinery {
    platform: Platform,
    host: &'static Host,
    tables: tables::TableRegisters,
    firmware: Option<Firmware>,
}

/// The first Rust code of the boot CPU. `start.S` has mapped the image and the
/// device tree, and has relocated the image.
#[unsafe(no_mangle)]
extern "C" fn boot_main(blob: *const u8) -> ! {
    heap::init();
    // SAFETY: the boot protocol: X0 points to a device tree, at most 2 MiB long,
    // mapped by `start.S` and changed by nobody.
    let blob = unsafe { device_tree(blob) };
    // Without a device tree there is not even a console to complain on.
    let Ok(platform) = Platform::from_fdt(blob) else {
        park()
    };
    match start_machine(platform, blob) {
        Ok((machinery, hypervisor)) => run_cpu(machinery, hypervisor, PcpuId::new(0), || {}),
        Err(problem) => crash::give_up(&problem),
    }
}

/// Returns the blob at `blob`, as long as its header says.
///
/// # Safety
/// `blob` points to mapped, unchanging memory of [`MAX_BLOB_BYTES`], or the
/// header there is no device tree's.
unsafe fn device_tree(blob: *const u8) -> &'static [u8] {
    const MAGIC: u32 = 0xd00d_feed;
    if blob.is_null() {
        park();
    }
    // SAFETY: by the function's contract the header can be read.
    let header = unsafe { blob.cast::<[[u8; 4]; 2]>().read_unaligned() };
    let [magic, size] = header.map(u32::from_be_bytes);
    if magic != MAGIC || size as usize > MAX_BLOB_BYTES {
        park();
    }
    // SAFETY: by the function's contract; nobody writes to the blob.
    unsafe { core::slice::from_raw_parts(blob, size as usize) }
}

/// Brings up the machine and builds its VMs.
fn start_machine(
    mut platform: Platform,
    blob: &'static [u8],
) -> Result<(&'static Machinery, &'static El2Hypervisor), String> {
    let firmware = Firmware::find(&platform);
    order_cpus(&mut platform);
    // What of the memory is taken before anything is allocated from it.
    let blob_range = HostPhysAddrRange::from_start_size(blob.as_ptr().addr().into(), blob.len());
    let configs = judged_configs(&platform, blob, blob_range);
    let modules = Modules::of(configs.iter().flatten().flatten());
    let mut taken = platform.reserved.clone();
    taken.extend([image(), page_aligned(blob_range)]);
    taken.extend(modules.all());
    let mut free = hypervisor::ranges::without(&platform.memory, &taken);
    let stacks = carve_stacks(&mut free, platform.cpus.len().saturating_sub(1))
        .ok_or_else(|| String::from("no memory for the stacks of the CPUs"))?;

    let tables = enter_tables(&platform, blob_range, &modules, &stacks)
        .map_err(|error| format!("EL2 tables: {error}"))?;

    // From here on there is a console.
    // SAFETY: called once; the UART is mapped by the tables now in force.
    let uart = unsafe { uart::Pl011::take(&platform) }
        .ok_or_else(|| String::from("no PL011 for a console"))?;
    let uart_base = platform
        .uart
        .as_ref()
        .map_or(0, |uart| uart.range.start.into());
    crash::prepare(Witness {
        uart_base,
        firmware,
    });
    let console = Arc::new(Console::new(Box::new(uart)));
    let (options, refused) = HostOptions::parse(platform.bootargs.as_deref().unwrap_or_default());
    logger::init(&console, options.log_level);
    for error in refused {
        log::error!("option refused: {error}");
    }

    let pool = Arc::new(FramePool::default());
    for range in free {
        if options.memory_is_zero {
            clear_below_image(range);
        }
        // SAFETY: memory that nothing else uses, mapped by the tables in force.
        unsafe { pool.insert(range) };
    }
    if options.memory_is_zero {
        pool.vouch_zero();
    }

    let configs = configs.map_err(|error| format!("VM configuration: {error}"))?;
    if configs.is_empty() {
        return Err("no VM is described: /chosen has no node compatible with xen,domain".into());
    }
    let uplink = network::uplink(blob);
    let card = uplink.as_ref().map(|uplink| uplink.card);
    // SAFETY: called once; the devices and the pool's memory are mapped.
    let mut devices = unsafe { virtio::bring_up(&platform, &pool, card) };
    let lines: &'static [_] = core::mem::take(&mut devices.interrupts).leak();
    // SAFETY: called once, on the boot CPU; the GIC is mapped.
    let gic = unsafe { MachineGic::bring_up(&platform, lines) }?;
    let host: &'static Host = Box::leak(Box::new(Host { gic }));
    let cpu_count = u16::try_from(platform.cpus.len()).unwrap_or(MAX_CPUS);
    let cpus = Arc::new(Cpus::new(host, cpu_count));
    let facts = host_facts(&platform)?;
    let vms = configs.iter().map(|config| config.as_ref().ok());
    let devices = network::connect(host, devices, vms, uplink.as_ref(), facts.entropy);
    let hypervisor: &'static El2Hypervisor = Box::leak(Box::new(Hypervisor::new(MachineParts {
        builder: VmBuilder {
            machine: host,
            vmids: Arc::new(RankedLock::new(VmidAllocator::new(
                facts.stage2.vmid_size(),
            ))),
            host: facts,
            pool,
            console,
            cpus,
            devices: Arc::new(devices),
            module: modules::bytes,
            ram_disk: modules::ram_disk,
        },
        cpu_count,
        slice_ms: options.slice_ms.into(),
        vms: configs.into_iter().map(named).collect(),
        // SAFETY: used at EL2 with everything masked, and guests are confined by the
        // stage-2 tables of their VM, which map only what `GuestRam` owns.
        hal: Box::new(|_, _| unsafe { El2::new() }),
    })));
    hypervisor.builder().devices.service_all();
    crash::prepare_machine(hypervisor.cpus());
    telemetry::announce(hypervisor.telemetry());
    if options.trace {
        let switched = hypervisor.telemetry().set_tracing(true);
        switched.map_err(|error| format!("tracing: {error}"))?;
    }

    let machinery: &'static Machinery = Box::leak(Box::new(Machinery {
        platform,
        host,
        tables,
        firmware,
    }));
    start_secondaries(machinery, hypervisor, &stacks)?;
    Ok((machinery, hypervisor))
}

/// Clears what of a free range lies below the image: what the boot loader needed
/// itself may lie there.
fn clear_below_image(range: HostPhysAddrRange) {
    let range = page_aligned(range);
    let end = range.end.min(image().start);
    if range.start < end {
        // SAFETY: free memory, mapped by the tables in force.
        unsafe { cache::clear(range.start.into(), end.into()) };
    }
}

/// Keeps the CPUs that can be used and puts the boot CPU first: CPU 0 is the one
/// that takes the console's interrupt.
fn order_cpus(platform: &mut Platform) {
    let own = MPIDR_EL1.get() & 0xff_00ff_ffff;
    let usable = |cpu: &dtb_platform::Cpu| {
        cpu.status == CpuStatus::Enabled && cpu.enable_method == EnableMethod::Psci
    };
    platform.cpus.retain(|cpu| cpu.mpidr == own || usable(cpu));
    platform.cpus.sort_by_key(|cpu| cpu.mpidr != own);
    platform.cpus.truncate(MAX_CPUS.into());
}

/// Takes memory for the stacks of `count` CPUs off the end of a free range.
fn carve_stacks(free: &mut [HostPhysAddrRange], count: usize) -> Option<Vec<layout::Stacks>> {
    let needed = count * layout::STACKS_BYTES;
    let range = free.iter_mut().rev().find(|range| range.size() > needed)?;
    let base = (usize::from(range.end) - needed) & !(layout::GUARD_BYTES - 1);
    if base < usize::from(range.start) {
        return None;
    }
    range.end = base.into();
    Some(
        (0..count)
            .map(|n| layout::Stacks::at((base + n * layout::STACKS_BYTES).into()))
            .collect(),
    )
}

/// Builds EL2's tables for the whole machine and puts them in force.
fn enter_tables(
    platform: &Platform,
    blob: HostPhysAddrRange,
    modules: &Modules,
    stacks: &[layout::Stacks],
) -> Result<tables::TableRegisters, aarch64_paging::MapError> {
    use tables::Use;
    let mut map = tables::HostTables::new();
    // Reserved memory may be somebody else's, who must not even be read.
    for range in hypervisor::ranges::without(&platform.memory, &platform.reserved) {
        map.map(page_aligned(range), Use::ReadWrite)?;
    }
    for range in modules.read_only().chain([blob]) {
        map.map(page_aligned(range), Use::ReadOnly)?;
    }
    for range in modules.writable() {
        map.map(page_aligned(range), Use::ReadWrite)?;
    }
    for range in device_ranges(platform) {
        map.map(page_aligned(range), Use::Device)?;
    }
    map.map(layout::text(), Use::Text)?;
    map.map(layout::read_only(), Use::ReadOnly)?;
    let guards: Vec<_> = stacks
        .iter()
        .flat_map(|stacks| stacks.guards())
        .chain(layout::boot_guards())
        .collect();
    for guard in &guards {
        map.map(*guard, Use::Guard)?;
    }
    layout::remember(platform.memory.clone(), guards);
    let registers = map.seal(ID_AA64MMFR0_EL1.read(ID_AA64MMFR0_EL1::PARange));
    // SAFETY: the tables map everything that is in use at its own address; the
    // boot CPU alone runs.
    unsafe {
        el2_switch_tables(
            registers.ttbr0,
            registers.tcr,
            registers.mair,
            registers.sctlr,
        );
    }
    Ok(registers)
}

unsafe extern "C" {
    fn el2_switch_tables(ttbr0: u64, tcr: u64, mair: u64, sctlr: u64);
}

fn device_ranges(platform: &Platform) -> Vec<HostPhysAddrRange> {
    let mut ranges: Vec<_> = platform.uart.iter().map(|uart| uart.range).collect();
    ranges.extend(platform.rtc);
    ranges.extend(platform.virtio_mmio.iter().map(|place| place.range));
    match &platform.gic {
        Gic::V2 {
            distributor,
            cpu,
            hyp,
            ..
        } => {
            ranges.extend([*distributor, *cpu]);
            ranges.extend(hyp);
        }
        Gic::V3 {
            distributor,
            redistributors,
            ..
        } => {
            ranges.push(*distributor);
            ranges.extend(redistributors);
        }
        // `MachineGic` refuses it.
        _ => {}
    }
    ranges
}

fn page_aligned(range: HostPhysAddrRange) -> HostPhysAddrRange {
    HostPhysAddrRange {
        start: range.start.align_down_4k(),
        end: range.end.align_up_4k(),
    }
}

/// Reads the VMs that the device tree asks for. What is wrong with one is
/// reported as soon as there is a console.
fn judged_configs(
    platform: &Platform,
    blob: &[u8],
    blob_range: HostPhysAddrRange,
) -> Result<Vec<Result<VmConfig, ConfigError>>, BlobError> {
    let occupied = [
        (image(), "the hypervisor"),
        (page_aligned(blob_range), "the device tree"),
    ];
    vm_configs_on(blob, &MachineFacts::of(platform, &occupied))
}

/// Reports a VM that is refused; it keeps its number all the same.
fn named(config: Result<VmConfig, ConfigError>) -> (String, Option<VmConfig>) {
    match config {
        Ok(config) => (config.name.clone(), Some(config)),
        Err(error) => {
            log::error!("VM refused: {error}");
            (String::from("(refused)"), None)
        }
    }
}

fn host_facts(platform: &Platform) -> Result<HostFacts, String> {
    let physical_range = ID_AA64MMFR0_EL1.read(ID_AA64MMFR0_EL1::PARange);
    let vmid_size = VmidSize::from_id_field(ID_AA64MMFR1_EL1.read(ID_AA64MMFR1_EL1::VMIDBits));
    let stage2 =
        Stage2Config::from_parange(physical_range, Some(IPA_BITS)).with_vmid_size(vmid_size);
    Ok(HostFacts {
        id_registers: Arc::new(IdRegisters::new(read_id_register, stage2.ipa_bits().into())),
        stage2,
        midr: MIDR_EL1.get(),
        gic: host_gic(&platform.gic)?,
        virtual_timer: platform.timer.virt,
        now_seconds: crate::board::rtc::now_seconds(platform),
        entropy: crate::board::entropy::source(),
    })
}

/// Says what guests use of the interrupt controller.
fn host_gic(gic: &Gic) -> Result<HostGic, &'static str> {
    match gic {
        Gic::V2 { vcpu, .. } => {
            let whole_page = |range: &HostPhysAddrRange| {
                range.start.is_aligned_4k() && range.size() >= s2_mmu::PAGE_BYTES
            };
            let range = vcpu.filter(whole_page);
            let range = range.ok_or("the device tree does not say where its GIC has GICV")?;
            Ok(HostGic::V2 {
                cpu_interface: range.start,
            })
        }
        _ => Ok(HostGic::V3),
    }
}

/// Starts all other CPUs, one after the other, then the VMs.
fn start_secondaries(
    machinery: &'static Machinery,
    hypervisor: &'static El2Hypervisor,
    stacks: &[layout::Stacks],
) -> Result<(), String> {
    let others = (0..).map(PcpuId::new).zip(&machinery.platform.cpus).skip(1);
    for ((id, cpu), stacks) in others.zip(stacks) {
        let firmware = machinery
            .firmware
            .ok_or("the device tree names no PSCI firmware to start CPUs")?;
        secondary::start(firmware, id, cpu.mpidr, *stacks, machinery, hypervisor)
            .map_err(|error| format!("CPU {id} does not start: {error}"))?;
    }
    log::info!(
        "Armature {}: {} CPUs, {}",
        env!("CARGO_PKG_VERSION"),
        machinery.platform.cpus.len(),
        machinery.platform.gic.version(),
    );
    Ok(())
}

/// Enables virtualisation on this CPU and runs its vCPUs until the machine's
/// work is over.
#[expect(clippy::expect_used, reason = "a CPU that cannot do this is of no use")]
pub(crate) fn run_cpu(
    machinery: &'static Machinery,
    hypervisor: &'static El2Hypervisor,
    id: PcpuId,
    ready: impl FnOnce(),
) -> ! {
    // SAFETY: used at EL2 with everything masked, and guests are confined by the
    // stage-2 tables of their VM, which map only what `GuestRam` owns.
    let el2 = unsafe { El2::new() };
    let mut percpu = Aarch64PerCpu::new(el2, el2_vectors.address());
    percpu.hardware_enable().expect("this CPU has just come up");
    let machine_gic = &machinery.host.gic;
    // SAFETY: once per CPU, after ICC_SRE_EL2 was enabled where it exists.
    let gic = unsafe { machine_gic.bring_up_cpu(id) }
        .expect("the device tree describes this CPU's part of the GIC");
    ready();
    match gic {
        Version::V2(gic) => run_vcpus(hypervisor, id, gic, machine_gic.interrupts()),
        Version::V3(gic) => run_vcpus(hypervisor, id, gic, machine_gic.interrupts()),
    }
    end(machinery, hypervisor)
}

/// Runs the vCPUs of this CPU, each version of the GIC in its own loop: none
/// pays for the other.
fn run_vcpus(
    hypervisor: &'static El2Hypervisor,
    id: PcpuId,
    gic: impl CpuGic,
    interrupts: Interrupts,
) {
    let mut cpu = El2Cpu::new(id, gic, interrupts);
    if id == PcpuId::new(0) {
        hypervisor.start();
    }
    Scheduler::new(hypervisor).run(hypervisor, &mut cpu);
}

/// Turns the machine off; if a VM failed, resets it instead, which whoever
/// started the machine sees as a failure.
fn end(machinery: &Machinery, hypervisor: &El2Hypervisor) -> ! {
    hypervisor.console().finish();
    if let Some(firmware) = machinery.firmware {
        if hypervisor.any_fault() {
            firmware.system_reset();
        } else {
            firmware.system_off();
        }
    }
    park()
}

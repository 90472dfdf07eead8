//! Doubles that the tests of several modules use.

mod baton;
mod board;
mod cpu;
mod disk;
mod guest;
mod ich;
mod rig;
mod threads;

pub(crate) use baton::Mood;
pub(crate) use board::FakeBoard;
pub(crate) use cpu::Deed;
pub(crate) use disk::{DiskState, FakeDisk};
pub(crate) use guest::{Inside, Script};
pub(crate) use rig::{Plan, Rig};
pub(crate) use threads::Threads;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use std::sync::Mutex;

use arm_vcpu::IdRegisters;
use dtb_platform::{BootModule, HostOptions, Placement, VmConfig};
use s2_mmu::{Stage2Config, VmidAllocator};
use vm_contract::{HostPhysAddr, HostPhysAddrRange, VmId};

use crate::console::{Console, HostUart};
use crate::devices::HostDevices;
use crate::frames::{FRAME_BYTES, FramePool};
use crate::lock::RankedLock;
use crate::sched::{Cpus, place};
use crate::storage::RamDisk;
use crate::vm::boot::Boot;
use crate::vm::vgic::HostGic;
use crate::vm::{BuildError, HostFacts, Vm, VmBuilder};

/// Returns a pool of `size_bytes` of this process's memory, which is never freed.
pub(crate) fn frame_pool(size_bytes: usize) -> Arc<FramePool> {
    // Twice as much, so that an aligned half of that size lies within.
    let memory = Box::leak(vec![0u8; 2 * size_bytes].into_boxed_slice());
    let start = memory
        .as_mut_ptr()
        .expose_provenance()
        .next_multiple_of(size_bytes);
    let pool = FramePool::default();
    let range = HostPhysAddrRange::from_start_size(HostPhysAddr::from(start), size_bytes);
    #[expect(unsafe_code, reason = "gives the pool memory")]
    // SAFETY: the memory was leaked for this pool alone.
    unsafe {
        pool.insert(range);
    }
    assert!(size_bytes.is_multiple_of(FRAME_BYTES));
    Arc::new(pool)
}

/// A UART that remembers.
#[derive(Clone, Default)]
pub(crate) struct FakeUart(Arc<Mutex<UartState>>);

#[derive(Default)]
struct UartState {
    sent: Vec<u8>,
    received: Vec<u8>,
    room: Option<usize>,
    listens: [bool; 2],
}

impl FakeUart {
    pub(crate) fn sent(&self) -> String {
        String::from_utf8_lossy(&self.lock().sent).into_owned()
    }

    pub(crate) fn sent_bytes(&self) -> Vec<u8> {
        self.lock().sent.clone()
    }

    /// Forgets what has been sent.
    pub(crate) fn clear(&self) {
        self.lock().sent.clear();
    }

    pub(crate) fn set_room(&self, bytes: usize) {
        self.lock().room = Some(bytes);
    }

    /// Types on the terminal at the other end.
    pub(crate) fn type_in(&self, bytes: &[u8]) {
        self.lock().received.extend(bytes);
    }

    /// Tells whether something that was typed has not been received.
    pub(crate) fn has_received(&self) -> bool {
        !self.lock().received.is_empty()
    }

    pub(crate) fn listens_receive(&self) -> bool {
        self.lock().listens[0]
    }

    pub(crate) fn listens_transmit(&self) -> bool {
        self.lock().listens[1]
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, UartState> {
        self.0.lock().expect("no test panics while it holds this")
    }
}

impl HostUart for FakeUart {
    fn transmit(&mut self, bytes: &[u8]) -> usize {
        let mut state = self.lock();
        let count = state.room.unwrap_or(usize::MAX).min(bytes.len());
        state.sent.extend(&bytes[..count]);
        if let Some(room) = &mut state.room {
            *room -= count;
        }
        count
    }

    fn receive(&mut self) -> Option<u8> {
        let mut state = self.lock();
        (!state.received.is_empty()).then(|| state.received.remove(0))
    }

    fn listen_receive(&mut self, on: bool) {
        self.lock().listens[0] = on;
    }

    fn listen_transmit(&mut self, on: bool) {
        self.lock().listens[1] = on;
    }
}

/// How long a vCPU runs while others wait, in milliseconds.
pub(crate) const SLICE_MS: u64 = HostOptions::USUAL_SLICE_MS as u64;

/// What every guest consists of: a NOP.
const IMAGE: [u8; 4] = [0x1f, 0x20, 0x03, 0xd5];

/// Memory of every VM.
pub(crate) const VM_BYTES: u64 = 4 << 20;

/// Describes a VM that consists of a NOP.
pub(crate) fn config(cpus: u32, placement: Placement) -> VmConfig {
    let range = HostPhysAddrRange::from_start_size(HostPhysAddr::from(0x1000), IMAGE.len());
    VmConfig {
        node: String::from("vm"),
        name: String::from("vm"),
        cpus,
        memory_bytes: VM_BYTES,
        boot: BootModule::Kernel(range),
        ramdisk: None,
        bootargs: None,
        placement,
        weight: VmConfig::USUAL_WEIGHT,
        priority: VmConfig::USUAL_PRIORITY,
        its: false,
        disks: Vec::new(),
        nets: Vec::new(),
    }
}

/// Makes a disk of memory of this process, which is never freed.
fn ram_disk(range: HostPhysAddrRange, is_writable: bool) -> RamDisk {
    let memory = Box::leak(vec![0u8; range.size()].into_boxed_slice());
    let start = HostPhysAddr::from(memory.as_mut_ptr().expose_provenance());
    let contents = HostPhysAddrRange::from_start_size(start, range.size());
    #[expect(unsafe_code, reason = "gives the disk memory")]
    // SAFETY: the memory was leaked for this disk alone.
    unsafe {
        RamDisk::new(contents, is_writable)
    }
}

/// Returns what builds VMs on `machine`.
fn builder(
    machine: &'static FakeBoard,
    gic: HostGic,
    console: Console,
    pool: Arc<FramePool>,
) -> VmBuilder {
    let id_register: fn(_) -> _ = match gic {
        HostGic::V2 { .. } => |_| 0x0011_1111,
        HostGic::V3 => |_| 0x1111_1111,
    };
    let stage2 = Stage2Config::from_parange(5, Some(40));
    let cpu_count = u16::try_from(machine.cpus().len()).expect("few CPUs");
    VmBuilder {
        machine,
        host: HostFacts {
            stage2,
            id_registers: Arc::new(IdRegisters::new(id_register, 40)),
            midr: 0x410f_d034,
            gic,
            virtual_timer: dtb_platform::layout::TIMER.virt,
            now_seconds: 0,
            entropy: None,
        },
        pool,
        vmids: Arc::new(RankedLock::new(VmidAllocator::new(stage2.vmid_size()))),
        console: Arc::new(console),
        cpus: Arc::new(Cpus::new(machine, cpu_count)),
        devices: Arc::default(),
        module: |_| &IMAGE,
        ram_disk,
    }
}

/// Returns what builds VMs on a machine with a GICv2 whose GICV is there.
pub(crate) fn builder_on_gicv2(cpu_interface: HostPhysAddr) -> VmBuilder {
    let machine: &'static FakeBoard = Box::leak(Box::new(FakeBoard::new(4, 4, 0)));
    let console = Console::new(Box::new(FakeUart::default()));
    let gic = HostGic::V2 { cpu_interface };
    builder(machine, gic, console, frame_pool(8 << 20))
}

/// Starts a VM, without a CPU to do it.
fn boot(vm: Arc<Vm>) {
    let mut boot = Boot::new(vm);
    while !boot.step().expect("a good image") {}
}

/// Returns a VM with `vcpus` vCPUs, at most four, started: vCPU 0 is on.
pub(crate) fn vm(vcpus: u16) -> Arc<Vm> {
    vm_on_board(vcpus).0
}

/// Returns the same, and the machine on which it is.
pub(crate) fn vm_on_board(vcpus: u16) -> (Arc<Vm>, &'static FakeBoard) {
    let homes = (0..u32::from(vcpus)).collect();
    let config = config(vcpus.into(), Placement::Pinned(homes));
    let (mut vms, machine) = vms_on_board(&[config], HostDevices::default());
    let vm = vms.pop().expect("there is one");
    (vm.expect("a good configuration"), machine)
}

/// Returns VMs on a machine with these devices, started if they could be built.
pub(crate) fn vms_on_board(
    configs: &[VmConfig],
    devices: HostDevices,
) -> (Vec<Result<Arc<Vm>, BuildError>>, &'static FakeBoard) {
    let machine: &'static FakeBoard = Box::leak(Box::new(FakeBoard::new(4, 4, 0)));
    let console = Console::new(Box::new(FakeUart::default()));
    let pool = frame_pool((8 << 20) * configs.len().next_power_of_two());
    let builder = VmBuilder {
        devices: Arc::new(devices),
        ..builder(machine, HostGic::V3, console, pool)
    };
    let sets = place(&configs.iter().collect::<Vec<_>>(), 4);
    let vms = (0..).map(VmId::new).zip(configs).zip(&sets);
    let vms = vms.map(|((id, config), sets)| {
        let vm = Arc::new(builder.build(id, config, sets)?);
        vm.connect_devices();
        boot(Arc::clone(&vm));
        Ok(vm)
    });
    (vms.collect(), machine)
}

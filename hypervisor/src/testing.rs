//! Doubles that the tests of several modules use.

mod baton;
mod board;
mod cpu;
mod guest;
mod ich;
mod rig;

pub(crate) use baton::Mood;
pub(crate) use board::FakeBoard;
pub(crate) use cpu::Deed;
pub(crate) use guest::{Inside, Script};
pub(crate) use rig::{Plan, Rig};

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use std::sync::Mutex;

use arm_vcpu::IdRegisters;
use dtb_platform::{BootModule, Placement, VmConfig};
use s2_mmu::fakes::TlbLog;
use s2_mmu::{HwVmid, Stage2Config};
use vm_contract::{HostPhysAddr, HostPhysAddrRange, VmId};

use crate::console::{Console, HostUart};
use crate::frames::{FRAME_BYTES, FramePool};
use crate::vm::{HostFacts, Vm, VmBuilder};

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

/// What every guest consists of: a NOP.
const IMAGE: [u8; 4] = [0x1f, 0x20, 0x03, 0xd5];

/// Memory of every VM.
pub(crate) const VM_BYTES: u64 = 4 << 20;

/// Builds a VM on `machine` whose vCPUs live at `homes`.
fn build(
    machine: &'static FakeBoard,
    console: &Arc<Console>,
    pool: &Arc<FramePool>,
    id: VmId,
    homes: &[u32],
    firmware: bool,
) -> Vm {
    let host = HostFacts {
        stage2: Stage2Config::from_parange(5, Some(40)),
        id_registers: Arc::new(IdRegisters::new(|_| 0x1111_1111, 40)),
        midr: 0x410f_d034,
        virtual_timer: dtb_platform::layout::TIMER.virt,
        cpu_count: 4,
        now_seconds: 0,
    };
    let builder = VmBuilder {
        machine,
        host: &host,
        pool,
        console,
    };
    let image: &'static [u8] = &IMAGE;
    let range = HostPhysAddrRange::from_start_size(HostPhysAddr::from(0x1000), image.len());
    let config = VmConfig {
        node: String::from("/chosen/vm"),
        name: String::from("vm"),
        cpus: u32::try_from(homes.len()).expect("few vCPUs"),
        memory_bytes: VM_BYTES,
        boot: if firmware {
            BootModule::Firmware(range)
        } else {
            BootModule::Kernel(range)
        },
        ramdisk: None,
        bootargs: None,
        placement: Placement::Pinned(homes.to_vec()),
        weight: VmConfig::USUAL_WEIGHT,
        priority: VmConfig::USUAL_PRIORITY,
    };
    let vmid = HwVmid::new(id.raw() + 1).expect("not zero");
    builder
        .build(id, vmid, &config, &mut TlbLog::default(), |_| image)
        .expect("a good configuration")
}

/// Returns a VM with `vcpus` vCPUs, at most four, started: vCPU 0 is on.
pub(crate) fn vm(vcpus: usize) -> Vm {
    let machine: &'static FakeBoard = Box::leak(Box::new(FakeBoard::new(4, 4, 0)));
    let console = Arc::new(Console::new(Box::new(FakeUart::default())));
    let homes = [0, 1, 2, 3];
    let vm = build(
        machine,
        &console,
        &frame_pool(8 << 20),
        VmId::new(0),
        &homes[..vcpus],
        false,
    );
    vm.boot().expect("a good image");
    vm
}

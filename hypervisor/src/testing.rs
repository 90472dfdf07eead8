//! Doubles that the tests of several modules use.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use std::sync::Mutex;

use arm_vcpu::IdRegisters;
use dtb_platform::{BootModule, VmConfig};
use s2_mmu::fakes::TlbLog;
use s2_mmu::{HwVmid, Stage2Config};
use vm_contract::{HostPhysAddr, HostPhysAddrRange, VmId};

use crate::console::{Console, HostUart};
use crate::cpu::{Machine, PcpuId};
use crate::frames::{FRAME_BYTES, FramePool};
use crate::vm::{HostFacts, Vm, VmBuilder};

/// Returns a pool of `size_bytes` of this process's memory, which is never freed.
pub(crate) fn frame_pool(size_bytes: usize) -> Arc<FramePool> {
    // Twice as much, so that an aligned half of that size lies within.
    let memory = Box::leak(vec![0u8; 2 * size_bytes].into_boxed_slice());
    let start = memory.as_mut_ptr().expose_provenance().next_multiple_of(size_bytes);
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

    pub(crate) fn set_room(&self, bytes: usize) {
        self.lock().room = Some(bytes);
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

/// A machine whose kicks are counted.
#[derive(Default)]
pub(crate) struct FakeMachine {
    pub(crate) kicks: Mutex<Vec<PcpuId>>,
}

impl Machine for FakeMachine {
    fn kick(&self, cpu: PcpuId) {
        self.kicks.lock().expect("no test panics while it holds this").push(cpu);
    }

    fn now_ticks(&self) -> u64 {
        0
    }

    fn ticks_per_second(&self) -> u64 {
        62_500_000
    }

    fn clean_to_coherency(&self, _range: HostPhysAddrRange) {}
}

/// Returns a VM with `vcpus` vCPUs and 16 MiB of memory, started: vCPU 0 is on.
pub(crate) fn vm(vcpus: u32) -> Vm {
    let machine: &'static FakeMachine = Box::leak(Box::default());
    let host = HostFacts {
        stage2: Stage2Config::from_parange(5, Some(40)),
        id_registers: Arc::new(IdRegisters::default()),
        midr: 0x410f_d034,
        cpu_count: 4,
        now_seconds: 0,
    };
    let pool = frame_pool(32 << 20);
    let console = Arc::new(Console::new(Box::new(FakeUart::default())));
    let builder = VmBuilder { machine, host: &host, pool: &pool, console: &console };
    let image: &'static [u8] = &[0x1f, 0x20, 0x03, 0xd5];
    let range = HostPhysAddrRange::from_start_size(HostPhysAddr::from(0x1000), image.len());
    let config = VmConfig {
        node: String::from("/chosen/vm0"),
        name: String::from("vm0"),
        cpus: vcpus,
        memory_bytes: 16 << 20,
        boot: BootModule::Kernel(range),
        ramdisk: None,
        bootargs: None,
        affinity: Vec::new(),
    };
    let vmid = HwVmid::new(1).expect("1 is a VMID");
    let vm = builder
        .build(VmId::new(0), vmid, &config, &mut TlbLog::default(), |_| image)
        .expect("a good configuration");
    vm.boot().expect("a good image");
    vm
}

//! A whole machine on a host: VMs whose guests play scripts, and CPUs that run
//! the hypervisor's own main loop, one step at a time.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use arm_vgic_core::Kicks;
use dtb_platform::{BootModule, DiskConfig, DiskPart, DiskSource, NetConfig, Placement, VlanMode};
use vm_contract::{GuestMemory, GuestPhysAddr, VcpuId, Width};

use super::baton::Mood;
use super::board::FakeBoard;
use super::cpu::{CpuState, FakeCpu};
use super::guest::{Guest, Script};
use super::threads::Threads;
use super::{FakeDisk, FakeUart, SLICE_MS, boot, builder, config, frame_pool};
use crate::console::Console;
use crate::cpu::Machine;
use crate::devices::HostDevices;
use crate::frames::FramePool;
use crate::machine::{Hypervisor, MachineParts};
use crate::net::Network;
use crate::run::Scheduler;
use crate::sched::Message;
use crate::vm::vgic::{Frame, HostGic};
use crate::vm::{Vm, VmBuilder};

/// More steps than any test needs.
const MOST_ROUNDS: usize = 10_000;

/// Memory for the VMs of a machine that has its own: enough for seven.
const POOL_BYTES: usize = 32 << 20;

/// What a machine is made of.
pub(crate) struct Plan<'a> {
    /// Where the vCPUs of each VM live.
    pub(crate) homes: &'a [&'a [u32]],
    /// Whether they may move to any CPU instead of living there.
    pub(crate) floating: bool,
    /// Weight and priority of each VM; the usual ones for all that are left out.
    pub(crate) shares: &'a [(u32, u8)],
    /// Whether guests are firmware rather than kernels.
    pub(crate) firmware: bool,
    pub(crate) gic: HostGic,
    /// Whether each VM has an interrupt translation service.
    pub(crate) its: bool,
    pub(crate) lr_count: usize,
    /// The machine's disk, of which each VM has as many sectors as the next, and the
    /// switch, to which it has a card then.
    pub(crate) disk: Option<FakeDisk>,
    /// Where memory comes from; a pool of its own if `None`.
    pub(crate) pool: Option<Arc<FramePool>>,
}

impl Default for Plan<'_> {
    fn default() -> Self {
        Self {
            homes: &[&[0]],
            floating: false,
            shares: &[],
            firmware: false,
            gic: HostGic::V3,
            its: false,
            lr_count: 4,
            disk: None,
            pool: None,
        }
    }
}

/// A machine that has been started.
pub(crate) struct Rig {
    pub(crate) hypervisor: Arc<Hypervisor<Guest>>,
    pub(crate) uart: FakeUart,
    board: &'static FakeBoard,
    scripts: Vec<Vec<Script>>,
    threads: Threads,
}

impl Rig {
    /// The counter when the machine was started.
    pub(crate) const START: u64 = 1_000_000;

    /// Starts VMs whose vCPUs live on the CPUs that `homes` says, by VM.
    pub(crate) fn new(homes: &[&[u32]]) -> Self {
        Self::from_plan(&Plan {
            homes,
            ..Plan::default()
        })
    }

    pub(crate) fn from_plan(plan: &Plan<'_>) -> Self {
        let homes = plan.homes;
        let last_cpu = homes
            .iter()
            .flat_map(|homes| homes.iter())
            .max()
            .expect("some vCPU");
        let cpu_count = u16::try_from(last_cpu + 1).expect("few CPUs");
        let board = FakeBoard::new(cpu_count, plan.lr_count, Self::START);
        let board: &'static FakeBoard = Box::leak(Box::new(board));
        let uart = FakeUart::default();
        let console = Console::new(Box::new(uart.clone()));
        let pool = plan.pool.clone().unwrap_or_else(|| frame_pool(POOL_BYTES));
        let scripts: Vec<Vec<Script>> = homes
            .iter()
            .map(|homes| homes.iter().map(|_| Script::default()).collect())
            .collect();
        let vms = homes.iter().enumerate().map(|(n, homes)| {
            let placement = if plan.floating {
                Placement::Within((0..u32::from(cpu_count)).collect())
            } else {
                Placement::Pinned(homes.to_vec())
            };
            let mut config = config(u32::try_from(homes.len()).expect("few vCPUs"), placement);
            config.its = plan.its;
            if plan.firmware {
                config.boot = BootModule::Firmware(config.boot.range());
            }
            if let Some((weight, priority)) = plan.shares.get(n) {
                (config.weight, config.priority) = (*weight, *priority);
            }
            if plan.disk.is_some() {
                config.disks.push(disk_part(n));
                config.nets.push(NetConfig {
                    mac: None,
                    vlan: VlanMode::default(),
                    anti_spoofing: true,
                });
            }
            (config.name.clone(), Some(config))
        });
        let vms: Vec<_> = vms.collect();
        let mut devices = HostDevices::default();
        if let Some(disk) = &plan.disk {
            devices.add_disk(FakeDisk::interrupt(), disk.host_disk());
            let configs = vms.iter().map(|(_, config)| config.as_ref());
            let network = Network::new(board, configs, None, 7).expect("few cards");
            devices.set_network(None, Arc::new(network));
        }
        let hypervisor = Arc::new(Hypervisor::new(MachineParts {
            builder: VmBuilder {
                devices: Arc::new(devices),
                ..builder(board, plan.gic, console, pool)
            },
            cpu_count,
            slice_ms: SLICE_MS,
            vms,
            hal: Box::new({
                let scripts = scripts.clone();
                move |vm, vcpu| {
                    let script = scripts[usize::from(vm.raw())][vcpu.index()].clone();
                    Guest::new(script, board)
                }
            }),
        }));
        hypervisor.start();
        assert!(!hypervisor.any_fault(), "not all VMs could be built");
        start_vms(&hypervisor);
        uart.clear();
        let threads = Threads::spawn(board, |id| {
            let hypervisor = Arc::clone(&hypervisor);
            move || {
                let mut cpu = FakeCpu::new(id, board);
                Scheduler::new(&hypervisor).run(&hypervisor, &mut cpu);
            }
        });
        Self {
            hypervisor,
            uart,
            board,
            scripts,
            threads,
        }
    }

    /// Returns what vCPU `vcpu` of VM `vm` does.
    pub(crate) fn script(&self, vm: usize, vcpu: usize) -> &Script {
        &self.scripts[vm][vcpu]
    }

    pub(crate) fn vm(&self, vm: usize) -> Arc<Vm> {
        self.hypervisor.slots()[vm].vm().expect("it is not off")
    }

    pub(crate) fn cpu(&self, cpu: usize) -> &CpuState {
        &self.board.cpus()[cpu]
    }

    pub(crate) fn board(&self) -> &'static FakeBoard {
        self.board
    }

    pub(crate) fn now(&self) -> u64 {
        self.board.now_ticks()
    }

    /// Lets time pass.
    pub(crate) fn advance_to(&self, ticks: u64) {
        self.board.set_now(ticks);
    }

    /// Lets `cpu` run until its guest is next entered, or until it has nothing
    /// to do.
    pub(crate) fn step(&mut self, cpu: usize) -> Mood {
        self.threads.step(cpu)
    }

    /// Runs all CPUs in turn until none has anything to do, without letting
    /// time pass.
    pub(crate) fn settle(&mut self) {
        for _ in 0..MOST_ROUNDS {
            let before = self.threads.moods();
            for cpu in 0..before.len() {
                self.step(cpu);
            }
            let moods = self.threads.moods();
            let called = |(cpu, mood): (&Arc<CpuState>, &Mood)| {
                *mood != Mood::Gone && cpu.signalled(self.now()).is_some()
            };
            let is_called = self.board.cpus().iter().zip(&moods).any(called);
            if moods == before && !moods.contains(&Mood::Awake) && !is_called {
                return;
            }
        }
        panic!("the machine never comes to rest");
    }

    /// Runs all CPUs until their main loops end. Time passes while all wait.
    ///
    /// # Panics
    /// If all wait and no timer will ever wake one.
    pub(crate) fn run(&mut self) {
        for _ in 0..MOST_ROUNDS {
            self.settle();
            if self.is_over() {
                return;
            }
            let next = self
                .board
                .next_timer()
                .unwrap_or_else(|| panic!("the machine slept for ever"));
            self.advance_to(next.max(self.now()));
        }
        panic!("the machine never comes to its end");
    }

    /// Runs all CPUs for a while.
    pub(crate) fn run_for(&mut self, ticks: u64) {
        let end = self.now() + ticks;
        self.settle();
        while let Some(next) = self.board.next_timer().filter(|next| *next <= end) {
            self.advance_to(next.max(self.now() + 1));
            self.settle();
        }
        self.advance_to(end.max(self.now()));
        self.settle();
    }

    /// Lets all CPUs go on at the same time from now on, and time with them. There
    /// are no steps any more, and what guests do has been written.
    pub(crate) fn let_go(&self) {
        self.threads.let_go();
    }

    /// Waits until `condition` holds, while all CPUs go on.
    ///
    /// # Panics
    /// If it never will: `what` does not happen.
    pub(crate) fn wait_until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        self.threads
            .wait_until(|| condition(self), || format!("{what}? {}", self.report()));
    }

    /// Describes how the machine is, for whoever has to find out why it does not
    /// get on.
    fn report(&self) -> String {
        let mut report = format!("at {}", self.now());
        for cpu in self.board.cpus() {
            let is_called = self.hypervisor.cpus().is_called(cpu.id);
            let summary = cpu.wires().summary();
            report += &format!("\nCPU {}: called {is_called}, {summary}", cpu.id);
        }
        for slot in self.hypervisor.slots() {
            report += &format!("\nVM {}: {:?}", slot.id(), slot.condition());
            let vm = slot.vm();
            for mailbox in vm.iter().flat_map(|vm| vm.vcpus().map(|id| vm.mailbox(id))) {
                report += &format!(", {mailbox:x?}");
            }
        }
        report
    }

    /// Checks that no vCPU is on two CPUs.
    pub(crate) fn assert_nobody_runs_twice(&self) {
        let running = self.hypervisor.cpus().running();
        let running: Vec<_> = running.filter_map(|(_, vcpu)| vcpu).collect();
        for (n, vcpu) in running.iter().enumerate() {
            assert!(!running[..n].contains(vcpu), "{vcpu:?} is on two CPUs");
        }
    }

    /// Tells whether the main loops of all CPUs have ended.
    pub(crate) fn is_over(&self) -> bool {
        self.threads.are_gone()
    }

    /// Does to a VM's interrupt controller what its guest's drivers would: all
    /// private interrupts and the first shared ones are in Group 1 and enabled.
    /// A GICv3's, that is.
    pub(crate) fn enable_interrupts(&self, vm: usize) {
        const GICD_CTLR: u64 = 0;
        const IGROUPR: u64 = 0x80;
        const ISENABLER: u64 = 0x100;
        let vm = self.vm(vm);
        let all = u64::from(u32::MAX);
        let mut writes = alloc::vec![
            (Frame::Distributor, GICD_CTLR, 0b11),
            (Frame::Distributor, IGROUPR + 4, all),
            (Frame::Distributor, ISENABLER + 4, all),
        ];
        for (vcpu, _) in vm.affinities() {
            let sgi_base = u64::from(vcpu.raw()) * 0x2_0000 + 0x1_0000;
            writes.push((Frame::Redistributors, sgi_base + IGROUPR, all));
            writes.push((Frame::Redistributors, sgi_base + ISENABLER, all));
        }
        for (frame, offset, value) in writes {
            let none = vm.with_vgic(None, |vgic| {
                let kicks = vgic.write(VcpuId::new(0), frame, offset, Width::Word, value);
                (kicks.is_ok_and(|kicks| kicks.is_empty()), Kicks::NONE)
            });
            assert!(none, "nothing is pending yet");
        }
    }

    /// Reads a word of a guest's memory.
    pub(crate) fn word(&self, vm: usize, address: usize) -> u32 {
        let mut bytes = [0; 4];
        self.vm(vm)
            .ram()
            .read(GuestPhysAddr::from(address), &mut bytes)
            .expect("it is memory");
        u32::from_le_bytes(bytes)
    }

    /// Writes a word to a guest's memory, as its devices would.
    pub(crate) fn set_word(&self, vm: usize, address: usize, value: u32) {
        let address = GuestPhysAddr::from(address);
        self.vm(vm)
            .ram()
            .load(address, &value.to_le_bytes())
            .expect("it is memory");
    }
}

/// Returns the part of the machine's disk that VM number `vm` has.
fn disk_part(vm: usize) -> DiskConfig {
    DiskConfig {
        source: DiskSource::Host {
            disk: 0,
            part: DiskPart::Sectors {
                first: 100 * vm as u64,
                count: 100,
            },
        },
        read_only: false,
    }
}

/// Starts all VMs before the CPUs begin: tests find them running.
fn start_vms(hypervisor: &Hypervisor<Guest>) {
    for cpu in hypervisor.cpus().iter() {
        let mut arrivals = Vec::new();
        while let Some(message) = hypervisor.receive(cpu) {
            match message {
                Message::Boot(vm) => boot(vm),
                arrival @ Message::Arrival(_) => arrivals.push(arrival),
            }
        }
        for arrival in arrivals {
            hypervisor.send(cpu, arrival);
        }
    }
}

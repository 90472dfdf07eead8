use alloc::vec;

use dtb_platform::{DiskConfig, DiskPart, DiskSource, Placement};
use vm_contract::{GuestMemory, GuestPhysAddr, HostPhysAddrRange};

use super::*;
use crate::cpu::PhysicalInterrupt;
use crate::devices::HostDevices;
use crate::storage::{DiskError, SECTOR_BYTES};
use crate::testing::{FakeDisk, Plan, Rig, config, vms_on_board};
use crate::vm::bus::WindowHint;

fn machine_disk(hardware: &FakeDisk) -> HostDevices {
    let mut devices = HostDevices::default();
    devices.add_disk(FakeDisk::interrupt(), hardware.host_disk());
    devices
}

fn part(first: u64, count: u64) -> DiskConfig {
    DiskConfig {
        source: DiskSource::Host {
            disk: 0,
            part: DiskPart::Sectors { first, count },
        },
        read_only: false,
    }
}

fn with_disks(disks: Vec<DiskConfig>) -> VmConfig {
    VmConfig {
        disks,
        ..config(1, Placement::Pinned(vec![0]))
    }
}

/// A guest's driver of the block device in a place: as simple as can be, with a queue of
/// 128 descriptors, of which each request has three.
struct Driver<'a> {
    vm: &'a Vm,
    registers: usize,
    /// Its own memory.
    start: usize,
    requests: u16,
}

const AVAILABLE: usize = 0x1000;
const USED: usize = 0x2000;
const HEADERS: usize = 0x3000;
const STATUS: usize = 0x4000;
const DATA: usize = 0x5000;
const IN: u32 = 0;
const OUT: u32 = 1;

impl<'a> Driver<'a> {
    fn new(vm: &'a Vm, slot: usize) -> Self {
        let place = layout::virtio_mmio(slot).expect("there are 32");
        let mut driver = Self {
            vm,
            registers: place.range.start.into(),
            start: 0x4020_0000 + slot * 0x4_0000,
            requests: 0,
        };
        driver.bring_up();
        driver
    }

    fn bring_up(&mut self) {
        self.requests = 0;
        let zeroes = vec![0; 0x4_0000];
        self.put(0, &zeroes);
        let [ring, available, used] = [0, AVAILABLE, USED].map(|at| self.start + at);
        let low = |address: usize| u32::try_from(address).expect("below 4 GiB");
        let writes = [
            (0x70, 0),
            (0x70, 1 | 2),
            // VIRTIO_F_VERSION_1, and VIRTIO_BLK_F_FLUSH: writes are not flushed.
            (0x24, 1),
            (0x20, 1),
            (0x24, 0),
            (0x20, 1 << 9),
            (0x70, 1 | 2 | 8),
            (0x30, 0),
            (0x38, 128),
            (0x80, low(ring)),
            (0x90, low(available)),
            (0xa0, low(used)),
            (0x44, 1),
            (0x70, 1 | 2 | 4 | 8),
        ];
        for (offset, value) in writes {
            self.write(offset, value);
        }
        assert_eq!(self.read(0x70), 1 | 2 | 4 | 8);
    }

    fn access<R>(
        &self,
        offset: usize,
        work: impl FnOnce(&dyn SharedDevice, &DeviceContext<'_>, u64) -> R,
    ) -> R {
        let address = GuestPhysAddr::from(self.registers + offset);
        let bus = self.vm.bus();
        let target = bus.find(address, Width::Word, &mut WindowHint::default());
        let Some((Target::Device { device, intid }, offset)) = target else {
            panic!("no device at {address:?}");
        };
        let line = Line::new(self.vm, *intid, None);
        let context = DeviceContext {
            vcpu: VcpuId::new(0),
            memory: self.vm.ram(),
            line: &line,
        };
        work(&**device, &context, offset)
    }

    fn read(&self, offset: usize) -> u64 {
        let read = self.access(offset, |device, context, offset| {
            device.read(context, offset, Width::Word)
        });
        read.expect("a register")
    }

    fn write(&self, offset: usize, value: u32) {
        let written = self.access(offset, |device, context, offset| {
            device.write(context, offset, Width::Word, value.into())
        });
        assert_eq!(written, Ok(Left::Nothing));
    }

    fn put(&self, at: usize, bytes: &[u8]) {
        let address = GuestPhysAddr::from(self.start + at);
        self.vm.ram().write(address, bytes).expect("memory");
    }

    fn get<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut bytes = [0; N];
        let address = GuestPhysAddr::from(self.start + at);
        self.vm.ram().read(address, &mut bytes).expect("memory");
        bytes
    }

    /// Makes a request for one sector available.
    fn ask(&mut self, kind: u32, sector: u64) -> usize {
        let n = self.requests;
        let at = usize::from(n);
        self.requests += 1;
        let header = [u64::from(kind), sector].map(u64::to_le_bytes).concat();
        self.put(HEADERS + 16 * at, &header);
        self.put(STATUS + at, &[0xff]);
        let places = [
            (HEADERS + 16 * at, 16, 0),
            (DATA + 512 * at, 512, u16::from(kind == IN) * 2),
            (STATUS + at, 1, 2),
        ];
        for (k, (place, bytes, flags)) in (3 * n..).zip(places) {
            let next = if flags == 2 && bytes == 1 { 0 } else { 1 };
            let mut descriptor = ((self.start + place) as u64).to_le_bytes().to_vec();
            descriptor.extend(u32::to_le_bytes(bytes));
            descriptor.extend((flags | next).to_le_bytes());
            descriptor.extend((k + 1).to_le_bytes());
            self.put(16 * usize::from(k), &descriptor);
        }
        self.put(AVAILABLE + 4 + 2 * at, &(3 * n).to_le_bytes());
        self.put(AVAILABLE + 2, &self.requests.to_le_bytes());
        at
    }

    fn kick(&self) {
        self.write(0x50, 0);
    }

    fn done(&self) -> u16 {
        u16::from_le_bytes(self.get(USED + 2))
    }

    fn status(&self, request: usize) -> u8 {
        let [status] = self.get(STATUS + request);
        status
    }

    fn data(&self, request: usize) -> [u8; 512] {
        self.get(DATA + 512 * request)
    }
}

fn one_vm(disks: Vec<DiskConfig>, hardware: &FakeDisk) -> Arc<Vm> {
    let (mut vms, _) = vms_on_board(&[with_disks(disks)], machine_disk(hardware));
    let vm = vms.pop().expect("there is one");
    vm.expect("a good configuration")
}

fn service(vm: &Vm) {
    vm.devices().service(FakeDisk::interrupt(), None);
}

#[test]
fn what_the_disk_has_read_is_in_memory_after_its_interrupt() {
    let hardware = FakeDisk::default();
    hardware.state().bytes[103 * SECTOR_BYTES..104 * SECTOR_BYTES].fill(0x33);
    let vm = one_vm(vec![part(100, 10)], &hardware);
    let mut driver = Driver::new(&vm, 0);
    let request = driver.ask(IN, 3);
    driver.kick();
    assert_eq!((driver.done(), driver.read(0x60)), (0, 0), "the disk works");
    hardware.state().finish_all();
    assert_eq!(driver.data(request), [0; 512]);
    service(&vm);
    assert_eq!((driver.done(), driver.read(0x60)), (1, 1));
    assert_eq!(driver.status(request), 0);
    assert_eq!(driver.data(request), [0x33; 512]);

    let request = driver.ask(OUT, 9);
    driver.put(DATA + 512 * request, &[0x44; 512]);
    driver.kick();
    // It was copied away before.
    driver.put(DATA + 512 * request, &[0x55; 512]);
    hardware.state().finish(0, Some(DiskError::Io));
    service(&vm);
    assert_eq!(driver.status(request), 1);
    let request = driver.ask(OUT, 9);
    driver.put(DATA + 512 * request, &[0x66; 512]);
    driver.kick();
    hardware.state().finish_all();
    service(&vm);
    assert_eq!(driver.status(request), 0);
    let written = &hardware.state().bytes[109 * SECTOR_BYTES..110 * SECTOR_BYTES];
    assert_eq!(written, [0x66; 512]);
}

#[test]
fn a_request_from_before_a_reset_ends_unseen() {
    let hardware = FakeDisk::default();
    hardware.state().bytes.fill(0x33);
    let vm = one_vm(vec![part(100, 10)], &hardware);
    let mut driver = Driver::new(&vm, 0);
    driver.ask(IN, 0);
    driver.kick();
    driver.bring_up();
    let request = driver.ask(IN, 1);
    driver.kick();
    assert_eq!(hardware.state().started.len(), 2);
    hardware.state().finish(0, None);
    service(&vm);
    assert_eq!((driver.done(), driver.data(request)), (0, [0; 512]));
    hardware.state().finish(0, None);
    service(&vm);
    assert_eq!((driver.done(), driver.data(request)), (1, [0x33; 512]));
    // The VM as a whole is reset.
    driver.ask(IN, 2);
    driver.kick();
    vm.bus().reset(|_| {});
    hardware.state().finish_all();
    service(&vm);
    assert_eq!((driver.done(), driver.read(0x70)), (1, 0));
}

#[test]
fn a_vm_goes_while_the_disk_works_for_it() {
    let hardware = FakeDisk::default();
    let devices = machine_disk(&hardware);
    let disk = Arc::clone(devices.disk(0).expect("it has one"));
    let configs = [
        with_disks(vec![part(0, 10)]),
        with_disks(vec![part(10, 10)]),
    ];
    let (mut vms, _) = vms_on_board(&configs, devices);
    let other = vms.pop().expect("two").expect("good");
    let vm = vms.pop().expect("two").expect("good");
    let mut driver = Driver::new(&vm, 0);
    driver.ask(OUT, 0);
    driver.kick();
    let mut others = Driver::new(&other, 0);
    others.ask(OUT, 0);
    others.kick();
    let gone = Arc::downgrade(&vm);
    drop(vm);
    assert!(gone.upgrade().is_none(), "nobody else has it");
    hardware.state().finish_all();
    service(&other);
    assert_eq!(others.done(), 1);
    // Its place is free again.
    let clients: Vec<_> = core::iter::from_fn(|| disk.attach(disk.whole()).ok()).collect();
    assert_eq!(clients.len(), crate::storage::MAX_CLIENTS - 1);
}

#[test]
fn more_requests_than_the_disk_takes_all_end() {
    let hardware = FakeDisk::default();
    let disks = vec![part(0, 100), part(100, 100), part(200, 100)];
    let vm = one_vm(disks, &hardware);
    let mut drivers: Vec<_> = (0..3).map(|slot| Driver::new(&vm, slot)).collect();
    for driver in &mut drivers {
        for sector in 0..40 {
            driver.ask(OUT, sector);
        }
        driver.kick();
    }
    let mut rounds = 0;
    while drivers.iter().any(|driver| driver.done() < 40) {
        rounds += 1;
        assert!(rounds < 10, "they wait for ever");
        assert!(hardware.state().started.len() <= crate::storage::SLOT_COUNT);
        hardware.state().finish_all();
        service(&vm);
    }
    for driver in &drivers {
        assert!((0..40).all(|request| driver.status(request) == 0));
    }
}

#[test]
fn a_disk_in_memory_answers_at_once() {
    let contents = HostPhysAddrRange::from_start_size(0x1000.into(), 8 * SECTOR_BYTES);
    let disk = DiskConfig {
        source: DiskSource::Module(contents),
        read_only: false,
    };
    let vm = one_vm(vec![disk], &FakeDisk::default());
    let mut driver = Driver::new(&vm, 0);
    let request = driver.ask(OUT, 7);
    driver.put(DATA + 512 * request, &[0x66; 512]);
    let again = driver.ask(IN, 7);
    let beyond = driver.ask(IN, 8);
    driver.kick();
    assert_eq!((driver.done(), driver.read(0x60)), (3, 1));
    assert_eq!(
        [request, again, beyond].map(|n| driver.status(n)),
        [0, 0, 1]
    );
    assert_eq!(driver.data(again), [0x66; 512]);
}

#[test]
fn places_without_a_device_say_so() {
    let vm = one_vm(vec![part(0, 10)], &FakeDisk::default());
    for slot in 0..layout::VIRTIO_MMIO_SLOTS {
        let registers = layout::virtio_mmio(slot).expect("there are 32").range.start;
        let driver = Driver {
            vm: &vm,
            registers: registers.into(),
            start: 0,
            requests: 0,
        };
        let identity = [0, 4, 8].map(|offset| driver.read(offset));
        let device = if slot == 0 { 2 } else { 0 };
        assert_eq!(identity, [0x7472_6976, 2, device], "place {slot}");
    }
}

#[test]
fn a_vm_is_not_built_without_its_disks() {
    let missing = |source| DiskConfig {
        source,
        read_only: true,
    };
    let sources = [
        (
            DiskSource::Host {
                disk: 1,
                part: DiskPart::Whole,
            },
            DiskProblem::NoDisk(1),
        ),
        (
            DiskSource::Host {
                disk: 0,
                part: DiskPart::Partition(3),
            },
            DiskProblem::NoPartition(3),
        ),
        (
            DiskSource::Host {
                disk: 0,
                part: DiskPart::Sectors {
                    first: FakeDisk::SECTORS,
                    count: 1,
                },
            },
            DiskProblem::Attach(crate::storage::AttachError::OutsideDisk(FakeDisk::SECTORS)),
        ),
    ];
    for (source, expected) in sources {
        let config = with_disks(vec![part(0, 10), missing(source)]);
        let (vms, _) = vms_on_board(&[config], machine_disk(&FakeDisk::default()));
        match vms.into_iter().next() {
            Some(Err(BuildError::Disk { number: 1, problem })) => assert_eq!(problem, expected),
            other => panic!("{:?}", other.map(|vm| vm.map(|vm| vm.id()))),
        }
    }
}

/// The first virtio device's interrupt, which is that of the disk.
const DISK_INTID: u32 = 48;

#[test]
fn a_guest_that_waits_for_its_disk_is_woken_by_the_cpu_that_has_the_interrupt() {
    let hardware = FakeDisk::default();
    hardware.state().bytes.fill(0x33);
    let mut rig = Rig::from_plan(&Plan {
        homes: &[&[0], &[1]],
        disk: Some(hardware.clone()),
        ..Plan::default()
    });
    rig.enable_interrupts(1);
    let vm = rig.vm(1);
    let mut driver = Driver::new(&vm, 0);
    let request = driver.ask(IN, 5);
    driver.kick();
    rig.script(0, 0).look(|_| {});
    rig.script(1, 0)
        .look(|inside| inside.open_interrupts())
        .wait()
        .look(|inside| assert_eq!(inside.handle_interrupt(), Some(DISK_INTID)));
    rig.settle();
    assert!(!rig.script(1, 0).is_done(), "it waits");
    let (_, command, _) = hardware.state().started[0];
    assert_eq!(
        command,
        crate::storage::Command::Read {
            sector: 105,
            bytes: 512
        }
    );
    hardware.state().finish_all();
    // While the other VM's guest runs there.
    let interrupt = PhysicalInterrupt::Device(FakeDisk::interrupt());
    rig.cpu(0).wires().raised.push(interrupt);
    rig.settle();
    assert!(rig.script(1, 0).is_done(), "it has been woken");
    assert_eq!(driver.data(request), [0x33; 512]);
    assert_eq!(hardware.state().acknowledged, 1);
}

#[test]
fn an_idle_cpu_serves_the_disk() {
    let hardware = FakeDisk::default();
    let mut rig = Rig::from_plan(&Plan {
        disk: Some(hardware.clone()),
        ..Plan::default()
    });
    rig.enable_interrupts(0);
    let vm = rig.vm(0);
    let mut driver = Driver::new(&vm, 0);
    driver.ask(OUT, 5);
    driver.kick();
    rig.script(0, 0)
        .look(|inside| inside.open_interrupts())
        .wait()
        .look(|inside| assert_eq!(inside.handle_interrupt(), Some(DISK_INTID)));
    rig.settle();
    hardware.state().finish_all();
    let interrupt = PhysicalInterrupt::Device(FakeDisk::interrupt());
    rig.cpu(0).wires().raised.push(interrupt);
    rig.settle();
    assert!(rig.script(0, 0).is_done(), "it has been woken");
}

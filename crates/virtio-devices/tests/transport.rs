//! The registers of the transport (VirtIO 1.2, 4.2.2, 2.1, 2.2).

use virtio_devices::fakes::{Buffer, DriverQueue, Rig};
use virtio_devices::{
    DeviceId, DriverFault, Placeholder, Queues, Status, VirtioDevice, Work, features,
};
use vm_contract::{AccessError, BaseDeviceOps, DeviceContext, DeviceKind, VcpuId, Width};

const DEVICE_FEATURES: u64 = 0x010;
const DEVICE_FEATURES_SEL: u64 = 0x014;
const QUEUE_SEL: u64 = 0x030;
const QUEUE_NUM_MAX: u64 = 0x034;
const QUEUE_NUM: u64 = 0x038;
const QUEUE_READY: u64 = 0x044;
const INTERRUPT_STATUS: u64 = 0x060;
const INTERRUPT_ACK: u64 = 0x064;
const STATUS: u64 = 0x070;
const QUEUE_RESET: u64 = 0x0C0;
const CONFIG_GENERATION: u64 = 0x0FC;
const CONFIG: u64 = 0x100;

/// A feature of the device below.
const FEATURE: u64 = 1 << 3;
/// A feature that needs the one above.
const DEPENDENT: u64 = 1 << 4;

/// Gives every chain back, and remembers what it was told.
struct Probe {
    config: [u8; 6],
    started: Vec<u64>,
    processed: Vec<u16>,
    queues_reset: Vec<u16>,
    resets: usize,
    chain: virtio_devices::Chain,
    fault: Option<DriverFault>,
}

impl Probe {
    fn rig() -> Rig<Self> {
        let probe = Self {
            config: [1, 2, 3, 4, 5, 6],
            started: Vec::new(),
            processed: Vec::new(),
            queues_reset: Vec::new(),
            resets: 0,
            chain: virtio_devices::Chain::with_limit(4),
            fault: None,
        };
        Rig::new(probe, 0x10000)
    }
}

impl VirtioDevice for Probe {
    fn device_id(&self) -> DeviceId {
        DeviceId::Console
    }
    fn features(&self) -> u64 {
        FEATURE | DEPENDENT
    }
    fn queue_sizes(&self) -> &[u16] {
        &[16, 1024, 0]
    }
    fn config(&self) -> &[u8] {
        &self.config
    }
    fn write_config(&mut self, offset: u64, bytes: &[u8]) {
        let offset = usize::try_from(offset).expect("64 bits");
        for (index, byte) in bytes.iter().enumerate() {
            if let Some(target) = self.config.get_mut(offset + index) {
                *target = *byte;
            }
        }
    }
    fn accepts(&self, features: u64) -> bool {
        features & DEPENDENT == 0 || features & FEATURE != 0
    }
    fn start(&mut self, features: u64) {
        self.started.push(features);
    }
    fn process(&mut self, queue: u16, queues: &mut Queues<'_>) -> Result<Work, DriverFault> {
        self.processed.push(queue);
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        while queues.pop(queue, &mut self.chain)? {
            queues.push(queue, self.chain.head(), 0)?;
        }
        Ok(Work::Done)
    }
    fn reset_queue(&mut self, queue: u16) {
        self.queues_reset.push(queue);
    }
    fn reset(&mut self) {
        self.resets += 1;
    }
}

#[test]
fn a_driver_finds_the_device() {
    let mut rig = Probe::rig();
    assert_eq!(rig.read(0x000), 0x7472_6976);
    assert_eq!(rig.read(0x004), 2);
    assert_eq!(rig.read(0x008), 3);
    assert_eq!(rig.mmio.kind(), DeviceKind::VirtioMmio);
    assert_eq!(usize::from(rig.mmio.address_range().end), 0x0A00_0200);
    let offered = rig.offered();
    assert_eq!(offered, FEATURE | DEPENDENT | features::TRANSPORT);
    rig.write(DEVICE_FEATURES_SEL, 2);
    assert_eq!(rig.read(DEVICE_FEATURES), 0);
}

#[test]
fn shared_memory_that_is_not_there_reads_as_all_ones() {
    let mut rig = Probe::rig();
    for id in [0, 1, u32::MAX] {
        rig.write(0x0AC, id);
        for register in [0x0B0, 0x0B4, 0x0B8, 0x0BC] {
            assert_eq!(rig.read(register), u32::MAX);
        }
    }
    assert_eq!(rig.read(0x0A8), 0, "no register");
    assert_eq!(rig.read(QUEUE_RESET), 0);
}

#[test]
fn registers_are_32_bits_wide_and_the_configuration_is_not() {
    let mut rig = Probe::rig();
    for width in [Width::Byte, Width::Half, Width::Dword] {
        assert_eq!(rig.try_read(STATUS, width), Err(AccessError::InvalidWidth));
        let written = rig.try_write(STATUS, width, 1);
        assert_eq!(written, Err(AccessError::InvalidWidth));
    }
    assert_eq!(
        rig.try_read(STATUS + 2, Width::Word),
        Err(AccessError::Misaligned)
    );
    assert_eq!(rig.read(STATUS), 0, "the writes did nothing");
    assert_eq!(rig.try_read(CONFIG, Width::Byte), Ok(1));
    assert_eq!(rig.try_read(CONFIG + 1, Width::Half), Ok(0x0302));
    assert_eq!(rig.try_read(CONFIG, Width::Dword), Ok(0x0605_0403_0201));
    assert_eq!(rig.try_read(CONFIG + 0xFF, Width::Byte), Ok(0));
    rig.try_write(CONFIG + 1, Width::Half, 0xAABB)
        .expect("any width");
    assert_eq!(rig.mmio.device().config, [1, 0xBB, 0xAA, 4, 5, 6]);
}

#[test]
fn features_that_were_not_offered_are_refused() {
    let mut rig = Probe::rig();
    assert!(rig.negotiate(0));
    assert!(rig.negotiate(FEATURE | features::EVENT_IDX));
    assert!(!rig.negotiate(1 << 5), "not offered");
    assert!(!rig.negotiate(DEPENDENT), "needs another");
    rig.write(STATUS, 0xF);
    assert_eq!(rig.read(STATUS), 3, "nor DRIVER_OK without agreement");
    assert!(rig.mmio.device().started.is_empty());
}

#[test]
fn a_driver_from_before_the_standard_is_refused() {
    let mut rig = Probe::rig();
    rig.write(STATUS, 3);
    rig.write(STATUS, 0xB);
    assert_eq!(rig.read(STATUS), 3, "VERSION_1 was not taken");
}

#[test]
fn features_from_bit_64_on_are_refused() {
    let mut rig = Probe::rig();
    rig.write(STATUS, 3);
    for (select, value) in [(1, 1), (2, 1)] {
        rig.write(0x024, select);
        rig.write(0x020, value);
    }
    rig.write(STATUS, 0xB);
    assert_eq!(rig.read(STATUS), 3);
}

#[test]
fn features_are_settled_by_features_ok() {
    let mut rig = Probe::rig();
    assert!(rig.negotiate(FEATURE));
    rig.write(0x024, 0);
    rig.write(0x020, 0);
    rig.write(STATUS, 0xF);
    let expected = FEATURE | features::VERSION_1;
    assert_eq!(rig.mmio.device().started, [expected]);
}

#[test]
fn status_bits_stay_until_a_reset() {
    let mut rig = Probe::rig();
    assert!(rig.negotiate(0));
    rig.write(STATUS, 1);
    assert_eq!(rig.read(STATUS), 0xB);
    rig.write(STATUS, 64);
    assert_eq!(rig.read(STATUS), 0xB, "not for the driver to set");
    rig.write(STATUS, 128);
    assert_eq!(rig.read(STATUS), 0x8B);
    let resets = rig.mmio.device().resets;
    rig.write(STATUS, 0);
    assert_eq!(rig.read(STATUS), 0);
    assert_eq!(rig.mmio.device().resets, resets + 1);
}

#[test]
fn queues_have_their_own_sizes() {
    let mut rig = Probe::rig();
    for (index, size) in [(0, 16), (1, 1024), (2, 0), (3, 0), (u32::MAX, 0)] {
        rig.write(QUEUE_SEL, index);
        assert_eq!(rig.read(QUEUE_NUM_MAX), size);
        assert_eq!(rig.read(QUEUE_READY), 0);
    }
    rig.write(QUEUE_NUM, 8);
    rig.write(QUEUE_READY, 1);
    assert_eq!(rig.read(QUEUE_READY), 0, "there is no such queue");
    assert!(!rig.needs_reset());
}

#[test]
fn a_queue_is_made_ready_after_features_are_settled() {
    let mut rig = Probe::rig();
    let queue = DriverQueue::new(&rig.memory, Rig::<Probe>::MEMORY, 8, false);
    rig.enable_queue(0, &queue);
    assert_eq!(rig.read(QUEUE_READY), 0);
    assert!(rig.negotiate(0));
    rig.enable_queue(0, &queue);
    assert_eq!(rig.read(QUEUE_READY), 1);
    rig.write(QUEUE_NUM, 3);
    rig.write(QUEUE_READY, 1);
    assert!(!rig.needs_reset(), "a queue in use keeps its size");
    rig.write(QUEUE_READY, 0);
    assert_eq!(rig.read(QUEUE_READY), 0);
    assert_eq!(rig.mmio.device().queues_reset, [0]);
}

#[test]
fn bad_queues_stop_the_device() {
    const BASE: u64 = Rig::<Probe>::MEMORY;
    const END: u64 = BASE + 0x10000;
    let good = [BASE, BASE + 0x1000, BASE + 0x2000];
    let cases = [
        (0, good, DriverFault::QueueSize),
        (3, good, DriverFault::QueueSize),
        (32, good, DriverFault::QueueSize),
        (0x1_0010, good, DriverFault::QueueSize),
        (16, [BASE + 8, good[1], good[2]], DriverFault::RingAddress),
        (16, [good[0], BASE + 1, good[2]], DriverFault::RingAddress),
        (16, [good[0], good[1], BASE + 2], DriverFault::RingAddress),
        (
            16,
            [u64::MAX - 15, good[1], good[2]],
            DriverFault::RingAddress,
        ),
        (
            16,
            [good[0], u64::MAX - 1, good[2]],
            DriverFault::RingAddress,
        ),
        (16, [END - 0xF0, good[1], good[2]], outside()),
        (16, [good[0], END - 34, good[2]], outside()),
        (16, [good[0], good[1], END - 128], outside()),
        (16, [0, good[1], good[2]], outside()),
    ];
    for (size, addresses, fault) in cases {
        let mut rig = Probe::rig();
        assert!(rig.negotiate(0));
        rig.program_queue(0, size, addresses);
        assert_eq!(rig.mmio.fault(), Some(fault), "{size} {addresses:x?}");
        assert_eq!(rig.read(QUEUE_READY), 0);
        assert_eq!(rig.read(STATUS), 0x4B);
        assert!(!rig.line.is_high(), "no interrupt before DRIVER_OK");
        rig.write(STATUS, 0);
        let [mut queue] = rig.bring_up(0, 16);
        queue
            .add(&rig.memory, &[Buffer::readable(BASE, 1)])
            .expect("room");
        rig.notify(0);
        assert!(queue.pop_used(&rig.memory).is_some(), "usable again");
    }
}

fn outside() -> DriverFault {
    DriverFault::Memory(AccessError::OutsideMemory)
}

#[test]
fn a_fault_is_told_by_an_interrupt_and_ended_by_a_reset() {
    let mut rig = Probe::rig();
    let [_queue] = rig.bring_up(0, 8);
    rig.mmio.device_mut().fault = Some(DriverFault::Request);
    rig.poll();
    assert_eq!(rig.mmio.fault(), Some(DriverFault::Request));
    assert_eq!(rig.read(STATUS), 0x4F);
    assert_eq!(rig.acknowledge(), 2, "a configuration change");
    assert!(!rig.line.is_high());
    let processed = rig.mmio.device().processed.len();
    rig.notify(0);
    rig.poll();
    assert_eq!(rig.mmio.device().processed.len(), processed, "it rests");
    rig.write(STATUS, 0);
    assert_eq!(rig.mmio.fault(), None);
    assert_eq!(rig.read(STATUS), 0);
}

#[test]
fn nothing_is_taken_before_driver_ok_and_everything_after() {
    let mut rig = Probe::rig();
    assert!(rig.negotiate(0));
    let mut queue = DriverQueue::new(&rig.memory, Rig::<Probe>::MEMORY, 8, false);
    rig.enable_queue(0, &queue);
    let buffer = Buffer::readable(Rig::<Probe>::MEMORY, 1);
    queue.add(&rig.memory, &[buffer]).expect("room");
    rig.notify(0);
    assert!(queue.pop_used(&rig.memory).is_none());
    rig.write(STATUS, 0xF);
    assert!(queue.pop_used(&rig.memory).is_some());
}

#[test]
fn the_line_is_high_until_all_reasons_are_acknowledged() {
    let mut rig = Probe::rig();
    let [mut queue] = rig.bring_up(0, 8);
    let generation = rig.read(CONFIG_GENERATION);
    rig.mmio
        .change_config(&rig.line, |device| device.config[0] = 7);
    assert_ne!(rig.read(CONFIG_GENERATION), generation);
    assert_eq!(rig.try_read(CONFIG, Width::Byte), Ok(7));
    let buffer = Buffer::readable(Rig::<Probe>::MEMORY, 1);
    queue.add(&rig.memory, &[buffer]).expect("room");
    rig.notify(0);
    assert_eq!(rig.read(INTERRUPT_STATUS), 3);
    rig.write(INTERRUPT_ACK, 1);
    assert!(rig.line.is_high());
    rig.write(INTERRUPT_ACK, 2);
    assert!(!rig.line.is_high());
    assert_eq!(rig.line.rises(), 1);
}

#[test]
fn a_reset_lowers_the_line_and_forgets_the_queues() {
    let mut rig = Probe::rig();
    let [mut queue] = rig.bring_up(FEATURE, 8);
    let buffer = Buffer::readable(Rig::<Probe>::MEMORY, 1);
    queue.add(&rig.memory, &[buffer]).expect("room");
    rig.notify(0);
    assert!(rig.line.is_high());
    rig.write(STATUS, 0);
    assert!(!rig.line.is_high());
    assert_eq!(rig.read(INTERRUPT_STATUS), 0);
    assert_eq!(rig.read(QUEUE_READY), 0);
    rig.write(STATUS, 3);
    rig.write(STATUS, 0xB);
    assert_eq!(rig.read(STATUS), 3, "features are forgotten as well");
}

#[test]
fn one_queue_can_be_reset() {
    let mut rig = Probe::rig();
    let [first, mut second] = rig.bring_up(features::RING_RESET, 8);
    rig.write(QUEUE_SEL, 0);
    rig.write(QUEUE_RESET, 1);
    assert_eq!(rig.read(QUEUE_RESET), 0, "done");
    assert_eq!(rig.read(QUEUE_READY), 0);
    assert_eq!(rig.mmio.device().queues_reset, [0]);
    let buffer = Buffer::readable(Rig::<Probe>::MEMORY, 1);
    second.add(&rig.memory, &[buffer]).expect("room");
    rig.notify(1);
    assert!(second.pop_used(&rig.memory).is_some(), "the other goes on");

    let address = first.addresses()[0];
    let mut first = DriverQueue::new(&rig.memory, address, 4, false);
    rig.enable_queue(0, &first);
    first.add(&rig.memory, &[buffer]).expect("room");
    rig.notify(0);
    assert!(first.pop_used(&rig.memory).is_some(), "with another size");
}

#[test]
fn a_queue_reset_that_was_not_negotiated_is_ignored() {
    let mut rig = Probe::rig();
    let [_queue] = rig.bring_up(0, 8);
    rig.write(QUEUE_SEL, 0);
    rig.write(QUEUE_RESET, 1);
    assert_eq!(rig.read(QUEUE_READY), 1);
}

#[test]
fn a_reset_of_the_machine_leaves_the_line_to_it() {
    let mut rig = Probe::rig();
    let [_queue] = rig.bring_up(0, 8);
    rig.mmio.change_config(&rig.line, |_| {});
    let calls = rig.line.calls();
    rig.mmio.reset();
    assert_eq!(rig.line.calls(), calls);
    assert_eq!(rig.mmio.status(), Status::empty());
    assert!(rig.negotiate(0), "as new");
}

#[test]
fn an_empty_window_says_so() {
    let mut windows = Placeholder::new(0x0A00_0200.into(), 31);
    assert_eq!(usize::from(windows.address_range().end), 0x0A00_4000);
    let rig = Probe::rig();
    let context = DeviceContext {
        vcpu: VcpuId::new(0),
        memory: &rig.memory,
        line: &rig.line,
    };
    for window in [0, 0x200, 30 * 0x200] {
        let mut read = |offset| windows.read(&context, window + offset, Width::Word);
        assert_eq!(read(0), Ok(0x7472_6976));
        assert_eq!(read(4), Ok(2));
        assert_eq!(read(8), Ok(0));
        assert!(read(0xC).is_ok());
        assert_eq!(read(0x70), Ok(0));
        assert_eq!(read(0x100), Ok(0));
        assert_eq!(read(2), Err(AccessError::Misaligned));
        assert_eq!(
            windows.write(&context, window + 0x70, Width::Word, 1),
            Ok(())
        );
    }
}

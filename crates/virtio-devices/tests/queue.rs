//! Split virtqueues (VirtIO 1.2, 2.7) driven by the rules and against them.

use virtio_devices::fakes::{Buffer, DriverQueue, Rig, SimMemory};
use virtio_devices::{
    Chain, DeviceId, DriverFault, LARGEST_QUEUE, Queues, VirtioDevice, Work, features,
};
use vm_contract::AccessError;

const MEMORY: u64 = Rig::<Echo>::MEMORY;
/// Where buffers start; the rings lie below.
const BUFFERS: u64 = MEMORY + 0x1_0000;
const TABLE: u64 = MEMORY + 0x2_0000;

const NEXT: u16 = 1;
const INDIRECT: u16 = 4;

/// Copies the readable bytes of each chain into its writable ones.
struct Echo {
    chain: Chain,
    /// How many chains to take in one call.
    most: usize,
    suppresses: bool,
}

impl Echo {
    fn rig() -> Rig<Self> {
        let echo = Self {
            chain: Chain::with_limit(LARGEST_QUEUE),
            most: usize::MAX,
            suppresses: false,
        };
        Rig::new(echo, 0x4_0000)
    }
}

impl VirtioDevice for Echo {
    fn device_id(&self) -> DeviceId {
        DeviceId::Console
    }
    fn features(&self) -> u64 {
        0
    }
    fn queue_sizes(&self) -> &[u16] {
        &[LARGEST_QUEUE]
    }
    fn config(&self) -> &[u8] {
        &[]
    }
    fn start(&mut self, _features: u64) {}
    fn process(&mut self, queue: u16, queues: &mut Queues<'_>) -> Result<Work, DriverFault> {
        if self.suppresses {
            queues.suppress_notifications(queue)?;
            return Ok(Work::Done);
        }
        for _ in 0..self.most {
            if !queues.pop(queue, &mut self.chain)? {
                return Ok(Work::Done);
            }
            let source = self.chain.readable(queues.memory());
            let target = self.chain.writable(queues.memory());
            let mut bytes = vec![0; usize::try_from(source.len().min(target.len())).unwrap_or(0)];
            source.read_at(0, &mut bytes)?;
            target.write_at(0, &bytes)?;
            let written = u32::try_from(bytes.len()).expect("small");
            queues.push(queue, self.chain.head(), written)?;
        }
        Ok(Work::Left)
    }
    fn reset_queue(&mut self, _queue: u16) {}
    fn reset(&mut self) {}
}

fn scattered() -> [Buffer; 4] {
    [
        Buffer::readable(BUFFERS, 2),
        Buffer::readable(BUFFERS + 0x100, 3),
        Buffer::writable(BUFFERS + 0x200, 1),
        Buffer::writable(BUFFERS + 0x300, 4),
    ]
}

fn check_echo(memory: &SimMemory) {
    assert_eq!(memory.bytes(BUFFERS + 0x200, 1), b"h");
    assert_eq!(memory.bytes(BUFFERS + 0x300, 4), b"ello");
}

#[test]
fn chains_go_through_queues_of_every_size() {
    for log in 0..=10 {
        let mut rig = Echo::rig();
        let [mut queue] = rig.bring_up(features::EVENT_IDX, 1 << log);
        rig.memory.set(BUFFERS, b"h");
        let pair = [
            Buffer::readable(BUFFERS, 1),
            Buffer::writable(BUFFERS + 1, 1),
        ];
        let buffers = if log == 0 { &pair[..1] } else { &pair[..] };
        // More often than the indices have values.
        let rounds = match log {
            _ if cfg!(miri) => 20,
            3 => 70_000,
            _ => 3_000,
        };
        for round in 0..rounds {
            let head = queue.add(&rig.memory, buffers).expect("room");
            assert!(queue.needs_notification(&rig.memory), "round {round}");
            rig.notify(0);
            let used = queue.pop_used(&rig.memory);
            assert_eq!(used.map(|(head, _)| head), Some(head));
        }
        assert!(!rig.needs_reset());
    }
}

#[test]
fn scattered_buffers_are_one_stream() {
    let mut rig = Echo::rig();
    let [mut queue] = rig.bring_up(features::INDIRECT_DESC, 8);
    for indirect in [false, true] {
        rig.memory.set(BUFFERS, b"he");
        rig.memory.set(BUFFERS + 0x100, b"llo");
        rig.memory.set(BUFFERS + 0x200, &[0; 0x200]);
        let head = if indirect {
            queue.add_indirect(&rig.memory, TABLE, &scattered())
        } else {
            queue.add(&rig.memory, &scattered())
        };
        rig.notify(0);
        assert_eq!(queue.pop_used(&rig.memory), head.zip(Some(5)));
        check_echo(&rig.memory);
    }
}

#[test]
fn an_indirect_table_may_follow_direct_descriptors_and_be_long() {
    let mut rig = Echo::rig();
    let [mut queue] = rig.bring_up(features::INDIRECT_DESC, 4);
    // 100 descriptors in reverse order, so that each comes from another window.
    for index in 0..100_u16 {
        let last = index == 0;
        let byte = Buffer::writable(BUFFERS + 0x1000 + u64::from(index), 1);
        table_entry(
            &rig.memory,
            index,
            byte,
            if last { 2 } else { 3 },
            index.wrapping_sub(1),
        );
    }
    table_entry(&rig.memory, 100, Buffer::readable(TABLE, 1), 0, 0);
    table_entry(
        &rig.memory,
        0,
        Buffer::writable(BUFFERS + 0x1000, 1),
        NEXT | 2,
        99,
    );
    table_entry(&rig.memory, 1, Buffer::writable(BUFFERS + 0x1001, 1), 2, 0);
    let text: Vec<u8> = (0..100).collect();
    rig.memory.set(BUFFERS, &text);
    let all = Buffer::readable(BUFFERS, 100);
    queue.set_descriptor(&rig.memory, 0, all, NEXT, 1);
    // The write flag of the descriptor of a table counts for nothing.
    let table = Buffer::readable(TABLE, 101 * 16);
    queue.set_descriptor(&rig.memory, 1, table, INDIRECT | 2, 0);
    queue.offer(&rig.memory, 0);
    rig.notify(0);
    assert_eq!(rig.mmio.fault(), None);
    assert_eq!(queue.pop_used(&rig.memory), Some((0, 100)));
    assert_eq!(rig.memory.bytes(BUFFERS + 0x1000, 1), [0]);
    assert_eq!(rig.memory.bytes(BUFFERS + 0x1063, 1), [1]);
    assert_eq!(rig.memory.bytes(BUFFERS + 0x1001, 1), [99]);
}

fn table_entry(memory: &SimMemory, index: u16, buffer: Buffer, flags: u16, next: u16) {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&buffer.address.to_le_bytes());
    bytes.extend_from_slice(&buffer.bytes.to_le_bytes());
    bytes.extend_from_slice(&flags.to_le_bytes());
    bytes.extend_from_slice(&next.to_le_bytes());
    memory.set(TABLE + 16 * u64::from(index), &bytes);
}

#[test]
fn interrupts_come_when_the_driver_wants_them() {
    let mut rig = Echo::rig();
    let [mut queue] = rig.bring_up(0, 8);
    let buffer = Buffer::readable(BUFFERS, 1);
    queue.set_no_interrupt(&rig.memory, true);
    queue.add(&rig.memory, &[buffer]).expect("room");
    rig.notify(0);
    assert!(queue.pop_used(&rig.memory).is_some());
    assert!(!rig.line.is_high());
    queue.set_no_interrupt(&rig.memory, false);
    queue.add(&rig.memory, &[buffer]).expect("room");
    rig.notify(0);
    assert_eq!(rig.acknowledge(), 1);
}

#[test]
fn an_event_index_asks_for_one_interrupt_of_many() {
    let mut rig = Echo::rig();
    let [mut queue] = rig.bring_up(features::EVENT_IDX, 8);
    // The indices come round several times.
    let mut entry: u16 = 0;
    let rounds: u32 = if cfg!(miri) { 20 } else { 66_000 };
    for round in 0..rounds {
        queue.set_used_event(&rig.memory, entry.wrapping_add(3));
        for step in 0..5_u16 {
            queue
                .add(&rig.memory, &[Buffer::readable(BUFFERS, 1)])
                .expect("room");
            rig.notify(0);
            assert_eq!(rig.line.is_high(), step >= 3, "round {round}, step {step}");
            queue.pop_used(&rig.memory).expect("used");
        }
        entry = entry.wrapping_add(5);
        assert_eq!(entry, queue.used_index());
        rig.acknowledge();
    }
}

#[test]
fn notifications_are_not_wanted_while_work_is_left() {
    for features in [0, features::EVENT_IDX] {
        let mut rig = Echo::rig();
        rig.mmio.device_mut().most = 2;
        let [mut queue] = rig.bring_up(features, 8);
        for _ in 0..5 {
            queue
                .add(&rig.memory, &[Buffer::readable(BUFFERS, 1)])
                .expect("room");
        }
        assert!(queue.needs_notification(&rig.memory));
        rig.notify(0);
        for calls in 1.. {
            if !rig.mmio.has_work() {
                assert_eq!(calls, 3);
                break;
            }
            rig.poll();
        }
        queue
            .add(&rig.memory, &[Buffer::readable(BUFFERS, 1)])
            .expect("room");
        assert!(queue.needs_notification(&rig.memory), "wanted again");
        rig.notify(0);
        for _ in 0..6 {
            assert!(queue.pop_used(&rig.memory).is_some());
        }
    }
}

#[test]
fn notifications_can_be_suppressed() {
    for features in [0, features::EVENT_IDX] {
        let mut rig = Echo::rig();
        let [mut queue] = rig.bring_up(features, 8);
        rig.mmio.device_mut().suppresses = true;
        rig.poll();
        for _ in 0..8 {
            queue
                .add(&rig.memory, &[Buffer::readable(BUFFERS, 1)])
                .expect("room");
            assert!(!queue.needs_notification(&rig.memory));
        }
        rig.mmio.device_mut().suppresses = false;
        rig.poll();
        for _ in 0..8 {
            assert!(queue.pop_used(&rig.memory).is_some());
        }
        queue
            .add(&rig.memory, &[Buffer::readable(BUFFERS, 1)])
            .expect("room");
        assert!(queue.needs_notification(&rig.memory));
    }
}

/// Lets `break_it` put something into a queue of 8 and returns what the device
/// says.
fn fault_of(break_it: impl FnOnce(&SimMemory, &mut DriverQueue)) -> Option<DriverFault> {
    let mut rig = Echo::rig();
    let [mut queue] = rig.bring_up(features::INDIRECT_DESC, 8);
    break_it(&rig.memory, &mut queue);
    let before = rig.memory.accesses();
    rig.notify(0);
    assert!(rig.memory.accesses() - before < 200, "bounded work");
    let fault = rig.mmio.fault();
    if fault.is_some() {
        assert_eq!(rig.acknowledge(), 2);
    }
    let [mut queue] = rig.bring_up(0, 8);
    queue
        .add(&rig.memory, &[Buffer::readable(BUFFERS, 1)])
        .expect("room");
    rig.notify(0);
    assert!(queue.pop_used(&rig.memory).is_some(), "usable again");
    fault
}

fn one_descriptor(buffer: Buffer, flags: u16, next: u16) -> Option<DriverFault> {
    fault_of(|memory, queue| {
        queue.set_descriptor(memory, 0, buffer, flags, next);
        queue.offer(memory, 0);
    })
}

#[test]
fn loops_and_wild_indices_are_faults() {
    let buffer = Buffer::readable(BUFFERS, 1);
    assert_eq!(one_descriptor(buffer, 0, 7), None, "next without its flag");
    assert_eq!(
        one_descriptor(buffer, NEXT, 0),
        Some(DriverFault::ChainTooLong)
    );
    assert_eq!(
        one_descriptor(buffer, NEXT, 8),
        Some(DriverFault::DescriptorIndex)
    );
    let head = fault_of(|memory, queue| queue.offer(memory, 8));
    assert_eq!(head, Some(DriverFault::DescriptorIndex));
    for index in [9, 0x8000, 0xFFFF] {
        let jump = fault_of(|memory, queue| queue.set_available_index(memory, index));
        assert_eq!(jump, Some(DriverFault::AvailableIndex));
    }
}

#[test]
fn buffers_out_of_order_or_out_of_memory_are_faults() {
    let order = fault_of(|memory, queue| {
        queue.add(
            memory,
            &[Buffer::writable(BUFFERS, 1), Buffer::readable(BUFFERS, 1)],
        );
    });
    assert_eq!(order, Some(DriverFault::ChainOrder));
    let wraps = Buffer::readable(u64::MAX - 1, 2);
    assert_eq!(
        one_descriptor(wraps, 0, 0),
        Some(DriverFault::BufferAddress)
    );
    let outside = fault_of(|memory, queue| {
        queue.add(
            memory,
            &[Buffer::readable(0x100, 1), Buffer::writable(BUFFERS, 1)],
        );
    });
    assert_eq!(
        outside,
        Some(DriverFault::Memory(AccessError::OutsideMemory))
    );
    let empty = Buffer::readable(u64::MAX, 0);
    assert_eq!(one_descriptor(empty, 0, 0), None, "no bytes at all");
}

#[test]
fn empty_buffers_count_for_the_length_of_a_chain() {
    let mut rig = Echo::rig();
    rig.mmio.device_mut().chain = Chain::with_limit(3);
    for (empty, fault) in [(2, None), (3, Some(DriverFault::ChainTooLong))] {
        let [mut queue] = rig.bring_up(features::INDIRECT_DESC, 8);
        let mut chain = vec![Buffer::readable(BUFFERS, 0); empty];
        chain.push(Buffer::readable(BUFFERS, 1));
        queue.add_indirect(&rig.memory, TABLE, &chain);
        rig.notify(0);
        assert_eq!(rig.mmio.fault(), fault);
    }
}

#[test]
fn wrong_indirect_tables_are_faults() {
    let table = |bytes| Buffer::readable(TABLE, bytes);
    let fault = Some(DriverFault::Indirect);
    for bytes in [0, 1, 15, 17] {
        assert_eq!(one_descriptor(table(bytes), INDIRECT, 0), fault, "{bytes}");
    }
    assert_eq!(one_descriptor(table(16), INDIRECT | NEXT, 1), fault);
    let nested = fault_of(|memory, queue| {
        table_entry(memory, 0, table(16), INDIRECT, 0);
        queue.set_descriptor(memory, 0, table(16), INDIRECT, 0);
        queue.offer(memory, 0);
    });
    assert_eq!(nested, fault);
    for (next, fault) in [
        (0, DriverFault::ChainTooLong),
        (2, DriverFault::DescriptorIndex),
    ] {
        let chain = fault_of(|memory, queue| {
            table_entry(memory, 0, Buffer::readable(BUFFERS, 1), NEXT, next);
            queue.set_descriptor(memory, 0, table(32), INDIRECT, 0);
            queue.offer(memory, 0);
        });
        assert_eq!(chain, Some(fault));
    }
    let mut rig = Echo::rig();
    let [mut queue] = rig.bring_up(0, 8);
    queue.add_indirect(&rig.memory, TABLE, &[Buffer::readable(BUFFERS, 1)]);
    rig.notify(0);
    assert_eq!(rig.mmio.fault(), fault, "not negotiated");
}

#[test]
fn a_queue_that_is_notified_for_nothing_is_looked_at_once() {
    for features in [0, features::EVENT_IDX] {
        let mut rig = Echo::rig();
        let [mut queue] = rig.bring_up(features, 8);
        queue
            .add(&rig.memory, &[Buffer::readable(BUFFERS, 1)])
            .expect("room");
        rig.notify(0);
        let before = rig.memory.accesses();
        rig.notify(0);
        assert_eq!(rig.memory.accesses() - before, 1);
    }
}

#[test]
fn an_available_index_that_goes_back_is_a_fault() {
    let mut rig = Echo::rig();
    let [mut queue] = rig.bring_up(0, 8);
    for _ in 0..3 {
        queue.add(&rig.memory, &[Buffer::readable(BUFFERS, 1)]);
    }
    let index_at = usize::try_from(queue.addresses()[1] + 2 - MEMORY).expect("small");
    // Another CPU that takes chains back after the device has seen all three.
    rig.memory.disturb(move |memory| memory[index_at] = 1);
    let before = rig.memory.accesses();
    rig.notify(0);
    assert!(rig.memory.accesses() - before < 100);
    assert_eq!(rig.mmio.fault(), Some(DriverFault::AvailableIndex));
}

#[test]
fn a_chain_that_is_offered_again_and_again_is_bounded() {
    let mut rig = Echo::rig();
    let [mut queue] = rig.bring_up(0, 8);
    queue.set_descriptor(&rig.memory, 0, Buffer::readable(BUFFERS, 1), 0, 0);
    queue.offer(&rig.memory, 0);
    let index_at = usize::try_from(queue.addresses()[1] + 2 - MEMORY).expect("small");
    let mut index: u16 = 1;
    rig.memory.disturb(move |memory| {
        // Another CPU that makes a chain available with each access.
        index = index.wrapping_add(1);
        memory[index_at..index_at + 2].copy_from_slice(&index.to_le_bytes());
    });
    let before = rig.memory.accesses();
    rig.notify(0);
    assert!(rig.memory.accesses() - before < 100);
    assert_eq!(rig.mmio.fault(), Some(DriverFault::AvailableIndex));
}

//! The console, driven by the rules and against them.

use virtio_devices::fakes::{Buffer, DriverQueue, FakeTerminal, Rig};
use virtio_devices::{Console, console, features};
use vm_contract::Width;

type Terminal = Rig<Console<FakeTerminal>>;

const RX: u32 = 0;
const TX: u32 = 1;
const BUFFERS: u64 = Terminal::MEMORY + 0x1_0000;

fn terminal() -> (Terminal, [DriverQueue; 2]) {
    let backend = FakeTerminal {
        room: usize::MAX,
        ..FakeTerminal::default()
    };
    let mut rig = Rig::new(Console::new(80, 25, backend), 0x4_0000);
    let queues = rig.bring_up(console::SIZE | features::EVENT_IDX, 64);
    (rig, queues)
}

fn backend(rig: &mut Terminal) -> &mut FakeTerminal {
    rig.mmio.device_mut().backend_mut()
}

#[test]
fn the_size_is_told_and_changes() {
    let (mut rig, _) = terminal();
    assert_eq!(rig.read(0x100), 25 << 16 | 80);
    assert_eq!(rig.read(0x104), 1);
    let generation = rig.read(0x0FC);
    rig.mmio
        .change_config(&rig.line, |console| console.resize(132, 43));
    assert_eq!(rig.read(0x100), 43 << 16 | 132);
    assert!(rig.read(0x0FC) != generation && rig.acknowledge() == 2);
}

#[test]
fn output_waits_while_the_terminal_is_full() {
    let (mut rig, [_, mut tx]) = terminal();
    backend(&mut rig).room = 700;
    let text: Vec<u8> = (b'a'..=b'z').cycle().take(1000).collect();
    rig.memory.set(BUFFERS, &text);
    let buffers = [
        Buffer::readable(BUFFERS, 600),
        Buffer::readable(BUFFERS + 600, 400),
    ];
    let head = tx.add(&rig.memory, &buffers);
    rig.notify(TX);
    assert_eq!(tx.pop_used(&rig.memory), None);
    assert_eq!(backend(&mut rig).shown, text[..700]);
    backend(&mut rig).room = usize::MAX;
    rig.poll();
    assert_eq!(tx.pop_used(&rig.memory), head.zip(Some(0)));
    assert_eq!(backend(&mut rig).shown, text);
    assert!(rig.line.is_high());
}

#[test]
fn input_waits_for_a_buffer() {
    let (mut rig, [mut rx, _]) = terminal();
    backend(&mut rig).typed.extend(b"hello");
    rig.poll();
    let buffers = [
        Buffer::writable(BUFFERS, 2),
        Buffer::writable(BUFFERS + 16, 2),
    ];
    let first = rx.add(&rig.memory, &buffers);
    assert!(rx.needs_notification(&rig.memory));
    rig.notify(RX);
    assert_eq!(rx.pop_used(&rig.memory), first.zip(Some(4)));
    let second = rx.add(&rig.memory, &[Buffer::writable(BUFFERS + 32, 100)]);
    rig.notify(RX);
    assert_eq!(rx.pop_used(&rig.memory), second.zip(Some(1)));
    assert_eq!(rig.memory.bytes(BUFFERS, 2), b"he");
    assert_eq!(rig.memory.bytes(BUFFERS + 16, 2), b"ll");
    assert_eq!(rig.memory.bytes(BUFFERS + 32, 1), b"o");
    // Nothing is given back empty.
    let third = rx.add(&rig.memory, &[Buffer::writable(BUFFERS, 10)]);
    rig.notify(RX);
    assert_eq!(rx.pop_used(&rig.memory), None);
    backend(&mut rig).typed.extend(b"!");
    rig.poll();
    assert_eq!(rx.pop_used(&rig.memory), third.zip(Some(1)));
}

#[test]
fn much_output_is_done_in_several_turns() {
    let (mut rig, [_, mut tx]) = terminal();
    let long = Buffer::readable(Terminal::MEMORY, 0x3_0000);
    let head = tx.add(&rig.memory, &[long]);
    rig.notify(TX);
    assert!(rig.mmio.has_work());
    (0..4).for_each(|_| rig.poll());
    assert!(!rig.mmio.has_work());
    assert_eq!(tx.pop_used(&rig.memory), head.zip(Some(0)));
    assert_eq!(backend(&mut rig).shown.len(), 0x3_0000);
}

#[test]
fn emergency_characters_need_no_queue() {
    let backend = FakeTerminal {
        room: 10,
        ..FakeTerminal::default()
    };
    let mut rig = Rig::new(Console::new(80, 25, backend), 0x1000);
    rig.write(0x108, u32::from(b'E'));
    rig.try_write(0x104, Width::Word, 7).unwrap();
    rig.try_write(0x109, Width::Byte, 7).unwrap();
    assert_eq!(rig.mmio.device().backend().shown, b"E");
}

#[test]
fn a_queue_that_is_reset_forgets_its_output() {
    let (mut rig, [_, mut tx]) = terminal();
    backend(&mut rig).room = 1;
    rig.memory.set(BUFFERS, b"old");
    tx.add(&rig.memory, &[Buffer::readable(BUFFERS, 3)]);
    rig.notify(TX);
    let [_, mut tx]: [DriverQueue; 2] = rig.bring_up(0, 8);
    backend(&mut rig).room = 9;
    rig.memory.set(BUFFERS, b"new");
    tx.add(&rig.memory, &[Buffer::readable(BUFFERS, 3)]);
    rig.notify(TX);
    assert_eq!(backend(&mut rig).shown, b"onew");
}

#[test]
fn a_buffer_that_takes_no_input_stops_the_console() {
    let (mut rig, [mut rx, _]) = terminal();
    rx.add(&rig.memory, &[Buffer::readable(BUFFERS, 3)]);
    rig.notify(RX);
    assert!(rig.needs_reset());
}

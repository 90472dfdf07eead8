//! What reaches the terminal, and what is typed.

use alloc::string::String;
use alloc::vec;

use proptest::prelude::*;

use super::*;
use crate::testing::{FakeBoard, FakeUart};

const A: VmId = VmId::new(0);
const B: VmId = VmId::new(1);

/// A console to which VMs with these names are connected.
fn console(names: &[&str]) -> (Console, FakeUart, &'static FakeBoard) {
    let board: &'static FakeBoard = Box::leak(Box::new(FakeBoard::new(1, 4, 0)));
    let uart = FakeUart::default();
    let console = Console::new(Box::new(uart.clone()));
    let cpus = Arc::new(Cpus::new(board, 1));
    console.connect(names.iter().copied(), board, cpus);
    (console, uart, board)
}

const PATIENCE_TICKS: u64 = FakeBoard::FREQUENCY * PATIENCE_MS / 1000;

fn print(console: &Console, vm: VmId, text: &str) {
    assert_eq!(console.transmit(vm, text.as_bytes()), text.len());
}

/// Types `bytes`, one interrupt for all of them.
fn type_in(console: &Console, uart: &FakeUart, bytes: &[u8]) {
    uart.type_in(bytes);
    console.service(None);
}

fn read(console: &Console, vm: VmId) -> Vec<u8> {
    core::iter::from_fn(|| console.take_input(vm)).collect()
}

#[test]
fn a_log_line_never_continues_a_guests_line() {
    let uart = FakeUart::default();
    let console = Console::new(Box::new(uart.clone()));
    print(&console, A, "login: ");
    console.log(format_args!("one\ntwo"));
    console.log(format_args!("three"));
    assert_eq!(
        uart.sent(),
        "login: \r\n[armature] one\r\ntwo\r\n[armature] three\r\n"
    );
}

#[test]
fn a_full_uart_asks_for_room_and_takes_the_rest_later() {
    let (console, uart, _) = console(&["a"]);
    uart.set_room(3);
    assert_eq!(console.transmit(A, b"12345"), 3);
    assert!(uart.listens_transmit());
    uart.set_room(8);
    console.service(None);
    assert_eq!(console.transmit(A, b"45"), 2);
    assert!(!uart.listens_transmit(), "nothing waits any more");
    assert_eq!(uart.sent(), "12345");
}

#[test]
fn the_bytes_of_the_only_vm_pass_unchanged() {
    let (console, uart, _) = console(&["a"]);
    let all: Vec<u8> = (0..=u8::MAX).chain(*b"\n\n\r\r\n").collect();
    for byte in &all {
        assert_eq!(console.transmit(A, &[*byte]), 1);
    }
    assert_eq!(console.transmit(A, &all), all.len());
    assert_eq!(uart.sent_bytes(), [&all[..], &all[..]].concat());

    let typed: Vec<u8> = (0..=u8::MAX).filter(|byte| *byte != 0x1d).collect();
    let mut got = Vec::new();
    for piece in typed.chunks(INPUT_PER_SERVICE) {
        type_in(&console, &uart, piece);
        got.extend(read(&console, A));
    }
    assert_eq!(got, typed);
}

#[test]
fn others_appear_as_whole_tagged_lines() {
    let (console, uart, _) = console(&["a", "b"]);
    print(&console, B, "hel");
    print(&console, A, "one\r\n");
    print(&console, B, "lo\r\nwor");
    print(&console, A, "two\r\n");
    print(&console, B, "ld\n");
    assert_eq!(uart.sent(), "one\r\nb| hello\r\ntwo\r\nb| world\r\n");
}

#[test]
fn a_line_that_is_being_written_is_not_torn() {
    let (console, uart, _) = console(&["a", "b"]);
    print(&console, A, "begun");
    print(&console, B, "one\ntwo\n");
    assert_eq!(uart.sent(), "begun");
    assert!(console.wants_attention());
    print(&console, A, " and ended\r\n");
    assert_eq!(uart.sent(), "begun and ended\r\nb| one\r\nb| two\r\n");
    assert!(!console.wants_attention());
}

#[test]
fn a_prompt_keeps_nobody_waiting_for_long() {
    let (console, uart, board) = console(&["a", "b"]);
    print(&console, A, "# ");
    print(&console, B, "one\n");
    assert_eq!(uart.sent(), "# ", "the prompt appears at once");
    assert_eq!(console.deadline(), Some(PATIENCE_TICKS));
    board.set_now(PATIENCE_TICKS);
    assert!(matches!(console.attend(), Wish::Nothing));
    assert_eq!(uart.sent(), "# \r\nb| one\r\n");
    assert_eq!(console.deadline(), None);
    print(&console, B, "two\n");
    print(&console, A, "ls");
    assert_eq!(uart.sent(), "# \r\nb| one\r\nb| two\r\nls");
}

#[test]
fn a_vm_with_a_full_buffer_does_not_wait_for_another() {
    let (console, uart, _) = console(&["a", "b"]);
    print(&console, A, "# ");
    let long = "x".repeat(port::OUTPUT_BYTES);
    print(&console, B, &long);
    print(&console, B, "y\n");
    let sent = uart.sent();
    assert_eq!(sent, alloc::format!("# \r\nb| {long}\r\nb| y\r\n"));
}

#[test]
fn the_next_vm_shows_what_it_has_kept() {
    let (console, uart, _) = console(&["a", "b"]);
    print(&console, A, "a# ");
    print(&console, B, "login: ");
    type_in(&console, &uart, b"1\x1dn23");
    assert_eq!(
        uart.sent(),
        "a# \r\n[armature] console: VM 1 (b)\r\nlogin: "
    );
    print(&console, B, "23");
    print(&console, A, "late\n");
    print(&console, B, "\r\n");
    assert!(uart.sent().ends_with("login: 23\r\na| late\r\n"));
    assert_eq!(read(&console, A), b"1");
    assert_eq!(read(&console, B), b"23");
}

#[test]
fn an_escape_sequence_may_arrive_in_two_interrupts() {
    let (console, uart, _) = console(&["a", "b", "c"]);
    let expect = |focus| assert_eq!(console.mux.lock().focus, focus);
    for (keys, focus) in [
        (b"\x1dn", Writer::Vm(1)),
        (b"\x1dn", Writer::Vm(2)),
        (b"\x1dn", Writer::Vm(0)),
        (b"\x1d2", Writer::Vm(2)),
        (b"\x1dm", Writer::Monitor),
        (b"\x1d0", Writer::Vm(0)),
        (b"\x1d9", Writer::Vm(0)),
    ] {
        type_in(&console, &uart, &keys[..1]);
        type_in(&console, &uart, &keys[1..]);
        expect(focus);
    }
    assert!(uart.sent().ends_with("there is no VM 9\r\n"));
    type_in(&console, &uart, b"\x1d");
    type_in(&console, &uart, b"\x1d");
    assert_eq!(read(&console, A), b"\x1d");
    type_in(&console, &uart, b"\x1d?");
    assert!(uart.sent().ends_with("itself\r\n"));
    assert_eq!(read(&console, A), b"");
}

#[test]
fn input_that_nobody_reads_is_held_and_released() {
    let (console, uart, _) = console(&["a", "b"]);
    console.listen();
    uart.type_in(&[b'x'; port::INPUT_BYTES + 1]);
    for _ in 0..4 {
        console.service(None);
    }
    assert!(!uart.listens_receive());
    assert_eq!(console.take_input(A), Some(b'x'));
    assert!(uart.listens_receive());
    console.service(None);
    assert_eq!(read(&console, A), [b'x'; port::INPUT_BYTES]);

    uart.type_in(&[b'x'; port::INPUT_BYTES + 1]);
    for _ in 0..4 {
        console.service(None);
    }
    console.close(A);
    assert!(uart.listens_receive(), "a VM that is off blocks nobody");
    type_in(&console, &uart, b"lost\x1dnkept");
    assert_eq!(read(&console, B), b"kept");
}

#[test]
fn the_monitors_line_survives_what_others_print() {
    let (console, uart, _) = console(&["a"]);
    type_in(&console, &uart, b"\x1dmvmx");
    print(&console, A, "text\n");
    console.log(format_args!("log"));
    let sent = uart.sent();
    assert!(
        sent.ends_with("vmx\r\na| text\r\narmature> vmx\r\n[armature] log\r\narmature> vmx"),
        "{sent:?}"
    );
    type_in(&console, &uart, b"\x7fs\rnext");
    let Wish::Command(line) = console.attend() else {
        panic!("a line was entered");
    };
    assert_eq!(line.as_str(), "vms");
    assert!(matches!(console.attend(), Wish::Nothing), "once");
    console.print(format_args!("answer"));
    console.answered();
    console.service(None);
    assert!(uart.sent().ends_with("s\r\nanswer\r\narmature> next"));
}

#[test]
fn what_waits_at_the_end_is_sent() {
    let (console, uart, _) = console(&["a", "b"]);
    print(&console, A, "# ");
    print(&console, B, "one\ntwo");
    console.finish();
    assert_eq!(uart.sent(), "# \r\nb| one\r\nb| two\r\n");
}

#[test]
fn a_vm_that_begins_anew_begins_a_new_line() {
    let (console, uart, _) = console(&["a", "b"]);
    print(&console, B, "Rebooting");
    console.begin(B);
    print(&console, B, "Booting\n");
    assert_eq!(uart.sent(), "b| Rebooting\r\nb| Booting\r\n");
}

#[test]
fn the_keys_are_announced() {
    let (console, uart, _) = console(&["a"]);
    console.listen();
    assert_eq!(uart.sent(), alloc::format!("{KEYS}\r\n"));
}

/// What two VMs want to print, and how the world interferes.
#[derive(Clone, Debug)]
enum Event {
    Print(usize),
    Room(usize),
    Pass(u64),
    Log,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0..2usize).prop_map(Event::Print),
        3 => (0..40usize).prop_map(Event::Room),
        1 => (0..2 * PATIENCE_TICKS).prop_map(Event::Pass),
        1 => Just(Event::Log),
    ]
}

proptest! {
    /// However slow the UART is, no VM's byte is lost or overtakes another of
    /// that VM, and all lines but the focused VM's are whole.
    #[test]
    fn no_byte_is_lost_or_reordered(
        events in prop::collection::vec(event(), 0..300),
        lengths in prop::collection::vec(0..60usize, 1..30),
    ) {
        let (console, uart, board) = console(&["a", "b"]);
        uart.set_room(0);
        let texts = ["a", "b"].map(|name| {
            let lines = lengths.iter().enumerate();
            lines.map(|(n, len)| alloc::format!("{n}{}\r\n", name.repeat(*len))).collect::<String>()
        });
        let mut left = texts.each_ref().map(|text| text.as_bytes());
        let push = |vm: usize, left: &mut [&[u8]; 2]| {
            let some = left[vm].len().min(32);
            let id = VmId::new(u16::try_from(vm).expect("small"));
            let taken = console.transmit(id, &left[vm][..some]);
            left[vm] = &left[vm][taken..];
            if taken < some {
                prop_assert!(uart.listens_transmit(), "somebody waits");
            }
            Ok(())
        };
        let mut now = 0;
        let mut logs = 0;
        for event in events {
            match event {
                Event::Print(vm) => push(vm, &mut left)?,
                Event::Room(bytes) => {
                    uart.set_room(bytes);
                    console.service(None);
                }
                Event::Pass(ticks) => {
                    now += ticks;
                    board.set_now(now);
                }
                Event::Log => {
                    // It waits for room, which a real UART makes by itself.
                    uart.set_room(10_000);
                    console.log(format_args!("log"));
                    logs += 1;
                }
            }
        }
        uart.set_room(1_000_000);
        console.service(None);
        while left.iter().any(|left| !left.is_empty()) {
            for vm in 0..2 {
                push(vm, &mut left)?;
            }
        }
        console.finish();

        let sent = uart.sent();
        let mut of_b = String::new();
        let mut of_a = vec![];
        for line in sent.split('\n').map(|line| line.trim_end_matches('\r')) {
            match line.strip_prefix("b| ") {
                Some(text) => of_b.push_str(&alloc::format!("{text}\r\n")),
                None if line == "[armature] log" => logs -= 1,
                None => of_a.push(line),
            }
        }
        prop_assert_eq!(of_b, texts[1].as_str());
        prop_assert_eq!(logs, 0);
        // A log line may end one of the focused VM's lines before its time.
        let bare = |text: &str| text.replace(['\r', '\n'], "");
        prop_assert_eq!(bare(&of_a.concat()), bare(&texts[0]));
    }
}

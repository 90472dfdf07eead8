//! The UART, register by register.

use std::collections::VecDeque;

use primecell_devices::{Full, Pl011, SerialBackend};
use proptest::prelude::{Just, Strategy, any, prop_assert_eq, prop_oneof, proptest};
use vm_contract::{AccessError, BaseDeviceOps, DeviceKind, Width};

use crate::bench::Bench;

pub(crate) const DR: u64 = 0x000;
pub(crate) const RSR: u64 = 0x004;
pub(crate) const FR: u64 = 0x018;
pub(crate) const IBRD: u64 = 0x024;
pub(crate) const FBRD: u64 = 0x028;
pub(crate) const LCR_H: u64 = 0x02C;
pub(crate) const CR: u64 = 0x030;
pub(crate) const IFLS: u64 = 0x034;
pub(crate) const IMSC: u64 = 0x038;
pub(crate) const RIS: u64 = 0x03C;
pub(crate) const MIS: u64 = 0x040;
pub(crate) const ICR: u64 = 0x044;

pub(crate) const FR_BUSY: u64 = 1 << 3;
pub(crate) const FR_RXFE: u64 = 1 << 4;
pub(crate) const FR_TXFF: u64 = 1 << 5;
pub(crate) const FR_RXFF: u64 = 1 << 6;
pub(crate) const FR_TXFE: u64 = 1 << 7;

pub(crate) const RX: u64 = 1 << 4;
pub(crate) const TX: u64 = 1 << 5;
pub(crate) const RT: u64 = 1 << 6;
pub(crate) const OE: u64 = 1 << 10;

pub(crate) const FEN: u64 = 1 << 4;
/// UARTEN, TXE and RXE.
pub(crate) const ON: u64 = 1 << 0 | 1 << 8 | 1 << 9;
const LBE: u64 = 1 << 7;

/// A terminal with room for so many bytes.
pub(crate) struct Terminal {
    pub(crate) shown: Vec<u8>,
    pub(crate) room: usize,
}

impl SerialBackend for Terminal {
    fn transmit(&mut self, bytes: &[u8]) -> usize {
        let taken = self.room.min(bytes.len());
        self.shown.extend_from_slice(&bytes[..taken]);
        self.room -= taken;
        taken
    }
}

pub(crate) fn uart(room: usize) -> Bench<Pl011<Terminal>> {
    let terminal = Terminal {
        shown: Vec::new(),
        room,
    };
    Bench::new(Pl011::new(0x0900_0000.into(), terminal))
}

impl Bench<Pl011<Terminal>> {
    pub(crate) fn receive(&self, byte: u8) -> Result<(), Full> {
        self.device().receive(&self.line, byte)
    }

    pub(crate) fn make_room(&self, bytes: usize) {
        self.device().backend_mut().room += bytes;
        self.device().pump(&self.line);
    }

    pub(crate) fn shown(&self) -> Vec<u8> {
        self.device().backend().shown.clone()
    }
}

#[test]
fn the_device_is_a_serial_port_of_one_page() {
    let uart = uart(0);
    assert_eq!(uart.device().kind(), DeviceKind::Serial);
    let range = uart.device().address_range();
    assert_eq!(
        (usize::from(range.start), range.size()),
        (0x0900_0000, 0x1000)
    );
}

#[test]
fn the_identification_is_that_of_r1p5() {
    assert_eq!(
        uart(0).identification(),
        [0x11, 0x10, 0x34, 0x00, 0x0D, 0xF0, 0x05, 0xB1]
    );
}

#[test]
fn registers_have_their_reset_values() {
    let uart = uart(0);
    for (offset, value) in [
        (RSR, 0),
        (FR, FR_TXFE | FR_RXFE | 0b111),
        (0x020, 0),
        (IBRD, 0),
        (FBRD, 0),
        (LCR_H, 0),
        (CR, 0x300),
        (IFLS, 0x12),
        (IMSC, 0),
        (RIS, 0),
        (MIS, 0),
        (ICR, 0),
        (0x048, 0),
    ] {
        assert_eq!(uart.read(offset), value, "{offset:#x}");
    }
}

#[test]
fn registers_keep_the_bits_that_they_have() {
    let uart = uart(0);
    for (offset, kept) in [
        (0x020, 0xFF),
        (IBRD, 0xFFFF),
        (FBRD, 0x3F),
        (LCR_H, 0xFF),
        (CR, 0xFF87),
        (IFLS, 0x3F),
        (IMSC, 0x7FF),
        (0x048, 0b111),
    ] {
        uart.write(offset, 0xFFFF_FFFF);
        assert_eq!(uart.read(offset), kept, "{offset:#x}");
    }
    for read_only in [FR, RIS, MIS, 0xFE0, 0xFFC, 0x080, 0x00C] {
        let before = uart.read(read_only);
        uart.write(read_only, !before);
        assert_eq!(uart.read(read_only), before, "{read_only:#x}");
    }
}

#[test]
fn odd_accesses_are_refused_and_unknown_registers_read_as_zero() {
    let uart = uart(1);
    assert_eq!(
        uart.try_read(DR, Width::Dword),
        Err(AccessError::InvalidWidth)
    );
    assert_eq!(
        uart.try_write(CR + 1, Width::Byte, 0),
        Err(AccessError::InvalidWidth)
    );
    assert_eq!(uart.try_read(0x100, Width::Half), Ok(0));
    assert_eq!(uart.try_read(CR, Width::Byte), Ok(0), "0x300 truncated");
    assert_eq!(uart.try_write(DR, Width::Half, 0x1_4142), Ok(()));
    assert_eq!(uart.shown(), b"B", "UARTDR transmits eight bits");
}

#[test]
fn an_early_console_is_heard_without_enabling_anything() {
    let uart = uart(8);
    for byte in *b"boot" {
        uart.write(DR, byte.into());
        assert_eq!(uart.read(FR) & (FR_BUSY | FR_TXFF | FR_TXFE), FR_TXFE);
    }
    assert_eq!(uart.shown(), b"boot");
    assert_eq!(uart.receive(b'x'), Ok(()));
    assert_eq!(uart.read(DR), u64::from(b'x'));
}

#[test]
fn a_full_backend_fills_the_fifo_and_the_flags_say_so() {
    let uart = uart(0);
    uart.write(LCR_H, FEN);
    for byte in 0..32u8 {
        assert_eq!(uart.read(FR) & FR_TXFF, 0, "room for {byte}");
        uart.write(DR, byte.into());
        assert_eq!(uart.read(FR) & (FR_BUSY | FR_TXFE), FR_BUSY);
    }
    assert_ne!(uart.read(FR) & FR_TXFF, 0);
    uart.write(DR, 0xFF);
    assert!(uart.device().has_output());
    uart.make_room(20);
    assert_eq!(uart.shown(), (0..20).collect::<Vec<u8>>());
    assert_eq!(uart.read(FR) & (FR_TXFF | FR_BUSY), FR_BUSY);
    uart.make_room(100);
    assert_eq!(
        uart.shown(),
        (0..32).collect::<Vec<u8>>(),
        "what was over is lost"
    );
    assert_eq!(uart.read(FR) & (FR_TXFE | FR_BUSY), FR_TXFE);
    assert!(!uart.device().has_output());
}

#[test]
fn without_fifos_one_character_waits() {
    let uart = uart(0);
    uart.write(DR, 1);
    assert_ne!(uart.read(FR) & FR_TXFF, 0);
    assert_eq!(uart.receive(1), Ok(()));
    assert_ne!(uart.read(FR) & FR_RXFF, 0);
    assert_eq!(uart.receive(2), Err(Full));
    assert_eq!(uart.read(RIS) & (RX | RT), RX | RT);
}

#[test]
fn the_transmit_interrupt_rises_when_the_fifo_runs_down_to_its_level() {
    let uart = uart(0);
    uart.write(LCR_H, FEN);
    uart.write(IMSC, TX);
    assert!(!uart.raised(), "nothing was transmitted yet");
    for _ in 0..32 {
        uart.write(DR, 0);
    }
    uart.make_room(15);
    assert_eq!(uart.read(RIS) & TX, 0, "17 wait, the level is 16");
    uart.make_room(1);
    assert_eq!(uart.read(MIS), TX);
    assert!(uart.raised());
    uart.write(DR, 0);
    assert!(!uart.raised(), "17 wait again");
    uart.make_room(17);
    assert!(uart.raised());
    uart.write(ICR, TX);
    assert!(!uart.raised());
    assert_eq!(uart.read(RIS), 0);
}

#[test]
fn each_trigger_level_counts_characters() {
    for (select, level) in [(0, 4), (1, 8), (2, 16), (3, 24), (4, 28), (7, 28)] {
        let uart = uart(0);
        uart.write(LCR_H, FEN);
        uart.write(IFLS, select << 3);
        uart.write(IMSC, RX);
        for byte in 1..=32u8 {
            assert_eq!(uart.receive(byte), Ok(()));
            assert_eq!(
                uart.raised(),
                byte >= level,
                "UARTIFLS {select}, {byte} characters"
            );
        }
        for left in (0..32u8).rev() {
            assert_eq!(uart.read(DR), u64::from(32 - left));
            assert_eq!(uart.raised(), left >= level);
        }
    }
}

#[test]
fn the_timeout_interrupt_stays_while_characters_wait() {
    let uart = uart(0);
    uart.write(LCR_H, FEN);
    uart.write(IMSC, RX | RT);
    assert_eq!(uart.receive(7), Ok(()));
    assert_eq!(uart.read(MIS), RT);
    uart.write(ICR, RT);
    assert!(uart.raised(), "the next timeout has elapsed at once");
    assert_eq!(uart.read(DR), 7);
    assert!(!uart.raised());
    assert_eq!(uart.read(RIS), 0);
}

#[test]
fn clearing_the_receive_interrupt_leaves_the_timeout_to_tell() {
    let uart = uart(0);
    uart.write(IMSC, RX | RT);
    assert_eq!(uart.receive(7), Ok(()));
    uart.write(ICR, RX | RT);
    assert_eq!(uart.read(MIS), RT);
}

#[test]
fn a_receiver_that_is_off_leaves_bytes_with_the_host() {
    let uart = uart(0);
    for off in [0, ON & !(1 << 9), ON & !1, ON | LBE] {
        uart.write(CR, off);
        assert!(!uart.device().can_receive());
        assert_eq!(uart.receive(1), Err(Full), "{off:#x}");
    }
    uart.write(CR, ON);
    assert_eq!(uart.receive(1), Ok(()));
}

#[test]
fn looped_back_characters_come_in_again_and_overrun() {
    let uart = uart(100);
    uart.write(LCR_H, FEN);
    uart.write(CR, ON | LBE);
    for byte in 0..33u64 {
        assert_eq!(uart.read(RSR), 0);
        uart.write(DR, byte);
    }
    assert_eq!(uart.read(RSR), 1 << 3);
    assert_eq!(uart.read(RIS) & OE, OE);
    assert_eq!(uart.read(DR), 1 << 11, "the data carries the error, too");
    uart.write(DR, 40);
    assert_eq!(uart.read(DR), 1, "there is room again");
    uart.write(RSR, 0);
    uart.write(ICR, OE);
    assert_eq!((uart.read(RSR), uart.read(RIS) & OE), (0, 0));
    assert_eq!(uart.shown(), b"", "nothing leaves");
}

#[test]
fn looped_back_modem_outputs_are_inputs_and_raise_interrupts() {
    let uart = uart(0);
    const DTR: u64 = 1 << 10;
    const RTS: u64 = 1 << 11;
    const OUT2: u64 = 1 << 13;
    uart.write(CR, ON | LBE | DTR | RTS);
    assert_eq!(uart.read(FR) & 0x107, 0b011, "CTS and DSR");
    assert_eq!(uart.read(RIS) & 0xF, 1 << 2, "DCD went");
    uart.write(ICR, 0xF);
    uart.write(CR, ON | LBE | OUT2);
    assert_eq!(uart.read(FR) & 0x107, 0x100, "RI");
    assert_eq!(uart.read(RIS) & 0xF, 0b1011, "RI came, CTS and DSR went");
}

#[test]
fn the_line_is_driven_only_when_it_changes() {
    let uart = uart(100);
    for _ in 0..10 {
        uart.write(DR, 0);
    }
    assert_eq!(
        uart.line.driven.get(),
        1,
        "once, since its level was unknown"
    );
    uart.write(IMSC, TX);
    uart.write(DR, 0);
    assert_eq!(uart.line.driven.get(), 2);
    uart.device().reset();
    uart.read(FR);
    assert_eq!(
        uart.line.driven.get(),
        3,
        "a reset lowers it at the next access"
    );
    assert!(!uart.raised());
}

#[test]
fn a_reset_forgets_everything_but_what_was_written() {
    let uart = uart(0);
    uart.write(LCR_H, FEN);
    uart.write(IMSC, 0x7FF);
    uart.write(CR, 0);
    uart.write(DR, b'!'.into());
    uart.device().backend_mut().room = 1;
    uart.device().reset();
    assert_eq!(uart.shown(), b"!");
    assert_eq!(
        (uart.read(LCR_H), uart.read(IMSC), uart.read(CR)),
        (0, 0, 0x300)
    );
    assert_eq!(uart.read(FR) & (FR_TXFE | FR_RXFE), FR_TXFE | FR_RXFE);
}

#[test]
fn a_backend_that_claims_too_much_is_not_believed() {
    struct Liar;
    impl SerialBackend for Liar {
        fn transmit(&mut self, bytes: &[u8]) -> usize {
            if bytes.first() == Some(&1) {
                0
            } else {
                usize::MAX
            }
        }
    }
    let uart = Bench::new(Pl011::new(0.into(), Liar));
    uart.write(LCR_H, FEN);
    uart.write(DR, 1);
    uart.write(DR, 2);
    assert_ne!(uart.read(FR) & FR_BUSY, 0);
}

#[derive(Clone, Debug)]
enum Step {
    Read(u64, Width),
    Write(u64, Width, u64),
    Receive(u8),
    Room(usize),
    Reset,
}

fn steps() -> impl Strategy<Value = Step> {
    let offset = prop_oneof![4 => (0u64..19).prop_map(|n| n * 4), 1 => 0u64..0x1000];
    let width = (0u32..4).prop_map(Width::from_log2);
    prop_oneof![
        (offset.clone(), width.clone()).prop_map(|(offset, width)| Step::Read(offset, width)),
        (offset, width, any::<u64>())
            .prop_map(|(offset, width, value)| Step::Write(offset, width, value)),
        any::<u8>().prop_map(Step::Receive),
        (0usize..40).prop_map(Step::Room),
        Just(Step::Reset),
    ]
}

proptest! {
    #[test]
    fn no_access_panics_and_the_line_follows_the_masked_interrupts(
        steps in proptest::collection::vec(steps(), 1..200),
    ) {
        let uart = uart(0);
        for step in steps {
            match step {
                Step::Read(offset, width) => {
                    let value = uart.try_read(offset, width).unwrap_or(0);
                    prop_assert_eq!(width.truncate(value), value);
                }
                Step::Write(offset, width, value) => {
                    let _ = uart.try_write(offset, width, value);
                }
                Step::Receive(byte) => {
                    let could = uart.device().can_receive();
                    prop_assert_eq!(uart.receive(byte).is_ok(), could);
                }
                Step::Room(bytes) => uart.make_room(bytes),
                Step::Reset => uart.device().reset(),
            }
            let masked = uart.read(RIS) & uart.read(IMSC);
            prop_assert_eq!(uart.read(MIS), masked);
            prop_assert_eq!(uart.raised(), masked != 0);
        }
    }

    #[test]
    fn both_fifos_keep_order_and_lose_nothing(
        fifos: bool,
        steps in proptest::collection::vec((0u8..4, any::<u8>(), 0usize..8), 1..300),
    ) {
        let uart = uart(0);
        uart.write(LCR_H, if fifos { FEN } else { 0 });
        uart.write(CR, ON);
        let (mut sent, mut waiting) = (Vec::new(), VecDeque::new());
        for (action, byte, room) in steps {
            match action {
                0 if uart.read(FR) & FR_TXFF == 0 => {
                    uart.write(DR, byte.into());
                    sent.push(byte);
                }
                1 => uart.make_room(room),
                2 if uart.receive(byte).is_ok() => waiting.push_back(byte),
                3 if uart.read(FR) & FR_RXFE == 0 => {
                    prop_assert_eq!(Some(uart.read(DR)), waiting.pop_front().map(u64::from));
                }
                _ => {}
            }
            prop_assert_eq!(uart.read(FR) & FR_RXFE == 0, !waiting.is_empty());
        }
        uart.make_room(1000);
        prop_assert_eq!(uart.shown(), sent);
    }
}

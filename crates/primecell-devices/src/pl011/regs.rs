//! Registers of the PL011 and their fields; no behaviour.

use bitflags::bitflags;

use super::fifo::Fifo;

/// Part 0x011, designer 0x41 (Arm), revision 3: r1p5, which has FIFOs of 32.
pub(super) const PERIPH_ID: [u8; 4] = [0x11, 0x10, 0x34, 0x00];

/// The offset of UARTFR.
pub(super) const FR: u64 = 0x018;

/// A register below the identification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Register {
    Dr,
    /// UARTRSR when read, UARTECR when written.
    Rsr,
    Fr,
    Ilpr,
    Ibrd,
    Fbrd,
    LcrH,
    Cr,
    Ifls,
    Imsc,
    Ris,
    Mis,
    Icr,
    Dmacr,
}

impl Register {
    pub(super) const fn at(offset: u64) -> Option<Self> {
        Some(match offset {
            0x000 => Self::Dr,
            0x004 => Self::Rsr,
            FR => Self::Fr,
            0x020 => Self::Ilpr,
            0x024 => Self::Ibrd,
            0x028 => Self::Fbrd,
            0x02C => Self::LcrH,
            0x030 => Self::Cr,
            0x034 => Self::Ifls,
            0x038 => Self::Imsc,
            0x03C => Self::Ris,
            0x040 => Self::Mis,
            0x044 => Self::Icr,
            0x048 => Self::Dmacr,
            _ => return None,
        })
    }
}

bitflags! {
    /// UARTFR.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct Flags: u16 {
        const CTS = 1 << 0;
        const DSR = 1 << 1;
        const DCD = 1 << 2;
        const BUSY = 1 << 3;
        const RXFE = 1 << 4;
        const TXFF = 1 << 5;
        const RXFF = 1 << 6;
        const TXFE = 1 << 7;
        const RI = 1 << 8;
    }
}

bitflags! {
    /// UARTLCR_H.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct LineControl: u8 {
        const BRK = 1 << 0;
        const PEN = 1 << 1;
        const EPS = 1 << 2;
        const STP2 = 1 << 3;
        const FEN = 1 << 4;
        const WLEN = 0b11 << 5;
        const SPS = 1 << 7;
    }
}

bitflags! {
    /// UARTCR.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct Control: u16 {
        const UARTEN = 1 << 0;
        const SIREN = 1 << 1;
        const SIRLP = 1 << 2;
        const LBE = 1 << 7;
        const TXE = 1 << 8;
        const RXE = 1 << 9;
        const DTR = 1 << 10;
        const RTS = 1 << 11;
        const OUT1 = 1 << 12;
        const OUT2 = 1 << 13;
        const RTSEN = 1 << 14;
        const CTSEN = 1 << 15;
    }
}

bitflags! {
    /// UARTIMSC, UARTRIS, UARTMIS and UARTICR.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct Interrupts: u16 {
        const RI = 1 << 0;
        const CTS = 1 << 1;
        const DCD = 1 << 2;
        const DSR = 1 << 3;
        const RX = 1 << 4;
        const TX = 1 << 5;
        const RT = 1 << 6;
        const FE = 1 << 7;
        const PE = 1 << 8;
        const BE = 1 << 9;
        const OE = 1 << 10;
    }
}

/// Returns the number of characters that one field of UARTIFLS means; only its
/// three lowest bits count. Reserved values mean the highest level.
pub(super) const fn trigger_level(select: u8) -> usize {
    match select & 0b111 {
        0 => Fifo::DEPTH / 8,
        1 => Fifo::DEPTH / 4,
        2 => Fifo::DEPTH / 2,
        3 => Fifo::DEPTH * 3 / 4,
        _ => Fifo::DEPTH * 7 / 8,
    }
}

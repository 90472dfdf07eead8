//! The memory-mapped registers.

use vm_contract::{AccessError, Width};

use super::{Core, ReferenceGic, levels};
use crate::Frame;
use crate::conformance::reference::interrupt::{Interrupt, Route};

/// What lies at an offset.
enum Register {
    /// One bit for each of 32 interrupts, from this INTID.
    Bits(Bits, u32),
    /// One byte for each interrupt, from this INTID.
    Priorities(u32),
    /// Two bits for each of 16 interrupts, from this INTID.
    Configuration(u32),
    /// Eight bytes for this interrupt, or its upper half.
    Router { intid: u32, upper: bool },
    /// GICD_CTLR.
    Control,
    /// GICD_TYPER.
    DistributorType,
    /// GICD_SETSPI_NSR.
    SetSpi,
    /// GICD_CLRSPI_NSR.
    ClearSpi,
    /// GICR_CTLR: nothing to control without LPIs.
    RedistributorControl,
    /// GICR_TYPER, or its upper half.
    RedistributorType { upper: bool },
    /// GICR_WAKER.
    Waker,
    /// GICD_IIDR, GICR_IIDR, and the registers at the end of a frame: this value.
    Identification(u32),
    /// Nothing: reads as zero, ignores writes.
    Reserved,
}

/// A property of which registers show one bit.
#[derive(Clone, Copy)]
enum Bits {
    Group,
    SetEnable,
    ClearEnable,
    SetPending,
    ClearPending,
    SetActive,
    ClearActive,
}

impl Register {
    fn in_distributor(offset: u64) -> Self {
        match offset & !3 {
            0x0 => Self::Control,
            0x4 => Self::DistributorType,
            0x8 => Self::Identification(0x4100_0000),
            0x40 => Self::SetSpi,
            0x48 => Self::ClearSpi,
            0x6100..0x7FE0 => Self::Router {
                intid: number((offset - 0x6000) / 8),
                upper: offset & 4 != 0,
            },
            _ => Self::in_both(offset),
        }
    }

    fn in_rd_base(offset: u64) -> Self {
        match offset & !3 {
            0x0 => Self::RedistributorControl,
            0x4 => Self::Identification(0x4100_0000),
            0x8 => Self::RedistributorType { upper: false },
            0xC => Self::RedistributorType { upper: true },
            0x14 => Self::Waker,
            _ => Self::at_end(offset),
        }
    }

    fn in_sgi_base(offset: u64) -> Self {
        match Self::in_both(offset) {
            // There are 32 interrupts here, and no identification.
            Self::Bits(_, 32..) | Self::Priorities(32..) | Self::Configuration(32..) => {
                Self::Reserved
            }
            Self::Identification(_) => Self::Reserved,
            register => register,
        }
    }

    /// What describes interrupts lies at the same offsets everywhere.
    fn in_both(offset: u64) -> Self {
        let first = |base: u64, interrupts_per_byte: u64| {
            number((offset & !3).saturating_sub(base) * interrupts_per_byte)
        };
        match offset {
            0x080..0x100 => Self::Bits(Bits::Group, first(0x080, 8)),
            0x100..0x180 => Self::Bits(Bits::SetEnable, first(0x100, 8)),
            0x180..0x200 => Self::Bits(Bits::ClearEnable, first(0x180, 8)),
            0x200..0x280 => Self::Bits(Bits::SetPending, first(0x200, 8)),
            0x280..0x300 => Self::Bits(Bits::ClearPending, first(0x280, 8)),
            0x300..0x380 => Self::Bits(Bits::SetActive, first(0x300, 8)),
            0x380..0x400 => Self::Bits(Bits::ClearActive, first(0x380, 8)),
            0x400..0x800 => Self::Priorities(number(offset - 0x400)),
            0xC00..0xD00 => Self::Configuration(first(0xC00, 4)),
            _ => Self::at_end(offset),
        }
    }

    /// PIDR4 to CIDR3.
    fn at_end(offset: u64) -> Self {
        match offset & !3 {
            0xFFD0 => Self::Identification(0x44),
            0xFFD4..0xFFE0 => Self::Identification(0),
            0xFFE0 => Self::Identification(0x92),
            0xFFE4 => Self::Identification(0xB4),
            0xFFE8 => Self::Identification(0x3B),
            0xFFEC => Self::Identification(0),
            0xFFF0 => Self::Identification(0x0D),
            0xFFF4 => Self::Identification(0xF0),
            0xFFF8 => Self::Identification(0x05),
            0xFFFC => Self::Identification(0xB1),
            _ => Self::Reserved,
        }
    }

    /// Tells whether the register takes accesses of this width.
    fn takes(&self, width: Width) -> bool {
        match self {
            Self::Reserved => true,
            Self::Priorities(_) => matches!(width, Width::Byte | Width::Word),
            Self::SetSpi | Self::ClearSpi => matches!(width, Width::Half | Width::Word),
            Self::Router { .. } | Self::RedistributorType { .. } => {
                matches!(width, Width::Word | Width::Dword)
            }
            _ => width == Width::Word,
        }
    }
}

/// An access that has been checked.
struct Place {
    /// Whose frame it is; the distributor counts as vCPU 0's.
    vcpu: usize,
    in_distributor: bool,
    register: Register,
}

impl ReferenceGic {
    /// Finds what an access is about.
    fn locate(&self, frame: Frame, offset: u64, width: Width) -> Result<Place, AccessError> {
        if !offset.is_multiple_of(width.bytes()) {
            return Err(AccessError::Misaligned);
        }
        if offset >= frame.size_bytes(self.cores.len()) {
            return Err(AccessError::NoDevice);
        }
        let place = match frame {
            Frame::Distributor => Place {
                vcpu: 0,
                in_distributor: true,
                register: Register::in_distributor(offset),
            },
            Frame::Redistributors => Place {
                vcpu: usize::try_from(offset / 0x2_0000).unwrap_or(usize::MAX),
                in_distributor: false,
                register: match offset % 0x2_0000 {
                    rd_base @ ..0x1_0000 => Register::in_rd_base(rd_base),
                    sgi_base => Register::in_sgi_base(sgi_base - 0x1_0000),
                },
            },
        };
        if place.register.takes(width) {
            Ok(place)
        } else {
            Err(AccessError::InvalidWidth)
        }
    }

    /// Returns the interrupt that a register at `place` describes: SGIs and PPIs
    /// belong to the redistributors.
    fn described(&mut self, place: &Place, intid: u32) -> Option<&mut Interrupt> {
        if place.in_distributor && intid < 32 {
            return None;
        }
        self.interrupt_mut(place.vcpu, intid)
    }

    pub(super) fn read_frame(
        &mut self,
        frame: Frame,
        offset: u64,
        width: Width,
    ) -> Result<u64, AccessError> {
        let place = self.locate(frame, offset, width)?;
        let value = match place.register {
            Register::Bits(bits, first) => (0..32)
                .map(|n| {
                    let interrupt = self.described(&place, first + n);
                    u64::from(interrupt.is_some_and(|one| read_bit(bits, one))) << n
                })
                .sum(),
            Register::Priorities(first) => (0..number(width.bytes()))
                .map(|n| {
                    let interrupt = self.described(&place, first + n);
                    u64::from(interrupt.map_or(0, |one| one.priority)) << (8 * n)
                })
                .sum(),
            Register::Configuration(first) => (0..16)
                .map(|n| {
                    let interrupt = self.described(&place, first + n);
                    u64::from(interrupt.is_some_and(|one| one.edge)) << (2 * n + 1)
                })
                .sum(),
            Register::Router { intid, upper } => {
                let route = self.described(&place, intid).map_or(0, |one| one.router());
                if upper { route >> 32 } else { route }
            }
            Register::Control => {
                let [group0, group1] = self.forwards;
                // ARE and DS are always set.
                u64::from(group0) + 2 * u64::from(group1) + 0x50
            }
            Register::DistributorType => {
                // RSS, A3V, ten bits of INTID, MBIS.
                let features = 1 << 26 | 1 << 24 | 9 << 19 | 1 << 16;
                features + self.shared.len().div_ceil(32) as u64
            }
            Register::RedistributorType { upper } => {
                let value = self.redistributor_type(place.vcpu);
                if upper { value >> 32 } else { value }
            }
            Register::Waker => {
                let asleep = self.cores.get(place.vcpu).is_some_and(|core| core.asleep);
                if asleep { 0b110 } else { 0 }
            }
            Register::Identification(value) => value.into(),
            Register::SetSpi
            | Register::ClearSpi
            | Register::RedistributorControl
            | Register::Reserved => 0,
        };
        Ok(width.truncate(value))
    }

    pub(super) fn write_frame(
        &mut self,
        frame: Frame,
        offset: u64,
        width: Width,
        value: u64,
    ) -> Result<(), AccessError> {
        let place = self.locate(frame, offset, width)?;
        let value = width.truncate(value);
        let is_set = |bit: u32| value >> bit & 1 == 1;
        match place.register {
            Register::Bits(bits, first) => {
                for n in 0..32 {
                    if let Some(interrupt) = self.described(&place, first + n) {
                        write_bit(bits, interrupt, is_set(n));
                    }
                }
            }
            Register::Priorities(first) => {
                let unit = 1 << (8 - self.priority_bits);
                for (n, byte) in (0..number(width.bytes())).zip(value.to_le_bytes()) {
                    if let Some(interrupt) = self.described(&place, first + n) {
                        interrupt.priority = byte / unit * unit;
                    }
                }
            }
            Register::Configuration(first) => {
                for n in 0..16 {
                    // SGIs are edge-triggered for good.
                    if first + n >= 16
                        && let Some(interrupt) = self.described(&place, first + n)
                    {
                        interrupt.edge = is_set(2 * n + 1);
                    }
                }
            }
            Register::Router { intid, upper } => {
                if let Some(interrupt) = self.described(&place, intid) {
                    let old = interrupt.router();
                    let value = match (width, upper) {
                        (Width::Dword, _) => value,
                        (_, false) => old >> 32 << 32 | value,
                        (_, true) => value << 32 | old & 0xFFFF_FFFF,
                    };
                    interrupt.route = if value >> 31 & 1 == 1 {
                        Route::Any(levels(value))
                    } else {
                        Route::One(levels(value))
                    };
                }
            }
            Register::Control => self.forwards = [is_set(0), is_set(1)],
            // The upper halfwords have nothing to say.
            Register::SetSpi | Register::ClearSpi if !offset.is_multiple_of(4) => {}
            Register::SetSpi => {
                if let Some(interrupt) = self.described(&place, number(value & 0x3FF)) {
                    interrupt.send_message();
                }
            }
            Register::ClearSpi => {
                if let Some(interrupt) = self.described(&place, number(value & 0x3FF)) {
                    interrupt.withdraw_message();
                }
            }
            Register::Waker => {
                if let Some(core) = self.cores.get_mut(place.vcpu) {
                    core.asleep = is_set(1);
                }
            }
            Register::DistributorType
            | Register::RedistributorControl
            | Register::RedistributorType { .. }
            | Register::Identification(_)
            | Register::Reserved => {}
        }
        Ok(())
    }

    fn redistributor_type(&self, vcpu: usize) -> u64 {
        let affinity = self.cores.get(vcpu).map_or(0, Core::affinity_word);
        let last = vcpu + 1 == self.cores.len();
        affinity << 32 | (vcpu as u64) << 8 | u64::from(last) << 4
    }
}

impl Core {
    /// Returns the affinity as GICR_TYPER has it.
    fn affinity_word(&self) -> u64 {
        u32::from_be_bytes(self.affinity).into()
    }
}

impl Interrupt {
    /// Returns `GICD_IROUTER<n>`.
    fn router(&self) -> u64 {
        let (Route::One([aff3, aff2, aff1, aff0]) | Route::Any([aff3, aff2, aff1, aff0])) =
            self.route;
        let mode = if matches!(self.route, Route::Any(_)) {
            0x80
        } else {
            0
        };
        u64::from_le_bytes([aff0, aff1, aff2, mode, aff3, 0, 0, 0])
    }
}

fn read_bit(bits: Bits, interrupt: &Interrupt) -> bool {
    match bits {
        Bits::Group => interrupt.group1,
        Bits::SetEnable | Bits::ClearEnable => interrupt.enabled,
        Bits::SetPending | Bits::ClearPending => interrupt.is_pending(),
        Bits::SetActive | Bits::ClearActive => interrupt.active,
    }
}

fn write_bit(bits: Bits, interrupt: &mut Interrupt, value: bool) {
    match (bits, value) {
        (Bits::Group, _) => interrupt.group1 = value,
        // Zeroes mean nothing to the others.
        (_, false) => {}
        (Bits::SetEnable, true) => interrupt.enabled = true,
        (Bits::ClearEnable, true) => interrupt.enabled = false,
        (Bits::SetPending, true) => interrupt.make_pending(),
        (Bits::ClearPending, true) => interrupt.clear_pending(),
        (Bits::SetActive, true) => interrupt.active = true,
        (Bits::ClearActive, true) => interrupt.active = false,
    }
}

/// Makes an INTID of what is small enough to be one.
fn number(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

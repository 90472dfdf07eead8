//! The guest's self-hosted debug registers.
//!
//! Every access is trapped (MDCR_EL2.TDA, TDOSA, TDRA) and answered from
//! [`DebugRegisters`], which is therefore always up to date: nothing is read
//! back from the CPU. MDSCR_EL1 and the OS lock follow each change into the
//! CPU; breakpoints and watchpoints do only while the guest's MDSCR_EL1.MDE is
//! set, for without it they cannot match. So a guest that does not debug costs
//! nothing, and what one guest has set is never left armed for another.
//! MDCR_EL2.TDE is zero: debug exceptions are EL1's, and none arises at EL2.

use crate::{IdRegisters, SystemRegister};

/// MDSCR_EL1.MDE: breakpoints, watchpoints and BKPT-like events are enabled.
const MDSCR_MDE: u64 = 1 << 15;
/// MDSCR_EL1.KDE: debug exceptions are also taken from EL1.
const MDSCR_KDE: u64 = 1 << 13;
/// MDSCR_EL1.TDCC: EL0 has no debug communication channel.
const MDSCR_TDCC: u64 = 1 << 12;
/// MDSCR_EL1.SS: software step.
const MDSCR_SS: u64 = 1;
const MDSCR_MASK: u64 = MDSCR_MDE | MDSCR_KDE | MDSCR_TDCC | MDSCR_SS;

/// OSLSR_EL1.OSLM = 0b10: the OS lock is implemented.
const OSLSR_OSLM: u64 = 1 << 3;

/// DBGBCRn_EL1: BT, LBN, SSC, HMC, BAS, PMC, E.
const BREAKPOINT_CONTROL_MASK: u64 = 0x00FF_E1E7;
/// DBGWCRn_EL1: MASK, WT, LBN, SSC, HMC, BAS, LSC, PAC, E.
const WATCHPOINT_CONTROL_MASK: u64 = 0x1F1F_FFFF;

/// Holds one breakpoint or watchpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DebugPoint {
    /// The address or context to compare with: DBGBVRn_EL1 or DBGWVRn_EL1.
    pub value: u64,
    /// The conditions of a match: DBGBCRn_EL1 or DBGWCRn_EL1.
    pub control: u64,
}

/// Holds a vCPU's debug registers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DebugRegisters {
    mdscr: u64,
    os_locked: bool,
    breakpoint_count: usize,
    watchpoint_count: usize,
    breakpoints: [DebugPoint; 16],
    watchpoints: [DebugPoint; 16],
}

impl DebugRegisters {
    /// Creates the registers as they are out of reset, with as many
    /// breakpoints and watchpoints as `ids` shows in ID_AA64DFR0_EL1.
    #[must_use]
    pub fn new(ids: &IdRegisters) -> Self {
        let dfr0 = ids.read(SystemRegister::ID_AA64DFR0_EL1).unwrap_or(0);
        // Both fields hold the number less one, in four bits.
        let count = |shift: u32| usize::from((dfr0 >> shift & 0xF) as u8) + 1;
        Self {
            os_locked: true,
            breakpoint_count: count(12),
            watchpoint_count: count(20),
            ..Self::default()
        }
    }

    /// Returns these registers as a reset of the vCPU leaves them.
    #[must_use]
    pub fn after_reset(&self) -> Self {
        Self {
            os_locked: true,
            breakpoint_count: self.breakpoint_count,
            watchpoint_count: self.watchpoint_count,
            ..Self::default()
        }
    }

    /// Returns MDSCR_EL1 as the CPU shall have it.
    #[inline]
    #[must_use]
    pub const fn mdscr(&self) -> u64 {
        self.mdscr
    }

    /// Tells whether the OS lock is held, which mutes debug exceptions.
    #[inline]
    #[must_use]
    pub const fn os_locked(&self) -> bool {
        self.os_locked
    }

    /// Tells whether breakpoints and watchpoints can match at all.
    #[inline]
    #[must_use]
    pub const fn armed(&self) -> bool {
        self.mdscr & MDSCR_MDE != 0
    }

    /// Returns the breakpoints that exist.
    #[must_use]
    pub fn breakpoints(&self) -> &[DebugPoint] {
        self.breakpoints
            .get(..self.breakpoint_count)
            .unwrap_or(&self.breakpoints)
    }

    /// Returns the watchpoints that exist.
    #[must_use]
    pub fn watchpoints(&self) -> &[DebugPoint] {
        self.watchpoints
            .get(..self.watchpoint_count)
            .unwrap_or(&self.watchpoints)
    }

    /// Returns what a guest reads from `register`, or `None` if that is not a
    /// debug register which can be read.
    #[must_use]
    pub fn read(&self, register: SystemRegister) -> Option<u64> {
        match register {
            SystemRegister::MDSCR_EL1 => Some(self.mdscr),
            SystemRegister::OSLSR_EL1 => Some(OSLSR_OSLM | u64::from(self.os_locked) << 1),
            // No ROM table, no external debugger, no communication channel.
            SystemRegister::MDRAR_EL1
            | SystemRegister::OSDLR_EL1
            | SystemRegister::DBGPRCR_EL1
            | SystemRegister::DBGCLAIMSET_EL1
            | SystemRegister::DBGCLAIMCLR_EL1
            | SystemRegister::DBGAUTHSTATUS_EL1
            | SystemRegister::MDCCINT_EL1
            | SystemRegister::MDCCSR_EL0
            | SystemRegister::DBGDTR_EL0
            | SystemRegister::DBGDTRRX_EL0
            | SystemRegister::OSDTRRX_EL1
            | SystemRegister::OSDTRTX_EL1
            | SystemRegister::OSECCR_EL1 => Some(0),
            _ => {
                let (index, part) = Part::of(register)?;
                let point = match part {
                    Part::BreakpointValue | Part::BreakpointControl => self.breakpoints(),
                    Part::WatchpointValue | Part::WatchpointControl => self.watchpoints(),
                }
                .get(index)?;
                Some(match part {
                    Part::BreakpointValue | Part::WatchpointValue => point.value,
                    Part::BreakpointControl | Part::WatchpointControl => point.control,
                })
            }
        }
    }

    /// Does what a guest's write of `value` to `register` does; `false` means
    /// that it is not a debug register which can be written.
    #[must_use]
    pub fn write(&mut self, register: SystemRegister, value: u64) -> bool {
        match register {
            SystemRegister::MDSCR_EL1 => self.mdscr = value & MDSCR_MASK,
            SystemRegister::OSLAR_EL1 => self.os_locked = value & 1 != 0,
            SystemRegister::OSDLR_EL1
            | SystemRegister::DBGPRCR_EL1
            | SystemRegister::DBGCLAIMSET_EL1
            | SystemRegister::DBGCLAIMCLR_EL1
            | SystemRegister::MDCCINT_EL1
            | SystemRegister::DBGDTR_EL0
            | SystemRegister::DBGDTRRX_EL0
            | SystemRegister::OSDTRRX_EL1
            | SystemRegister::OSDTRTX_EL1
            | SystemRegister::OSECCR_EL1 => {}
            _ => return self.write_point(register, value).is_some(),
        }
        true
    }

    fn write_point(&mut self, register: SystemRegister, value: u64) -> Option<()> {
        let (index, part) = Part::of(register)?;
        let (points, count) = match part {
            Part::BreakpointValue | Part::BreakpointControl => {
                (&mut self.breakpoints, self.breakpoint_count)
            }
            Part::WatchpointValue | Part::WatchpointControl => {
                (&mut self.watchpoints, self.watchpoint_count)
            }
        };
        let point = points.get_mut(..count)?.get_mut(index)?;
        match part {
            Part::BreakpointValue => point.value = value,
            Part::WatchpointValue => point.value = value & !0b11,
            Part::BreakpointControl => point.control = value & BREAKPOINT_CONTROL_MASK,
            Part::WatchpointControl => point.control = value & WATCHPOINT_CONTROL_MASK,
        }
        Some(())
    }
}

/// Which half of which kind of debug point a register is.
#[derive(Clone, Copy)]
enum Part {
    BreakpointValue,
    BreakpointControl,
    WatchpointValue,
    WatchpointControl,
}

impl Part {
    /// Recognises S2_0_C0_Cn_4 to S2_0_C0_Cn_7.
    fn of(register: SystemRegister) -> Option<(usize, Self)> {
        if (register.op0(), register.op1(), register.crn()) != (2, 0, 0) {
            return None;
        }
        let part = match register.op2() {
            4 => Self::BreakpointValue,
            5 => Self::BreakpointControl,
            6 => Self::WatchpointValue,
            7 => Self::WatchpointControl,
            _ => return None,
        };
        Some((usize::from(register.crm()), part))
    }
}

//! The CPU interface of one vCPU.

use alloc::vec::Vec;

use crate::conformance::IccRegister;

/// A priority that is being handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Running {
    group1: bool,
    /// The group priority: what decides about preemption.
    priority: u8,
}

/// What the ICC_* registers hold.
#[derive(Clone, Debug)]
pub(super) struct Interface {
    priority_bits: u32,
    priority_mask: u8,
    /// Binary points as ICC_BPR0_EL1 and ICC_BPR1_EL1 have them.
    binary_points: [u32; 2],
    /// CBPR: ICC_BPR0_EL1 serves both groups.
    common_binary_point: bool,
    /// EOImode: ending does not deactivate.
    pub(super) eoi_mode: bool,
    /// Enabled groups.
    groups: [bool; 2],
    /// The priorities that are being handled, the latest last.
    running: Vec<Running>,
}

impl Interface {
    pub(super) fn new() -> Self {
        let mut interface = Self {
            priority_bits: 5,
            priority_mask: 0,
            binary_points: [0; 2],
            common_binary_point: false,
            eoi_mode: false,
            groups: [false; 2],
            running: Vec::new(),
        };
        interface.set_priority_bits(5);
        interface
    }

    /// Sets how many bits of priority there are; all of them can preempt.
    pub(super) fn set_priority_bits(&mut self, bits: u32) {
        self.priority_bits = bits;
        self.binary_points = [
            self.least_binary_point(false),
            self.least_binary_point(true),
        ];
    }

    /// Tells whether a group is enabled.
    pub(super) fn is_enabled(&self, group1: bool) -> bool {
        let [group0, one] = self.groups;
        if group1 { one } else { group0 }
    }

    /// Returns the group priority of the interrupt being handled.
    pub(super) fn running_priority(&self) -> Option<u8> {
        self.running.last().map(|running| running.priority)
    }

    /// Tells whether an interrupt passes the priority mask and preempts.
    pub(super) fn lets_through(&self, group1: bool, priority: u8) -> bool {
        let preempts = self
            .running_priority()
            .is_none_or(|running| self.group_priority(group1, priority) < running);
        priority < self.priority_mask && preempts
    }

    /// An interrupt is taken.
    pub(super) fn begin(&mut self, group1: bool, priority: u8) {
        let priority = self.group_priority(group1, priority);
        self.running.push(Running { group1, priority });
    }

    /// An interrupt is ended: the running priority drops if it is of that group.
    pub(super) fn drop_priority(&mut self, group1: bool) -> bool {
        let drops = self
            .running
            .last()
            .is_some_and(|running| running.group1 == group1);
        if drops {
            self.running.pop();
        }
        drops
    }

    /// Returns a priority without the bits below the binary point of its group.
    fn group_priority(&self, group1: bool, priority: u8) -> u8 {
        let [point0, point1] = self.binary_points;
        // Group 0 counts from one bit, Group 1 from none.
        let ignored_bits = if group1 && !self.common_binary_point {
            point1
        } else {
            point0 + 1
        };
        let unit = 1_u32 << ignored_bits;
        let group_priority = u32::from(priority) / unit * unit;
        u8::try_from(group_priority).unwrap_or(u8::MAX)
    }

    fn least_binary_point(&self, group1: bool) -> u32 {
        let unimplemented = 8 - self.priority_bits;
        if group1 {
            unimplemented
        } else {
            unimplemented - 1
        }
    }

    pub(super) fn read(&self, register: IccRegister) -> u64 {
        let [point0, point1] = self.binary_points;
        let [group0, group1] = self.groups;
        match register {
            IccRegister::Rpr => self.running_priority().unwrap_or(0xFF).into(),
            IccRegister::Pmr => self.priority_mask.into(),
            IccRegister::Bpr0 => point0.into(),
            IccRegister::Bpr1 if self.common_binary_point => (point0 + 1).min(7).into(),
            IccRegister::Bpr1 => point1.into(),
            IccRegister::Ctlr => u64::from(self.common_binary_point) + 2 * u64::from(self.eoi_mode),
            IccRegister::Igrpen0 => group0.into(),
            IccRegister::Igrpen1 => group1.into(),
            // Write-only, or not of the interface alone.
            _ => 0,
        }
    }

    pub(super) fn write(&mut self, register: IccRegister, value: u64) {
        let is_set = |bit: u32| value >> bit & 1 == 1;
        let point = u32::try_from(value % 8).unwrap_or(7);
        let [point0, point1] = &mut self.binary_points;
        let [group0, group1] = &mut self.groups;
        match register {
            IccRegister::Pmr => {
                let unit = 1_u64 << (8 - self.priority_bits);
                let implemented = value % 0x100 / unit * unit;
                self.priority_mask = u8::try_from(implemented).unwrap_or(u8::MAX);
            }
            IccRegister::Bpr0 => *point0 = point.max(7 - self.priority_bits),
            IccRegister::Bpr1 if self.common_binary_point => {}
            IccRegister::Bpr1 => *point1 = point.max(8 - self.priority_bits),
            IccRegister::Ctlr => {
                self.common_binary_point = is_set(0);
                self.eoi_mode = is_set(1);
            }
            IccRegister::Igrpen0 => *group0 = is_set(0),
            IccRegister::Igrpen1 => *group1 = is_set(0),
            // Read-only, or not of the interface alone.
            _ => {}
        }
    }
}

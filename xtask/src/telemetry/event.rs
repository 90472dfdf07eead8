//! Events of a trace, as they lie in a ring.

/// Something that happened to a vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// The system counter.
    pub(crate) ticks: u64,
    pub(crate) cpu: u16,
    pub(crate) vm: u16,
    pub(crate) vcpu: u16,
    pub(crate) what: What,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// The guest was left, and could be entered again after so many ticks.
    Exit {
        reason: u8,
        ticks: u64,
        pc: u64,
        /// The interrupt that was injected at the end.
        injected: Option<u32>,
    },
    /// An interrupt was injected.
    Injection { intid: u32 },
    /// The vCPU was loaded into the CPU.
    Load,
    /// It left the CPU.
    Unload,
}

impl Event {
    /// Reads an event of a CPU's ring.
    pub(super) fn parse(cpu: u16, [ticks, kind, first, second]: [u64; 4]) -> Option<Self> {
        let [what, reason, vm @ .., v0, v1, _, _] = kind.to_le_bytes();
        let low = |word: u64| word & u64::from(u32::MAX);
        let what = match what {
            1 => What::Exit {
                reason,
                ticks: low(first),
                pc: second,
                injected: u32::try_from(first >> 32).ok()?.checked_sub(1),
            },
            2 => What::Injection {
                intid: u32::try_from(first).ok()?,
            },
            3 => What::Load,
            4 => What::Unload,
            _ => return None,
        };
        Some(Self {
            ticks,
            cpu,
            vm: u16::from_le_bytes(vm),
            vcpu: u16::from_le_bytes([v0, v1]),
            what,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_taken_apart() {
        let kind = 1 | 14 << 8 | 3 << 16 | 5 << 32;
        let event = Event::parse(2, [100, kind, 28 << 32 | 40, 0x4000]).unwrap();
        let what = What::Exit {
            reason: 14,
            ticks: 40,
            pc: 0x4000,
            injected: Some(27),
        };
        let expected = Event {
            ticks: 100,
            cpu: 2,
            vm: 3,
            vcpu: 5,
            what,
        };
        assert_eq!(event, expected);
        let event = Event::parse(2, [100, 2, 27, 0]).unwrap();
        assert_eq!(event.what, What::Injection { intid: 27 });
        assert_eq!(Event::parse(2, [0; 4]), None);
        assert_eq!(Event::parse(2, [0, 5, 0, 0]), None);
    }
}

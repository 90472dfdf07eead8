//! The last exits of a vCPU, for the report when its VM fails.

use core::fmt;

use arm_vcpu::AxVCpuExitReason as Exit;

/// How many exits are remembered: a power of two.
const LENGTH: usize = 8;

/// The kind of an exit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    None,
    Hypercall,
    SecureMonitorCall,
    Load,
    Store,
    Undecoded,
    RegisterRead,
    RegisterWrite,
    Stage2Fault,
    CacheMaintenance,
    ExternalAbort,
    WaitForInterrupt,
    WaitForEvent,
    Interrupt,
    SError,
    Injected,
    Other,
}

impl Kind {
    const fn of(exit: &Exit) -> Self {
        match exit {
            Exit::Hypercall { .. } => Self::Hypercall,
            Exit::SecureMonitorCall { .. } => Self::SecureMonitorCall,
            Exit::MmioRead(_) => Self::Load,
            Exit::MmioWrite(_) => Self::Store,
            Exit::UndecodedAccess(_) => Self::Undecoded,
            Exit::SystemRegisterRead(_) => Self::RegisterRead,
            Exit::SystemRegisterWrite(_) => Self::RegisterWrite,
            Exit::Stage2Fault(_) => Self::Stage2Fault,
            Exit::CacheMaintenance(_) => Self::CacheMaintenance,
            Exit::ExternalAbort(_) => Self::ExternalAbort,
            Exit::WaitForInterrupt => Self::WaitForInterrupt,
            Exit::WaitForEvent => Self::WaitForEvent,
            Exit::ExternalInterrupt | Exit::FastInterrupt => Self::Interrupt,
            Exit::SError { .. } => Self::SError,
            Exit::Injected(_) => Self::Injected,
            _ => Self::Other,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Hypercall => "HVC",
            Self::SecureMonitorCall => "SMC",
            Self::Load => "load from a device or nowhere",
            Self::Store => "store to a device or nowhere",
            Self::Undecoded => "load or store without a syndrome",
            Self::RegisterRead => "MRS",
            Self::RegisterWrite => "MSR",
            Self::Stage2Fault => "stage-2 fault",
            Self::CacheMaintenance => "cache maintenance",
            Self::ExternalAbort => "external abort",
            Self::WaitForInterrupt => "WFI",
            Self::WaitForEvent => "WFE",
            Self::Interrupt => "physical interrupt",
            Self::SError => "SError",
            Self::Injected => "exception injected",
            Self::Other => "other",
        }
    }
}

/// The kinds of the last exits, and where the guest was.
#[derive(Clone, Copy, Debug, Default)]
pub struct History {
    entries: [(u64, Kind); LENGTH],
    /// Where the next one goes.
    next: usize,
}

impl History {
    /// Remembers an exit that the guest made at `pc`.
    #[inline]
    pub fn record(&mut self, pc: u64, exit: &Exit) {
        if let Some(entry) = self.entries.get_mut(self.next) {
            *entry = (pc, Kind::of(exit));
        }
        self.next = (self.next + 1) % LENGTH;
    }
}

/// Lists the exits, the last one first.
impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "last exits:")?;
        let newest_first = (1..=LENGTH).map(|back| (self.next + LENGTH - back) % LENGTH);
        for (pc, kind) in newest_first.filter_map(|n| self.entries.get(n)) {
            if *kind != Kind::None {
                write!(f, "\n  {pc:016x}  {}", kind.name())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn the_last_exits_are_kept_newest_first() {
        let mut history = History::default();
        assert_eq!(history.to_string(), "last exits:");
        for pc in 0..20 {
            history.record(pc, &Exit::WaitForEvent);
        }
        history.record(0x4000_0000, &Exit::Hypercall { immediate: 0 });
        let text = history.to_string();
        let lines: alloc::vec::Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 1 + LENGTH);
        assert_eq!(lines[1], "  0000000040000000  HVC");
        assert_eq!(lines[2], "  0000000000000013  WFE");
        assert_eq!(lines[LENGTH], "  000000000000000d  WFE");
    }
}

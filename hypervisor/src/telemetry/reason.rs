//! Why a vCPU left its guest.

use core::fmt;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $short:literal, $text:literal;)+) => {
        /// Why a vCPU left its guest, as found out while the exit is answered.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Reason {
            $($(#[$doc])* $name,)+
        }

        impl Reason {
            /// All reasons, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The names of all, in that order, each with a line feed at its end.
            pub const NAMES: &str = concat!($($short, "\n"),+);

            /// Returns one word for tables.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $short,)+
                }
            }

            /// Returns what the guest did, for reports.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

reasons! {
    /// Nothing that has a name of its own.
    #[default]
    Other = "other", "other";
    /// HVC.
    Hypercall = "hvc", "HVC";
    /// SMC.
    SecureMonitorCall = "smc", "SMC";
    /// A load from the interrupt controller's frames.
    VgicRead = "vgic-read", "load from a device or nowhere";
    /// A store to the interrupt controller's frames.
    VgicWrite = "vgic-write", "store to a device or nowhere";
    /// A load from the interrupt translation service.
    ItsRead = "its-read", "load from a device or nowhere";
    /// A store to the interrupt translation service.
    ItsWrite = "its-write", "store to a device or nowhere";
    /// A load from another device.
    DeviceRead = "device-read", "load from a device or nowhere";
    /// A store to another device.
    DeviceWrite = "device-write", "store to a device or nowhere";
    /// A load from where nothing is.
    NothingRead = "nothing-read", "load from a device or nowhere";
    /// A store to where nothing is.
    NothingWrite = "nothing-write", "store to a device or nowhere";
    /// An access that only its instruction describes.
    Undecoded = "undecoded", "load or store without a syndrome";
    /// MRS.
    SystemRegisterRead = "mrs", "MRS";
    /// MSR, or a system instruction, that has no name of its own here.
    SystemRegisterWrite = "msr", "MSR";
    /// A write to ICC_SGI0R_EL1, ICC_SGI1R_EL1 or ICC_ASGI1R_EL1.
    Sgi = "sgi", "MSR";
    /// A write to ICC_DIR_EL1.
    Deactivation = "dir", "MSR";
    /// A write to the physical timer's registers.
    PhysicalTimer = "ptimer-write", "MSR";
    /// WFI.
    WaitForInterrupt = "wfi", "WFI";
    /// WFE.
    WaitForEvent = "wfe", "WFE";
    /// The guest's virtual timer.
    VirtualTimer = "vtimer", "physical interrupt";
    /// Another CPU called.
    Kick = "kick", "physical interrupt";
    /// The hypervisor's own timer.
    Deadline = "deadline", "physical interrupt";
    /// The virtual CPU interface wants its list registers serviced.
    Maintenance = "maintenance", "physical interrupt";
    /// The machine's UART.
    Console = "console", "physical interrupt";
    /// A device of the machine that VMs share.
    Device = "device", "physical interrupt";
    /// An interrupt that nobody asked for, or that was gone when it was looked for.
    Unexpected = "unexpected", "physical interrupt";
    /// Stage 2 refused an access.
    Stage2Fault = "stage2-fault", "stage-2 fault";
    /// Cache maintenance that is trapped.
    CacheMaintenance = "cache", "cache maintenance";
    /// Hardware reported an external abort.
    ExternalAbort = "external-abort", "external abort";
    /// Hardware reported an error without saying of which access.
    SError = "serror", "SError";
    /// The guest was given an exception for an instruction that it must not use.
    Injected = "injected", "exception injected";
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_number_and_name() {
        for (n, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, n);
            let twins = Reason::ALL
                .iter()
                .filter(|other| other.name() == reason.name());
            assert_eq!(twins.count(), 1, "{reason}");
        }
        assert!(Reason::ALL.len() <= 32);
        let names = Reason::ALL.iter().map(|reason| reason.name());
        assert!(Reason::NAMES.lines().eq(names));
    }
}

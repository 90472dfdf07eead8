//! Calls to the machine's own PSCI firmware.

use dtb_platform::{Conduit, Platform, PsciVersion};
use smccc::psci::{self, error::Error};
use smccc::{Hvc, Smc};

/// The firmware, reached by the conduit of the device tree.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Firmware {
    conduit: Conduit,
}

impl Firmware {
    /// Returns the firmware that the device tree names. PSCI 0.1 numbers its
    /// functions in the tree and is not supported.
    pub(crate) fn find(platform: &Platform) -> Option<Self> {
        let firmware = platform.psci.as_ref()?;
        (firmware.version != PsciVersion::V0_1).then_some(Self {
            conduit: firmware.conduit,
        })
    }

    /// Turns a CPU on at `entry`, a physical address, with `context` in X0.
    pub(crate) fn cpu_on(self, mpidr: u64, entry: u64, context: u64) -> Result<(), Error> {
        match self.conduit {
            Conduit::Hvc => psci::cpu_on::<Hvc>(mpidr, entry, context),
            Conduit::Smc => psci::cpu_on::<Smc>(mpidr, entry, context),
        }
    }

    /// Turns the machine off; returns only if the firmware does not.
    pub(crate) fn system_off(self) {
        let _ = match self.conduit {
            Conduit::Hvc => psci::system_off::<Hvc>(),
            Conduit::Smc => psci::system_off::<Smc>(),
        };
    }

    /// Resets the machine; returns only if the firmware does not.
    pub(crate) fn system_reset(self) {
        let _ = match self.conduit {
            Conduit::Hvc => psci::system_reset::<Hvc>(),
            Conduit::Smc => psci::system_reset::<Smc>(),
        };
    }
}

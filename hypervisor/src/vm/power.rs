//! A VM's power state: which vCPUs are on, and how the VM comes to a stop.
//!
//! The guest drives this in any order it likes (PSCI, Arm DEN 0022), so it is a
//! run-time state machine that answers every request.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use vm_contract::{GuestPhysAddr, VcpuId};

/// Where a vCPU begins and what it finds in X0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// The first instruction.
    pub entry: GuestPhysAddr,
    /// The value of X0: the caller's context, or the device tree for the first vCPU.
    pub context: u64,
}

/// Why a VM stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The guest turned itself off.
    Off,
    /// The guest asked to be reset; it starts again when all vCPUs are parked.
    Reset,
    /// The VM cannot go on.
    Fault,
}

/// Why a vCPU was not turned on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuOnError {
    /// There is no such vCPU.
    Unknown,
    /// It runs, or has been told to.
    AlreadyOn,
    /// The whole VM is about to stop.
    Stopping,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum VcpuPower {
    Off,
    /// On; `Some` until its CPU has taken the start.
    On(Option<Start>),
}

/// What a VM as a whole is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It has been built and is about to start.
    Created,
    /// Its vCPUs run, or could.
    Running,
    /// As it was while it ran, but none of its vCPUs runs.
    Paused,
    /// Its vCPUs are being parked.
    Stopping(StopReason),
    /// All its vCPUs are parked; after a reset it is about to start again.
    Stopped(StopReason),
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Created => "starting",
            Self::Paused => "paused",
            Self::Running => "running",
            Self::Stopping(StopReason::Reset) | Self::Stopped(StopReason::Reset) => "restarting",
            Self::Stopping(_) => "stopping",
            Self::Stopped(StopReason::Off) => "off",
            Self::Stopped(StopReason::Fault) => "failed",
        })
    }
}

/// The power state of a VM and of each of its vCPUs.
#[derive(Debug)]
pub struct Power {
    vcpus: Vec<VcpuPower>,
    phase: Phase,
    /// It is to be turned off instead of starting.
    starts_off: bool,
}

impl Power {
    /// Describes a VM with `vcpu_count` vCPUs that has not been started.
    #[must_use]
    pub fn new(vcpu_count: usize) -> Self {
        Self {
            vcpus: vec![VcpuPower::Off; vcpu_count],
            phase: Phase::Created,
            starts_off: false,
        }
    }

    /// Starts the VM, at first or after a reset: vCPU 0 is on, all others off. If
    /// it was [turned off](Self::turn_off) meanwhile it stops at once.
    pub fn boot(&mut self, start: Start) {
        self.vcpus.fill(VcpuPower::Off);
        if self.starts_off {
            self.phase = Phase::Stopping(StopReason::Off);
            return;
        }
        if let Some(first) = self.vcpus.first_mut() {
            *first = VcpuPower::On(Some(start));
        }
        self.phase = Phase::Running;
    }

    /// Turns a vCPU on.
    ///
    /// # Errors
    /// Of several callers at the same time exactly one succeeds; see [`CpuOnError`].
    pub fn cpu_on(&mut self, vcpu: VcpuId, start: Start) -> Result<(), CpuOnError> {
        let is_alive = self.is_alive();
        let state = self
            .vcpus
            .get_mut(vcpu.index())
            .ok_or(CpuOnError::Unknown)?;
        if !is_alive {
            return Err(CpuOnError::Stopping);
        }
        if *state != VcpuPower::Off {
            return Err(CpuOnError::AlreadyOn);
        }
        *state = VcpuPower::On(Some(start));
        Ok(())
    }

    /// Hands a start to the CPU of the vCPU, once.
    pub fn take_start(&mut self, vcpu: VcpuId) -> Option<Start> {
        if self.phase != Phase::Running {
            return None;
        }
        match self.vcpus.get_mut(vcpu.index())? {
            VcpuPower::On(start) => start.take(),
            VcpuPower::Off => None,
        }
    }

    /// Turns a vCPU off at its own request. Where it was the last one, nobody is
    /// left who could turn another on: the VM is off.
    pub fn cpu_off(&mut self, vcpu: VcpuId) {
        if self.on_count() == 1 && self.is_alive() {
            self.phase = Phase::Stopping(StopReason::Off);
            return;
        }
        // While the VM is stopping the vCPU stays "on" until it is parked.
        if self.is_alive()
            && let Some(state) = self.vcpus.get_mut(vcpu.index())
        {
            *state = VcpuPower::Off;
        }
    }

    /// Tells whether a vCPU is on, or `None` if there is no such vCPU.
    #[must_use]
    pub fn is_on(&self, vcpu: VcpuId) -> Option<bool> {
        self.vcpus
            .get(vcpu.index())
            .map(|state| *state != VcpuPower::Off)
    }

    /// Begins to stop the VM. The first reason counts, but a fault is never
    /// hidden by another reason.
    ///
    /// Returns whether it stops for this reason: `false` if it is stopping for
    /// another one already, or does not run.
    pub fn request_stop(&mut self, reason: StopReason) -> bool {
        let stops = match self.phase {
            Phase::Running | Phase::Paused => true,
            Phase::Stopping(_) => reason == StopReason::Fault,
            Phase::Created | Phase::Stopped(_) => false,
        };
        if stops {
            self.phase = Phase::Stopping(reason);
        }
        stops
    }

    /// Turns the VM off at the wish of its operator, who wins over a guest that
    /// resets itself. `false` if it is off, or about to be, already.
    pub fn turn_off(&mut self) -> bool {
        match self.phase {
            Phase::Running | Phase::Paused | Phase::Stopping(StopReason::Reset) => {
                self.phase = Phase::Stopping(StopReason::Off);
            }
            // It is being started, which comes to its end first.
            Phase::Created | Phase::Stopped(StopReason::Reset) => {
                return !core::mem::replace(&mut self.starts_off, true);
            }
            Phase::Stopping(_) | Phase::Stopped(_) => return false,
        }
        true
    }

    /// Begins to stop a VM that cannot be started after all.
    pub fn abandon(&mut self) {
        self.phase = Phase::Stopping(StopReason::Fault);
    }

    /// Halts a VM that runs; `false` if it does not.
    #[must_use]
    pub fn pause(&mut self) -> bool {
        let runs = self.phase == Phase::Running;
        if runs {
            self.phase = Phase::Paused;
        }
        runs
    }

    /// Lets a paused VM go on; `false` if it is not paused.
    #[must_use]
    pub fn resume(&mut self) -> bool {
        let is_paused = self.phase == Phase::Paused;
        if is_paused {
            self.phase = Phase::Running;
        }
        is_paused
    }

    /// Tells whether the guest can ask for something: it runs, or has just been
    /// paused while one of its vCPUs was on its way out.
    const fn is_alive(&self) -> bool {
        matches!(self.phase, Phase::Running | Phase::Paused)
    }

    /// Returns what the VM is doing.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// Tells whether every vCPU must come to a halt.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        matches!(self.phase, Phase::Stopping(_))
    }

    /// Records that a vCPU has left the guest for good. The one that was last
    /// learns why the VM stopped and completes it.
    pub fn park(&mut self, vcpu: VcpuId) -> Option<StopReason> {
        let Phase::Stopping(reason) = self.phase else {
            return None;
        };
        if let Some(state) = self.vcpus.get_mut(vcpu.index()) {
            *state = VcpuPower::Off;
        }
        if self.on_count() > 0 {
            return None;
        }
        self.phase = Phase::Stopped(reason);
        Some(reason)
    }

    fn on_count(&self) -> usize {
        self.vcpus
            .iter()
            .filter(|state| **state != VcpuPower::Off)
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Start = Start {
        entry: GuestPhysAddr::from_usize(0x4000_0000),
        context: 7,
    };

    fn vcpu(n: u16) -> VcpuId {
        VcpuId::new(n)
    }

    fn booted() -> Power {
        let mut power = Power::new(3);
        power.boot(START);
        assert_eq!(power.take_start(vcpu(0)), Some(START));
        power
    }

    #[test]
    fn a_start_is_handed_out_once() {
        let mut power = booted();
        assert_eq!(power.take_start(vcpu(0)), None);
        assert_eq!(power.take_start(vcpu(1)), None);
        assert_eq!(power.take_start(vcpu(9)), None);
    }

    #[test]
    fn only_the_first_of_two_cpu_on_calls_succeeds() {
        let mut power = booted();
        assert_eq!(power.cpu_on(vcpu(1), START), Ok(()));
        assert_eq!(power.cpu_on(vcpu(1), START), Err(CpuOnError::AlreadyOn));
        assert_eq!(power.take_start(vcpu(1)), Some(START));
        assert_eq!(power.cpu_on(vcpu(1), START), Err(CpuOnError::AlreadyOn));
        power.cpu_off(vcpu(1));
        assert_eq!(power.is_on(vcpu(1)), Some(false));
        assert_eq!(power.cpu_on(vcpu(1), START), Ok(()));
        assert_eq!(power.cpu_on(vcpu(3), START), Err(CpuOnError::Unknown));
    }

    #[test]
    fn the_last_vcpu_to_park_completes_the_stop() {
        let mut power = booted();
        power.cpu_on(vcpu(2), START).expect("it was off");
        power.request_stop(StopReason::Reset);
        assert!(power.is_stopping());
        assert_eq!(power.cpu_on(vcpu(1), START), Err(CpuOnError::Stopping));
        assert_eq!(
            power.take_start(vcpu(2)),
            None,
            "a start lapses when the VM stops"
        );
        assert_eq!(power.park(vcpu(0)), None);
        assert_eq!(power.park(vcpu(2)), Some(StopReason::Reset));
        assert_eq!(power.park(vcpu(2)), None);
        power.boot(START);
        assert_eq!(power.is_on(vcpu(0)), Some(true));
        assert_eq!(power.is_on(vcpu(2)), Some(false));
    }

    #[test]
    fn a_fault_is_not_hidden_by_an_earlier_reset() {
        let mut power = booted();
        assert!(power.request_stop(StopReason::Reset));
        assert!(power.request_stop(StopReason::Fault));
        assert!(!power.request_stop(StopReason::Off), "it is too late");
        assert_eq!(power.park(vcpu(0)), Some(StopReason::Fault));
    }

    #[test]
    fn an_operator_turns_a_vm_off_that_resets_itself() {
        let mut power = booted();
        power.request_stop(StopReason::Reset);
        assert!(power.turn_off());
        assert!(!power.turn_off(), "it is about to be off");
        assert_eq!(power.park(vcpu(0)), Some(StopReason::Off));
        assert!(!power.turn_off());

        let mut power = booted();
        power.request_stop(StopReason::Reset);
        assert_eq!(power.park(vcpu(0)), Some(StopReason::Reset));
        assert!(power.turn_off());
        assert!(!power.turn_off());
        power.boot(START);
        assert!(power.is_stopping());
        assert_eq!(power.is_on(vcpu(0)), Some(false));
        assert_eq!(power.park(vcpu(0)), Some(StopReason::Off));
    }

    #[test]
    fn a_paused_vm_starts_nothing_and_can_be_stopped() {
        let mut power = booted();
        assert!(!power.resume());
        assert!(power.pause());
        assert!(!power.pause());
        // A vCPU that was on its way out.
        assert_eq!(power.cpu_on(vcpu(1), START), Ok(()));
        assert_eq!(power.take_start(vcpu(1)), None);
        assert!(power.resume());
        assert_eq!(power.take_start(vcpu(1)), Some(START));
        assert!(power.pause());
        power.request_stop(StopReason::Off);
        assert!(power.is_stopping());
        assert!(!power.resume(), "it is too late");
    }

    #[test]
    fn when_the_last_vcpu_goes_off_the_vm_is_off() {
        let mut power = booted();
        power.cpu_off(vcpu(0));
        assert!(power.is_stopping());
        assert_eq!(power.park(vcpu(0)), Some(StopReason::Off));
    }
}

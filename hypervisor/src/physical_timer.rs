//! The EL1 physical timer of a vCPU (CNTP_*_EL0), emulated.
//!
//! The machine's own EL1 physical timer is never given to a guest: accesses
//! trap (CNTHCTL_EL2.EL1PCEN = 0), and the deadline joins those that the
//! hypervisor's timer serves. Arm DDI 0487, "The AArch64 view of the Generic
//! Timer".

use arm_vcpu::SystemRegister;

const ENABLE: u64 = 1 << 0;
const IMASK: u64 = 1 << 1;
const ISTATUS: u64 = 1 << 2;

/// Control and compare value, as the guest programmed them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PhysicalTimer {
    control: u64,
    compare: u64,
}

impl PhysicalTimer {
    /// Reads a register of the timer at counter value `now`; `None` if `register`
    /// is not one of them.
    #[must_use]
    pub fn read(&self, register: SystemRegister, now: u64) -> Option<u64> {
        match register {
            SystemRegister::CNTP_CTL_EL0 => {
                let status = if self.control & ENABLE != 0 && self.expired(now) {
                    ISTATUS
                } else {
                    0
                };
                Some(self.control | status)
            }
            SystemRegister::CNTP_CVAL_EL0 => Some(self.compare),
            // The timer value is the signed 32-bit distance to the compare value.
            SystemRegister::CNTP_TVAL_EL0 => Some(self.compare.wrapping_sub(now) & 0xffff_ffff),
            _ => None,
        }
    }

    /// Writes a register of the timer; `false` if `register` is not one of them.
    pub fn write(&mut self, register: SystemRegister, value: u64, now: u64) -> bool {
        match register {
            SystemRegister::CNTP_CTL_EL0 => self.control = value & (ENABLE | IMASK),
            SystemRegister::CNTP_CVAL_EL0 => self.compare = value,
            SystemRegister::CNTP_TVAL_EL0 => {
                let distance = i64::from(((value & 0xffff_ffff) as u32).cast_signed());
                self.compare = now.wrapping_add_signed(distance);
            }
            _ => return false,
        }
        true
    }

    /// Tells whether the timer's interrupt output is asserted.
    #[must_use]
    pub fn is_asserted(&self, now: u64) -> bool {
        self.control & (ENABLE | IMASK) == ENABLE && self.expired(now)
    }

    /// Returns the counter value at which the output will become asserted.
    #[must_use]
    pub fn deadline(&self, now: u64) -> Option<u64> {
        (self.control & (ENABLE | IMASK) == ENABLE && !self.expired(now)).then_some(self.compare)
    }

    const fn expired(&self, now: u64) -> bool {
        now >= self.compare
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CTL: SystemRegister = SystemRegister::CNTP_CTL_EL0;
    const CVAL: SystemRegister = SystemRegister::CNTP_CVAL_EL0;
    const TVAL: SystemRegister = SystemRegister::CNTP_TVAL_EL0;

    #[test]
    fn it_asserts_at_the_compare_value_and_not_before() {
        let mut timer = PhysicalTimer::default();
        assert!(timer.write(TVAL, 100, 1000));
        assert!(timer.write(CTL, ENABLE, 1000));
        assert_eq!(timer.deadline(1000), Some(1100));
        assert!(!timer.is_asserted(1099));
        assert!(timer.is_asserted(1100));
        assert_eq!(timer.deadline(1100), None);
        assert_eq!(timer.read(CTL, 1099), Some(ENABLE));
        assert_eq!(timer.read(CTL, 1100), Some(ENABLE | ISTATUS));
        assert_eq!(
            timer.read(TVAL, 1101),
            Some(0xffff_ffff),
            "one past is minus one"
        );
    }

    #[test]
    fn a_masked_timer_shows_its_status_but_asserts_nothing() {
        let mut timer = PhysicalTimer::default();
        timer.write(CVAL, 5, 0);
        timer.write(CTL, ENABLE | IMASK | ISTATUS, 0);
        assert!(!timer.is_asserted(10));
        assert_eq!(timer.deadline(0), None);
        assert_eq!(
            timer.read(CTL, 0),
            Some(ENABLE | IMASK),
            "ISTATUS is read-only"
        );
        assert_eq!(timer.read(CTL, 10), Some(ENABLE | IMASK | ISTATUS));
    }

    #[test]
    fn a_negative_timer_value_lies_in_the_past() {
        let mut timer = PhysicalTimer::default();
        timer.write(CTL, ENABLE, 0);
        timer.write(TVAL, 0xffff_ffff, 50);
        assert_eq!(timer.read(CVAL, 0), Some(49));
        assert!(timer.is_asserted(50));
    }

    #[test]
    fn other_registers_are_not_its_business() {
        let mut timer = PhysicalTimer::default();
        assert_eq!(timer.read(SystemRegister::ICC_SGI1R_EL1, 0), None);
        assert!(!timer.write(SystemRegister::ICC_SGI1R_EL1, 0, 0));
    }
}

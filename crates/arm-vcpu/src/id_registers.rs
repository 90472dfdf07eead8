//! ID registers as a guest sees them.
//!
//! EL2 traps every read of them (HCR_EL2.TID3) and answers from a copy made
//! once, in which a field of the host's survives only if the policy names it:
//! what Arm adds tomorrow is hidden today.

use core::fmt;

use crate::sysreg::SystemRegister;

mod policy;

use policy::{POLICY, Rule};

/// op0 3, op1 0, CRn 0, CRm 1 to 7 and op2 0 to 7.
const REGISTER_COUNT: usize = 7 * 8;

/// Holds the values that a guest reads from its ID registers.
///
/// ```
/// use arm_vcpu::{IdRegisters, SystemRegister};
///
/// // A host with SVE, 16-bit ASIDs and 48-bit physical addresses.
/// let host = |register| match register {
///     SystemRegister::ID_AA64PFR0_EL1 => 0x0000_0001_0100_1111,
///     SystemRegister::ID_AA64MMFR0_EL1 => 0x25,
///     _ => 0,
/// };
/// let guest = IdRegisters::new(host, 40);
/// assert_eq!(
///     guest.read(SystemRegister::ID_AA64PFR0_EL1),
///     Some(0x0100_0011),
///     "no SVE, and no exception level above EL1"
/// );
/// assert_eq!(guest.read(SystemRegister::ID_AA64MMFR0_EL1), Some(0x22));
/// assert_eq!(guest.read(SystemRegister::CTR_EL0), None, "no ID register");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct IdRegisters {
    values: [u64; REGISTER_COUNT],
}

impl IdRegisters {
    /// Makes a guest's ID registers out of the host's, which `host` supplies,
    /// for a guest whose physical addresses have `ipa_bits` bits.
    ///
    /// The guest is told the greatest architected size that does not exceed
    /// `ipa_bits`, the host's own and 48 bits; the least there is has 32.
    #[must_use]
    pub fn new(host: impl Fn(SystemRegister) -> u64, ipa_bits: u32) -> Self {
        let mut values = [0; REGISTER_COUNT];
        let aarch32 = field(host(SystemRegister::ID_AA64PFR0_EL1), policy::EL0) == 2;
        for (register, rules) in POLICY {
            // Without AArch32 anywhere, its ID registers hold nothing defined.
            if !aarch32 && describes_aarch32(*register) {
                continue;
            }
            if let Some(value) = index(*register).and_then(|at| values.get_mut(at)) {
                *value = sanitise(host(*register), rules);
            }
        }
        let mut registers = Self { values };
        registers.cap_physical_address_size(ipa_bits);
        registers
    }

    /// Returns what the guest reads from `register`, or `None` unless that
    /// lies in the space of ID registers with CRm 1 to 7. What is unallocated
    /// there reads as zero.
    #[inline]
    #[must_use]
    pub fn read(&self, register: SystemRegister) -> Option<u64> {
        self.values.get(index(register)?).copied()
    }

    fn cap_physical_address_size(&mut self, ipa_bits: u32) {
        /// The sizes that ID_AA64MMFR0_EL1.PARange encodes from 0 on.
        const SIZES: [u32; 6] = [32, 36, 40, 42, 44, 48];
        let fitting = SIZES.iter().filter(|bits| **bits <= ipa_bits).count() as u64;
        let cap = fitting.saturating_sub(1);
        let at = index(SystemRegister::ID_AA64MMFR0_EL1);
        if let Some(value) = at.and_then(|at| self.values.get_mut(at)) {
            let range = field(*value, policy::PA_RANGE).min(cap);
            *value = *value & !(0xF << policy::PA_RANGE) | range << policy::PA_RANGE;
        }
    }
}

impl Default for IdRegisters {
    /// Returns the ID registers of a CPU with nothing optional: AArch64 alone,
    /// with floating point and Armv8.0's debug.
    fn default() -> Self {
        let bare = |register| match register {
            SystemRegister::ID_AA64PFR0_EL1 => 0x11,
            SystemRegister::ID_AA64DFR0_EL1 => 6,
            _ => 0,
        };
        Self::new(bare, 32)
    }
}

impl fmt::Debug for IdRegisters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(
                POLICY
                    .iter()
                    .map(|(register, _)| (register, self.read(*register).unwrap_or(0))),
            )
            .finish()
    }
}

/// Returns where the value of `register` lies in [`IdRegisters`].
#[inline]
const fn index(register: SystemRegister) -> Option<usize> {
    if register.is_id_register() && register.crm() >= 1 && register.crm() <= 7 {
        Some((register.crm() as usize - 1) * 8 + register.op2() as usize)
    } else {
        None
    }
}

const fn describes_aarch32(register: SystemRegister) -> bool {
    register.crm() < 4
}

const fn field(value: u64, shift: u32) -> u64 {
    value >> shift & 0xF
}

fn sanitise(host: u64, rules: &[Rule]) -> u64 {
    rules.iter().fold(0, |value, rule| {
        let (shift, field) = match *rule {
            Rule::AtMost(shift, limit) => (shift, field(host, shift).min(limit)),
            Rule::SignedAtMost(shift, limit) => {
                let host = field(host, shift);
                // 8 to 15 stand for -8 to -1 and are below every limit.
                (shift, if host >= 8 { host } else { host.min(limit) })
            }
            Rule::Is(shift, field) => (shift, field),
        };
        value | field << shift
    })
}

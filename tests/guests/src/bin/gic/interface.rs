//! What the sections know of a GIC, whatever its version: the registers of its CPU
//! interfaces, and where it describes interrupts.

use core::fmt::Debug;

use crate::partner::{self, Request};
use crate::place::Place;

/// The CPUs that take part.
pub(crate) const CPUS: usize = 2;
/// The most registers that [`Interface::VISIBLE`] names.
pub(crate) const MOST_VISIBLE: usize = 11;
/// What an acknowledge says if there is nothing.
pub(crate) const SPURIOUS: u64 = 1023;

/// Registers that describe interrupts.
#[derive(Debug)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) offset: u64,
    /// Words for each 32 interrupts.
    pub(crate) count: u64,
    /// The bits that are compared, of SGIs and PPIs and of SPIs.
    pub(crate) masks: [u32; 2],
}

impl Kind {
    /// Describes registers all of whose unmasked bits are compared.
    pub(crate) const fn new(name: &'static str, offset: u64, count: u64, mask: u32) -> Self {
        Self {
            name,
            offset,
            count,
            masks: [mask; 2],
        }
    }
}

/// A register of the CPU interface, and with it a version of the GIC.
pub(crate) trait Interface: Copy + Debug + PartialEq + 'static {
    /// The registers whose reading changes nothing.
    const VISIBLE: &'static [Self];
    /// The others.
    const OTHERS: &'static [Self];
    /// The registers that take and end interrupts of the group in which all are
    /// after [`crate::snapshot::start_over`], and the priority mask.
    const IAR: Self;
    const EOIR: Self;
    const DIR: Self;
    const PMR: Self;
    /// GICD_CTLR that forwards that group.
    const ENABLE: u32;
    /// GICD_IGROUPR that puts all into that group.
    const GROUP: u32;
    /// Each CPU sees registers of its own for SGIs and PPIs in the distributor;
    /// else they are in its redistributor.
    const IS_BANKED: bool;
    /// A timer's interrupt may be ended while its line is high; see `masks`.
    const ENDS_HIGH_TIMERS: bool;
    /// ICACTIVER and DIR are written for what another CPU has acknowledged; see `masks`.
    const CLEARS_FOR_OTHERS: bool;
    /// The registers that describe interrupts.
    const KINDS: &'static [Kind];
    /// Those of which each CPU has these and nothing for SPIs.
    const PRIVATE_KINDS: &'static [Kind];

    /// Reads the register of this CPU.
    fn read_here(self) -> u64;
    /// Writes the register of this CPU.
    fn write_here(self, value: u64);
    /// Returns the bits that are compared.
    fn mask(self) -> u64;
    /// Prepares this CPU's part of the GIC.
    fn init_cpu();
    /// Lets everything through the interface of `cpu`; nothing is active.
    fn open(cpu: usize);
    /// Sets EOImode of the interface of `cpu`.
    fn set_two_steps(cpu: usize, two_steps: bool);
    /// Sends SGI `intid` from this CPU to CPU 1, or to all others.
    fn send_sgi(intid: u32, to_others: bool);
    /// Gives an SPI to a CPU.
    fn route(intid: u32, cpu: usize);
    /// Adds to the transcript to whom SPIs go that do not go to CPU 0, unless a
    /// kind of register tells.
    fn print_routes();
    /// Tells whether registers of this kind are written for SGIs and PPIs; see
    /// `masks`.
    fn writes_private(array: u64) -> bool;

    /// Returns the register with this number.
    fn numbered(number: u64) -> Option<Self> {
        let mut all = Self::VISIBLE.iter().chain(Self::OTHERS);
        all.nth(usize::try_from(number).ok()?).copied()
    }

    /// Returns the register's number; those that are visible come first.
    fn number(self) -> usize {
        let mut all = Self::VISIBLE.iter().chain(Self::OTHERS);
        all.position(|register| *register == self)
            .unwrap_or(usize::MAX)
    }

    /// Reads the register of CPU `cpu`.
    fn read(self, cpu: usize) -> u64 {
        if cpu == 0 {
            self.read_here()
        } else {
            partner::ask(Request::Read(self.number()))
        }
    }

    /// Writes the register of CPU `cpu`.
    fn write(self, cpu: usize, value: u64) {
        if cpu == 0 {
            self.write_here(value);
        } else {
            partner::ask(Request::Write(self.number(), value));
        }
    }

    /// Clears what only this version has for a bank: SPIs are for CPU 0, no SGI has a
    /// sender, and those that may always be enabled are.
    fn clear(place: Place);
}

//! A conformance suite for virtual GICv3s: what Arm IHI 0069 says, as rules that
//! run.
//!
//! Whoever has a vGIC, not only ours, implements [`GicUnderTest`] for it and calls
//! [`run`], or single [`rules`]. The trait is the guest's side of a GIC and nothing
//! else: memory-mapped registers, ICC_* system registers, wires. Rules expect a GIC
//! with one security state (GICD_CTLR.DS = 1) and affinity routing, without LPIs.
//!
//! [`ReferenceGic`] is the plainest GIC that keeps all rules. [`compare`] drives it
//! and a GIC under test with the same random [`Step`]s and looks for the first thing
//! that a guest could tell apart. [`torment`] does what no guest should.
//! [`VgicMachine`] puts our own [`Vgic`](crate::Vgic) under test.
//!
//! ```
//! use arm_vgic_v3::conformance::{MachineConfig, ReferenceGic, VgicMachine, run};
//!
//! let report = run(&|shape| Box::new(ReferenceGic::new(shape)));
//! assert!(report.is_clean(), "{report}");
//! let machine = MachineConfig { lr_count: 2, ..MachineConfig::default() };
//! let report = run(&|shape| Box::new(VgicMachine::new(shape, machine)));
//! assert!(report.is_clean(), "{report}");
//! ```
#![doc = include_str!("../RULES.md")]

mod board;
mod compare;
pub mod fuzz;
mod hostile;
mod machine;
mod reference;
mod rules;
mod step;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use vm_contract::{AccessError, Width};

use crate::Frame;

pub use compare::{Limits, compare, shape};
pub use hostile::torment;
pub use machine::{MachineConfig, VgicMachine};
pub use reference::ReferenceGic;
pub use rules::rules;
pub use step::Step;

/// What ICC_IAR*_EL1 and ICC_HPPIR*_EL1 read when there is no interrupt of their
/// group to take.
pub const SPURIOUS: u32 = 1023;

/// A system register of a vCPU's CPU interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IccRegister {
    /// ICC_IAR0_EL1: a read acknowledges in Group 0.
    Iar0,
    /// ICC_IAR1_EL1: a read acknowledges in Group 1.
    Iar1,
    /// ICC_HPPIR0_EL1.
    Hppir0,
    /// ICC_HPPIR1_EL1.
    Hppir1,
    /// ICC_EOIR0_EL1: a write ends an interrupt of Group 0.
    Eoir0,
    /// ICC_EOIR1_EL1: a write ends an interrupt of Group 1.
    Eoir1,
    /// ICC_DIR_EL1: a write deactivates.
    Dir,
    /// ICC_RPR_EL1: the running priority.
    Rpr,
    /// ICC_PMR_EL1: the priority mask.
    Pmr,
    /// ICC_BPR0_EL1: the binary point of Group 0.
    Bpr0,
    /// ICC_BPR1_EL1: the binary point of Group 1.
    Bpr1,
    /// ICC_CTLR_EL1; of its fields rules write CBPR (bit 0) and EOImode (bit 1).
    Ctlr,
    /// ICC_IGRPEN0_EL1.
    Igrpen0,
    /// ICC_IGRPEN1_EL1.
    Igrpen1,
    /// ICC_SGI0R_EL1.
    Sgi0r,
    /// ICC_SGI1R_EL1.
    Sgi1r,
    /// ICC_ASGI1R_EL1.
    Asgi1r,
}

impl IccRegister {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::Iar0,
        Self::Iar1,
        Self::Hppir0,
        Self::Hppir1,
        Self::Eoir0,
        Self::Eoir1,
        Self::Dir,
        Self::Rpr,
        Self::Pmr,
        Self::Bpr0,
        Self::Bpr1,
        Self::Ctlr,
        Self::Igrpen0,
        Self::Igrpen1,
        Self::Sgi0r,
        Self::Sgi1r,
        Self::Asgi1r,
    ];
}

/// The interrupt exceptions that a GIC signals to a vCPU: the I and F bits of its
/// ISR_EL1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signals {
    /// An IRQ: Group 1.
    pub irq: bool,
    /// An FIQ: Group 0.
    pub fiq: bool,
}

/// The machine that a rule asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape<'a> {
    /// The affinity of each vCPU as MPIDR_EL1 shows it. vCPUs are counted in this
    /// order, and so do their redistributors lie.
    pub affinities: &'a [u64],
    /// How many SPIs there are at least: from INTID 32 upwards.
    pub spi_count: u16,
}

/// A GIC as its guest and the devices around it meet it. Everything that happens
/// behind (list registers, kicks, traps) is served within each call.
///
/// It starts as it comes out of reset: redistributors asleep, interfaces closed.
pub trait GicUnderTest {
    /// Reads `width` bytes at `offset` of `frame`, as `vcpu` does.
    ///
    /// # Errors
    /// If the GIC answers with a fault.
    fn read(
        &mut self,
        vcpu: usize,
        frame: Frame,
        offset: u64,
        width: Width,
    ) -> Result<u64, AccessError>;

    /// Writes the lowest `width` bytes of `value` at `offset` of `frame`, as `vcpu`
    /// does.
    ///
    /// # Errors
    /// If the GIC answers with a fault.
    fn write(
        &mut self,
        vcpu: usize,
        frame: Frame,
        offset: u64,
        width: Width,
        value: u64,
    ) -> Result<(), AccessError>;

    /// Reads a system register of `vcpu`. Write-only ones read as zero.
    fn read_icc(&mut self, vcpu: usize, register: IccRegister) -> u64;

    /// Writes a system register of `vcpu`. Read-only ones ignore it.
    fn write_icc(&mut self, vcpu: usize, register: IccRegister, value: u64);

    /// Drives the wire of an SPI.
    fn set_spi(&mut self, intid: u32, asserted: bool);

    /// Drives the wire of a PPI of `vcpu`.
    fn set_ppi(&mut self, vcpu: usize, intid: u32, asserted: bool);

    /// Returns which interrupt exceptions are signalled to `vcpu`.
    fn signals(&mut self, vcpu: usize) -> Signals;

    /// Moves `vcpu` to another physical CPU. The guest must not notice.
    fn move_vcpu(&mut self, _vcpu: usize) {}

    /// Checks what must hold inside, whatever the guest does.
    ///
    /// # Errors
    /// What does not hold.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

/// Makes a GIC of the shape that a rule asks for.
pub type Factory<'a> = dyn Fn(&Shape<'_>) -> Box<dyn GicUnderTest> + 'a;

/// What a rule expected and did not see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    message: String,
}

impl Failure {
    /// Returns a failure that this message explains.
    #[must_use]
    pub fn new(message: String) -> Self {
        Self { message }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// One rule of the specification.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The rule as a sentence, unique among all.
    pub name: &'static str,
    /// The register or topic of Arm IHI 0069 that says so.
    pub clause: &'static str,
    /// Checks it.
    pub run: fn(&Factory<'_>) -> Result<Outcome, Failure>,
}

/// What became of a rule that was not broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was checked and kept.
    Kept,
    /// It is about something that this GIC says it does not have, or has and need
    /// not.
    DoesNotApply,
}

impl From<()> for Outcome {
    /// A rule that has nothing to add was kept.
    fn from((): ()) -> Self {
        Self::Kept
    }
}

/// What became of the rules.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How many were kept.
    pub kept: usize,
    /// How many do not apply to this GIC.
    pub skipped: usize,
    /// Those that were broken, and how.
    pub broken: Vec<(Rule, Failure)>,
}

impl Report {
    /// Tells whether no rule was broken.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.broken.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kept, skipped) = (self.kept, self.skipped);
        let broken = self.broken.len();
        writeln!(
            f,
            "{kept} rules kept, {broken} broken, {skipped} do not apply"
        )?;
        self.broken.iter().try_for_each(|(rule, failure)| {
            writeln!(f, "{} ({}): {failure}", rule.name, rule.clause)
        })
    }
}

/// Runs all rules, each on GICs of its own.
#[must_use]
pub fn run(make: &Factory<'_>) -> Report {
    let mut report = Report::default();
    for rule in rules() {
        match (rule.run)(make) {
            Ok(Outcome::Kept) => report.kept += 1,
            Ok(Outcome::DoesNotApply) => report.skipped += 1,
            Err(failure) => report.broken.push((rule, failure)),
        }
    }
    report
}

/// Returns the table of all rules, clause by clause, in Markdown.
#[must_use]
pub fn rule_table() -> String {
    let mut table = String::from("| Arm IHI 0069 | Rule |\n|---|---|\n");
    for rule in rules() {
        let clause = rule.clause.replace('<', r"\<");
        table.extend(["| ", &clause, " | `", rule.name, "` |\n"]);
    }
    table
}

//! What each CPU keeps for itself, found through TPIDR_EL1.

#![expect(unsafe_code, reason = "TPIDR_EL1 holds the pointer")]

use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use super::machine::MAX_CPUS;

/// One CPU's own state. The assembly knows the offsets of the fields.
#[repr(C)]
pub struct PerCpu {
    /// The stack pointer of the pending [`probe::call`](super::probe::call),
    /// or 0: then a synchronous exception is not expected.
    pub(super) recovery_sp: AtomicU64,
    pub(super) fault_esr: AtomicU64,
    pub(super) fault_far: AtomicU64,
    pub(super) fault_elr: AtomicU64,
    pub(super) fault_spsr: AtomicU64,
    index: AtomicUsize,
    /// What [`smp::start`](super::smp::start) wants this CPU to run.
    pub(super) job: AtomicUsize,
    /// Set when the job has returned, until somebody joins it.
    pub(super) finished: AtomicBool,
    /// The interrupt handler of this CPU, or 0.
    pub(super) irq_handler: AtomicUsize,
}

impl PerCpu {
    const fn new() -> Self {
        Self {
            recovery_sp: AtomicU64::new(0),
            fault_esr: AtomicU64::new(0),
            fault_far: AtomicU64::new(0),
            fault_elr: AtomicU64::new(0),
            fault_spsr: AtomicU64::new(0),
            index: AtomicUsize::new(0),
            job: AtomicUsize::new(0),
            finished: AtomicBool::new(false),
            irq_handler: AtomicUsize::new(0),
        }
    }
}

static PER_CPU: [PerCpu; MAX_CPUS] = [const { PerCpu::new() }; MAX_CPUS];

/// Makes element `index` this CPU's own.
pub(super) fn install(index: usize) {
    let Some(this) = PER_CPU.get(index) else {
        loop {
            core::hint::spin_loop();
        }
    };
    this.index.store(index, Ordering::Relaxed);
    this.recovery_sp.store(0, Ordering::Relaxed);
    // SAFETY: the register is for the kernel's own use, which is this.
    unsafe { asm!("msr tpidr_el1, {}", in(reg) core::ptr::from_ref(this), options(nostack)) };
}

/// Returns this CPU's state.
#[must_use]
pub fn this() -> &'static PerCpu {
    let pointer: *const PerCpu;
    // SAFETY: reads a register and nothing else. Not `nomem`-cached across
    // CPUs: code never moves from one CPU to another.
    unsafe {
        asm!("mrs {}, tpidr_el1", out(reg) pointer, options(nomem, nostack, preserves_flags))
    };
    // SAFETY: `install` put the address of an element of a static there before
    // any other code ran on this CPU, and nothing else writes the register.
    unsafe { &*pointer }
}

/// Returns the state of the CPU numbered `index`, if there is such a CPU.
#[must_use]
pub fn of(index: usize) -> Option<&'static PerCpu> {
    PER_CPU.get(index)
}

/// Returns this CPU's index: 0 for the boot CPU.
#[must_use]
pub fn index() -> usize {
    this().index.load(Ordering::Relaxed)
}

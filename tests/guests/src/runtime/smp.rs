//! Work on several CPUs at once.

#![expect(unsafe_code, reason = "a job travels as a number")]

use core::sync::atomic::Ordering;

use super::{machine, percpu, smccc, start, timer};
use crate::check;

/// AFFINITY_INFO: the CPU is on.
pub const ON: i64 = 0;
/// AFFINITY_INFO: the CPU is off.
pub const OFF: i64 = 1;

/// Starts CPU `index` with `job`; it turns itself off when `job` returns.
/// Returns the answer of CPU_ON.
pub fn try_start(index: usize, job: fn()) -> i64 {
    if let Some(target) = percpu::of(index) {
        target.job.store(job as usize, Ordering::Release);
    }
    super::cpu::dsb();
    let arguments = [
        machine::mpidr_of(index),
        start::secondary_entry(),
        index as u64,
    ];
    smccc::psci(smccc::CPU_ON, arguments)
}

/// Calls CPU_SUSPEND on this CPU. If that powers it down, it wakes up in `job`
/// and is turned off when `job` returns; else the answer is returned.
pub fn suspend(power_state: u64, job: fn()) -> i64 {
    let this = percpu::this();
    this.job.store(job as usize, Ordering::Release);
    super::cpu::dsb();
    let context = percpu::index() as u64;
    smccc::psci(
        smccc::CPU_SUSPEND,
        [power_state, start::secondary_entry(), context],
    )
}

/// Starts CPU `index` with `job`, which must succeed.
pub fn start(index: usize, job: fn()) {
    let answer = try_start(index, job);
    check!(
        answer == smccc::SUCCESS,
        "CPU_ON of CPU {index} answers {answer}"
    );
}

/// Waits until the job of CPU `index` has returned and the CPU is off.
pub fn join(index: usize) {
    let finished = timer::wait_until(|| {
        percpu::of(index).is_some_and(|target| target.finished.swap(false, Ordering::AcqRel))
    });
    check!(finished, "the job of CPU {index} does not return");
    let off = timer::wait_until(|| state(index) == OFF);
    check!(off, "CPU {index} stays in state {}", state(index));
}

/// Returns the state of a CPU as AFFINITY_INFO tells it.
#[must_use]
pub fn state(index: usize) -> i64 {
    smccc::psci(smccc::AFFINITY_INFO, [machine::mpidr_of(index), 0, 0])
}

/// Runs `job` on the first `count` CPUs at the same time, this one (which is
/// CPU 0) included, and waits until all have done.
pub fn run_on(count: usize, job: fn()) {
    for index in 1..count {
        start(index, job);
    }
    job();
    for index in 1..count {
        join(index);
    }
}

/// Does a secondary CPU's job and turns it off.
pub(super) fn secondary() -> ! {
    let job = percpu::this().job.load(Ordering::Acquire);
    // SAFETY: `try_start` stored a `fn()` before it started this CPU.
    let job: fn() = unsafe { core::mem::transmute(job) };
    job();
    percpu::this().finished.store(true, Ordering::Release);
    let answer = smccc::psci(smccc::CPU_OFF, [0; 3]);
    super::verdict::fail(format_args!("CPU_OFF returned {answer}"))
}

//! The few system calls of Linux that the storm needs.

#![expect(unsafe_code, reason = "system calls")]

use core::arch::asm;
use core::sync::atomic::AtomicU64;

const WRITE: usize = 64;
const READ: usize = 63;
const PIPE2: usize = 59;
const EXIT_GROUP: usize = 94;
const CLOCK_GETTIME: usize = 113;
const CLOCK_NANOSLEEP: usize = 115;
const SCHED_SETAFFINITY: usize = 122;
const CLONE: usize = 220;
const MMAP: usize = 222;
const WAIT4: usize = 260;

const SIGCHLD: usize = 17;
const CLOCK_MONOTONIC: usize = 1;
const TIMER_ABSTIME: usize = 1;
const PROT_READ_WRITE: usize = 3;
const MAP_SHARED_ANONYMOUS: usize = 0x21;
const PAGE: usize = 4096;

/// Nanoseconds in a second.
const NANOSECONDS: u64 = 1_000_000_000;

fn call(number: usize, arguments: [usize; 6]) -> isize {
    let [first, second, third, fourth, fifth, sixth] = arguments;
    let answer: isize;
    // SAFETY: the callers below pass memory of their own, as long as they say.
    unsafe {
        asm!("svc #0", in("x8") number, inlateout("x0") first => answer, in("x1") second,
            in("x2") third, in("x3") fourth, in("x4") fifth, in("x5") sixth, options(nostack));
    }
    answer
}

/// Ends the process.
pub(crate) fn exit(status: i32) -> ! {
    loop {
        call(EXIT_GROUP, [status.unsigned_abs() as usize, 0, 0, 0, 0, 0]);
    }
}

/// Writes to a file, and tells whether all was written.
pub(crate) fn write(file: u32, bytes: &[u8]) -> bool {
    let (address, length) = (bytes.as_ptr() as usize, bytes.len());
    call(WRITE, [file as usize, address, length, 0, 0, 0]) == length.cast_signed()
}

/// Reads one byte, and tells whether there was one.
pub(crate) fn read_byte(file: u32) -> bool {
    let mut byte = [0_u8];
    call(
        READ,
        [file as usize, byte.as_mut_ptr() as usize, 1, 0, 0, 0],
    ) == 1
}

/// Makes a pipe: one end to read from and one to write to.
pub(crate) fn pipe() -> Option<[u32; 2]> {
    let mut files = [0_u32; 2];
    let answer = call(PIPE2, [files.as_mut_ptr() as usize, 0, 0, 0, 0, 0]);
    (answer == 0).then_some(files)
}

/// Returns the time since the guest has started, in nanoseconds.
pub(crate) fn now() -> u64 {
    let mut time = [0_u64; 2];
    let address = time.as_mut_ptr() as usize;
    call(CLOCK_GETTIME, [CLOCK_MONOTONIC, address, 0, 0, 0, 0]);
    time[0] * NANOSECONDS + time[1]
}

/// Sleeps until that time.
pub(crate) fn sleep_until(time: u64) {
    let time = [time / NANOSECONDS, time % NANOSECONDS];
    let address = time.as_ptr() as usize;
    call(
        CLOCK_NANOSLEEP,
        [CLOCK_MONOTONIC, TIMER_ABSTIME, address, 0, 0, 0],
    );
}

/// Keeps this process to one CPU below 64, and tells whether it is there.
pub(crate) fn stay_on(cpu: usize) -> bool {
    let mask = 1_u64 << cpu;
    let address = (&raw const mask) as usize;
    call(SCHED_SETAFFINITY, [0, 8, address, 0, 0, 0]) == 0
}

/// Starts a process that does `work` and ends with what that returns.
pub(crate) fn start(work: impl FnOnce() -> i32) -> bool {
    match call(CLONE, [SIGCHLD, 0, 0, 0, 0, 0]) {
        0 => exit(work()),
        child => child > 0,
    }
}

/// Waits for the end of a child, and tells whether its status is 0; `None` if
/// there is no child.
pub(crate) fn wait() -> Option<bool> {
    let mut status = 0_i32;
    let any = usize::MAX;
    let address = (&raw mut status) as usize;
    let answer = call(WAIT4, [any, address, 0, 0, 0, 0]);
    (answer > 0).then_some(status == 0)
}

/// Returns numbers that this process and those that it starts share, all 0.
pub(crate) fn shared() -> Option<&'static [AtomicU64; 64]> {
    let nobody = usize::MAX;
    let address = call(
        MMAP,
        [0, PAGE, PROT_READ_WRITE, MAP_SHARED_ANONYMOUS, nobody, 0],
    );
    // SAFETY: a page of zeros that nothing unmaps, and that only atomics reach.
    (address > 0).then(|| unsafe { &*(address as *const [AtomicU64; 64]) })
}

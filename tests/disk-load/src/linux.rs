//! What is wanted of Linux, by its system calls for AArch64.

#![expect(unsafe_code, reason = "system calls are instructions")]

use core::arch::{asm, global_asm};
use core::fmt;

global_asm!(
    ".global _start",
    "_start:",
    "b {main}",
    main = sym crate::load::main,
);

/// What did not work, and the error that Linux gave.
pub(crate) struct Failure {
    pub(crate) what: &'static str,
    pub(crate) error: i64,
}

impl Failure {
    /// Makes one that is no fault of Linux.
    pub(crate) const fn of(what: &'static str) -> Self {
        Self { what, error: 0 }
    }
}

/// The numbers of the system calls.
mod call {
    pub(super) const IO_SETUP: u64 = 0;
    pub(super) const IO_SUBMIT: u64 = 2;
    pub(super) const IO_GETEVENTS: u64 = 4;
    pub(super) const IOCTL: u64 = 29;
    pub(super) const OPENAT: u64 = 56;
    pub(super) const READ: u64 = 63;
    pub(super) const WRITE: u64 = 64;
    pub(super) const EXIT: u64 = 93;
    pub(super) const CLOCK_GETTIME: u64 = 113;
    pub(super) const MMAP: u64 = 222;
}

const AT_FDCWD: i64 = -100;
const O_RDWR: u64 = 2;
const O_DIRECT: u64 = 0o200_000;
const BLKGETSIZE64: u64 = 0x8008_1272;
const CLOCK_MONOTONIC: u64 = 1;
const PROT_READ_WRITE: u64 = 3;
const MAP_PRIVATE_ANONYMOUS_POPULATE: u64 = 0x8022;

/// A request of Linux's asynchronous I/O: `struct iocb`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Request {
    slot: u64,
    key: u32,
    flags: u32,
    opcode: u16,
    priority: i16,
    file: u32,
    buffer: u64,
    bytes: u64,
    offset: u64,
    reserved: u64,
    more_flags: u32,
    event_file: u32,
}

/// The end of a request: `struct io_event`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Completion {
    pub(crate) slot: u64,
    request: u64,
    pub(crate) result: i64,
    second_result: i64,
}

impl Request {
    pub(crate) fn new(
        disk: u32,
        writes: bool,
        slot: u64,
        buffer: u64,
        bytes: u64,
        offset: u64,
    ) -> Self {
        Self {
            slot,
            // IOCB_CMD_PREAD or IOCB_CMD_PWRITE.
            opcode: writes.into(),
            file: disk,
            buffer,
            bytes,
            offset,
            ..Self::default()
        }
    }
}

/// Standard output.
pub(crate) struct Console;

impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let [address, bytes] = [text.as_ptr().addr() as u64, text.len() as u64];
        match system_call(call::WRITE, [1, address, bytes, 0, 0, 0]) {
            0.. => Ok(()),
            _ => Err(fmt::Error),
        }
    }
}

/// Ends the program.
pub(crate) fn exit(status: u64) -> ! {
    loop {
        system_call(call::EXIT, [status, 0, 0, 0, 0, 0]);
    }
}

/// Reads the words of the command line.
pub(crate) fn command_line(line: &mut [u8]) -> Result<&str, Failure> {
    let file = open_file(c"/proc/self/cmdline".to_bytes_with_nul(), 0)?;
    let arguments = [
        file.into(),
        line.as_mut_ptr().expose_provenance() as u64,
        line.len() as u64,
        0,
        0,
        0,
    ];
    let length = checked("to read the command line", call::READ, arguments)?;
    let bytes = usize::try_from(length).ok().and_then(|end| line.get(..end));
    bytes
        .and_then(|bytes| core::str::from_utf8(bytes).ok())
        .ok_or(Failure::of("the command line is no text"))
}

/// Opens a disk, past the page cache.
pub(crate) fn open(device: &str, writes: bool) -> Result<u32, Failure> {
    let mut path = [0; 64];
    // What ends it is there already.
    path.get_mut(..device.len())
        .filter(|_| device.len() < 64)
        .ok_or(Failure::of("the name of the disk is too long"))?
        .copy_from_slice(device.as_bytes());
    open_file(&path, O_DIRECT | if writes { O_RDWR } else { 0 })
}

fn open_file(path: &[u8], flags: u64) -> Result<u32, Failure> {
    let path = path.as_ptr().expose_provenance() as u64;
    let arguments = [AT_FDCWD.cast_unsigned(), path, flags, 0, 0, 0];
    let file = checked("to open a file", call::OPENAT, arguments)?;
    u32::try_from(file).map_err(|_| Failure::of("the file has no number"))
}

/// Returns the bytes of a disk.
pub(crate) fn size(disk: u32) -> Result<u64, Failure> {
    let mut bytes = 0_u64;
    let address = (&raw mut bytes).expose_provenance() as u64;
    let arguments = [disk.into(), BLKGETSIZE64, address, 0, 0, 0];
    checked("to ask for the disk's size", call::IOCTL, arguments)?;
    Ok(bytes)
}

/// Returns the address of fresh memory.
pub(crate) fn memory(bytes: usize) -> Result<u64, Failure> {
    let arguments = [
        0,
        bytes as u64,
        PROT_READ_WRITE,
        MAP_PRIVATE_ANONYMOUS_POPULATE,
        u64::MAX,
        0,
    ];
    checked("to have memory", call::MMAP, arguments)
}

/// Makes a queue for so many requests.
pub(crate) fn queue(depth: usize) -> Result<u64, Failure> {
    let mut queue = 0_u64;
    let address = (&raw mut queue).expose_provenance() as u64;
    let arguments = [depth as u64, address, 0, 0, 0, 0];
    checked("to make a queue", call::IO_SETUP, arguments)?;
    Ok(queue)
}

/// Starts requests, all of them or none.
pub(crate) fn submit(queue: u64, requests: &mut [Request]) -> Result<(), Failure> {
    let mut pointers = [0_u64; 64];
    for (pointer, request) in pointers.iter_mut().zip(requests.iter_mut()) {
        *pointer = (&raw mut *request).expose_provenance() as u64;
    }
    let mut sent = 0;
    // Linux may take fewer in one go.
    while let Some([first, ..]) = pointers.get(sent..requests.len()) {
        let address = (&raw const *first).expose_provenance() as u64;
        let count = (requests.len() - sent) as u64;
        let taken = checked(
            "to send requests",
            call::IO_SUBMIT,
            [queue, count, address, 0, 0, 0],
        )?;
        sent += usize::try_from(taken).unwrap_or(requests.len());
    }
    Ok(())
}

/// Waits until at least `least` requests are done, and returns how many are.
pub(crate) fn wait(queue: u64, least: usize, done: &mut [Completion]) -> Result<usize, Failure> {
    let address = done.as_mut_ptr().expose_provenance() as u64;
    let arguments = [queue, least as u64, done.len() as u64, address, 0, 0];
    let count = checked("to wait for requests", call::IO_GETEVENTS, arguments)?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// Returns the time since some moment.
pub(crate) fn now_ns() -> Result<u64, Failure> {
    let mut time = [0_u64; 2];
    let address = time.as_mut_ptr().expose_provenance() as u64;
    let arguments = [CLOCK_MONOTONIC, address, 0, 0, 0, 0];
    checked("to know the time", call::CLOCK_GETTIME, arguments)?;
    let [seconds, nanoseconds] = time;
    Ok(seconds * 1_000_000_000 + nanoseconds)
}

fn checked(what: &'static str, number: u64, arguments: [u64; 6]) -> Result<u64, Failure> {
    let result = system_call(number, arguments);
    u64::try_from(result).map_err(|_| Failure {
        what,
        error: result,
    })
}

/// Calls Linux. What is below zero is an error.
fn system_call(number: u64, arguments: [u64; 6]) -> i64 {
    let [mut x0, x1, x2, x3, x4, x5] = arguments;
    // SAFETY: the calls of this file write only where they are told to, which is
    // memory that their caller owns, or that was made for the disk's data.
    unsafe {
        asm!(
            "svc #0",
            in("x8") number,
            inlateout("x0") x0,
            in("x1") x1,
            in("x2") x2,
            in("x3") x3,
            in("x4") x4,
            in("x5") x5,
            options(nostack),
        );
    }
    x0.cast_signed()
}

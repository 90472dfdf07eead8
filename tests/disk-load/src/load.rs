//! The requests.

use core::fmt::Write;
use core::panic::PanicInfo;
use core::str::{FromStr, SplitTerminator};

use crate::linux::{self, Completion, Console, Failure, Request};

/// The most requests under way, and the most bytes of all of them.
const MAX_DEPTH: usize = 64;
const MAX_BYTES: usize = 16 << 20;

/// What is wanted of the disk.
struct Load<'a> {
    device: &'a str,
    writes: bool,
    is_random: bool,
    bytes: usize,
    depth: usize,
    count: u64,
}

/// Does what the command line says, and ends the program.
pub(crate) extern "C" fn main() -> ! {
    let result = run();
    let status = match &result {
        Ok(nanoseconds) => writeln!(Console, "disk-load: {nanoseconds} ns").map(|()| 0),
        Err(Failure { what, error }) => {
            writeln!(Console, "disk-load: FAILED: {what}, error {error}").map(|()| 1)
        }
    };
    linux::exit(status.unwrap_or(2))
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let _ = writeln!(Console, "disk-load: FAILED: {info}");
    linux::exit(3)
}

/// Returns how long it took, in nanoseconds.
fn run() -> Result<u64, Failure> {
    let mut line = [0; 256];
    let line = linux::command_line(&mut line)?;
    let load = Load::parse(line).ok_or(Failure::of("the arguments make no sense"))?;
    let disk = linux::open(load.device, load.writes)?;
    let places = linux::size(disk)? / load.bytes as u64;
    let buffer = linux::memory(MAX_BYTES)?;
    let queue = linux::queue(MAX_DEPTH)?;
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut sent = 0;
    let mut next = |slot: usize| {
        let place = if load.is_random {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % places
        } else {
            sent % places
        };
        sent += 1;
        Request::new(
            disk,
            load.writes,
            slot as u64,
            buffer + (slot * load.bytes) as u64,
            load.bytes as u64,
            place * load.bytes as u64,
        )
    };

    let start = linux::now_ns()?;
    let mut requests = [Request::default(); MAX_DEPTH];
    let mut done = [Completion::default(); MAX_DEPTH];
    let mut left = load.count;
    let mut under_way = 0;
    // The slots that are free, which are all at first.
    let mut free = load.depth.min(usize::try_from(left).unwrap_or(MAX_DEPTH));
    for (slot, completion) in done.iter_mut().enumerate() {
        completion.slot = slot as u64;
    }
    loop {
        let fresh = free.min(usize::try_from(left).unwrap_or(MAX_DEPTH));
        for (request, completion) in requests.iter_mut().zip(&done).take(fresh) {
            *request = next(usize::try_from(completion.slot).unwrap_or(0));
        }
        linux::submit(queue, requests.get_mut(..fresh).unwrap_or_default())?;
        left -= fresh as u64;
        under_way += fresh;
        if under_way == 0 {
            return Ok(linux::now_ns()? - start);
        }
        let enough = load.depth.div_ceil(2).min(under_way);
        free = linux::wait(queue, enough, &mut done)?;
        under_way -= free;
        for completion in done.iter().take(free) {
            if usize::try_from(completion.result) != Ok(load.bytes) {
                return Err(Failure {
                    what: "a request",
                    error: completion.result,
                });
            }
        }
    }
}

impl<'a> Load<'a> {
    /// Reads the words of the command line, each of which a NUL ends.
    fn parse(line: &'a str) -> Option<Self> {
        let mut words = line.split_terminator('\0').skip(1);
        let load = Self {
            device: words.next()?,
            writes: match words.next()? {
                "read" => false,
                "write" => true,
                _ => return None,
            },
            is_random: match words.next()? {
                "sequential" => false,
                "random" => true,
                _ => return None,
            },
            bytes: number(&mut words)?,
            depth: number(&mut words)?,
            count: number(&mut words)?,
        };
        let fits = (1..=MAX_DEPTH).contains(&load.depth)
            && (512..=MAX_BYTES / load.depth).contains(&load.bytes);
        fits.then_some(load)
    }
}

fn number<T: FromStr>(words: &mut core::iter::Skip<SplitTerminator<'_, char>>) -> Option<T> {
    words.next()?.parse().ok()
}

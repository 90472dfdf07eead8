//! The transcript: lines that are kept in memory while a section runs and go to
//! the console at its end, since the console's own interrupt is a subject of it.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use test_guests::{check, say};

/// The longest section in bytes.
const CAPACITY: usize = 0x10_0000;

static TEXT: [AtomicU8; CAPACITY] = [const { AtomicU8::new(0) }; CAPACITY];
static LENGTH: AtomicUsize = AtomicUsize::new(0);

/// Adds to the transcript's current line; CPU 0 alone writes it.
pub(crate) fn append(text: fmt::Arguments<'_>) {
    // `Tail` has no errors.
    let _ = Tail.write_fmt(text);
}

/// Adds to the current line of the transcript.
macro_rules! add {
    ($($text:tt)+) => { $crate::transcript::append(format_args!($($text)+)) };
}

/// Adds a line to the transcript.
macro_rules! line {
    ($($text:tt)+) => {{
        $crate::transcript::append(format_args!($($text)+));
        $crate::transcript::append(format_args!("\n"));
    }};
}

pub(crate) use {add, line};

struct Tail;

impl Write for Tail {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            let length = LENGTH.load(Ordering::Relaxed);
            let slot = TEXT.get(length);
            check!(slot.is_some(), "a section is too long");
            if let Some(slot) = slot {
                slot.store(byte, Ordering::Relaxed);
                LENGTH.store(length + 1, Ordering::Relaxed);
            }
        }
        Ok(())
    }
}

/// Prints what has been added, each line behind a mark that nothing else on the
/// console has.
pub(crate) fn print() {
    let end = LENGTH.swap(0, Ordering::Relaxed);
    let text = TEXT.get(..end).unwrap_or_default();
    for line in text.split(|byte| byte.load(Ordering::Relaxed) == b'\n') {
        if !line.is_empty() {
            say!("| {}", Line(line));
        }
    }
}

/// Runs sections and prints each when it has ended.
pub(crate) fn print_all(sections: &[fn()]) {
    for section in sections {
        section();
        print();
    }
}

struct Line<'a>(&'a [AtomicU8]);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|byte| f.write_char(byte.load(Ordering::Relaxed).into()))
    }
}

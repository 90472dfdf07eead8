//! Who plays with whom, and for how long.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU64, Ordering};

use crate::linux;

/// The most CPUs, a power of two.
const MAX_CPUS: usize = 8;
/// Nanoseconds from one tick to the next.
const TICK: u64 = 1_000_000;
/// Nanoseconds from one word on the console to the next.
const WORD: u64 = 200_000_000;
/// Words from one report of all numbers to the next: a minute.
const WORDS_PER_REPORT: u64 = 60_000_000_000 / WORD;
/// How often each pair hits the ball before the pairs change.
const STROKES: u64 = 50;

/// What the processes know of each other.
struct Shared {
    numbers: &'static [AtomicU64; 64],
}

impl Shared {
    fn number(&self, index: usize) -> &AtomicU64 {
        // Every index here is below 64.
        self.numbers.get(index).unwrap_or(&self.numbers[63])
    }

    fn ticks(&self, cpu: usize) -> &AtomicU64 {
        self.number(cpu)
    }

    fn strokes(&self, cpu: usize) -> &AtomicU64 {
        self.number(MAX_CPUS + cpu)
    }

    /// The last tournament, once it is known.
    fn last(&self) -> &AtomicU64 {
        self.number(2 * MAX_CPUS)
    }
}

/// The pipes from each CPU to each.
type Pipes = [[[u32; 2]; MAX_CPUS]; MAX_CPUS];

/// Storms for so many seconds on so many CPUs, a power of two. Returns the exit
/// status.
pub(crate) fn run(seconds: u64, cpus: usize) -> i32 {
    if !cpus.is_power_of_two() || cpus > MAX_CPUS {
        return 2;
    }
    let Some(numbers) = linux::shared() else {
        return 3;
    };
    let shared = Shared { numbers };
    let mut pipes: Pipes = [[[0; 2]; MAX_CPUS]; MAX_CPUS];
    for pipe in pipes
        .iter_mut()
        .take(cpus)
        .flat_map(|row| row.iter_mut().take(cpus))
    {
        match linux::pipe() {
            Some(files) => *pipe = files,
            None => return 4,
        }
    }
    let begin = linux::now();
    let end = begin + seconds * 1_000_000_000;
    for cpu in 0..cpus {
        let started = linux::start(|| tick(&shared, cpu, end))
            && linux::start(|| play(&shared, &pipes, cpu, cpus, end));
        if !started {
            return 5;
        }
    }
    if !linux::start(|| talk(&shared, cpus, begin, end)) {
        return 5;
    }
    let mut failures = 0;
    while let Some(ended_well) = linux::wait() {
        failures += i32::from(!ended_well);
    }
    report(&shared, cpus, format_args!("end"));
    let seconds = (linux::now() - begin) / 1_000_000_000;
    say(format_args!("storm: {seconds} s, {failures} failures\n"));
    failures
}

/// Waits for a timer again and again.
fn tick(shared: &Shared, cpu: usize, end: u64) -> i32 {
    if !linux::stay_on(cpu) {
        return 1;
    }
    let mut next = linux::now();
    while next < end {
        next = (next + TICK).max(linux::now());
        linux::sleep_until(next);
        shared.ticks(cpu).fetch_add(1, Ordering::Relaxed);
    }
    0
}

/// Plays with every other CPU in turn: in each round all CPUs are paired, by one
/// of the numbers that their indices can differ in. A tournament is one round of
/// each kind.
fn play(shared: &Shared, pipes: &Pipes, cpu: usize, cpus: usize, end: u64) -> i32 {
    if !linux::stay_on(cpu) {
        return 1;
    }
    let file = |from: usize, to: usize, end: usize| {
        let pipe = pipes.get(from).and_then(|row| row.get(to));
        pipe.and_then(|pipe| pipe.get(end)).copied().unwrap_or(0)
    };
    let mut tournament = 0;
    loop {
        tournament += 1;
        for difference in 1..cpus {
            let other = cpu ^ difference;
            let (ear, mouth) = (file(other, cpu, 0), file(cpu, other, 1));
            for _ in 0..STROKES {
                let stroke = || linux::write(mouth, b"o");
                let serves = cpu < other;
                let done = (!serves || stroke()) && linux::read_byte(ear) && (serves || stroke());
                if !done {
                    return 2;
                }
                shared.strokes(cpu).fetch_add(1, Ordering::Relaxed);
            }
        }
        // Nobody is more than one tournament ahead of CPU 0.
        let last = shared.last();
        if cpu == 0 && linux::now() >= end && last.load(Ordering::Acquire) == 0 {
            last.store(tournament + 2, Ordering::Release);
        }
        if last.load(Ordering::Acquire) == tournament {
            return 0;
        }
    }
}

/// Talks on the console, and tells all numbers once a minute.
fn talk(shared: &Shared, cpus: usize, begin: u64, end: u64) -> i32 {
    let (mut next, mut word) = (begin, 0);
    while next < end {
        next += WORD;
        linux::sleep_until(next);
        word += 1;
        say(format_args!("storm: word {word}\n"));
        if word % WORDS_PER_REPORT == 0 {
            report(
                shared,
                cpus,
                format_args!("minute {}", word / WORDS_PER_REPORT),
            );
        }
    }
    0
}

/// Tells the numbers of each CPU.
fn report(shared: &Shared, cpus: usize, when: fmt::Arguments<'_>) {
    for cpu in 0..cpus {
        let ticks = shared.ticks(cpu).load(Ordering::Relaxed);
        let strokes = shared.strokes(cpu).load(Ordering::Relaxed);
        say(format_args!(
            "storm: {when} cpu {cpu} ticks {ticks} strokes {strokes}\n"
        ));
    }
}

/// Prints at once what is at most 80 bytes long.
fn say(text: fmt::Arguments<'_>) {
    struct Buffer([u8; 80], usize);
    impl Write for Buffer {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            for byte in text.bytes() {
                *self.0.get_mut(self.1).ok_or(fmt::Error)? = byte;
                self.1 += 1;
            }
            Ok(())
        }
    }
    let mut buffer = Buffer([0; 80], 0);
    // What does not fit is left out.
    let _ = buffer.write_fmt(text);
    linux::write(1, buffer.0.get(..buffer.1).unwrap_or_default());
}

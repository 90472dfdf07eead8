//! The counters, and which of them an instruction has.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The length of an A64 instruction.
const INSTRUCTION_BYTES: usize = 4;

/// The program's image in the machine's memory.
#[derive(Debug)]
pub struct Image {
    start: u64,
    bytes: usize,
    /// Where QEMU keeps it.
    place: OnceLock<usize>,
}

impl Image {
    /// Describes an image of `bytes` that is entered at the virtual address
    /// `start`.
    pub const fn new(start: u64, bytes: usize) -> Self {
        Self {
            start,
            bytes,
            place: OnceLock::new(),
        }
    }

    /// Returns how many instructions the image may have.
    pub const fn len(&self) -> usize {
        self.bytes / INSTRUCTION_BYTES
    }

    /// Tells whether the image is too small for an instruction.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tells whether it is known where QEMU keeps it.
    pub fn is_found(&self) -> bool {
        self.place.get().is_some()
    }

    /// Returns which instruction of the image this is, by its virtual address
    /// and where QEMU keeps it; zero if QEMU does not keep it in memory. The
    /// first one at the image's start tells where the image is.
    pub fn index(&self, address: u64, place: usize) -> Option<usize> {
        if place == 0 {
            return None;
        }
        let start = if address == self.start {
            self.place.get_or_init(|| place)
        } else {
            self.place.get()?
        };
        let index = place.checked_sub(*start)? / INSTRUCTION_BYTES;
        (index < self.len()).then_some(index)
    }
}

/// All counters: three for each CPU, then one for each instruction of the image.
#[derive(Clone, Copy, Debug)]
pub struct Counters<'a> {
    cpus: &'a [[AtomicU64; PER_CPU]],
    image: &'a [AtomicU64],
}

/// How many counters a CPU has.
pub const PER_CPU: usize = 3;

/// What the counters of a CPU count: instructions that are not the program's,
/// and the program's.
const OTHERS: usize = 0;
const PROGRAM: usize = 1;
/// What the program's counter was when it first let others run.
const START: usize = 2;

impl<'a> Counters<'a> {
    /// Divides memory into the counters of `cpus` CPUs and those of the image.
    /// Returns nothing if there are not as many.
    pub fn new(memory: &'a [AtomicU64], cpus: usize) -> Option<Self> {
        let (cpus, image) = memory.split_at_checked(cpus.checked_mul(PER_CPU)?)?;
        let (cpus, _) = cpus.as_chunks();
        Some(Self { cpus, image })
    }

    /// Counts `count` instructions that are not the image's.
    pub fn count_others(&self, cpu: usize, count: u64) {
        self.add(cpu, OTHERS, count);
    }

    /// Counts one execution of the image's instruction with this index.
    pub fn count(&self, cpu: usize, index: usize) {
        self.add(cpu, PROGRAM, 1);
        if let Some(counter) = self.image.get(index) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Notes how far the program has come on each CPU.
    pub fn note_start(&self) {
        for cpu in self.cpus {
            let count = cpu[PROGRAM].load(Ordering::Relaxed);
            cpu[START].store(count, Ordering::Relaxed);
        }
    }

    fn add(&self, cpu: usize, counter: usize, count: u64) {
        if let Some(counter) = self.cpus.get(cpu).and_then(|cpu| cpu.get(counter)) {
            counter.fetch_add(count, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: usize = 0x7f00_0020_0000;

    #[test]
    fn the_first_instruction_at_the_start_tells_where_the_image_is() {
        let image = Image::new(0x4020_0000, 0x1000);
        assert_eq!(image.index(0x4000_0000, PLACE - 0x20_0000), None);
        assert_eq!(image.index(0x4020_0004, PLACE + 4), None);
        assert_eq!(image.index(0x4020_0000, PLACE), Some(0));
        assert_eq!(image.index(0x4020_0004, PLACE + 4), Some(1));
        assert_eq!(image.index(0x4020_0ffc, PLACE + 0xffc), Some(0x3ff));
        assert_eq!(image.index(0x4020_1000, PLACE + 0x1000), None);
    }

    #[test]
    fn a_guest_at_the_same_addresses_is_not_the_image() {
        let image = Image::new(0x4020_0000, 0x1000);
        image.index(0x4020_0000, PLACE);
        let guest = PLACE + 0x1000_0000;
        for offset in [0, 4, 0xffc] {
            assert_eq!(
                image.index(0x4020_0000 + offset as u64, guest + offset),
                None
            );
        }
        assert_eq!(image.index(0x4020_0000, PLACE - 4), None);
    }

    #[test]
    fn the_image_is_known_at_any_address() {
        let image = Image::new(0x4020_0000, 0x1000);
        image.index(0x4020_0000, PLACE);
        assert_eq!(image.index(0xffff_0000_0000_0010, PLACE + 0x10), Some(4));
    }

    #[test]
    fn what_qemu_does_not_keep_in_memory_is_not_the_image() {
        let image = Image::new(0, 0x1000);
        assert_eq!(image.index(0, 0), None);
        assert_eq!(image.index(0, PLACE), Some(0));
    }

    #[test]
    fn an_empty_image_has_no_instructions() {
        let image = Image::new(0, 0);
        assert!(image.is_empty());
        assert_eq!(image.index(0, PLACE), None);
        assert_eq!(image.index(4, PLACE + 4), None);
    }

    #[test]
    fn every_instruction_is_counted_where_it_belongs() {
        let memory: [AtomicU64; 9] = Default::default();
        let counters = Counters::new(&memory, 2).unwrap();
        counters.count_others(1, 7);
        counters.count(0, 0);
        counters.count(1, 2);
        counters.note_start();
        counters.count_others(1, 3);
        counters.count(1, 2);
        let counted = memory.each_ref().map(|c| c.load(Ordering::Relaxed));
        assert_eq!(counted, [0, 1, 1, 10, 2, 1, 1, 0, 2]);
    }

    #[test]
    fn what_has_no_counter_harms_none() {
        let memory: [AtomicU64; 3] = Default::default();
        assert!(Counters::new(&memory, 2).is_none());
        assert!(Counters::new(&memory, usize::MAX).is_none());
        let counters = Counters::new(&memory, 1).unwrap();
        counters.count_others(1, 1);
        counters.count(1, 1);
        counters.note_start();
        assert!(memory.iter().all(|c| c.load(Ordering::Relaxed) == 0));
    }
}

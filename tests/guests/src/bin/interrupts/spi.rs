//! Many SPIs at once: more than there are list registers.

use core::sync::atomic::{AtomicU32, Ordering};

use test_guests::runtime::{cpu, gic, machine, random::Random, smp, timer};
use test_guests::{check, check_eq, say};

use crate::counts;

/// How many are pended at once.
const MANY: u32 = 64;

/// Returns the first of the last [`MANY`] SPIs: no device uses those.
pub(crate) fn first_free() -> u32 {
    let end = gic::intid_count().min(1020);
    check!(end >= 80 + MANY, "only {end} interrupts");
    end - MANY
}

pub(crate) fn check_all() {
    for seed in 1..=5 {
        in_priority_order(seed);
    }
    by_exceptions();
    if machine::cpu_count() >= 2 {
        spread_over_cpus();
    }
    counts::clear();
}

/// Sixteen levels, the number that every GICv3 has.
fn priority(random: &mut Random) -> u8 {
    u8::try_from(random.below(16) << 4).unwrap_or(0)
}

fn in_priority_order(seed: u64) {
    let first = first_free();
    let mut random = Random::new(seed);
    let mut priorities = [0; MANY as usize];
    for (intid, slot) in (first..).zip(&mut priorities) {
        *slot = priority(&mut random);
        gic::set_priority(intid, *slot);
        gic::enable(intid);
    }
    for intid in first..first + MANY {
        gic::set_bit(gic::ISPENDR, intid);
    }
    let mut seen = 0_u64;
    let mut last = 0;
    for turn in 0..MANY {
        let intid = counts::poll();
        check!(
            (first..first + MANY).contains(&intid),
            "INTID {intid} comes in turn {turn} of {MANY}"
        );
        let index = intid - first;
        check!(seen & 1 << index == 0, "INTID {intid} comes twice");
        seen |= 1 << index;
        let current = priorities.get(index as usize).copied().unwrap_or(0);
        check!(
            current >= last,
            "turn {turn}: INTID {intid} of priority {current:#x} comes after {last:#x}"
        );
        last = current;
        gic::end(intid);
    }
    counts::expect_silence("all were taken");
    check_eq!(seen, u64::MAX, "interrupts that came");
}

fn by_exceptions() {
    let first = first_free();
    counts::clear();
    for round in 1..=20 {
        for intid in first..first + MANY {
            gic::set_bit(gic::ISPENDR, intid);
        }
        cpu::with_irqs(|| {
            for intid in first..first + MANY {
                counts::expect(0, intid, round);
            }
        });
    }
    say!("{MANY} SPIs at once");
}

/// All CPUs pend and take at once; each SPI goes to one of them.
fn spread_over_cpus() {
    static READY: AtomicU32 = AtomicU32::new(0);
    static STOP: AtomicU32 = AtomicU32::new(0);
    fn take() {
        counts::init_cpu();
        READY.fetch_add(1, Ordering::AcqRel);
        cpu::with_irqs(|| {
            check!(
                timer::wait_until(|| STOP.load(Ordering::Acquire) != 0),
                "no end"
            );
        });
    }
    let first = first_free();
    let count = machine::cpu_count();
    let owner = |intid: u32| (intid - first) as usize % count;
    counts::clear();
    for intid in first..first + MANY {
        gic::route(intid, machine::mpidr_of(owner(intid)));
    }
    for index in 1..count {
        smp::start(index, take);
    }
    let ready = timer::wait_until(|| READY.load(Ordering::Acquire) as usize == count - 1);
    check!(ready, "not all CPUs are ready");
    cpu::with_irqs(|| {
        for round in 1..=20 {
            // A whole word at a time: 32 interrupts for all CPUs by one store.
            for word in [first, first + 32] {
                let (register, _) = gic::bit_register(gic::ISPENDR, word);
                test_guests::runtime::mmio::write32(register, u32::MAX);
            }
            for intid in first..first + MANY {
                counts::expect(owner(intid), intid, round);
            }
        }
    });
    STOP.store(1, Ordering::Release);
    for index in 1..count {
        smp::join(index);
    }
    for intid in first..first + MANY {
        for index in 0..count {
            let expected = if index == owner(intid) { 20 } else { 0 };
            check_eq!(
                counts::of(index, intid),
                expected,
                "INTID {intid} on CPU {index}"
            );
        }
        gic::disable(intid);
        gic::route(intid, machine::mpidr_of(0));
        gic::set_priority(intid, 0xA0);
    }
    say!("SPIs spread over {count} CPUs");
}

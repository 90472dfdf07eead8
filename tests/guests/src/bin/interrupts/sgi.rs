//! Software-generated interrupts.

use core::sync::atomic::{AtomicUsize, Ordering};

use test_guests::runtime::{cpu, gic, machine, percpu, smp, timer};
use test_guests::{check, check_eq, say, sysreg};

use crate::counts;

const ROUNDS: u32 = 200;
const BROADCAST: u32 = 15;

static ARRIVED: AtomicUsize = AtomicUsize::new(0);
static LEFT: AtomicUsize = AtomicUsize::new(0);

pub(crate) fn check_all() {
    all_to_all();
    masked_sgis_merge();
    if machine::cpu_count() >= 2 {
        routing();
    }
    counts::clear();
}

fn all_to_all() {
    ARRIVED.store(0, Ordering::Release);
    LEFT.store(0, Ordering::Release);
    smp::run_on(machine::cpu_count(), exchange);
    for target in 0..machine::cpu_count() {
        for source in 0..machine::cpu_count() {
            let count = counts::of(target, source_intid(source));
            check_eq!(count, ROUNDS, "SGIs from CPU {source} to CPU {target}");
        }
    }
    say!("SGIs all to all");
    counts::clear();
}

/// The INTID tells the source: equal SGIs from two sources may merge.
fn source_intid(source: usize) -> u32 {
    u32::try_from(source % 15).unwrap_or(0)
}

fn exchange() {
    counts::init_cpu();
    let me = percpu::index();
    let count = machine::cpu_count();
    // More CPUs than INTIDs: the surplus only receives.
    let sends = me < 15;
    ARRIVED.fetch_add(1, Ordering::AcqRel);
    let all = timer::wait_until(|| ARRIVED.load(Ordering::Acquire) == count);
    check!(all, "not all CPUs arrive");
    cpu::with_irqs(|| {
        if sends {
            for round in 1..=ROUNDS {
                for target in 0..count {
                    gic::send_sgi(gic::sgi_to(source_intid(me), machine::mpidr_of(target)));
                    counts::expect(target, source_intid(me), round);
                }
            }
        }
        // Stay to receive until everybody has sent.
        LEFT.fetch_add(1, Ordering::AcqRel);
        let all = timer::wait_until(|| LEFT.load(Ordering::Acquire) == count);
        check!(all, "not all CPUs finish their SGIs");
    });
}

fn masked_sgis_merge() {
    let myself = gic::sgi_to(3, cpu::mpidr());
    for _ in 0..10 {
        gic::send_sgi(myself);
    }
    check!(
        timer::wait_until(|| gic::bit(gic::ISPENDR, 3)),
        "SGI 3 is not pending"
    );
    cpu::with_irqs(|| counts::expect(0, 3, 1));
    timer::pause(500);
    check_eq!(counts::of(0, 3), 1, "SGI 3 sent ten times while pending");
    check!(!gic::bit(gic::ISPENDR, 3), "SGI 3 stays pending");

    // Disabled: stays pending, comes when enabled.
    gic::disable(4);
    gic::send_sgi(gic::sgi_to(4, cpu::mpidr()));
    counts::expect_silence("SGI 4 is disabled");
    check!(
        gic::bit(gic::ISPENDR, 4),
        "SGI 4 is not pending while disabled"
    );
    gic::enable(4);
    cpu::with_irqs(|| counts::expect(0, 4, 1));

    // GICR_ISPENDR0 sends, GICR_ICPENDR0 takes back.
    gic::set_bit(gic::ISPENDR, 5);
    cpu::with_irqs(|| counts::expect(0, 5, 1));
    gic::set_bit(gic::ISPENDR, 6);
    gic::set_bit(gic::ICPENDR, 6);
    counts::expect_silence("SGI 6 was taken back");
    counts::clear();
}

fn listen() {
    counts::init_cpu();
    ARRIVED.fetch_add(1, Ordering::AcqRel);
    cpu::with_irqs(|| {
        let released = timer::wait_until(|| LEFT.load(Ordering::Acquire) != 0);
        check!(released, "the listener is never released");
    });
}

fn routing() {
    let count = machine::cpu_count();
    ARRIVED.store(1, Ordering::Release);
    LEFT.store(0, Ordering::Release);
    for index in 1..count {
        smp::start(index, listen);
    }
    let all = timer::wait_until(|| ARRIVED.load(Ordering::Acquire) == count);
    check!(all, "not all listeners arrive");
    cpu::unmask_irqs();

    gic::send_sgi_to_others(BROADCAST);
    for index in 1..count {
        counts::expect(index, BROADCAST, 1);
    }

    // One write, several targets: all CPUs that share CPU 0's cluster.
    let first = machine::mpidr_of(0);
    let mut list = 0;
    for index in 0..count {
        let mpidr = machine::mpidr_of(index);
        if mpidr >> 8 == first >> 8 && mpidr & 0xFF < 16 {
            list |= 1 << (mpidr & 15);
        }
    }
    gic::send_sgi(gic::sgi_to(8, first & !0xFF) & !0xFFFF | list);
    for index in 0..count {
        let expected = u32::from(list >> (machine::mpidr_of(index) & 15) & 1 != 0);
        counts::expect(index, 8, expected);
    }

    // Affinities that nobody has, and lists that name nobody.
    for nobody in [0x00_0000_FF00, 0x00_00FF_0000, 0xFF_0000_0000] {
        gic::send_sgi(gic::sgi_to(9, nobody) | 0xFFFF);
    }
    gic::send_sgi(9 << 24);
    // Group 0 SGIs do not come from group 1's interrupts, nor from outside.
    sysreg!("icc_sgi0r_el1", gic::sgi_to(10, machine::mpidr_of(1)));
    timer::pause(1000);
    for index in 0..count {
        check_eq!(counts::of(index, 9), 0, "an SGI to nobody, on CPU {index}");
        check_eq!(counts::of(index, 10), 0, "a group 0 SGI, on CPU {index}");
        check_eq!(
            counts::of(index, BROADCAST),
            u32::from(index != 0),
            "broadcasts"
        );
    }
    cpu::mask_irqs();
    LEFT.store(1, Ordering::Release);
    for index in 1..count {
        smp::join(index);
    }
    say!("SGI routing");
}

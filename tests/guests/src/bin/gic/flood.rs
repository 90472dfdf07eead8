//! Many SPIs at once, far more than a CPU has list registers: each comes exactly
//! once, in the order of their priorities.

use test_guests::runtime::{gic, mmio, random::Random};
use test_guests::{check, check_eq};

use crate::interface::Icc;
use crate::snapshot;
use crate::taken;
use crate::transcript::{add, line};

/// How many there are, and the first one.
const MANY: usize = 64;
const FIRST: u32 = 160;

/// How they are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Acknowledged one after the other, with nothing in between.
    Polled,
    /// Acknowledged one after the other, while registers are read.
    Watched,
    /// By exceptions.
    Excepted,
    /// Acknowledged one after the other; deactivated when all have come.
    Dropped,
}

/// Takes them in every way, with other priorities each time.
pub(crate) fn run() {
    for (way, seed) in [
        (Way::Polled, 11),
        (Way::Polled, 12),
        (Way::Watched, 13),
        (Way::Excepted, 14),
        (Way::Excepted, 15),
        (Way::Dropped, 16),
    ] {
        line!("== {MANY} SPIs at once: {way:?}");
        take(way, seed);
    }
}

fn take(way: Way, seed: u64) {
    snapshot::start_over();
    let mut random = Random::new(seed);
    let mut priorities = [0; MANY];
    for (intid, priority) in (FIRST..).zip(&mut priorities) {
        // The lowest of 32 levels is masked for ever.
        *priority = u8::try_from(random.below(31) << 3).unwrap_or_default();
        gic::set_priority(intid, *priority);
        gic::enable(intid);
    }
    if way == Way::Dropped {
        Icc::Ctlr.write(0, 0b10);
    }
    for bank in (FIRST / 32..).take(MANY / 32) {
        mmio::write32(gic::GICD + 0xC00 + 8 * u64::from(bank), 0xAAAA_AAAA);
        mmio::write32(gic::GICD + 0xC04 + 8 * u64::from(bank), 0xAAAA_AAAA);
        mmio::write32(gic::GICD + gic::ISPENDR + 4 * u64::from(bank), u32::MAX);
    }
    taken::clear(0);
    mmio::write32(gic::GICD + gic::CTLR, 0b10);
    if way == Way::Excepted {
        taken::take(MANY as u64);
    } else {
        for _ in 0..MANY {
            poll(way);
        }
    }
    check_eq!(gic::acknowledge(), gic::SPURIOUS, "one more");
    tell(&priorities);
    if way == Way::Dropped {
        deactivate_all();
    }
}

fn poll(way: Way) {
    use test_guests::runtime::timer;
    let mut intid = gic::SPURIOUS;
    let came = timer::wait_until(|| {
        intid = gic::acknowledge();
        intid != gic::SPURIOUS
    });
    check!(came, "{} of {MANY} have come", taken::count(0));
    taken::note(intid);
    if way == Way::Watched {
        add!(" {}/{}", waiting(gic::ISPENDR), waiting(gic::ISACTIVER));
    }
    gic::end(intid);
}

/// Returns how many of the bits of those interrupts are set.
fn waiting(array: u64) -> u32 {
    let banks = (FIRST / 32..).take(MANY / 32);
    banks
        .map(|bank| mmio::read32(gic::GICD + array + 4 * u64::from(bank)).count_ones())
        .sum()
}

/// Checks the order and prints it: for each priority those that came with it, by
/// number, since their order is nobody's business.
fn tell(priorities: &[u8; MANY]) {
    let mut seen = 0_u64;
    let mut last = None;
    for intid in taken::all(0) {
        let index = index_of(intid);
        let priority = priorities.get(index).copied();
        check!(priority.is_some(), "INTID {intid} comes unasked");
        check!(
            priority >= last,
            "INTID {intid} comes after a less urgent one"
        );
        check!(seen >> index & 1 == 0, "INTID {intid} comes twice");
        seen |= 1 << index;
        last = priority;
    }
    check_eq!(seen, u64::MAX, "SPIs that came");
    line!("");
    let mut equal = 0_u64;
    let mut came = taken::all(0).map(index_of).peekable();
    while let Some(index) = came.next() {
        equal |= 1 << index;
        let priority = priorities.get(index);
        if came.peek().and_then(|next| priorities.get(*next)) != priority {
            add!("priority {:x}:", priority.copied().unwrap_or_default());
            let members = (FIRST..).zip(0..MANY).filter(|(_, n)| equal >> n & 1 != 0);
            members.for_each(|(intid, _)| add!(" {intid}"));
            line!("");
            equal = 0;
        }
    }
}

/// Returns which one of them `intid` is.
fn index_of(intid: u32) -> usize {
    intid.wrapping_sub(FIRST) as usize
}

/// Deactivates in an order that has nothing to do with that of the acknowledges.
fn deactivate_all() {
    for step in 0..MANY {
        let index = u32::try_from(step * 37 % MANY).unwrap_or_default();
        gic::deactivate(FIRST + index);
        add!(" {}", waiting(gic::ISACTIVER));
    }
    line!("");
}

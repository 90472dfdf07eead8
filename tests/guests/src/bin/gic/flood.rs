//! Many SPIs at once, far more than a CPU has list registers: each comes exactly
//! once, in the order of their priorities.

use test_guests::runtime::{gic, mmio, random::Random, timer};
use test_guests::{check, check_eq};

use crate::interface::{Interface, SPURIOUS};
use crate::place::{Place, set_priority, word};
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
pub(crate) fn run<I: Interface>() {
    for (way, seed) in [
        (Way::Polled, 11),
        (Way::Polled, 12),
        (Way::Watched, 13),
        (Way::Excepted, 14),
        (Way::Excepted, 15),
        (Way::Dropped, 16),
    ] {
        line!("== {MANY} SPIs at once: {way:?}");
        take::<I>(way, seed);
    }
}

fn take<I: Interface>(way: Way, seed: u64) {
    snapshot::start_over::<I>();
    let mut random = Random::new(seed);
    let mut priorities = [0; MANY];
    for (intid, priority) in (FIRST..).zip(&mut priorities) {
        // The lowest of 32 levels is masked for ever.
        *priority = u8::try_from(random.below(31) << 3).unwrap_or_default();
        set_priority::<I>(0, intid, *priority);
    }
    I::set_two_steps(0, way == Way::Dropped);
    for place in places() {
        let configuration = gic::ICFGR + 8 * u64::from(place.bank);
        place.store::<I>(configuration, 0xAAAA_AAAA);
        place.store::<I>(configuration + 4, 0xAAAA_AAAA);
        place.write_bits::<I>(gic::ISENABLER, u32::MAX);
        place.write_bits::<I>(gic::ISPENDR, u32::MAX);
    }
    taken::clear(0);
    mmio::write32(gic::GICD + gic::CTLR, I::ENABLE);
    if way == Way::Excepted {
        taken::take::<I>(MANY as u64);
    } else {
        for _ in 0..MANY {
            poll::<I>(way);
        }
    }
    check_eq!(I::IAR.read_here(), SPURIOUS, "one more");
    tell(&priorities);
    if way == Way::Dropped {
        deactivate_all::<I>();
    }
}

fn poll<I: Interface>(way: Way) {
    let mut intid = SPURIOUS;
    let came = timer::wait_until(|| {
        intid = I::IAR.read_here();
        intid != SPURIOUS
    });
    check!(came, "{} of {MANY} have come", taken::count(0));
    taken::note(word(intid));
    if way == Way::Watched {
        add!(
            " {}/{}",
            waiting::<I>(gic::ISPENDR),
            waiting::<I>(gic::ISACTIVER)
        );
    }
    I::EOIR.write_here(intid);
}

/// Returns how many of the bits of those interrupts are set.
fn waiting<I: Interface>(array: u64) -> u32 {
    places()
        .map(|place| place.bits::<I>(array).count_ones())
        .sum()
}

/// Lists the banks that describe them.
fn places() -> impl Iterator<Item = Place> {
    (FIRST..)
        .step_by(32)
        .take(MANY / 32)
        .map(|intid| Place::of(0, intid))
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
fn deactivate_all<I: Interface>() {
    for step in 0..MANY {
        let index = u32::try_from(step * 37 % MANY).unwrap_or_default();
        I::DIR.write_here(u64::from(FIRST + index));
        add!(" {}", waiting::<I>(gic::ISACTIVER));
    }
    line!("");
}

//! 64 SPIs at once through four list registers, as on a GICv3.

use test_guests::runtime::{mmio, random::Random, timer};
use test_guests::{check, check_eq};

use super::GICD;
use super::interface::Gicc;
use super::snapshot::{self, ICFGR, IPRIORITYR, ISENABLER, ISPENDR};
use crate::transcript::{add, line};

const MANY: usize = 64;
const FIRST: u32 = 160;
const SPURIOUS: u32 = 1023;

pub(crate) fn run() {
    for seed in [31, 32] {
        line!("== {MANY} SPIs at once, seed {seed}");
        take(seed);
    }
}

fn take(seed: u64) {
    snapshot::start_over();
    let mut random = Random::new(seed);
    let mut priorities = [0; MANY];
    for (intid, priority) in (FIRST..).zip(&mut priorities) {
        *priority = u8::try_from(random.below(31) << 3).unwrap_or_default();
        mmio::write8(GICD + IPRIORITYR + u64::from(intid), *priority);
    }
    for bank in (FIRST / 32..).take(MANY / 32).map(u64::from) {
        mmio::write32(GICD + ICFGR + 8 * bank, 0xAAAA_AAAA);
        mmio::write32(GICD + ICFGR + 8 * bank + 4, 0xAAAA_AAAA);
        mmio::write32(GICD + ISENABLER + 4 * bank, u32::MAX);
        mmio::write32(GICD + ISPENDR + 4 * bank, u32::MAX);
    }
    mmio::write32(GICD, 1);
    let (mut seen, mut last) = (0_u64, 0);
    for _ in 0..MANY {
        let mut intid = SPURIOUS;
        let came = timer::wait_until(|| {
            intid = Gicc::Iar.read(0);
            intid != SPURIOUS
        });
        check!(came, "{} of {MANY} have come", seen.count_ones());
        let index = intid.wrapping_sub(FIRST) as usize;
        let priority = priorities.get(index).copied();
        check!(priority.is_some(), "INTID {intid} comes unasked");
        let priority = priority.unwrap_or_default();
        check!(
            priority >= last,
            "INTID {intid} comes after a less urgent one"
        );
        check!(seen >> index & 1 == 0, "INTID {intid} comes twice");
        if priority != last || seen == 0 {
            add!(" {priority:x}");
        }
        (seen, last) = (seen | 1 << index, priority);
        Gicc::Eoir.write(0, intid);
    }
    check_eq!(seen, u64::MAX, "SPIs that came");
    check_eq!(Gicc::Iar.read(0), SPURIOUS, "one more");
    line!("");
}

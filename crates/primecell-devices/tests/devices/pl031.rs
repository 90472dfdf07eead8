//! The clock, register by register.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use primecell_devices::{Clock, Pl031};
use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
use vm_contract::{AccessError, BaseDeviceOps, DeviceKind, Width};

use crate::bench::Bench;

const DR: u64 = 0x000;
const MR: u64 = 0x004;
const LR: u64 = 0x008;
const CR: u64 = 0x00C;
const IMSC: u64 = 0x010;
const RIS: u64 = 0x014;
const MIS: u64 = 0x018;
const ICR: u64 = 0x01C;

/// 1 January 2026.
const START: u64 = 1_767_225_600;

/// A clock that the test sets, in milliseconds.
#[derive(Clone)]
struct TestClock(Arc<AtomicU64>);

impl Clock for TestClock {
    fn now(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}

struct Rtc {
    bench: Bench<Pl031<TestClock>>,
    clock: TestClock,
}

impl Rtc {
    fn new(seconds: u64) -> Self {
        let clock = TestClock(Arc::new((seconds * 1000).into()));
        Self {
            bench: Bench::new(Pl031::new(0x0901_0000.into(), clock.clone())),
            clock,
        }
    }

    fn pass_ms(&self, milliseconds: u64) {
        self.clock.0.fetch_add(milliseconds, Ordering::Relaxed);
    }

    fn poll(&self) -> bool {
        self.bench.device().poll(&self.bench.line);
        self.bench.raised()
    }

    fn deadline(&self) -> Option<Duration> {
        self.bench.device().deadline()
    }
}

#[test]
fn it_is_a_clock_with_the_identification_of_a_pl031() {
    let rtc = Rtc::new(START);
    assert_eq!(rtc.bench.device().kind(), DeviceKind::Rtc);
    assert_eq!(rtc.bench.device().address_range().size(), 0x1000);
    assert_eq!(
        rtc.bench.identification(),
        [0x31, 0x10, 0x14, 0x00, 0x0D, 0xF0, 0x05, 0xB1]
    );
}

#[test]
fn it_starts_with_the_hosts_time_and_counts_seconds() {
    let rtc = Rtc::new(START);
    assert_eq!(rtc.bench.read(CR), 1, "it runs");
    assert_eq!(rtc.bench.read(DR), START);
    rtc.pass_ms(999);
    assert_eq!(rtc.bench.read(DR), START);
    rtc.pass_ms(1);
    assert_eq!(rtc.bench.read(DR), START + 1);
    for offset in [DR, CR, RIS, MIS, 0x020, 0xFE0] {
        rtc.bench.write(offset, 0);
    }
    assert_eq!(rtc.bench.read(DR), START + 1, "nothing stops or sets it so");
}

#[test]
fn a_loaded_value_counts_on_and_survives_a_reset() {
    let rtc = Rtc::new(START);
    rtc.bench.write(LR, 1000);
    assert_eq!((rtc.bench.read(LR), rtc.bench.read(DR)), (1000, 1000));
    rtc.pass_ms(5000);
    assert_eq!(rtc.bench.read(DR), 1005);
    rtc.bench.device().reset();
    assert_eq!((rtc.bench.read(LR), rtc.bench.read(DR)), (0, 1005));
}

#[test]
fn the_counter_wraps_at_32_bits() {
    let rtc = Rtc::new(u64::from(u32::MAX));
    rtc.bench.write(MR, 1);
    rtc.bench.write(IMSC, 1);
    assert_eq!(rtc.deadline(), Some(Duration::from_secs((1 << 32) + 1)));
    rtc.pass_ms(1000);
    assert_eq!(rtc.bench.read(DR), 0);
    assert!(!rtc.poll());
    rtc.pass_ms(1000);
    assert!(rtc.poll());
}

#[test]
fn the_alarm_rings_at_its_second_and_is_cleared() {
    let rtc = Rtc::new(START);
    rtc.bench.write(MR, START + 3);
    assert_eq!(rtc.deadline(), None, "masked");
    rtc.bench.write(IMSC, 1);
    assert_eq!(rtc.deadline(), Some(Duration::from_secs(START + 3)));
    rtc.pass_ms(2999);
    assert!(!rtc.poll());
    assert_eq!(rtc.deadline(), Some(Duration::from_secs(START + 3)));
    rtc.pass_ms(1);
    assert!(rtc.poll());
    assert_eq!(rtc.deadline(), None, "it rings already");
    assert_eq!((rtc.bench.read(RIS), rtc.bench.read(MIS)), (1, 1));
    rtc.bench.write(ICR, 0);
    assert!(rtc.bench.raised());
    rtc.bench.write(ICR, 1);
    assert!(!rtc.bench.raised());
    assert_eq!((rtc.bench.read(RIS), rtc.bench.read(ICR)), (0, 0));
}

#[test]
fn a_masked_alarm_is_latched_but_silent() {
    let rtc = Rtc::new(START);
    rtc.bench.write(MR, START + 1);
    rtc.pass_ms(10_000);
    assert_eq!((rtc.bench.read(RIS), rtc.bench.read(MIS)), (1, 0));
    assert!(!rtc.bench.raised());
    rtc.bench.write(IMSC, 1);
    assert!(rtc.bench.raised());
    rtc.bench.write(IMSC, 0);
    assert!(!rtc.bench.raised());
}

#[test]
fn a_match_set_or_loaded_to_the_present_rings_at_once() {
    let rtc = Rtc::new(START);
    rtc.bench.write(IMSC, 1);
    rtc.bench.write(MR, START);
    assert!(rtc.bench.raised());
    rtc.bench.write(ICR, 1);
    assert!(!rtc.poll(), "once");
    assert_eq!(rtc.deadline(), Some(Duration::from_secs(START + (1 << 32))));
    rtc.bench.write(MR, 77);
    assert!(!rtc.bench.raised());
    rtc.bench.write(LR, 77);
    assert!(rtc.bench.raised());
}

#[test]
fn odd_accesses_are_refused() {
    let rtc = Rtc::new(START);
    assert_eq!(
        rtc.bench.try_read(DR, Width::Dword),
        Err(AccessError::InvalidWidth)
    );
    assert_eq!(
        rtc.bench.try_write(MR + 2, Width::Half, 0),
        Err(AccessError::InvalidWidth)
    );
    assert_eq!(rtc.bench.try_read(DR, Width::Byte), Ok(START & 0xFF));
}

proptest! {
    #[test]
    fn the_alarm_rings_exactly_at_its_deadline(
        start in 0u64..1 << 34,
        load: u32,
        alarm: u32,
        early in 1u64..5000,
    ) {
        let rtc = Rtc::new(start);
        rtc.bench.write(LR, load.into());
        rtc.bench.write(MR, alarm.into());
        rtc.bench.write(ICR, 1);
        rtc.bench.write(IMSC, 1);
        let deadline = rtc.deadline().unwrap();
        let wait = u64::try_from((deadline - rtc.clock.now()).as_millis()).unwrap();
        prop_assert!(wait >= 1000);
        rtc.pass_ms(wait - early.min(wait));
        prop_assert!(!rtc.poll());
        rtc.pass_ms(early.min(wait));
        prop_assert!(rtc.poll());
        prop_assert_eq!(rtc.bench.read(DR), u64::from(alarm));
    }

    #[test]
    fn no_access_panics(
        start: u32,
        steps in proptest::collection::vec((any::<bool>(), 0u64..0x1000, 0u32..4, any::<u64>()), 1..100),
    ) {
        let rtc = Rtc::new(start.into());
        for (write, offset, width, value) in steps {
            let width = Width::from_log2(width);
            // Most offsets are no register.
            let offset = if value & 1 == 0 { offset } else { offset % 0x20 };
            if write {
                let _ = rtc.bench.try_write(offset, width, value);
            } else if let Ok(read) = rtc.bench.try_read(offset, width) {
                prop_assert_eq!(width.truncate(read), read);
            }
            rtc.pass_ms(value >> 20);
            let level = rtc.poll();
            prop_assert_eq!(level, rtc.bench.read(MIS) == 1);
        }
    }
}

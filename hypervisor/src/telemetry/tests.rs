//! Events of a machine that runs, and rings.

use alloc::vec;

use smccc::psci::PSCI_SYSTEM_OFF;

use super::*;
use crate::testing::{FakeBoard, Rig, SLICE_MS};

const PSCI_VERSION: u32 = 0x8400_0000;

fn telemetry() -> Arc<Telemetry> {
    Arc::new(Telemetry::new(vec![("vm".into(), 1)], 2, 1000))
}

fn event(ticks: u64) -> Event {
    Event {
        ticks,
        what: What::Exit,
        reason: Reason::Sgi,
        owner: Owner::new(VmId::new(3), VcpuId::new(5)),
        arguments: [7, 9],
    }
}

#[test]
fn a_ring_keeps_the_last_events_and_tells_which_are_lost() {
    let telemetry = telemetry();
    assert!(telemetry.ring(PcpuId::new(0)).is_none(), "never traced");
    telemetry.set_tracing(true).expect("memory");
    let ring = telemetry.ring(PcpuId::new(1)).expect("two CPUs");
    assert!(telemetry.ring(PcpuId::new(2)).is_none());
    let capacity = ring.capacity();
    assert_eq!(capacity, 1 << 14);
    assert_eq!(ring.words(0), None);
    for ticks in 0..capacity + 10 {
        ring.push(&event(ticks));
    }
    assert_eq!(ring.head(), capacity + 10);
    // The oldest one may be overwritten while somebody reads it.
    assert_eq!(ring.words(10), None);
    assert_eq!(ring.words(11), Some(event(11).words()));
    assert_eq!(
        ring.words(capacity + 9).map(|words| words[0]),
        Some(capacity + 9)
    );
    assert_eq!(ring.words(capacity + 10), None);
    let kind = What::Exit as u64 | (Reason::Sgi as u64) << 8;
    assert_eq!(event(11).words(), [11, kind | 3 << 16 | 5 << 32, 7, 9]);
}

#[test]
fn rings_of_many_cpus_are_shorter() {
    assert_eq!(capacity(1), 1 << 14);
    assert_eq!(capacity(16), 1 << 12);
    assert_eq!(capacity(17), 1 << 11);
    assert_eq!(capacity(256), 1 << 8);
}

/// Returns what happened on a CPU, and in which order.
fn events(rig: &Rig, cpu: u16) -> Vec<(u8, u8, [u64; 2])> {
    let ring = rig.hypervisor.telemetry().ring(PcpuId::new(cpu));
    let ring = ring.expect("tracing was on");
    let words = (0..ring.head()).filter_map(|n| ring.words(n));
    words
        .map(|[_, kind, first, second]| {
            let [what, reason, ..] = kind.to_le_bytes();
            (what, reason, [first, second])
        })
        .collect()
}

#[test]
fn what_happens_while_tracing_is_on_is_recorded() {
    let mut rig = Rig::new(&[&[0]]);
    rig.settle();
    rig.script(0, 0).call(PSCI_VERSION, [0; 3]);
    rig.settle();
    let telemetry = Arc::clone(&rig.hypervisor);
    let telemetry = telemetry.telemetry();
    assert!(!telemetry.is_tracing());
    telemetry.set_tracing(true).expect("memory");
    let calls = |rig: &Rig| {
        let events = events(rig, 0);
        let is_call = |event: &&(u8, u8, _)| {
            (event.0, event.1) == (What::Exit as u8, Reason::Hypercall as u8)
        };
        events.iter().filter(is_call).count()
    };
    for _ in 0..2 {
        rig.script(0, 0).call(PSCI_VERSION, [0; 3]);
    }
    rig.settle();
    assert_eq!(calls(&rig), 2);
    telemetry.set_tracing(false).expect("nothing to allocate");
    rig.script(0, 0).call(PSCI_VERSION, [0; 3]);
    rig.settle();
    assert_eq!(calls(&rig), 2, "not traced");
    let (_, counters) = telemetry.of_vm(VmId::new(0)).next().expect("a vCPU");
    let calls = counters
        .histograms()
        .find(|(reason, _)| *reason == Reason::Hypercall);
    assert_eq!(calls.map(|(_, histogram)| histogram.count()), Some(4));
}

#[test]
fn an_interrupt_that_is_injected_is_recorded_after_the_turn_has_begun() {
    // WFI is trapped where others may want the CPU.
    let mut rig = Rig::new(&[&[0], &[0]]);
    rig.enable_interrupts(0);
    rig.hypervisor
        .telemetry()
        .set_tracing(true)
        .expect("memory");
    rig.script(0, 0)
        .look(|guest| guest.open_interrupts())
        .wait();
    rig.settle();
    let spi = vm_contract::IntId::spi(5).expect("an SPI");
    rig.vm(0)
        .with_vgic(None, |vgic| ((), vgic.set_pending(VcpuId::new(0), spi)));
    rig.script(0, 0).call(PSCI_VERSION, [0; 3]);
    // The other one's slice ends meanwhile.
    rig.run_for(3 * FakeBoard::FREQUENCY * SLICE_MS / 1000);
    let whats: Vec<_> = events(&rig, 0)
        .into_iter()
        .flat_map(|(what, reason, [first, _])| match what {
            1 if first >> 32 != 0 => vec![(1, reason.into()), (2, (first >> 32) - 1)],
            1 => vec![(what, reason.into())],
            _ => vec![(what, first)],
        })
        .collect();
    let wait = (What::Exit as u8, Reason::WaitForInterrupt as u64);
    let of_interest = [
        (What::Load as u8, 0),
        wait,
        (What::Unload as u8, 0),
        (What::Load as u8, 0),
        (What::Injection as u8, u64::from(spi.raw())),
        (What::Exit as u8, Reason::Hypercall as u64),
    ];
    let mut rest = whats.iter();
    for expected in of_interest {
        assert!(
            rest.any(|what| *what == expected),
            "{expected:?} in {whats:?}"
        );
    }
    for vm in 0..2 {
        rig.script(vm, 0).call(PSCI_SYSTEM_OFF, [0; 3]);
    }
    rig.run();
}

#[test]
fn the_header_leads_to_the_counters_and_rings() {
    let telemetry = telemetry();
    let header = telemetry.header();
    assert_eq!(header.magic.to_le_bytes(), *b"armatele");
    assert_eq!((header.vms.count, header.vcpus.count), (1, 1));
    assert_eq!(header.rings.load(Ordering::Relaxed), 0);
    telemetry.set_tracing(true).expect("memory");
    assert_ne!(header.rings.load(Ordering::Relaxed), 0);
    assert_eq!(header.ring_count.load(Ordering::Relaxed), 2);
    assert_eq!(size_of::<Header>(), 12 * 8);
}

//! Comes to life again and again: each life finds memory, devices, interrupt
//! controller and CPUs as the first one did, and leaves them in disorder.
//!
//! | Boot argument | When it is alive |
//! |---|---|
//! | none | ends in SYSTEM_OFF |
//! | `reboot` | calls SYSTEM_RESET at once |
//! | `wait` | waits until somebody restarts or stops it |
#![cfg_attr(target_os = "none", no_std, no_main)]
#![cfg_attr(
    target_os = "none",
    expect(unsafe_code, reason = "reads and writes memory that is nobody's")
)]

test_guests::guest!("phoenix", run);

#[cfg(target_os = "none")]
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

#[cfg(target_os = "none")]
use test_guests::runtime::{console, cpu, gic, machine, mmio, smccc, smp, timer};
#[cfg(target_os = "none")]
use test_guests::{check, check_eq, say, sysreg};

#[cfg(target_os = "none")]
const FRESH: u64 = 0x0123_4567_89AB_CDEF;

/// In `.data`: the loader brings it back.
#[cfg(target_os = "none")]
static LOADED: AtomicU64 = AtomicU64::new(FRESH);

/// How many places in memory are looked at, and how many words at each.
#[cfg(target_os = "none")]
const PLACES: u64 = 64;
#[cfg(target_os = "none")]
const WORDS: u64 = 8;

#[cfg(target_os = "none")]
const RTCMR: u64 = 0x0901_0004;
#[cfg(target_os = "none")]
const RTCIMSC: u64 = 0x0901_0010;

/// Registers of devices and what they hold after a reset: the UART's (Arm DDI
/// 0183), the clock's (DDI 0224), the distributor's and this redistributor's
/// (IHI 0069). And what a life leaves in them.
#[cfg(target_os = "none")]
const REGISTERS: [(&str, u64, u32, u32); 16] = [
    ("UARTIBRD", console::UARTIBRD, 0, 0x1234),
    ("UARTFBRD", console::UARTFBRD, 0, 0x2A),
    ("UARTIFLS", console::UARTIFLS, 0x12, 0x24),
    ("RTCMR", RTCMR, 0, 0xFFFF_0000),
    ("RTCIMSC", RTCIMSC, 0, 1),
    ("GICD_IGROUPR1", gic::GICD + gic::IGROUPR + 4, 0, u32::MAX),
    (
        "GICD_ISENABLER1",
        gic::GICD + gic::ISENABLER + 4,
        0,
        0xFFFF_FF00,
    ),
    (
        "GICD_ISPENDR1",
        gic::GICD + gic::ISPENDR + 4,
        0,
        0x0F0F_0000,
    ),
    (
        "GICD_ISACTIVER1",
        gic::GICD + gic::ISACTIVER + 4,
        0,
        0x00FF_0000,
    ),
    (
        "GICD_IPRIORITYR8",
        gic::GICD + gic::IPRIORITYR + 32,
        0,
        0x5058_6068,
    ),
    ("GICD_IROUTER40", gic::GICD + gic::IROUTER + 8 * 40, 0, 1),
    ("GICR_IGROUPR0", PRIVATE + gic::IGROUPR, 0, u32::MAX),
    ("GICR_ISENABLER0", PRIVATE + gic::ISENABLER, 0, u32::MAX),
    ("GICR_ISPENDR0", PRIVATE + gic::ISPENDR, 0, 0xAAAA),
    ("GICR_ISACTIVER0", PRIVATE + gic::ISACTIVER, 0, 0x5555),
    (
        "GICR_IPRIORITYR0",
        PRIVATE + gic::IPRIORITYR,
        0,
        0x7078_8088,
    ),
];

/// SGIs and PPIs of CPU 0.
#[cfg(target_os = "none")]
const PRIVATE: u64 = gic::GICR + gic::SGI_FRAME;

#[cfg(target_os = "none")]
fn run() {
    let secondary = machine::cpu_count() > 1;
    check_machine(secondary);
    say!("phoenix: alive");
    if secondary {
        start_secondary();
    }
    leave_disorder();
    // The UART's registers lie in the disorder, too, but it can still print.
    if machine::has_boot_word("reboot") {
        console::drain();
        let answer = smccc::psci(smccc::SYSTEM_RESET, [0; 3]);
        check!(false, "SYSTEM_RESET returned {answer}");
    }
    if machine::has_boot_word("wait") {
        say!("phoenix: waits");
        loop {
            cpu::wfi();
        }
    }
}

/// Checks that nothing tells of an earlier life.
#[cfg(target_os = "none")]
fn check_machine(secondary: bool) {
    check_eq!(LOADED.load(Ordering::Relaxed), FRESH, "a loaded variable");
    for place in places() {
        for word in 0..WORDS {
            // SAFETY: RAM that holds neither the image nor the device tree.
            let value = unsafe { ((place + 8 * word) as *const u64).read_volatile() };
            check_eq!(value, 0, "memory at {:#x}", place + 8 * word);
        }
    }
    check_eq!(
        console::at_entry(),
        [0, 0x300, 0],
        "UARTLCR_H, UARTCR and UARTIMSC at entry"
    );
    for (name, register, fresh, _) in REGISTERS {
        check_eq!(mmio::read32(register), fresh, "{name}");
    }
    let enabled = mmio::read32(gic::GICD + gic::CTLR) & 0b11;
    check_eq!(enabled, 0, "groups enabled in GICD_CTLR");
    for (name, value) in [
        ("CNTV_CTL_EL0", sysreg!("cntv_ctl_el0") & timer::ENABLE),
        ("CNTP_CTL_EL0", sysreg!("cntp_ctl_el0") & timer::ENABLE),
        ("CNTKCTL_EL1", sysreg!("cntkctl_el1")),
        ("ICC_IGRPEN1_EL1", sysreg!("icc_igrpen1_el1")),
        ("ICC_IGRPEN0_EL1", sysreg!("icc_igrpen0_el1")),
        ("ICC_AP1R0_EL1", sysreg!("icc_ap1r0_el1")),
        ("TPIDR_EL0", sysreg!("tpidr_el0")),
        ("TPIDRRO_EL0", sysreg!("tpidrro_el0")),
        ("CONTEXTIDR_EL1", sysreg!("contextidr_el1")),
    ] {
        check_eq!(value, 0, "{name}");
    }
    if secondary {
        check_eq!(smp::state(1), smp::OFF, "the state of CPU 1");
    }
}

/// Leaves CPU 1 running.
#[cfg(target_os = "none")]
fn start_secondary() {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    fn spin_and_sleep() {
        RUNS.store(1, Ordering::Release);
        gic::init_cpu();
        gic::enable(timer::VIRTUAL_INTID);
        loop {
            timer::pause(50);
            sysreg!("cntv_tval_el0", timer::ticks(200));
            sysreg!("cntv_ctl_el0", timer::ENABLE);
            cpu::wfi();
        }
    }
    smp::start(1, spin_and_sleep);
    let runs = timer::wait_until(|| RUNS.load(Ordering::Acquire) == 1);
    check!(runs, "CPU 1 does not start");
}

/// Changes everything that [`check_machine`] looks at.
#[cfg(target_os = "none")]
fn leave_disorder() {
    LOADED.store(!FRESH, Ordering::Relaxed);
    for place in places() {
        for word in 0..WORDS {
            // SAFETY: as in `check_machine`.
            unsafe { ((place + 8 * word) as *mut u64).write_volatile(!place) };
        }
    }
    for (_, register, _, disorder) in REGISTERS {
        mmio::write32(register, disorder);
    }
    mmio::write32(console::UARTIMSC, 0x7F0);
    mmio::write32(gic::GICD + gic::CTLR, 0b11);
    for value in [
        sysreg!("cntvct_el0") + timer::ticks(20),
        sysreg!("cntvct_el0"),
    ] {
        sysreg!("cntv_cval_el0", value);
        sysreg!("cntv_ctl_el0", timer::ENABLE);
    }
    sysreg!("cntp_tval_el0", 1);
    sysreg!("cntp_ctl_el0", timer::ENABLE);
    sysreg!("cntkctl_el1", 0x3FF);
    sysreg!("icc_pmr_el1", 0xFF);
    sysreg!("icc_igrpen0_el1", 1);
    sysreg!("icc_igrpen1_el1", 1);
    sysreg!("tpidr_el0", FRESH);
    sysreg!("tpidrro_el0", FRESH);
    sysreg!("contextidr_el1", 0x1234_5678);
}

/// Returns addresses all over RAM, but for the image and the device tree.
#[cfg(target_os = "none")]
fn places() -> impl Iterator<Item = u64> {
    let (start, end) = (machine::ram_start(), machine::ram_end());
    let (tree, tree_end) = machine::tree_range();
    let step = (end - start) / PLACES;
    let image_end = machine::image_end();
    (0..PLACES)
        // The last word of RAM is the last of the last place.
        .map(move |place| start + (place + 1) * step - 8 * WORDS)
        .filter(move |place| *place >= image_end)
        .filter(move |place| place + 8 * WORDS <= tree || *place >= tree_end)
}

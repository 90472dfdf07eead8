//! SGIs during a hold: to oneself, which stay pending, and to the next CPU.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use test_guests::runtime::machine::{self, MAX_CPUS};
use test_guests::runtime::random::Random;
use test_guests::runtime::{cpu, gic, percpu, timer};
use test_guests::{check, check_eq, sysreg};

/// SGIs that a CPU sends to itself, one bit for each.
const OWN: u32 = 0x7F00;
/// The SGI that is active through a hold.
const ACTIVE: u32 = 15;

/// Whether the SGI to the next CPU has not been taken there yet.
static UNDER_WAY: [AtomicBool; MAX_CPUS] = [const { AtomicBool::new(false) }; MAX_CPUS];
static SENT: [AtomicU32; MAX_CPUS] = [const { AtomicU32::new(0) }; MAX_CPUS];
static TAKEN: [AtomicU32; MAX_CPUS] = [const { AtomicU32::new(0) }; MAX_CPUS];

/// What is pending and active on this CPU during a hold.
pub(crate) struct Pending {
    own: u32,
    enabled: bool,
    active: bool,
}

/// Prepares this CPU: the timers have the highest priority.
pub(crate) fn init_cpu() {
    gic::init_cpu();
    for intid in [timer::VIRTUAL_INTID, timer::PHYSICAL_INTID] {
        gic::set_priority(intid, 0);
        gic::enable(intid);
    }
}

/// Waits until all CPUs have been prepared: that clears what was sent before.
pub(crate) fn wait_for_all() {
    static READY: AtomicUsize = AtomicUsize::new(0);
    READY.fetch_add(1, Ordering::AcqRel);
    let ready = timer::wait_until(|| READY.load(Ordering::Acquire) == machine::cpu_count());
    check!(ready, "not all CPUs are ready");
}

/// Makes some SGIs pending, and sometimes one active. They do not end a wait if
/// `waits`.
pub(crate) fn raise(random: &mut Random, waits: bool) -> Pending {
    let draw = random.draw();
    let [low, high, flags, ..] = draw.to_le_bytes();
    let own = u32::from(low & high) << 8 & OWN;
    let enabled = !waits && flags & 1 != 0;
    let active = flags & 6 == 6;
    let this = percpu::index();
    if active {
        gic::send_sgi(gic::sgi_to(ACTIVE, machine::mpidr_of(this)));
        let mut intid = gic::SPURIOUS;
        let came = timer::wait_until(|| {
            intid = acknowledge(|_| false);
            intid != gic::SPURIOUS
        });
        check!(came, "the SGI to CPU {this} itself does not come");
        check_eq!(intid, ACTIVE, "the SGI to CPU {this} itself");
        check!(
            sysreg!("icc_ap1r0_el1") != 0,
            "no priority is active on CPU {this} after an acknowledge"
        );
    }
    let array = if enabled {
        gic::ISENABLER
    } else {
        gic::ICENABLER
    };
    gic::write_private(array, OWN);
    if flags & 8 == 0 {
        gic::write_private(gic::ISPENDR, own);
    } else {
        for intid in (8..15).filter(|intid| own & 1 << intid != 0) {
            gic::send_sgi(gic::sgi_to(intid, machine::mpidr_of(this)));
        }
    }
    Pending {
        own,
        enabled,
        active,
    }
}

impl Pending {
    /// Checks that exactly what was raised is still pending, and takes it.
    pub(crate) fn check(self, what: core::fmt::Arguments<'_>) {
        let pending = gic::read_private(gic::ISPENDR);
        check_eq!(pending & OWN, self.own, "{what}: pending SGIs");
        if self.active {
            gic::end(ACTIVE);
        }
        check_eq!(sysreg!("icc_ap1r0_el1"), 0, "{what}: active priorities");
        let mut taken = 0;
        loop {
            let intid = acknowledge(|intid| OWN & 1 << intid != 0);
            if intid == gic::SPURIOUS {
                break;
            }
            taken |= 1 << intid;
            gic::end(intid);
        }
        if self.enabled {
            check_eq!(taken, self.own, "{what}: SGIs taken");
        } else {
            check_eq!(taken, 0, "{what}: SGIs taken though disabled");
            gic::write_private(gic::ICPENDR, OWN);
        }
        let left = gic::read_private(gic::ISPENDR) & OWN;
        check_eq!(left, 0, "{what}: SGIs pending at last");
        let active = gic::read_private(gic::ISACTIVER);
        check_eq!(active, 0, "{what}: active interrupts at last");
    }
}

/// Acknowledges the next interrupt that is this CPU's own affair; the others are
/// dealt with.
fn acknowledge(is_own: impl Fn(u32) -> bool) -> u32 {
    loop {
        let intid = gic::acknowledge();
        match intid {
            gic::SPURIOUS | ACTIVE => return intid,
            _ if intid < 32 && is_own(intid) => return intid,
            // A timer that is off by now.
            timer::VIRTUAL_INTID | timer::PHYSICAL_INTID => gic::end(intid),
            _ => {
                take_from_neighbour(intid);
                gic::end(intid);
            }
        }
    }
}

/// Tells whether this CPU may send its SGI: the one before has arrived.
pub(crate) fn may_send() -> bool {
    machine::cpu_count() > 1
        && UNDER_WAY
            .get(percpu::index())
            .is_some_and(|under_way| !under_way.load(Ordering::Acquire))
}

/// Returns what to write to ICC_SGI1R_EL1 for the next CPU, which counts as
/// sent.
pub(crate) fn to_neighbour() -> u64 {
    let this = percpu::index();
    if let (Some(under_way), Some(sent)) = (UNDER_WAY.get(this), SENT.get(this)) {
        under_way.store(true, Ordering::Release);
        sent.fetch_add(1, Ordering::Relaxed);
    }
    cpu::dsb();
    let next = (this + 1) % machine::cpu_count();
    gic::sgi_to(intid_of(this), machine::mpidr_of(next))
}

/// Which SGI a CPU sends.
fn intid_of(index: usize) -> u32 {
    u32::try_from(index % 8).unwrap_or(0)
}

fn take_from_neighbour(intid: u32) {
    let this = percpu::index();
    let cpus = machine::cpu_count();
    let before = (this + cpus - 1) % cpus;
    check_eq!(intid, intid_of(before), "an SGI on CPU {this}");
    if let (Some(under_way), Some(taken)) = (UNDER_WAY.get(before), TAKEN.get(before)) {
        check!(
            under_way.swap(false, Ordering::AcqRel),
            "an SGI from CPU {before} to CPU {this} that was not sent"
        );
        taken.fetch_add(1, Ordering::Relaxed);
    }
}

/// Takes what is sent to this CPU until all CPUs have come here and nothing is
/// under way any more.
pub(crate) fn settle() {
    static HERE: AtomicUsize = AtomicUsize::new(0);
    let cpus = machine::cpu_count();
    let take = || {
        let intid = acknowledge(|_| false);
        check_eq!(
            intid,
            gic::SPURIOUS,
            "an interrupt on CPU {} at last",
            percpu::index()
        );
    };
    HERE.fetch_add(1, Ordering::AcqRel);
    while HERE.load(Ordering::Acquire) < cpus {
        // The others may need this CPU's time.
        sysreg!("cntv_tval_el0", timer::ticks(1000));
        sysreg!("cntv_ctl_el0", timer::ENABLE);
        cpu::wfi();
        sysreg!("cntv_ctl_el0", 0);
        take();
    }
    let settled = timer::wait_until(|| {
        take();
        UNDER_WAY
            .iter()
            .all(|under_way| !under_way.load(Ordering::Acquire))
    });
    check!(settled, "an SGI from one CPU to the next is lost");
}

/// Checks that every SGI to a neighbour has been taken once.
pub(crate) fn check_sums(cpus: usize) {
    for (index, (sent, taken)) in SENT.iter().zip(&TAKEN).enumerate().take(cpus) {
        check_eq!(
            taken.load(Ordering::Acquire),
            sent.load(Ordering::Acquire),
            "SGIs taken of those that CPU {index} sent"
        );
    }
}

//! A round: patterns, a way to give up the CPU, and a look at what is left.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use test_guests::runtime::code::{self, encoding, msr};
use test_guests::runtime::machine::{self, MAX_CPUS};
use test_guests::runtime::random::Random;
use test_guests::runtime::{percpu, smccc, timer};
use test_guests::{check, check_eq, say, sysreg};

use crate::hold::{self, FRAMES};
use crate::interrupts;
use crate::registers::{self, Needs, Timer};

/// What each CPU does that is not told `rounds=N`.
const ROUNDS: u64 = 300;

/// The longest spin in microseconds: more than a slice.
const LONGEST_SPIN: u64 = 12_000;

const WFI: u32 = 0xD503_207F;
const WFE: u32 = 0xD503_205F;
const SEVL: u32 = 0xD503_20BF;
const ICC_SGI1R: u32 = encoding(3, 0, 12, 11, 5);

/// How a CPU is given up, or kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// A loop that counts a register down.
    Spin,
    /// The same, while an expired timer is pending.
    SpinWithTimerPending,
    /// WFI until the virtual timer.
    WaitForVirtualTimer,
    /// WFI until the physical timer.
    WaitForPhysicalTimer,
    /// CPU_SUSPEND until the virtual timer.
    Suspend,
    WaitForEvent,
    /// PSCI_VERSION.
    Call,
    /// An SGI to the next CPU.
    Send,
}

/// How often of 32 times each is chosen.
const MANNERS: [(Manner, u64); 8] = [
    (Manner::Spin, 1),
    (Manner::SpinWithTimerPending, 1),
    (Manner::WaitForVirtualTimer, 11),
    (Manner::WaitForPhysicalTimer, 5),
    (Manner::Suspend, 4),
    (Manner::WaitForEvent, 3),
    (Manner::Call, 3),
    (Manner::Send, 4),
];

impl Manner {
    fn choose(random: &mut Random) -> Self {
        let mut n = random.below(MANNERS.iter().map(|(_, often)| often).sum());
        for (manner, often) in MANNERS {
            if n < often {
                return manner;
            }
            n -= often;
        }
        Self::Spin
    }

    fn waits_for_timer(self) -> bool {
        matches!(
            self,
            Self::WaitForVirtualTimer | Self::WaitForPhysicalTimer | Self::Suspend
        )
    }

    fn needs(self, random: &mut Random) -> Needs {
        let in_a_while = timer::ticks(100 + random.below(400));
        let mut needs = Needs {
            virtual_timer: Timer::Idle,
            physical_timer: Timer::Idle,
            interrupts: self.waits_for_timer() || self == Self::SpinWithTimerPending,
            events: self == Self::WaitForEvent,
        };
        match self {
            Self::WaitForVirtualTimer | Self::Suspend => {
                needs.virtual_timer = Timer::Wakes(timer::now() + in_a_while);
            }
            Self::WaitForPhysicalTimer => {
                needs.physical_timer = Timer::Wakes(sysreg!("cntpct_el0") + in_a_while);
            }
            Self::SpinWithTimerPending => {
                needs.virtual_timer = Timer::Expired(timer::now().saturating_sub(in_a_while));
            }
            Self::Spin | Self::WaitForEvent | Self::Call | Self::Send => {}
        }
        needs
    }
}

/// What the assembly of a round executes, and what it makes of general registers.
struct Hold {
    instructions: [u32; 3],
    before: [Option<(usize, u64)>; 2],
    after: Option<(usize, u64)>,
}

impl Hold {
    fn new(manner: Manner, random: &mut Random) -> Self {
        let register = random.index(31);
        let n = u32::try_from(register).unwrap_or(0);
        let mut hold = Self {
            instructions: [code::NOP; 3],
            before: [None; 2],
            after: None,
        };
        match manner {
            Manner::Spin | Manner::SpinWithTimerPending => {
                let microseconds = 200 + random.below(LONGEST_SPIN);
                let loops = loops_per_millisecond() * microseconds / 1000;
                // sub x<n>, x<n>, #1; cbnz x<n>, .-4
                hold.instructions[..2]
                    .copy_from_slice(&[0xD100_0400 | n << 5 | n, 0xB5FF_FFE0 | n]);
                hold.before[0] = Some((register, loops.max(1)));
                hold.after = Some((register, 0));
            }
            Manner::WaitForVirtualTimer | Manner::WaitForPhysicalTimer => {
                hold.instructions[0] = WFI;
            }
            Manner::WaitForEvent => hold.instructions.copy_from_slice(&[SEVL, WFE, WFE]),
            Manner::Call => {
                hold.instructions[0] = smccc::conduit().instruction();
                hold.before[0] = Some((0, u64::from(smccc::PSCI_VERSION)));
                hold.after = Some((0, PSCI_VERSION.load(Ordering::Relaxed)));
            }
            Manner::Suspend => {
                hold.instructions[0] = smccc::conduit().instruction();
                hold.before = [
                    Some((0, u64::from(smccc::CPU_SUSPEND_32))),
                    // Standby.
                    Some((1, 0)),
                ];
                hold.after = Some((0, 0));
            }
            Manner::Send => {
                hold.instructions[0] = msr(ICC_SGI1R, n);
                hold.before[0] = Some((register, interrupts::to_neighbour()));
            }
        }
        hold
    }
}

static PSCI_VERSION: AtomicU64 = AtomicU64::new(0);
static LOOPS_PER_MILLISECOND: AtomicU64 = AtomicU64::new(0);

/// What a CPU has seen.
struct Progress {
    round: AtomicU32,
    /// Rounds during which another CPU of this VM came further.
    others_ran: AtomicU32,
    /// Spins that took much longer than they should.
    interrupted: AtomicU32,
    /// Waits that lasted until the timer expired.
    slept: AtomicU32,
}

static PROGRESS: [Progress; MAX_CPUS] = [const {
    Progress {
        round: AtomicU32::new(0),
        others_ran: AtomicU32::new(0),
        interrupted: AtomicU32::new(0),
        slept: AtomicU32::new(0),
    }
}; MAX_CPUS];

/// Returns what tells this VM's patterns from another's.
pub(crate) fn seed() -> u64 {
    machine::boot_number("seed").unwrap_or(0)
}

/// Does all rounds of this CPU.
pub(crate) fn all() {
    interrupts::init_cpu();
    let this = percpu::index();
    let seed = seed();
    let rounds = machine::boot_number("rounds").unwrap_or(ROUNDS);
    if this == 0 {
        let version = smccc::psci(smccc::PSCI_VERSION, [0; 3]);
        PSCI_VERSION.store(version.cast_unsigned(), Ordering::Relaxed);
    }
    calibrate();
    interrupts::wait_for_all();
    for round in 0..rounds {
        one(seed, this, round);
    }
    interrupts::settle();
}

/// Finds out how quickly a loop counts down, undisturbed.
fn calibrate() {
    const LOOPS: u64 = 50_000;
    let mut shortest = u64::MAX;
    for _ in 0..8 {
        let start = timer::now();
        let mut registers = [0; 30];
        registers[0] = LOOPS;
        let outcome = code::run(&[0xD100_0400, 0xB5FF_FFE0], &mut registers);
        check_eq!(outcome, Ok(()), "counting down");
        shortest = shortest.min(timer::now() - start);
    }
    let loops = LOOPS * timer::ticks(1000) / shortest.max(1);
    LOOPS_PER_MILLISECOND.fetch_max(loops, Ordering::Relaxed);
}

fn loops_per_millisecond() -> u64 {
    LOOPS_PER_MILLISECOND.load(Ordering::Relaxed)
}

/// Makes numbers that no other round of any CPU or VM has.
fn patterns(seed: u64, cpu: usize, round: u64) -> Random {
    let key = seed << 40 | (cpu as u64) << 32 | round;
    let mut random = Random::new((key + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    random.draw();
    random
}

fn one(seed: u64, this: usize, round: u64) {
    let mut random = patterns(seed, this, round);
    let mut manner = Manner::choose(&mut random);
    if manner == Manner::Send && !interrupts::may_send() {
        manner = Manner::Call;
    }
    let pending = interrupts::raise(&mut random, manner.waits_for_timer());
    let needs = manner.needs(&mut random);
    let hold = Hold::new(manner, &mut random);
    let frame = random.index(FRAMES);
    fill(&hold, &needs, frame, &mut random);

    let others = others_progress(this);
    let start = timer::now();
    hold::hold();
    let took = timer::now() - start;
    let came_further = others_progress(this) != others;

    let what = format_args!("seed {seed} CPU {this} round {round} {manner:?}");
    compare(&hold, &needs, frame, what);
    pending.check(what);
    note(this, &hold, &needs, manner, took, came_further);
}

/// Writes what this round gives to every register.
fn fill(hold: &Hold, needs: &Needs, frame: usize, random: &mut Random) {
    let (store, load) = registers::routines();
    let program = hold::write_program(&hold.instructions);
    hold::with_area(|area| {
        area.store_system = store;
        area.load_system = load;
        area.program = program;
        for value in &mut area.given.vectors {
            *value = random.draw();
        }
        registers::fill(&mut area.given.system, random, needs);
        area.given.sctlr = hold::sctlr(random.draw());
        area.given.nzcv = random.draw() & 0xF000_0000;
        area.given.sp_select = random.draw() >> 7 & 1;
        area.given.sp_other = random.draw();
        let Some(frame) = area.frames.get_mut(frame) else {
            return;
        };
        for value in &mut frame.given {
            *value = random.draw();
        }
        for (register, value) in hold.before.iter().flatten() {
            if let Some(given) = frame.given.get_mut(*register) {
                *given = *value;
            }
        }
        frame.found = [0; 31];
        area.given.sp_used = core::ptr::from_ref(frame) as u64;
        area.found = hold::State::ZERO;
    });
}

/// Checks that every register holds what it was given.
fn compare(hold: &Hold, needs: &Needs, frame: usize, what: core::fmt::Arguments<'_>) {
    hold::with_area(|area| {
        let [esr, far, elr, spsr] = area.fault;
        check!(
            area.faulted == 0,
            "{what}: an exception, ESR {esr:#x} FAR {far:#x} ELR {elr:#x} SPSR {spsr:#x}"
        );
        let (given, found) = (&area.given, &area.found);
        // Where the rest was stored depends on this one.
        check_eq!(found.sp_used, given.sp_used, "{what}: the SP in use");
        check_eq!(found.sp_select, given.sp_select, "{what}: SPSel");
        let Some(frame) = area.frames.get(frame) else {
            return;
        };
        let mut expected = frame.given;
        if let Some((register, value)) = hold.after
            && let Some(expected) = expected.get_mut(register)
        {
            *expected = value;
        }
        for (index, (found, expected)) in frame.found.iter().zip(expected).enumerate() {
            check_eq!(*found, expected, "{what}: X{index}");
        }
        check_eq!(found.nzcv, given.nzcv, "{what}: NZCV");
        check_eq!(found.sp_other, given.sp_other, "{what}: the other SP");
        for (index, (found, given)) in found.vectors.iter().zip(given.vectors).enumerate() {
            let half = if index % 2 == 0 { "lower" } else { "upper" };
            check_eq!(*found, given, "{what}: {half} half of V{}", index / 2);
        }
        registers::compare(&given.system, &found.system, needs, what);
        check_eq!(found.sctlr, given.sctlr, "{what}: SCTLR_EL1");
    });
}

/// Returns the rounds that this VM's other CPUs have done.
fn others_progress(this: usize) -> u32 {
    PROGRESS
        .iter()
        .enumerate()
        .filter(|(index, _)| *index != this)
        .map(|(_, progress)| progress.round.load(Ordering::Relaxed))
        .sum()
}

fn note(this: usize, hold: &Hold, needs: &Needs, manner: Manner, took: u64, came_further: bool) {
    let Some(progress) = PROGRESS.get(this) else {
        return;
    };
    let add = |counter: &AtomicU32, what: bool| {
        counter.fetch_add(u32::from(what), Ordering::Relaxed);
    };
    add(&progress.round, true);
    add(&progress.others_ran, came_further);
    if let (Manner::Spin | Manner::SpinWithTimerPending, Some((_, loops))) =
        (manner, hold.before[0])
    {
        let usual = loops * timer::ticks(1000) / loops_per_millisecond().max(1);
        add(
            &progress.interrupted,
            took > usual * 3 / 2 + timer::ticks(1000),
        );
    }
    let expired = match (needs.virtual_timer, needs.physical_timer) {
        (Timer::Wakes(deadline), _) => timer::now() >= deadline,
        (_, Timer::Wakes(deadline)) => sysreg!("cntpct_el0") >= deadline,
        _ => false,
    };
    add(&progress.slept, expired);
}

/// Says what a CPU has seen.
pub(crate) fn report(index: usize) {
    let Some(progress) = PROGRESS.get(index) else {
        return;
    };
    let count = |counter: &AtomicU32| counter.load(Ordering::Acquire);
    say!(
        "context: CPU {index}: {} rounds, others ran in {}, {} spins interrupted, {} full waits",
        count(&progress.round),
        count(&progress.others_ran),
        count(&progress.interrupted),
        count(&progress.slept),
    );
}

//! The system registers of the context, and what each may hold while nothing
//! depends on it: the MMU is off, interrupts are masked, EL0 does not run.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use test_guests::runtime::code::{self, ISB, encoding, mrs, msr};
use test_guests::runtime::random::Random;
use test_guests::runtime::timer;
use test_guests::{check, check_eq, sysreg};

use crate::hold;

/// What a register's value depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Bits by pattern, all of which are kept.
    Plain,
    /// Bits by pattern, as far as the CPU has them.
    AsFarAsThere,
    /// Not written.
    ReadOnly,
    /// One of the vector tables that serve during the hold.
    Vectors,
    VirtualDeadline,
    VirtualControl,
    PhysicalDeadline,
    PhysicalControl,
    /// ICC_PMR_EL1.
    PriorityMask,
    /// ICC_BPR0_EL1 or ICC_BPR1_EL1, from this value on.
    BinaryPoint(u64),
    /// ICC_IGRPEN1_EL1.
    Group1,
    /// CNTKCTL_EL1.
    EventStream,
    /// ICC_HPPIR1_EL1.
    HighestPending,
}

/// One system register.
pub(crate) struct Register {
    pub(crate) name: &'static str,
    encoding: u32,
    /// Which bits follow the pattern.
    free: u64,
    /// Which bits are always set.
    set: u64,
    role: Role,
}

const fn register(name: &'static str, encoding: u32, free: u64, role: Role) -> Register {
    Register {
        name,
        encoding,
        free,
        set: 0,
        role,
    }
}

const fn plain(name: &'static str, encoding: u32, free: u64) -> Register {
    register(name, encoding, free, Role::Plain)
}

const fn all_there_is(name: &'static str, encoding: u32, free: u64) -> Register {
    register(name, encoding, free, Role::AsFarAsThere)
}

const fn setting(register: Register, set: u64) -> Register {
    Register { set, ..register }
}

const ALL: u64 = u64::MAX;
const WORD: u64 = 0xFFFF_FFFF;
/// ASIDs of 8 bits, addresses of 40.
const TABLE_BASE: u64 = 0x00FF_00FF_FFFF_F000;
/// All of TCR_EL1 but the granules and the highest bit of the size, not all of
/// whose values are defined.
const CONTROL: u64 = 0x0000_0063_3FFF_3FBF;

pub(crate) const REGISTERS: [Register; 58] = [
    plain("TPIDR_EL0", encoding(3, 3, 13, 0, 2), ALL),
    plain("TPIDRRO_EL0", encoding(3, 3, 13, 0, 3), ALL),
    plain("TPIDR_EL1", encoding(3, 0, 13, 0, 4), ALL),
    plain("CONTEXTIDR_EL1", encoding(3, 0, 13, 0, 1), WORD),
    all_there_is("SCXTNUM_EL0", encoding(3, 3, 13, 0, 7), ALL),
    all_there_is("SCXTNUM_EL1", encoding(3, 0, 13, 0, 7), ALL),
    plain("FPCR", encoding(3, 3, 4, 4, 0), 0x07C0_0000),
    plain("FPSR", encoding(3, 3, 4, 4, 1), 0x0800_009F),
    plain("ELR_EL1", encoding(3, 0, 4, 0, 1), ALL),
    plain("SPSR_EL1", encoding(3, 0, 4, 0, 0), 0xF030_03C0),
    plain("ESR_EL1", encoding(3, 0, 5, 2, 0), WORD),
    plain("FAR_EL1", encoding(3, 0, 6, 0, 0), ALL),
    all_there_is("AFSR0_EL1", encoding(3, 0, 5, 1, 0), ALL),
    all_there_is("AFSR1_EL1", encoding(3, 0, 5, 1, 1), ALL),
    plain("PAR_EL1", encoding(3, 0, 7, 4, 0), 0xFF00_FFFF_FFFF_F000),
    plain("TTBR0_EL1", encoding(3, 0, 2, 0, 0), TABLE_BASE),
    plain("TTBR1_EL1", encoding(3, 0, 2, 0, 1), TABLE_BASE),
    plain("TCR_EL1", encoding(3, 0, 2, 0, 2), CONTROL),
    plain("MAIR_EL1", encoding(3, 0, 10, 2, 0), ALL),
    all_there_is("AMAIR_EL1", encoding(3, 0, 10, 3, 0), ALL),
    register("VBAR_EL1", encoding(3, 0, 12, 0, 0), 0, Role::Vectors),
    // FP and SIMD at EL0; never trapped at EL1.
    setting(
        plain("CPACR_EL1", encoding(3, 0, 1, 0, 2), 1 << 21),
        1 << 20,
    ),
    plain("CSSELR_EL1", encoding(3, 2, 0, 0, 0), 0b11),
    register(
        "CNTKCTL_EL1",
        encoding(3, 0, 14, 1, 0),
        0x3FF,
        Role::EventStream,
    ),
    // D and A; IRQs and FIQs stay masked.
    setting(plain("DAIF", encoding(3, 3, 4, 2, 1), 0x300), 0xC0),
    all_there_is("PAN", encoding(3, 0, 4, 2, 3), 1 << 22),
    all_there_is("UAO", encoding(3, 0, 4, 2, 4), 1 << 23),
    all_there_is("DIT", encoding(3, 3, 4, 2, 5), 1 << 24),
    all_there_is("SSBS", encoding(3, 3, 4, 2, 6), 1 << 12),
    // TDCC only: nothing that makes debug exceptions.
    plain("MDSCR_EL1", encoding(2, 0, 0, 2, 2), 1 << 12),
    plain(
        "DBGBVR0_EL1",
        encoding(2, 0, 0, 0, 4),
        0x0000_FFFF_FFFF_FFFC,
    ),
    // Breakpoint and watchpoint without their enable bits.
    setting(
        plain("DBGBCR0_EL1", encoding(2, 0, 0, 0, 5), 0x00F0_0000),
        0x1E0,
    ),
    plain(
        "DBGWVR0_EL1",
        encoding(2, 0, 0, 0, 6),
        0x0000_FFFF_FFFF_FFFC,
    ),
    plain("DBGWCR0_EL1", encoding(2, 0, 0, 0, 7), 0x1F00_1FF8),
    all_there_is("APIAKeyLo_EL1", encoding(3, 0, 2, 1, 0), ALL),
    all_there_is("APIAKeyHi_EL1", encoding(3, 0, 2, 1, 1), ALL),
    all_there_is("APIBKeyLo_EL1", encoding(3, 0, 2, 1, 2), ALL),
    all_there_is("APIBKeyHi_EL1", encoding(3, 0, 2, 1, 3), ALL),
    all_there_is("APDAKeyLo_EL1", encoding(3, 0, 2, 2, 0), ALL),
    all_there_is("APDAKeyHi_EL1", encoding(3, 0, 2, 2, 1), ALL),
    all_there_is("APDBKeyLo_EL1", encoding(3, 0, 2, 2, 2), ALL),
    all_there_is("APDBKeyHi_EL1", encoding(3, 0, 2, 2, 3), ALL),
    all_there_is("APGAKeyLo_EL1", encoding(3, 0, 2, 3, 0), ALL),
    all_there_is("APGAKeyHi_EL1", encoding(3, 0, 2, 3, 1), ALL),
    register(
        "CNTV_CVAL_EL0",
        encoding(3, 3, 14, 3, 2),
        ALL,
        Role::VirtualDeadline,
    ),
    register(
        "CNTV_CTL_EL0",
        encoding(3, 3, 14, 3, 1),
        0b11,
        Role::VirtualControl,
    ),
    register(
        "CNTP_CVAL_EL0",
        encoding(3, 3, 14, 2, 2),
        ALL,
        Role::PhysicalDeadline,
    ),
    register(
        "CNTP_CTL_EL0",
        encoding(3, 3, 14, 2, 1),
        0b11,
        Role::PhysicalControl,
    ),
    register(
        "ICC_PMR_EL1",
        encoding(3, 0, 4, 6, 0),
        0xF8,
        Role::PriorityMask,
    ),
    register(
        "ICC_BPR0_EL1",
        encoding(3, 0, 12, 8, 3),
        0b111,
        Role::BinaryPoint(2),
    ),
    register(
        "ICC_BPR1_EL1",
        encoding(3, 0, 12, 12, 3),
        0b111,
        Role::BinaryPoint(3),
    ),
    // EOImode: nothing is ended during a hold.
    plain("ICC_CTLR_EL1", encoding(3, 0, 12, 12, 4), 0b10),
    plain("ICC_IGRPEN0_EL1", encoding(3, 0, 12, 12, 6), 1),
    register(
        "ICC_IGRPEN1_EL1",
        encoding(3, 0, 12, 12, 7),
        1,
        Role::Group1,
    ),
    register("ICC_AP1R0_EL1", encoding(3, 0, 12, 9, 0), 0, Role::ReadOnly),
    register(
        "ICC_HPPIR1_EL1",
        encoding(3, 0, 12, 12, 2),
        0,
        Role::HighestPending,
    ),
    register("MPIDR_EL1", encoding(3, 0, 0, 0, 5), 0, Role::ReadOnly),
    register("MIDR_EL1", encoding(3, 0, 0, 0, 0), 0, Role::ReadOnly),
];

/// A timer during the hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// Off or masked, its deadline a pattern.
    Idle,
    /// On, with a deadline that the hold waits for.
    Wakes(u64),
    /// On, with a deadline in the past: its interrupt is pending.
    Expired(u64),
}

/// What the values of a round have to allow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Needs {
    pub(crate) virtual_timer: Timer,
    pub(crate) physical_timer: Timer,
    /// Interrupts reach the CPU interface.
    pub(crate) interrupts: bool,
    /// The event stream is on.
    pub(crate) events: bool,
}

/// Which bits of each register follow the pattern on this machine; 0 of one that
/// is not there.
static FREE: [AtomicU64; REGISTERS.len()] = [const { AtomicU64::new(0) }; REGISTERS.len()];

/// Whether each register is there.
static THERE: [AtomicU32; REGISTERS.len()] = [const { AtomicU32::new(0) }; REGISTERS.len()];

/// Finds out what the CPUs have and writes the two routines for
/// [`Area`](hold::Area): the one that stores and the one that loads all system
/// registers. Returns how many there are.
pub(crate) fn prepare() -> usize {
    for ((register, free), there) in REGISTERS.iter().zip(&FREE).zip(&THERE) {
        let kept = match register.role {
            Role::AsFarAsThere => kept(register),
            _ => Some(register.free),
        };
        free.store(kept.unwrap_or(0), Ordering::Relaxed);
        there.store(u32::from(kept.is_some()), Ordering::Relaxed);
    }
    write_routines();
    THERE
        .iter()
        .filter(|there| there.load(Ordering::Relaxed) != 0)
        .count()
}

/// Returns which bits a register keeps, or nothing if it is not there.
fn kept(register: &Register) -> Option<u64> {
    let write_and_read = [msr(register.encoding, 0), ISB, mrs(register.encoding, 0)];
    let mut registers = [0; 30];
    code::run(&write_and_read[2..], &mut registers).ok()?;
    let before = registers[0];
    let mut kept = register.free;
    for pattern in [ALL, 0, 0x5555_5555_5555_5555, 0xAAAA_AAAA_AAAA_AAAA] {
        let value = pattern & register.free;
        registers[0] = value;
        code::run(&write_and_read, &mut registers).ok()?;
        kept &= !(registers[0] ^ value);
    }
    registers[0] = before;
    check_eq!(
        code::run(&write_and_read, &mut registers),
        Ok(()),
        "writing {}",
        register.name
    );
    Some(kept)
}

const ROUTINE: usize = 2 * REGISTERS.len() + 2;

/// The routines: storing, then loading.
static ROUTINES: [[AtomicU32; ROUTINE]; 2] =
    [const { [const { AtomicU32::new(code::NOP) }; ROUTINE] }; 2];

fn write_routines() {
    let [store, load] = &ROUTINES;
    let (mut stores, mut loads) = (store.iter(), load.iter());
    let put = |words: &mut core::slice::Iter<'_, AtomicU32>, instruction| {
        let word = words.next();
        check!(word.is_some(), "a routine is too long");
        if let Some(word) = word {
            word.store(instruction, Ordering::Relaxed);
        }
    };
    for (index, (register, there)) in (0_u32..).zip(REGISTERS.iter().zip(&THERE)) {
        if there.load(Ordering::Relaxed) == 0 {
            continue;
        }
        // mrs x1, …; str x1, [x0, #8 * index]
        put(&mut stores, mrs(register.encoding, 1));
        put(&mut stores, 0xF900_0001 | index << 10);
        if !matches!(register.role, Role::ReadOnly | Role::HighestPending) {
            // ldr x1, [x0, #8 * index]; msr …, x1
            put(&mut loads, 0xF940_0001 | index << 10);
            put(&mut loads, msr(register.encoding, 1));
        }
    }
    put(&mut loads, ISB);
    for (routine, rest) in [(store, &mut stores), (load, &mut loads)] {
        put(rest, code::RET);
        code::synchronize(routine.as_ptr() as u64, 4 * ROUTINE as u64);
    }
}

/// Returns where the routines lie: storing, then loading.
pub(crate) fn routines() -> (u64, u64) {
    let [store, load] = &ROUTINES;
    (store.as_ptr() as u64, load.as_ptr() as u64)
}

/// Fills in what each register holds in this round.
pub(crate) fn fill(system: &mut [u64; REGISTERS.len()], random: &mut Random, needs: &Needs) {
    let timer = |timer: Timer, pattern: u64| match timer {
        Timer::Idle => pattern,
        Timer::Wakes(deadline) | Timer::Expired(deadline) => deadline,
    };
    let control = |timer: Timer, pattern: u64| match timer {
        // On only if it is masked, too.
        Timer::Idle if pattern & timer::IMASK == 0 => 0,
        Timer::Idle => pattern,
        Timer::Wakes(_) | Timer::Expired(_) => timer::ENABLE,
    };
    for ((register, value), free) in REGISTERS.iter().zip(system).zip(&FREE) {
        let free = free.load(Ordering::Relaxed);
        let pattern = random.draw() & free;
        *value = match register.role {
            Role::Plain | Role::AsFarAsThere => pattern | register.set,
            Role::ReadOnly => match register.name {
                "ICC_AP1R0_EL1" => sysreg!("icc_ap1r0_el1"),
                "MPIDR_EL1" => sysreg!("mpidr_el1"),
                _ => sysreg!("midr_el1"),
            },
            Role::Vectors => hold::vector_table(random.draw()),
            Role::VirtualDeadline => timer(needs.virtual_timer, pattern),
            Role::VirtualControl => control(needs.virtual_timer, pattern),
            Role::PhysicalDeadline => timer(needs.physical_timer, pattern),
            Role::PhysicalControl => control(needs.physical_timer, pattern),
            // The timers have priority 0.
            Role::PriorityMask if needs.interrupts => pattern.max(8),
            Role::PriorityMask => pattern,
            Role::BinaryPoint(least) => pattern.max(least),
            Role::Group1 if needs.interrupts => 1,
            Role::Group1 => pattern,
            Role::EventStream if needs.events => pattern | 1 << 2,
            Role::EventStream => pattern,
            Role::HighestPending => u64::from(timer::VIRTUAL_INTID),
        };
    }
}

/// Checks what the registers hold after the hold; `what` describes the round.
pub(crate) fn compare(
    given: &[u64; REGISTERS.len()],
    found: &[u64; REGISTERS.len()],
    needs: &Needs,
    what: core::fmt::Arguments<'_>,
) {
    let expired = |timer: Timer| match timer {
        Timer::Expired(_) => (timer::ISTATUS, 0b111),
        Timer::Idle | Timer::Wakes(_) => (0, 0b11),
    };
    for ((register, there), (given, found)) in
        REGISTERS.iter().zip(&THERE).zip(given.iter().zip(found))
    {
        if there.load(Ordering::Relaxed) == 0 {
            continue;
        }
        let (more, mask) = match register.role {
            Role::VirtualControl => expired(needs.virtual_timer),
            Role::PhysicalControl => expired(needs.physical_timer),
            Role::HighestPending if !matches!(needs.virtual_timer, Timer::Expired(_)) => (0, 0),
            // CBPR and EOImode; the rest is what the CPU interface can do.
            Role::Plain if register.name == "ICC_CTLR_EL1" => (0, 0b11),
            _ => (0, ALL),
        };
        check_eq!(
            found & mask,
            (given | more) & mask,
            "{what}: {}",
            register.name
        );
    }
}

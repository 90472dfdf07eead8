//! The traps through which registers must hold.

use core::sync::atomic::{AtomicU32, Ordering};

use test_guests::runtime::code::{self, ISB, encoding, mrs, msr};
use test_guests::runtime::probe::{self, Registers};
use test_guests::runtime::{cpu, gic, machine, percpu, random::Random, smccc, timer};
use test_guests::{check, check_eq, sysreg};

use crate::state::Pattern;

const NZCV: u32 = encoding(3, 3, 4, 2, 0);
const SGI1R: u32 = encoding(3, 0, 12, 11, 5);
const ELR: u32 = encoding(3, 0, 4, 0, 1);
const SPSR: u32 = encoding(3, 0, 4, 0, 0);
/// `hvc #0`, `smc #0`, `wfi`, `wfe`, `sevl`, `yield`.
const HVC: u32 = 0xD400_0002;
const SMC: u32 = 0xD400_0003;
const WFI: u32 = 0xD503_207F;
const WFE: u32 = 0xD503_205F;
const SEVL: u32 = 0xD503_20BF;
const YIELD: u32 = 0xD503_203F;
/// `ldr w4, [x5]`, `str w4, [x5]`, `ldp w6, w7, [x5]`.
const LDR: u32 = 0xB940_00A4;
const STR: u32 = 0xB900_00A4;
const LDP: u32 = 0x2940_1CA6;
/// `msr daifclr, #2`, `msr daifset, #2`.
const UNMASK: u32 = 0xD503_42FF;
const MASK: u32 = 0xD503_42DF;

static TAKEN: AtomicU32 = AtomicU32::new(0);

fn handler() {
    let intid = gic::acknowledge();
    if intid == gic::SPURIOUS {
        return;
    }
    if intid == timer::VIRTUAL_INTID {
        sysreg!("cntv_ctl_el0", 0);
    }
    TAKEN.fetch_add(1, Ordering::Relaxed);
    gic::end(intid);
}

/// Runs on every CPU at once, so that each one's values are different from
/// what the others hold meanwhile.
pub(crate) fn hold_through_all() {
    gic::init_cpu();
    cpu::set_irq_handler(handler);
    let mut random = Random::new(31 + percpu::index() as u64);
    let smc: &[u32] = if smccc::smc_answers() { &[SMC] } else { &[] };
    for round in 0..10 {
        let pattern = Pattern::fill(round);
        for (name, trap, uart) in [
            ("HVC", &[HVC][..], true),
            ("SMC", smc, true),
            ("a device load", &[LDR], true),
            ("a device store", &[LDR, STR], false),
            ("a pair load", &[LDP], true),
            ("WFE", &[SEVL, WFE, YIELD, WFE], true),
        ] {
            for _ in 0..5 {
                general_registers_hold(name, trap, uart, &mut random);
            }
            pattern.check(name);
        }
        wait_for_timer(&mut random);
        // The timer's own compare value has been used.
        let pattern = Pattern::fill(round + 100);
        storm(&mut random);
        pattern.check("a storm of SGIs");
    }
}

/// Runs `trap` with random values in all registers but those that it uses, and
/// with random flags, ELR and SPSR.
fn general_registers_hold(name: &str, trap: &[u32], uart: bool, random: &mut Random) {
    const PREFIX: [u32; 3] = [msr(NZCV, 28), msr(ELR, 27), msr(SPSR, 26)];
    const SUFFIX: [u32; 3] = [mrs(NZCV, 25), mrs(ELR, 24), mrs(SPSR, 23)];
    let mut sequence = [code::NOP; 10];
    for (slot, word) in sequence
        .iter_mut()
        .zip(PREFIX.iter().chain(trap).chain(&SUFFIX))
    {
        *slot = *word;
    }
    let mut registers: Registers = core::array::from_fn(|_| random.draw());
    registers[0] = smccc::PSCI_VERSION.into();
    // The UART's id or the distributor's priorities: reading and writing back
    // the same changes nothing.
    registers[5] = if uart { 0x0900_0FE0 } else { gic::GICD + 0x420 };
    registers[26] = 0x3C5;
    registers[28] &= 0xF000_0000;
    let before = registers;
    let outcome = code::run(&sequence, &mut registers);
    check_eq!(outcome, Ok(()), "{name}");
    check_eq!(registers[25], before[28], "NZCV after {name}");
    check_eq!(registers[24], before[27], "ELR_EL1 after {name}");
    check_eq!(registers[23], before[26], "SPSR_EL1 after {name}");
    let mut expected = before;
    expected[23..26].copy_from_slice(&registers[23..26]);
    // Results: x0 to x3 of a call, x4, x6 and x7 of loads.
    expected[..4].copy_from_slice(&registers[..4]);
    if trap.contains(&LDR) || trap.contains(&LDP) {
        expected[4] = registers[4];
        expected[6..8].copy_from_slice(&registers[6..8]);
    }
    if name.contains("device") {
        check_eq!(registers[..4], before[..4], "x0 to x3 after {name}");
    }
    check_eq!(registers, expected, "general registers after {name}");
    if uart && trap.contains(&LDR) {
        check_eq!(registers[4], 0x11, "the loaded value");
    }
}

fn wait_for_timer(random: &mut Random) {
    gic::enable(timer::VIRTUAL_INTID);
    sysreg!("cntv_tval_el0", timer::ticks(200));
    sysreg!("cntv_ctl_el0", timer::ENABLE);
    let mut registers: Registers = core::array::from_fn(|_| random.draw());
    let before = registers;
    // Masked: WFI ends, and nothing is taken before this returns.
    while sysreg!("cntv_ctl_el0") & timer::ISTATUS == 0 {
        check_eq!(code::run(&[WFI], &mut registers), Ok(()), "WFI");
        check_eq!(registers, before, "general registers after WFI");
    }
    cpu::with_irqs(|| {
        let off = timer::wait_until(|| sysreg!("cntv_ctl_el0") & timer::ENABLE == 0);
        check!(off, "the timer interrupt does not come");
    });
    sysreg!("cntv_ctl_el0", 0);
    gic::disable(timer::VIRTUAL_INTID);
}

/// Sends SGIs to everybody, itself included, while its registers hold random
/// values and interrupts are taken at any instruction.
fn storm(random: &mut Random) {
    const ROUNDS: u64 = 200;
    // x27 and x26: SGIs to the others and to itself; x28 counts down.
    let loop_body = [
        msr(SGI1R, 27),
        msr(SGI1R, 26),
        ISB,
        YIELD,
        // sub x28, x28, #1; cbnz x28, back by 5.
        0xD100_079C,
        0xB5FF_FF7C,
    ];
    let mut sequence = [code::NOP; 12];
    sequence[0] = UNMASK;
    sequence[1..7].copy_from_slice(&loop_body);
    sequence[11] = MASK;
    let place = code::prepare(&sequence);
    let mut registers: Registers = core::array::from_fn(|_| random.draw());
    registers[26] = gic::sgi_to(6, machine::mpidr_of(percpu::index()));
    registers[27] = 1 << 40 | 5 << 24;
    registers[28] = ROUNDS;
    let mut expected = registers;
    expected[28] = 0;
    let taken = TAKEN.load(Ordering::Relaxed);
    check_eq!(
        probe::call(place, &mut registers),
        Ok(()),
        "a storm of SGIs"
    );
    check_eq!(
        registers,
        expected,
        "general registers after a storm of SGIs"
    );
    check!(
        TAKEN.load(Ordering::Relaxed) != taken,
        "no interrupt in the storm"
    );
}

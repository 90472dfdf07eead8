//! HVC and SMC: every class of number.

use test_guests::runtime::smccc::{self, Conduit};
use test_guests::runtime::{machine, probe, random::Random};
use test_guests::{check, check_eq, say};

/// Functions that end the machine or this CPU, in both register sizes.
const FINAL: [u32; 6] = [
    smccc::CPU_SUSPEND,
    smccc::CPU_OFF,
    0x8400_0005,
    0x8400_0007,
    0x8400_0008,
    0x8400_0009,
];

fn ends_something(function: u32) -> bool {
    let plain = function & !(1 << 30 | 0xFF_0000);
    let is_psci = function >> 24 & 0x3F == 4;
    // CPU_DEFAULT_SUSPEND, SYSTEM_SUSPEND, SYSTEM_RESET2 beside those of FINAL.
    let others = [0x8400_000C, 0x8400_000E, 0x8400_0012];
    is_psci && (FINAL.iter().any(|last| last & !(1 << 30) == plain) || others.contains(&plain))
}

pub(crate) fn check_all(virtualised: bool) {
    let conduits: &[Conduit] = if virtualised {
        &[
            Conduit::Hvc(0),
            Conduit::Smc(0),
            Conduit::Hvc(1),
            Conduit::Smc(1),
            Conduit::Hvc(0xFFFF),
            Conduit::Smc(0xFFFF),
        ]
    } else {
        &[Conduit::Hvc(0)]
    };
    let mut random = Random::new(3);
    for conduit in conduits {
        let by_convention = matches!(conduit, Conduit::Hvc(0) | Conduit::Smc(0));
        let code = smccc::prepare(*conduit);
        let mut calls = 0;
        for_each_function(|function| {
            let known = !virtualised || may_be_known(function);
            call(code, function, &mut random, !known && by_convention);
            calls += 1;
        });
        say!("{conduit:?}: {calls} calls");
    }
    wild_psci(conduits, &mut random);
    if !virtualised {
        // Undefined here, and nothing worse.
        for immediate in [0, 1, 0xFFFF] {
            let outcome = smccc::call(Conduit::Smc(immediate), &mut [0; 30]);
            check!(outcome.is_err(), "SMC #{immediate} returns");
        }
    }
}

fn for_each_function(mut run: impl FnMut(u32)) {
    const NUMBERS: [u32; 14] = [
        0, 1, 2, 0x0F, 0x10, 0x1F, 0x20, 0x50, 0x53, 0xFF, 0xFF00, 0xFF01, 0xFF03, 0xFFFF,
    ];
    for owner in 0..64 {
        for kind in 0..4 {
            for number in NUMBERS {
                run(kind << 30 | owner << 24 | number);
            }
            // Bits 23 to 16 must be zero.
            run(kind << 30 | owner << 24 | 0xFF_0000);
        }
    }
    // All PSCI and FF-A numbers, in both sizes.
    for number in 0..0x100 {
        run(0x8400_0000 | number);
        run(0xC400_0000 | number);
    }
    // Trusted OS and applications, secure services, old yielding calls.
    for number in 0..0x40 {
        run(0xB200_0000 | number);
        run(0x3200_0000 | number);
        run(0x8200_0000 | number);
        run(number);
    }
    run(u32::MAX);
}

/// Standard calls that a hypervisor may answer in its own way; of everything
/// else this guest knows that nobody is there.
fn may_be_known(function: u32) -> bool {
    let fast = function >> 31 != 0;
    let owner = function >> 24 & 0x3F;
    fast && matches!(owner, 0 | 4 | 5 | 6)
}

/// Makes one call and checks the answer, if it must be NOT_SUPPORTED, and the
/// registers that no call may change: x4 to x17 by SMCCC 1.2 where a call
/// returns no more than four results, x18 to x29 always.
fn call(code: u64, function: u32, random: &mut Random, unknown: bool) {
    if ends_something(function) {
        return;
    }
    let mut registers: probe::Registers = core::array::from_fn(|_| random.draw());
    // What is above the function number is nobody's business.
    registers[0] = u64::from(function);
    if function >> 24 & 0x3F == 4 && function & 0xFFFF == 3 {
        // CPU_ON of a CPU that is there would start it.
        registers[1] |= 0xFF00;
    }
    let before = registers;
    if smccc::call_prepared(code, &mut registers).is_err() {
        return;
    }
    if unknown {
        check_eq!(
            smccc::low_half(registers[0]),
            -1,
            "the answer to {function:#x}, which nobody knows"
        );
        check_eq!(
            registers[4..18],
            before[4..18],
            "x4 to x17 after {function:#x}"
        );
    }
    check_eq!(
        registers[18..],
        before[18..],
        "x18 to x29 after {function:#x}"
    );
}

/// PSCI with arguments that make no sense, among them CPU_ON.
fn wild_psci(conduits: &[Conduit], random: &mut Random) {
    let wild = |random: &mut Random| match random.below(6) {
        0 => 0,
        1 => u64::MAX,
        2 => 1 << random.below(64),
        3 => machine::ram_end(),
        4 => random.draw() & 0xFF_00FF_FF00 | 0x00FF_0000,
        _ => random.draw(),
    };
    for conduit in conduits {
        let code = smccc::prepare(*conduit);
        for _ in 0..400 {
            for function in [smccc::CPU_ON, smccc::AFFINITY_INFO, smccc::PSCI_FEATURES] {
                for size in [0, 1 << 30] {
                    let mut registers = [0; 30];
                    registers[0] = u64::from(function & !(1 << 30) | size);
                    for slot in registers.iter_mut().skip(1) {
                        *slot = wild(random);
                    }
                    if function == smccc::CPU_ON {
                        // Never a CPU that exists: Aff1 is 0xFF.
                        registers[1] |= 0xFF00;
                    }
                    let outcome = smccc::call_prepared(code, &mut registers);
                    let refused = smccc::low_half(registers[0]) < 0;
                    check!(
                        outcome.is_err() || function != smccc::CPU_ON || refused,
                        "a wild CPU_ON succeeds"
                    );
                }
            }
        }
    }
}

//! Checks PSCI and the SMCCC as DEN 0022 and DEN 0028 describe them.
//!
//! What a bare QEMU does otherwise (it leaves SMC undefined, does not check entry
//! addresses and lets several concurrent CPU_ON succeed) is checked only where SMC answers. With `reset` or
//! `reset2` in the boot arguments the guest ends in a reset, so that its
//! verdict appears once more.
#![cfg_attr(target_os = "none", no_std, no_main)]

test_guests::guest!("psci", psci::run);

#[cfg(target_os = "none")]
mod psci {
    use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

    use test_guests::runtime::machine::{self, Ending};
    use test_guests::runtime::smccc::{self, Conduit, psci, psci_by};
    use test_guests::runtime::{cpu, gic, percpu, smp, timer, verdict};
    use test_guests::{check, check_eq, say, sysreg};

    const CPU_SUSPEND_32: u32 = 0x8400_0001;
    const CPU_ON_32: u32 = 0x8400_0003;
    const AFFINITY_INFO_32: u32 = 0x8400_0004;
    const SYSTEM_RESET2_32: u32 = 0x8400_0012;
    /// A power state of type power-down, in the original format.
    const POWER_DOWN: u64 = 1 << 16;

    pub(super) fn run() {
        let conduits: &[Conduit] = if smccc::smc_answers() {
            &[Conduit::Hvc(0), Conduit::Smc(0)]
        } else {
            &[Conduit::Hvc(0)]
        };
        let strict = conduits.len() > 1;
        for conduit in conduits {
            versions(*conduit);
            features(*conduit, strict);
            unknown_functions(*conduit, strict);
            states_and_errors(*conduit, strict);
        }
        if strict {
            random_numbers();
        }
        suspend();
        if machine::cpu_count() >= 2 {
            on_off_a_hundred_times();
            context_and_state_at_entry();
            wrong_entries(strict);
        }
        if machine::cpu_count() >= 3 {
            one_of_many_callers_wins(strict);
        }
        finish();
    }

    fn versions(conduit: Conduit) {
        let version = psci_by(conduit, smccc::PSCI_VERSION, [0; 3]).unwrap_or(-1);
        check!(
            (0x1_0001..0x2_0000).contains(&version),
            "PSCI_VERSION is {version:#x}"
        );
        if psci_by(
            conduit,
            smccc::PSCI_FEATURES,
            [smccc::SMCCC_VERSION.into(), 0, 0],
        ) == Ok(0)
        {
            let version = psci_by(conduit, smccc::SMCCC_VERSION, [0; 3]).unwrap_or(-1);
            check!(version >= 0x1_0001, "SMCCC_VERSION is {version:#x}");
            let itself = u64::from(smccc::SMCCC_ARCH_FEATURES);
            let known = psci_by(conduit, smccc::SMCCC_ARCH_FEATURES, [itself, 0, 0]);
            check_eq!(known, Ok(0), "ARCH_FEATURES of itself");
            let unknown = psci_by(conduit, smccc::SMCCC_ARCH_FEATURES, [0x8000_7ABC, 0, 0]);
            check_eq!(
                unknown,
                Ok(smccc::NOT_SUPPORTED),
                "ARCH_FEATURES of nothing"
            );
        } else {
            check!(!smccc::smc_answers(), "PSCI_FEATURES denies SMCCC_VERSION");
        }
        let migrate = psci_by(conduit, smccc::MIGRATE_INFO_TYPE, [0; 3]);
        check!(
            matches!(migrate, Ok(2 | smccc::NOT_SUPPORTED)),
            "MIGRATE_INFO_TYPE answers {migrate:?}"
        );
    }

    fn features(conduit: Conduit, strict: bool) {
        let ask = |function: u32| {
            psci_by(conduit, smccc::PSCI_FEATURES, [function.into(), 0, 0]).unwrap_or(i64::MIN)
        };
        for function in [
            smccc::PSCI_VERSION,
            smccc::CPU_OFF,
            CPU_ON_32,
            smccc::CPU_ON,
            AFFINITY_INFO_32,
            smccc::AFFINITY_INFO,
            smccc::SYSTEM_OFF,
            smccc::SYSTEM_RESET,
            smccc::PSCI_FEATURES,
        ] {
            check_eq!(
                ask(function),
                0,
                "PSCI_FEATURES of {function:#x} by {conduit:?}"
            );
        }
        for function in [CPU_SUSPEND_32, smccc::CPU_SUSPEND] {
            let answer = ask(function);
            check!(
                (0..4).contains(&answer),
                "PSCI_FEATURES of {function:#x} is {answer}"
            );
        }
        if strict {
            for function in [SYSTEM_RESET2_32, smccc::SYSTEM_RESET2, smccc::SMCCC_VERSION] {
                check_eq!(
                    ask(function),
                    0,
                    "PSCI_FEATURES of {function:#x} by {conduit:?}"
                );
            }
        }
        // 64-bit forms of functions that have none, and numbers not taken.
        for function in [
            0xC400_0002,
            0xC400_0008,
            0x8400_0077,
            0xC400_03FF,
            0,
            u32::MAX,
        ] {
            check_eq!(
                ask(function),
                smccc::NOT_SUPPORTED,
                "PSCI_FEATURES of {function:#x}"
            );
        }
    }

    fn unknown_functions(conduit: Conduit, strict: bool) {
        if !strict {
            return;
        }
        for function in [
            0x8400_001F_u32,
            0x8400_0200,
            0xC400_0002,
            0xC400_0000,
            0x8600_0099,
        ] {
            let answer = psci_by(conduit, function, [1, 2, 3]);
            check_eq!(
                answer,
                Ok(smccc::NOT_SUPPORTED),
                "function {function:#x} by {conduit:?}"
            );
        }
    }

    fn states_and_errors(conduit: Conduit, strict: bool) {
        let count = machine::cpu_count();
        let me = machine::mpidr_of(0);
        let call = |function, arguments| psci_by(conduit, function, arguments).unwrap_or(i64::MIN);
        for (on, info) in [
            (CPU_ON_32, AFFINITY_INFO_32),
            (smccc::CPU_ON, smccc::AFFINITY_INFO),
        ] {
            check_eq!(
                call(info, [me, 0, 0]),
                smp::ON,
                "AFFINITY_INFO of the caller"
            );
            for index in 1..count {
                let state = call(info, [machine::mpidr_of(index), 0, 0]);
                check_eq!(state, smp::OFF, "AFFINITY_INFO of CPU {index}");
            }
            let entry = machine::ram_start();
            check_eq!(
                call(on, [me, entry, 0]),
                smccc::ALREADY_ON,
                "CPU_ON of the caller"
            );
            for wrong in [0x0012_3456, 0x00FF_0000, 0x0000_FF00, 0x0000_00FF] {
                let answer = call(on, [wrong, entry, 0]);
                check_eq!(answer, smccc::INVALID_PARAMETERS, "CPU_ON of {wrong:#x}");
                let answer = call(info, [wrong, 0, 0]);
                check_eq!(
                    answer,
                    smccc::INVALID_PARAMETERS,
                    "AFFINITY_INFO of {wrong:#x}"
                );
            }
        }
        if strict {
            for wrong in [0x8000_0000, 1 << 40, 0xFF_0000_0000, u64::MAX] {
                let answer = call(smccc::CPU_ON, [wrong, machine::ram_start(), 0]);
                check_eq!(answer, smccc::INVALID_PARAMETERS, "CPU_ON of {wrong:#x}");
            }
            let answer = call(smccc::AFFINITY_INFO, [me, 7, 0]);
            check_eq!(
                answer,
                smccc::INVALID_PARAMETERS,
                "AFFINITY_INFO of level 7"
            );
            // Vendor-specific types have the top bit; 1 to 0x7FFF_FFFF are
            // reserved, and nothing is reset by them.
            let answer = call(SYSTEM_RESET2_32, [0x7FFF_FFFF, 0, 0]);
            check!(
                matches!(answer, smccc::INVALID_PARAMETERS | smccc::NOT_SUPPORTED),
                "SYSTEM_RESET2 of a reserved type answers {answer}"
            );
        }
    }

    /// TRNG (DEN 0098), where its version function answers.
    fn random_numbers() {
        const TRNG_VERSION: u32 = 0x8400_0050;
        const TRNG_RND64: u32 = 0xC400_0053;
        if psci(TRNG_VERSION, [0; 3]) < 0x1_0000 {
            say!("no TRNG");
            return;
        }
        let draw = |bits: u64| {
            let mut registers = [0; 30];
            registers[0] = TRNG_RND64.into();
            registers[1] = bits;
            check_eq!(
                smccc::call(smccc::conduit(), &mut registers),
                Ok(()),
                "TRNG call"
            );
            (
                registers[0].cast_signed(),
                [registers[1], registers[2], registers[3]],
            )
        };
        let (first, a) = draw(192);
        let (second, b) = draw(192);
        check!(
            matches!((first, second), (0 | -3, 0 | -3)),
            "TRNG_RND64 answers {first}, {second}"
        );
        if first == 0 && second == 0 {
            check!(a != b, "TRNG_RND64 gives {a:x?} twice");
        }
        let (few, bits) = draw(5);
        check!(
            few != 0 || bits[0] == 0 && bits[1] == 0 && bits[2] < 32,
            "5 bits are {bits:x?}"
        );
        for wrong in [0, 193, u64::MAX] {
            check_eq!(
                draw(wrong).0,
                smccc::INVALID_PARAMETERS,
                "TRNG_RND64 of {wrong} bits"
            );
        }
    }

    /// Standby wakes by an interrupt and returns 0; power-down returns 0 as
    /// well when an interrupt is pending, starts at the entry, or is refused.
    fn suspend() {
        gic::init_distributor();
        gic::init_cpu();
        gic::enable(timer::VIRTUAL_INTID);
        let begin = timer::now();
        arm_timer(20_000);
        check_eq!(psci(smccc::CPU_SUSPEND, [0; 3]), 0, "CPU_SUSPEND, standby");
        check!(timer::now() >= begin, "time runs backwards");
        let fired = timer::wait_until(|| sysreg!("cntv_ctl_el0") & timer::ISTATUS != 0);
        check!(fired, "the timer that should have woken standby");
        take_timer();

        static POWERED_DOWN: AtomicBool = AtomicBool::new(false);
        fn down_and_up() {
            POWERED_DOWN.store(true, Ordering::Release);
        }
        fn suspender() {
            gic::init_cpu();
            gic::enable(timer::VIRTUAL_INTID);
            arm_timer(20_000);
            let answer = smp::suspend(POWER_DOWN, down_and_up);
            // Only if it did not power down.
            check!(
                matches!(
                    answer,
                    0 | smccc::INVALID_PARAMETERS | smccc::DENIED | smccc::NOT_SUPPORTED
                ),
                "CPU_SUSPEND, power-down, answers {answer}"
            );
            take_timer();
        }
        if machine::cpu_count() >= 2 {
            smp::start(1, suspender);
            smp::join(1);
            let how = POWERED_DOWN.load(Ordering::Acquire);
            say!(
                "power-down {}",
                if how {
                    "starts at its entry"
                } else {
                    "is standby or refused"
                }
            );
        }
    }

    fn arm_timer(microseconds: u64) {
        sysreg!("cntv_tval_el0", timer::ticks(microseconds));
        sysreg!("cntv_ctl_el0", timer::ENABLE);
    }

    /// Turns the timer off and takes its interrupt out of the GIC.
    fn take_timer() {
        sysreg!("cntv_ctl_el0", 0);
        gic::disable(timer::VIRTUAL_INTID);
        gic::set_bit(gic::ICPENDR, timer::VIRTUAL_INTID);
    }

    fn on_off_a_hundred_times() {
        static RUNS: AtomicU64 = AtomicU64::new(0);
        fn job() {
            RUNS.fetch_add(1, Ordering::Relaxed);
        }
        for round in 0..100 {
            smp::start(1, job);
            smp::join(1);
            check_eq!(RUNS.load(Ordering::Relaxed), round + 1, "runs of CPU 1");
        }
    }

    /// The context id has reached x0 when the secondary finds its index; the
    /// rest of the state at entry is what PSCI promises.
    fn context_and_state_at_entry() {
        static SEEN: [AtomicU64; machine::MAX_CPUS] =
            [const { AtomicU64::new(u64::MAX) }; machine::MAX_CPUS];
        fn job() {
            if let Some(seen) = SEEN.get(percpu::index()) {
                seen.store(cpu::mpidr(), Ordering::Release);
            }
            check_eq!(sysreg!("currentel"), 1 << 2, "CurrentEL");
            check_eq!(sysreg!("daif") & 0x3C0, 0x3C0, "DAIF at entry");
            check_eq!(
                psci(smccc::AFFINITY_INFO, [cpu::mpidr(), 0, 0]),
                smp::ON,
                "own state"
            );
        }
        smp::run_on(machine::cpu_count(), job);
        for (index, seen) in SEEN.iter().enumerate().take(machine::cpu_count()) {
            let mpidr = machine::mpidr_of(index);
            check_eq!(
                seen.load(Ordering::Acquire),
                mpidr,
                "MPIDR seen by CPU {index}"
            );
        }
    }

    fn wrong_entries(strict: bool) {
        if !strict {
            return;
        }
        let target = machine::mpidr_of(1);
        for entry in [
            0,
            0x0900_0000,
            machine::ram_end(),
            machine::ram_start() - 4,
            1 << 47,
            !3,
        ] {
            let answer = psci(smccc::CPU_ON, [target, entry, 0]);
            check_eq!(
                answer,
                smccc::INVALID_ADDRESS,
                "CPU_ON with entry {entry:#x}"
            );
            check_eq!(smp::state(1), smp::OFF, "state after a refused CPU_ON");
        }
    }

    fn one_of_many_callers_wins(strict: bool) {
        static ROUND: AtomicUsize = AtomicUsize::new(0);
        static READY: AtomicUsize = AtomicUsize::new(0);
        static WINS: AtomicUsize = AtomicUsize::new(0);
        static REST: AtomicUsize = AtomicUsize::new(0);
        static STAY: AtomicBool = AtomicBool::new(true);
        const ROUNDS: usize = 30;

        fn target_job() {
            while STAY.load(Ordering::Acquire) {
                core::hint::spin_loop();
            }
        }
        fn contend(target: usize) {
            match smp::try_start(target, target_job) {
                smccc::SUCCESS => WINS.fetch_add(1, Ordering::AcqRel),
                smccc::ALREADY_ON | smccc::ON_PENDING => REST.fetch_add(1, Ordering::AcqRel),
                other => verdict::fail(format_args!("a concurrent CPU_ON answers {other}")),
            };
        }
        fn contender() {
            for round in 1..=ROUNDS {
                READY.fetch_add(1, Ordering::AcqRel);
                let go = timer::wait_until(|| ROUND.load(Ordering::Acquire) == round);
                check!(go, "round {round} does not come");
                contend(machine::cpu_count() - 1);
            }
        }

        let last = machine::cpu_count() - 1;
        for index in 1..last {
            smp::start(index, contender);
        }
        for round in 1..=ROUNDS {
            let ready = timer::wait_until(|| READY.load(Ordering::Acquire) == round * (last - 1));
            check!(ready, "contenders are not ready for round {round}");
            STAY.store(true, Ordering::Release);
            WINS.store(0, Ordering::Release);
            REST.store(0, Ordering::Release);
            ROUND.store(round, Ordering::Release);
            contend(last);
            let answers = || WINS.load(Ordering::Acquire) + REST.load(Ordering::Acquire);
            check!(
                timer::wait_until(|| answers() == last),
                "answers: {}",
                answers()
            );
            let wins = WINS.load(Ordering::Acquire);
            check!(
                wins == 1 || wins > 1 && !strict,
                "{wins} successes in round {round}"
            );
            STAY.store(false, Ordering::Release);
            smp::join(last);
        }
        for index in 1..last {
            smp::join(index);
        }
    }

    /// Ends the machine as the boot arguments say; SYSTEM_OFF comes from a
    /// secondary CPU.
    fn finish() {
        verdict::announce_pass();
        match machine::ending() {
            Ending::Reset => _ = psci(smccc::SYSTEM_RESET, [0; 3]),
            Ending::Reset2 => _ = psci(smccc::SYSTEM_RESET2, [0; 3]),
            Ending::Off if machine::cpu_count() < 2 => _ = psci(smccc::SYSTEM_OFF, [0; 3]),
            Ending::Off => {
                fn off() {
                    let answer = psci(smccc::SYSTEM_OFF, [0; 3]);
                    verdict::fail(format_args!("SYSTEM_OFF returned {answer}"));
                }
                smp::start(1, off);
                timer::pause(20_000_000);
            }
        }
        verdict::fail(format_args!("the machine goes on"));
    }
}

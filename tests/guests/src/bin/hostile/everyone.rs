//! All CPUs at once, each with its own mischief.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use test_guests::runtime::code::{self, ISB};
use test_guests::runtime::mmu::{self, Kind};
use test_guests::runtime::{gic, machine, percpu, probe, random::Random, smccc, smp, timer};
use test_guests::{check, say, sysreg};

static BY_SMC_TOO: AtomicUsize = AtomicUsize::new(0);
static ACTIONS: AtomicU64 = AtomicU64::new(0);

pub(crate) fn check_all(virtualised: bool) {
    BY_SMC_TOO.store(usize::from(virtualised), Ordering::Relaxed);
    smp::run_on(machine::cpu_count(), rampage);
    say!(
        "all CPUs at once: {} actions",
        ACTIONS.load(Ordering::Relaxed)
    );
}

fn rampage() {
    let me = percpu::index() as u64;
    let mut random = Random::new(100 + me);
    let deadline = timer::now() + timer::ticks(2_000_000);
    let mut actions = 0;
    while timer::now() < deadline {
        for _ in 0..50 {
            act(&mut random);
            actions += 1;
        }
    }
    ACTIONS.fetch_add(actions, Ordering::Relaxed);
    sysreg!("cntv_ctl_el0", 0);
    sysreg!("cntp_ctl_el0", 0);
}

fn act(random: &mut Random) {
    let width = 1 << random.below(4);
    let value = random.draw();
    match random.below(10) {
        0 => {
            let offset = random.below(0x1_0000) & !(width - 1);
            let _ = probe::read(gic::GICD + offset, width);
            let _ = probe::write(gic::GICD + offset, width, value);
        }
        1 => {
            let size = gic::GICR_STRIDE * machine::cpu_count() as u64;
            let offset = random.below(size) & !(width - 1);
            let _ = probe::read(gic::GICR + offset, width);
            let _ = probe::write(gic::GICR + offset, width, value);
        }
        2 => {
            let place = 0x0901_0000 + (random.below(0x1000) & !(width - 1));
            let _ = probe::write(place, width, value);
            let _ = probe::read(place, width);
        }
        3 => {
            let place = 0x0A00_0000 + (random.below(0x4000) & !(width - 1));
            let _ = probe::write(place, width, value);
            let _ = probe::read(place, width);
        }
        4 => {
            let physical = machine::ram_end() + random.below(1 << 40);
            let place = mmu::window(physical & !7, Kind::Device);
            let _ = probe::read(place, 8);
            let _ = probe::write(place, 8, value);
        }
        5 => {
            let sgi = if random.below(2) == 0 {
                value
            } else {
                1 << 40 | random.below(16) << 24
            };
            gic::send_sgi(sgi);
        }
        6 => wild_call(random),
        7 => {
            sysreg!("cntv_tval_el0", random.below(1000));
            sysreg!("cntv_ctl_el0", random.below(4));
            sysreg!("cntp_tval_el0", random.below(1000));
            sysreg!("cntp_ctl_el0", random.below(4));
        }
        8 => interface_register(random),
        _ => {
            // A table walk out of RAM.
            let table = machine::ram_end() + (random.below(1 << 34) & !0xFFF);
            let _ = probe::read(mmu::experiment(table | 3), 8);
        }
    }
}

fn wild_call(random: &mut Random) {
    let smc = BY_SMC_TOO.load(Ordering::Relaxed) != 0 && random.below(2) == 0;
    let conduit = if smc {
        smccc::Conduit::Smc(0)
    } else {
        smccc::Conduit::Hvc(0)
    };
    let mut registers: probe::Registers = core::array::from_fn(|_| random.draw());
    registers[0] = match random.below(4) {
        0 => smccc::AFFINITY_INFO.into(),
        1 => {
            // The others are on, or nobody.
            let target = random.below(32);
            registers[1] =
                if target < machine::cpu_count() as u64 && target == percpu::index() as u64 {
                    machine::mpidr_of(percpu::index())
                } else {
                    0xFF00 | target
                };
            smccc::CPU_ON.into()
        }
        2 => 0x8400_0060 + random.below(0x90),
        _ => 0x8600_0000 + random.below(0x1_0000),
    };
    let before = registers;
    if smccc::call(conduit, &mut registers).is_ok() {
        check!(
            registers[18..] == before[18..],
            "x18 to x29 changed in a call"
        );
    }
}

/// Reads and writes one of the GIC's CPU interface registers.
fn interface_register(random: &mut Random) {
    let crm = match random.below(4) {
        0 => 8,
        1 => 9,
        2 => 11,
        _ => 12,
    };
    let op2 = u32::try_from(random.below(8)).unwrap_or(0);
    // Not SRE: the interface must stay the one we program.
    if crm == 12 && op2 == 5 {
        return;
    }
    // QEMU's model takes more than three bits of a binary point for a large
    // number, stores three of them, and then fails an assertion of its own.
    let is_binary_point = matches!((crm, op2), (8 | 12, 3));
    let mask = if is_binary_point { 7 } else { u64::MAX };
    let encoding = code::encoding(3, 0, 12, crm, op2);
    let mut registers = [0; 30];
    registers[1] = random.draw() & mask;
    let _ = code::run(
        &[code::mrs(encoding, 0), code::msr(encoding, 1), ISB],
        &mut registers,
    );
}

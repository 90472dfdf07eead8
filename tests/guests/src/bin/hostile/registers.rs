//! System registers and system instructions: every encoding there is.

use test_guests::runtime::code::{self, ISB};
use test_guests::runtime::{percpu, probe, random::Random};
use test_guests::{check, say};

/// Registers whose change this program would not survive, by construction and
/// not by a hypervisor's fault.
fn keeps_us_running(op0: u32, op1: u32, crn: u32, crm: u32, op2: u32) -> bool {
    match (op0, op1, crn, crm, op2) {
        // SCTLR, SCTLR2 and their kind; TTBRs and TCRs; ELR, SPSR, SPSel,
        // CurrentEL, PAN, ALLINT; MAIR, PIR and POR; VBAR, RMR, the GCS and
        // TPIDR of EL1.
        (3, 0, 1, 0, 0 | 3) | (3, 0, 2, 0 | 1 | 5, _) | (3, 0, 4, 0 | 2 | 3, _) => true,
        (3, 0, 10, 2, _) | (3, 0, 12, 0, 0 | 2) | (3, 0, 13, 0, 4) => true,
        // DAIF, SVCR, DIT, SSBS, TCO beside NZCV; DSPSR and DLR.
        (3, 3, 4, 2 | 5, _) => true,
        // MDSCR, and the debug communication that a debugger would answer.
        (2, 0, 0, 2, 2) => true,
        _ => false,
    }
}

pub(crate) fn check_all() {
    let mut random = Random::new(4);
    // Debug and trace registers, then all others.
    for op0 in [2, 3] {
        let (mut reads, mut writes, mut faults) = (0, 0, 0);
        for_each(op0, |encoding, keep| {
            let mut registers = [0; 30];
            let old = code::run(&[code::mrs(encoding, 0)], &mut registers).map(|()| registers[0]);
            match old {
                Ok(_) => reads += 1,
                Err(_) => faults += 1,
            }
            if keep {
                return;
            }
            // The old value comes back in the same breath.
            let sequence: &[u32] = match old {
                Ok(_) => &[code::msr(encoding, 0), ISB, code::msr(encoding, 1), ISB],
                Err(_) => &[code::msr(encoding, 0), ISB],
            };
            let place = code::prepare(sequence);
            for value in [0, u64::MAX, random.draw(), 1 << random.below(64)] {
                let mut registers = [0; 30];
                registers[0] = value;
                registers[1] = old.unwrap_or(0);
                match probe::call(place, &mut registers) {
                    Ok(()) => writes += 1,
                    Err(_) => {
                        faults += 1;
                        break;
                    }
                }
            }
        });
        say!("op0 {op0}: {reads} reads, {writes} writes, {faults} faults");
    }
    system_instructions();
    check!(percpu::index() == 0, "this CPU has lost its place");
    super::interrupts::recover("all system registers");
}

fn for_each(op0: u32, mut run: impl FnMut(u32, bool)) {
    for op1 in 0..8 {
        for crn in 0..16 {
            for crm in 0..16 {
                for op2 in 0..8 {
                    let keep = keeps_us_running(op0, op1, crn, crm, op2);
                    run(code::encoding(op0, op1, crn, crm, op2), keep);
                }
            }
        }
    }
}

#[repr(align(4096))]
struct Page(
    #[expect(dead_code, reason = "only its address matters")] [core::sync::atomic::AtomicU64; 512],
);

/// What cache maintenance may destroy.
static PAGE: Page = Page([const { core::sync::atomic::AtomicU64::new(0) }; 512]);

/// Cache, TLB and address-translation instructions (op0 = 1), by set/way too,
/// with a harmless address and with all ones.
fn system_instructions() {
    let (mut done, mut faults) = (0, 0);
    for_each(1, |encoding, _| {
        for value in [
            core::ptr::from_ref(&PAGE) as u64,
            0,
            u64::MAX,
            0x0900_0000,
            1 << 47,
        ] {
            let mut registers = [0; 30];
            registers[0] = value;
            match code::run(&[code::msr(encoding, 0), ISB], &mut registers) {
                Ok(()) => done += 1,
                Err(_) => faults += 1,
            }
        }
        let mut registers = [0; 30];
        match code::run(&[code::mrs(encoding, 0)], &mut registers) {
            Ok(()) => done += 1,
            Err(_) => faults += 1,
        }
    });
    say!("system instructions: {done} done, {faults} faults");
}

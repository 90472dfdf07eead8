//! Checks RAM: its end, its contents before first use, and that what is
//! written there can be executed.
#![cfg_attr(target_os = "none", no_std, no_main)]

test_guests::guest!("memory", run);

#[cfg(target_os = "none")]
use test_guests::{
    check, check_eq,
    runtime::{code, machine, probe, probe::Fault, random::Random, smp, timer},
    say,
};

#[cfg(target_os = "none")]
fn run() {
    let (start, end) = (machine::ram_start(), machine::ram_end());
    say!("RAM {start:#x}-{end:#x}, {} CPUs", machine::cpu_count());
    fresh_ram_reads_zero();
    last_byte_is_ram_and_the_next_is_not(end);
    every_megabyte_keeps_its_value(end);
    code_at_the_end_of_ram_runs(end);
    patched_code_is_seen_by_this_cpu();
    patched_code_is_seen_by_another_cpu();
}

/// The first page that neither image nor device tree uses.
#[cfg(target_os = "none")]
fn free_start() -> u64 {
    machine::image_end().next_multiple_of(4096)
}

#[cfg(target_os = "none")]
fn in_device_tree(address: u64) -> bool {
    let (start, end) = machine::tree_range();
    address + 4096 > start && address < end
}

#[cfg(target_os = "none")]
fn fresh_ram_reads_zero() {
    let mut pages = 0;
    let mut page = free_start();
    while page < machine::ram_end() {
        if !in_device_tree(page) {
            // Every word of one page in sixteen, the ends of the others.
            let step = if page >> 12 & 15 == 0 { 8 } else { 4088 };
            let mut address = page;
            while address < page + 4096 {
                let value = probe::read(address, 8);
                check_eq!(value, Ok(0), "fresh RAM at {address:#x}");
                address += step;
            }
            pages += 1;
        }
        page += 4096;
    }
    say!("{pages} fresh pages are zero");
}

#[cfg(target_os = "none")]
fn last_byte_is_ram_and_the_next_is_not(end: u64) {
    for width in [1, 2, 4, 8] {
        let last = end - width;
        let pattern = 0x1122_3344_5566_7788_u64 >> (64 - 8 * width);
        check_eq!(
            probe::write(last, width, pattern),
            Ok(()),
            "write to {last:#x}"
        );
        check_eq!(probe::read(last, width), Ok(pattern), "read of {last:#x}");
        expect_abort(end, probe::read(end, width).err(), false);
        expect_abort(end, probe::write(end, width, 0).err(), true);
    }
    let fetch = probe::execute(test_guests::runtime::mmu::window(
        end,
        test_guests::runtime::mmu::Kind::Uncached,
    ));
    let fault = fetch.err();
    check!(
        fault.is_some_and(
            |fault| fault.class() == Fault::INSTRUCTION_ABORT && fault.is_external_abort()
        ),
        "a fetch beyond RAM ends in {fault:?}"
    );
}

#[cfg(target_os = "none")]
fn expect_abort(address: u64, fault: Option<Fault>, write: bool) {
    let Some(fault) = fault else {
        test_guests::runtime::verdict::fail(format_args!(
            "the first byte beyond RAM, {address:#x}, answers"
        ));
    };
    check_eq!(
        fault.class(),
        Fault::DATA_ABORT,
        "exception class beyond RAM"
    );
    check_eq!(fault.status(), 0x10, "fault status beyond RAM, {fault:?}");
    check_eq!(fault.far, address, "FAR beyond RAM");
    check_eq!(fault.esr >> 6 & 1 != 0, write, "ESR.WnR beyond RAM");
    check_eq!(fault.esr >> 25 & 1, 1, "ESR.IL beyond RAM");
    // EL1h, DAIF masked: the state in which the probe ran.
    check_eq!(fault.spsr & 0x3DF, 0x3C5, "SPSR beyond RAM");
}

#[cfg(target_os = "none")]
fn every_megabyte_keeps_its_value(end: u64) {
    let places = || {
        (0..)
            .map(|index| free_start() + index * 0x10_0000)
            .take_while(move |address| address + 8 <= end)
            .filter(|address| !in_device_tree(*address))
    };
    for address in places() {
        let pattern = Random::new(address).draw();
        check_eq!(
            probe::write(address, 8, pattern),
            Ok(()),
            "write to {address:#x}"
        );
    }
    for address in places() {
        let pattern = Random::new(address).draw();
        check_eq!(probe::read(address, 8), Ok(pattern), "RAM at {address:#x}");
        check_eq!(probe::write(address, 8, 0), Ok(()), "write to {address:#x}");
    }
}

/// Encodes `movz x0, #value`.
#[cfg(target_os = "none")]
const fn mov_x0(value: u16) -> u32 {
    0xD280_0000 | (value as u32) << 5
}

#[cfg(target_os = "none")]
fn code_at_the_end_of_ram_runs(end: u64) {
    for value in [7, 0xBEEF] {
        let start = end - 8;
        check_eq!(
            probe::write(start, 4, mov_x0(value).into()),
            Ok(()),
            "write at {start:#x}"
        );
        check_eq!(
            probe::write(start + 4, 4, code::RET.into()),
            Ok(()),
            "write at the end"
        );
        code::synchronize(start, 8);
        check_eq!(
            probe::execute(start),
            Ok(value.into()),
            "code at {start:#x}"
        );
    }
}

#[cfg(target_os = "none")]
fn patched_code_is_seen_by_this_cpu() {
    for value in 0..200 {
        let mut registers = [0; 30];
        let outcome = code::run(&[mov_x0(value)], &mut registers);
        check_eq!(outcome, Ok(()), "patched code");
        check_eq!(registers[0], u64::from(value), "patched code's result");
    }
}

#[cfg(target_os = "none")]
fn patched_code_is_seen_by_another_cpu() {
    use core::sync::atomic::{AtomicU64, Ordering};
    static CODE: AtomicU64 = AtomicU64::new(0);
    static ROUND: AtomicU64 = AtomicU64::new(0);
    static ANSWER: AtomicU64 = AtomicU64::new(0);
    const ROUNDS: u64 = 50;

    fn follow() {
        for round in 1..=ROUNDS {
            let came = timer::wait_until(|| ROUND.load(Ordering::Acquire) == round);
            check!(came, "round {round} does not come");
            test_guests::runtime::cpu::isb();
            let value = probe::execute(CODE.load(Ordering::Relaxed)).unwrap_or(u64::MAX);
            ANSWER.store(value << 32 | round, Ordering::Release);
        }
    }

    if machine::cpu_count() < 2 {
        return;
    }
    smp::start(1, follow);
    for round in 1..=ROUNDS {
        let value = u16::try_from(round * 1000).unwrap_or(0);
        CODE.store(code::prepare(&[mov_x0(value)]), Ordering::Relaxed);
        ROUND.store(round, Ordering::Release);
        let answered = timer::wait_until(|| ANSWER.load(Ordering::Acquire) & 0xFFFF_FFFF == round);
        check!(answered, "CPU 1 does not answer round {round}");
        check_eq!(
            ANSWER.load(Ordering::Acquire) >> 32,
            u64::from(value),
            "CPU 1 ran old code"
        );
    }
    smp::join(1);
}

//! Stage-1 tables that point out of RAM, and everywhere else.

use test_guests::runtime::{machine, mmu, probe, random::Random};
use test_guests::{check, say};

const TABLE: u64 = 0b11;

pub(crate) fn check_all() {
    let outside = [
        0,
        0x0800_0000,
        0x080A_0000,
        0x0900_0000,
        0x0A00_0000,
        0x3FFF_F000,
        machine::ram_end(),
        machine::ram_end() + (1 << 30),
        1 << 36,
        1 << 40,
        1 << 44,
        (1 << 48) - 4096,
    ];
    let (mut values, mut faults) = (0, 0);
    let mut try_all = |address: u64| {
        for outcome in [
            probe::read(address, 8).map(drop),
            probe::write(address, 4, 0),
            probe::execute(address).map(drop),
        ] {
            match outcome {
                Ok(()) => values += 1,
                Err(_) => faults += 1,
            }
        }
    };
    for table in outside {
        // A table descriptor in our own table, then the table of all.
        let address = mmu::experiment(table | TABLE);
        try_all(address + 0x1234_5678);
        mmu::with_upper_tables(table, || try_all(address));
    }
    let mut random = Random::new(7);
    for _ in 0..500 {
        // Only 48 bits of output address, any attributes, block or table.
        // Tables and blocks in RAM would let it write into itself.
        let descriptor = random.draw() & !0xC000_0000 | 1 << 41;
        let address = mmu::experiment(descriptor);
        try_all(address);
    }
    let _ = mmu::experiment(0);
    say!("tables: {values} values, {faults} faults");
    check!(
        probe::read(mmu::experiment(0), 8).is_err(),
        "an invalid descriptor translates"
    );
}

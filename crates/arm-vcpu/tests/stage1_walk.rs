//! Walks synthetic stage-1 tables, well-formed and hostile.

use std::collections::BTreeMap;

use arm_vcpu::stage1::{Stage1Registers, WalkError, fetch_instruction, translate};
use proptest::prelude::*;
use vm_contract::{AccessError, GuestMemory, GuestPhysAddr};

/// RAM as the guest sees it: 48 bits of addresses, of which only what has been
/// written exists.
#[derive(Default)]
struct SparseMemory {
    words: BTreeMap<u64, u64>,
    big_endian: bool,
}

impl SparseMemory {
    fn with(words: &[(u64, u64)]) -> Self {
        Self {
            words: words.iter().copied().collect(),
            big_endian: false,
        }
    }
}

impl GuestMemory for SparseMemory {
    fn read(&self, address: GuestPhysAddr, buffer: &mut [u8]) -> Result<(), AccessError> {
        let address = usize::from(address) as u64;
        let word = self.words.get(&(address & !7));
        let word = word.ok_or(AccessError::OutsideMemory)?;
        let bytes = if self.big_endian {
            word.to_be_bytes()
        } else {
            word.to_le_bytes()
        };
        for (to, from) in buffer
            .iter_mut()
            .zip(bytes.iter().skip((address & 7) as usize))
        {
            *to = *from;
        }
        Ok(())
    }

    fn write(&self, _: GuestPhysAddr, _: &[u8]) -> Result<(), AccessError> {
        Err(AccessError::ReadOnly)
    }
}

const MMU_ON: u64 = 1;
const BIG_ENDIAN_TABLES: u64 = 1 << 25;
const TABLE: u64 = 0b11;
const PAGE: u64 = 0b11 | ACCESS_FLAG;
const BLOCK: u64 = 0b01 | ACCESS_FLAG;
const ACCESS_FLAG: u64 = 1 << 10;
/// Attributes that are no part of the address: UXN, PXN and the software bits
/// above it, nG, SH and AttrIndx below.
const ATTRIBUTES: u64 = 0x0F78_0000_0000_0B04;
/// A table's own attributes: NSTable, APTable, UXNTable, PXNTable.
const TABLE_ATTRIBUTES: u64 = 0xF800_0000_0000_0000;

/// TCR_EL1: 48 bits on both sides, 4 KiB, 48 bits of output, no tags.
const TCR_4K: u64 = 16 | 16 << 16 | 0b10 << 30 | 5 << 32;
const TCR_TBI0: u64 = 1 << 37;
const TCR_TBI1: u64 = 1 << 38;
const TCR_HA: u64 = 1 << 39;
const TCR_EPD0: u64 = 1 << 7;
const TCR_DS: u64 = 1 << 59;

fn registers(tcr: u64, ttbr0: u64) -> Stage1Registers {
    Stage1Registers {
        sctlr: MMU_ON,
        tcr,
        ttbr0,
        ttbr1: 0x4008_0000,
    }
}

fn lookup(registers: &Stage1Registers, memory: &SparseMemory, va: u64) -> Result<u64, WalkError> {
    translate(registers, memory, va).map(|address| usize::from(address) as u64)
}

/// Four levels that map VA 0x1234_5678_9000 to IPA 0x4765_4000, attributes
/// everywhere.
fn four_levels() -> SparseMemory {
    let va: u64 = 0x1234_5678_9000;
    let slot = |table: u64, shift: u32| table + (va >> shift & 0x1FF) * 8;
    SparseMemory::with(&[
        (
            slot(0x4000_0000, 39),
            0x4000_1000 | TABLE | TABLE_ATTRIBUTES,
        ),
        (
            slot(0x4000_1000, 30),
            0x4000_2000 | TABLE | TABLE_ATTRIBUTES,
        ),
        (slot(0x4000_2000, 21), 0x4000_3000 | TABLE),
        (slot(0x4000_3000, 12), 0x4765_4000 | PAGE | ATTRIBUTES),
    ])
}

#[test]
fn an_address_is_its_own_translation_while_stage_1_is_off() {
    let mut off = registers(TCR_4K, 0x4000_0000);
    off.sctlr = 0;
    let memory = SparseMemory::default();
    assert_eq!(lookup(&off, &memory, 0x4123_4567), Ok(0x4123_4567));
    assert_eq!(
        lookup(&off, &memory, 1 << 48),
        Err(WalkError::AddressSize(0))
    );
    off.tcr |= TCR_TBI0;
    assert_eq!(
        lookup(&off, &memory, 0x5A << 56 | 0x4000_0000),
        Ok(0x4000_0000)
    );
}

#[test]
fn four_levels_of_4_kib_lead_to_the_page() {
    let memory = four_levels();
    let registers = registers(TCR_4K, 0x4000_0000);
    assert_eq!(
        lookup(&registers, &memory, 0x1234_5678_9ABC),
        Ok(0x4765_4ABC)
    );
    assert_eq!(
        lookup(&registers, &memory, 0x1234_5678_AABC),
        Err(WalkError::OutsideMemory),
        "the next descriptor is not in memory"
    );
}

#[test]
fn the_asid_and_cnp_are_no_part_of_the_root() {
    let registers = registers(TCR_4K, 0xBEEF_0000_4000_0001);
    assert_eq!(
        lookup(&registers, &four_levels(), 0x1234_5678_9000),
        Ok(0x4765_4000)
    );
}

#[test]
fn blocks_keep_the_offset_of_their_size() {
    let memory = SparseMemory::with(&[
        (0x4000_0000, 0x4000_1000 | TABLE),
        // 1 GiB at level 1, of which bits below 30 do not count.
        (0x4000_1008, 0xC000_0000 | 0x0020_0000 | BLOCK),
        (0x4000_1010, 0x4000_2000 | TABLE),
        // 2 MiB at level 2.
        (0x4000_2000, 0x4020_0000 | BLOCK),
    ]);
    let registers = registers(TCR_4K, 0x4000_0000);
    assert_eq!(lookup(&registers, &memory, 0x7FFF_FFFF), Ok(0xFFFF_FFFF));
    assert_eq!(lookup(&registers, &memory, 0x8012_3456), Ok(0x4032_3456));
}

#[test]
fn a_small_region_starts_at_a_later_level() {
    // T0SZ = 25: 39 bits, three levels; T0SZ = 34: 30 bits, two.
    let memory = SparseMemory::with(&[
        (0x4000_0008, 0x8000_0000 | BLOCK),
        (0x4000_0010, 0x4000_1000 | TABLE),
        (0x4000_1018, 0x4321_0000 | PAGE),
    ]);
    let at_level_1 = registers(TCR_4K & !0x3F | 25, 0x4000_0000);
    assert_eq!(lookup(&at_level_1, &memory, 0x4000_0123), Ok(0x8000_0123));
    let at_level_2 = registers(TCR_4K & !0x3F | 34, 0x4000_0000);
    assert_eq!(lookup(&at_level_2, &memory, 0x0040_3123), Ok(0x4321_0123));
    assert_eq!(
        lookup(&at_level_2, &memory, 0x4000_0000),
        Err(WalkError::Translation(0)),
        "beyond 30 bits"
    );
}

#[test]
fn a_root_of_few_entries_lies_at_a_multiple_of_64_bytes() {
    // T0SZ = 31: 33 bits, so eight entries at level 1.
    let memory = SparseMemory::with(&[(0x4000_0040 + 8, 0x8000_0000 | BLOCK)]);
    let registers = registers(TCR_4K & !0x3F | 31, 0x4000_0040 | 0x3E);
    assert_eq!(lookup(&registers, &memory, 0x4000_0000), Ok(0x8000_0000));
}

#[test]
fn the_16_kib_granule_is_walked() {
    // TG0 = 0b10; 48 bits: level 0 has two entries.
    let tcr = TCR_4K | 0b10 << 14;
    let va: u64 = 0x8012_3456_7000;
    let slot = |table: u64, shift: u32, mask: u64| table + (va >> shift & mask) * 8;
    let memory = SparseMemory::with(&[
        (slot(0x4000_0000, 47, 1), 0x4000_4000 | TABLE),
        (slot(0x4000_4000, 36, 0x7FF), 0x4000_8000 | TABLE),
        (slot(0x4000_8000, 25, 0x7FF), 0x4000_C000 | TABLE),
        (slot(0x4000_C000, 14, 0x7FF), 0x4444_4000 | PAGE),
    ]);
    let registers = registers(tcr, 0x4000_0000);
    assert_eq!(
        lookup(&registers, &memory, va + 1),
        Ok(0x4444_4000 | va & 0x3FFF | 1)
    );
}

#[test]
fn the_64_kib_granule_is_walked() {
    // TG0 = 0b01; 48 bits: level 1 has 64 entries.
    let tcr = TCR_4K | 0b01 << 14;
    let va: u64 = 0x8012_3456_7000;
    let memory = SparseMemory::with(&[
        (0x4000_0000 + (va >> 42) * 8, 0x4001_0000 | TABLE),
        (0x4001_0000 + (va >> 29 & 0x1FFF) * 8, 0x4002_0000 | TABLE),
        (0x4002_0000 + (va >> 16 & 0x1FFF) * 8, 0x4444_0000 | PAGE),
        // The next 512 MiB are a block.
        (
            0x4001_0000 + ((va >> 29 & 0x1FFF) + 1) * 8,
            0x6000_0000 | BLOCK,
        ),
    ]);
    let registers = registers(tcr, 0x4000_0000);
    assert_eq!(
        lookup(&registers, &memory, va),
        Ok(0x4444_0000 | va & 0xFFFF)
    );
    let next = ((va >> 29) + 1) << 29;
    assert_eq!(
        lookup(&registers, &memory, next | 0x123_4567),
        Ok(0x6123_4567)
    );
}

#[test]
fn the_upper_half_has_its_own_root_and_granule() {
    // TG1 = 0b11: 64 KiB above, 4 KiB below; T1SZ = 22: 42 bits, level 2.
    let tcr = TCR_4K & !(0x3F << 16) | 22 << 16 | 0b11 << 30;
    let memory = SparseMemory::with(&[(0x4008_0000, 0x8000_0000 | BLOCK)]);
    let registers = registers(tcr, 0x4000_0000);
    assert_eq!(
        lookup(&registers, &memory, 0xFFFF_FC00_0000_1234),
        Ok(0x8000_1234)
    );
    assert_eq!(
        lookup(&registers, &memory, 0xFFFF_F800_0000_1234),
        Err(WalkError::Translation(0))
    );
}

#[test]
fn a_tag_is_ignored_only_where_it_is_allowed() {
    let memory = four_levels();
    let mut registers = registers(TCR_4K, 0x4000_0000);
    let tagged = 0xA5 << 56 | 0x1234_5678_9000;
    assert_eq!(
        lookup(&registers, &memory, tagged),
        Err(WalkError::Translation(0))
    );
    registers.tcr |= TCR_TBI1;
    assert_eq!(
        lookup(&registers, &memory, tagged),
        Err(WalkError::Translation(0))
    );
    registers.tcr |= TCR_TBI0;
    assert_eq!(lookup(&registers, &memory, tagged), Ok(0x4765_4000));
    assert_eq!(
        lookup(&registers, &memory, 1 << 50 | 0x1234_5678_9000),
        Err(WalkError::Translation(0)),
        "not a tag"
    );
}

#[test]
fn invalid_descriptors_end_the_walk_at_their_level() {
    let mut memory = four_levels();
    let registers = registers(TCR_4K, 0x4000_0000);
    let va = 0x1234_5678_9000;
    for (level, shift) in [(3_u8, 12), (2, 21), (1, 30), (0, 39)] {
        let slot = 0x4000_0000 + u64::from(level) * 0x1000 + (va >> shift & 0x1FF) * 8;
        memory.words.insert(slot, 0x4000_0000 | 0b10);
        assert_eq!(
            lookup(&registers, &memory, va),
            Err(WalkError::Translation(level))
        );
    }
    // A block at level 0, and what would be a block at level 3.
    let mut memory = four_levels();
    memory
        .words
        .insert(0x4000_3000 + (va >> 12 & 0x1FF) * 8, 0x4000_0000 | BLOCK);
    assert_eq!(
        lookup(&registers, &memory, va),
        Err(WalkError::Translation(3))
    );
    memory
        .words
        .insert(0x4000_0000 + (va >> 39 & 0x1FF) * 8, BLOCK);
    assert_eq!(
        lookup(&registers, &memory, va),
        Err(WalkError::Translation(0))
    );
}

#[test]
fn a_clear_access_flag_faults_unless_hardware_sets_it() {
    let memory = SparseMemory::with(&[(0x4000_0000, 0x8000_0000 | 0b01)]);
    let mut registers = registers(TCR_4K & !0x3F | 25, 0x4000_0000);
    assert_eq!(
        lookup(&registers, &memory, 0x123),
        Err(WalkError::AccessFlag(1))
    );
    registers.tcr |= TCR_HA;
    assert_eq!(lookup(&registers, &memory, 0x123), Ok(0x8000_0123));
}

#[test]
fn addresses_beyond_ips_are_too_large_wherever_they_stand() {
    let va = 0x1234_5678_9000;
    // IPS = 0: 32 bits.
    let narrow = TCR_4K & !(0b111 << 32);
    let too_large = registers(narrow, 1 << 32);
    assert_eq!(
        lookup(&too_large, &four_levels(), va),
        Err(WalkError::AddressSize(0))
    );
    let registers = registers(narrow, 0x4000_0000);
    assert_eq!(lookup(&registers, &four_levels(), va), Ok(0x4765_4000));
    for (level, shift, kind) in [(3_u8, 12, PAGE), (2, 21, TABLE), (0, 39, TABLE)] {
        let mut memory = four_levels();
        let slot = 0x4000_0000 + u64::from(level) * 0x1000 + (va >> shift & 0x1FF) * 8;
        memory.words.insert(slot, 1 << 32 | kind);
        assert_eq!(
            lookup(&registers, &memory, va),
            Err(WalkError::AddressSize(level))
        );
    }
}

#[test]
fn a_disabled_half_maps_nothing() {
    let registers = registers(TCR_4K | TCR_EPD0, 0x4000_0000);
    assert_eq!(
        lookup(&registers, &four_levels(), 0x1234_5678_9000),
        Err(WalkError::Translation(0))
    );
}

#[test]
fn forms_that_were_not_offered_are_refused() {
    let refused = |tcr: u64, va: u64| {
        let error = lookup(&registers(tcr, 0x4000_0000), &four_levels(), va);
        assert_eq!(error, Err(WalkError::Unsupported), "{tcr:#x}");
    };
    refused(TCR_4K | TCR_DS, 0);
    refused(TCR_4K | 0b11 << 14, 0);
    refused(TCR_4K & !(0b11 << 30), 1 << 55);
    refused(TCR_4K & !0x3F | 15, 0);
    refused(TCR_4K | 0b01 << 14 | 0b110 << 32, 0);
}

#[test]
fn tables_are_read_in_the_order_of_bytes_that_the_guest_chose() {
    let mut memory = four_levels();
    memory.big_endian = true;
    let mut registers = registers(TCR_4K, 0x4000_0000);
    assert!(lookup(&registers, &memory, 0x1234_5678_9000).is_err());
    registers.sctlr |= BIG_ENDIAN_TABLES;
    assert_eq!(
        lookup(&registers, &memory, 0x1234_5678_9000),
        Ok(0x4765_4000)
    );
}

#[test]
fn an_instruction_is_fetched_through_the_tables() {
    let mut memory = four_levels();
    memory.words.insert(0x4765_4008, 0xD503_201F_2881_0801);
    let registers = registers(TCR_4K, 0x4000_0000);
    let fetch = |pc| fetch_instruction(&registers, &memory, pc);
    assert_eq!(fetch(0x1234_5678_9008), Ok(0x2881_0801));
    assert_eq!(fetch(0x1234_5678_900C), Ok(0xD503_201F));
    assert_eq!(fetch(0x1234_5678_900A), Err(WalkError::Misaligned));
    assert_eq!(fetch(0x1234_5678_9010), Err(WalkError::OutsideMemory));
}

#[test]
fn a_table_that_points_to_itself_ends_after_the_last_level() {
    let memory = SparseMemory::with(&[(0x4000_0000, 0x4000_0000 | PAGE)]);
    let registers = registers(TCR_4K, 0x4000_0000);
    assert_eq!(lookup(&registers, &memory, 0x18), Ok(0x4000_0018));
}

/// Memory that answers every read, with bytes made out of a seed, and counts.
struct HostileMemory {
    seed: u64,
    reads: std::cell::Cell<u32>,
}

impl GuestMemory for HostileMemory {
    fn read(&self, address: GuestPhysAddr, buffer: &mut [u8]) -> Result<(), AccessError> {
        self.reads.set(self.reads.get() + 1);
        let mixed = (usize::from(address) as u64 ^ self.seed).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        // Valid more often than not, and mostly tables.
        let kind = if mixed >> 60 == 0 { 0 } else { 0b11 };
        let bytes = (mixed | kind).to_le_bytes();
        for (to, from) in buffer.iter_mut().zip(bytes) {
            *to = from;
        }
        Ok(())
    }

    fn write(&self, _: GuestPhysAddr, _: &[u8]) -> Result<(), AccessError> {
        Err(AccessError::ReadOnly)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn whatever_the_tables_hold_four_reads_suffice(
        sctlr: u64, tcr: u64, ttbr0: u64, ttbr1: u64, va: u64, seed: u64,
        plausible: bool, tsz in 16..49_u64,
    ) {
        let (tcr, va) = if plausible {
            // Sizes, granules and addresses that are mostly legal.
            let tcr = tcr & !(0x3F | 0x3F << 16 | 0b111 << 32 | TCR_DS | TCR_EPD0 | 1 << 23);
            let half = (1 << (64 - tsz)) - 1;
            (tcr | tsz | tsz << 16 | 5 << 32, if va >> 55 & 1 == 0 { va & half } else { va | !half })
        } else {
            (tcr, va)
        };
        let registers = Stage1Registers { sctlr, tcr, ttbr0, ttbr1 };
        let memory = HostileMemory { seed, reads: std::cell::Cell::new(0) };
        let result = translate(&registers, &memory, va);
        prop_assert!(memory.reads.get() <= 4);
        if let Ok(address) = result {
            prop_assert!(usize::from(address) < 1 << 48);
            prop_assert_eq!(usize::from(address) as u64 & 0xFFF, va & 0xFFF);
        }
    }
}

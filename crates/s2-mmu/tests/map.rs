//! The tree by example: which leaves arise, what is refused, what is flushed.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use s2_mmu::fakes::{TlbEvent, TlbLog, VecTables};
use s2_mmu::walker::walk;
use s2_mmu::{
    Attributes, HwVmid, LeafSize, MapError, MemoryKind, OwnerBits, PAGE_BYTES, Permissions, Stage2,
    Stage2Config, Translation, Usage,
};
use vm_contract::{GuestPhysAddr, GuestPhysAddrRange};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const PAGE: u64 = PAGE_BYTES as u64;
const RAM: usize = 0x4000_0000;

fn stage2() -> (Stage2<VecTables>, TlbLog) {
    let config = Stage2Config::from_parange(2, None);
    let vmid = HwVmid::new(7).unwrap();
    (
        Stage2::new(VecTables::new(), config, vmid).unwrap(),
        TlbLog::new(),
    )
}

fn range(start: usize, end: usize) -> GuestPhysAddrRange {
    GuestPhysAddrRange::new(start.into(), end.into())
}

fn at(stage2: &Stage2<VecTables>, ipa: usize) -> Option<Translation> {
    stage2.translate(ipa.into())
}

/// Maps `size` of RAM at its own address.
fn with_ram(size: u64) -> (Stage2<VecTables>, TlbLog) {
    let (mut stage2, mut tlb) = stage2();
    stage2
        .map(&mut tlb, RAM.into(), RAM.into(), size, Attributes::RAM)
        .unwrap();
    tlb.events.clear();
    (stage2, tlb)
}

#[test]
fn the_largest_blocks_that_fit_are_used() {
    let (mut stage2, mut tlb) = stage2();
    // Starts 4 KiB before a 2 MiB boundary and 2 MiB + 4 KiB before a 1 GiB one.
    let start = 0x7FDF_F000usize;
    let size = PAGE + 2 * MIB + GIB + 2 * MIB + 8 * KIB;
    stage2
        .map(
            &mut tlb,
            start.into(),
            (start + (4 << 30)).into(),
            size,
            Attributes::RAM,
        )
        .unwrap();
    let sizes: Vec<_> = stage2.leaves().map(|leaf| leaf.translation.leaf).collect();
    let (page, two, giga) = (LeafSize::Page, LeafSize::Block2MiB, LeafSize::Block1GiB);
    assert_eq!(sizes, [page, two, giga, two, page, page]);
    assert!(
        stage2
            .leaves()
            .all(|leaf| { usize::from(leaf.translation.pa) == usize::from(leaf.ipa) + (4 << 30) })
    );
    assert_eq!(
        stage2.usage(),
        Usage {
            pages: 3,
            blocks_2mib: 2,
            blocks_1gib: 1,
            table_frames: 2 + 4,
        }
    );
    assert_eq!(stage2.memory().frames_in_use(), 2 + 4);
}

#[test]
fn an_output_that_is_not_aligned_alike_gets_pages() {
    let (mut stage2, mut tlb) = stage2();
    stage2
        .map(
            &mut tlb,
            RAM.into(),
            0x8000_1000.into(),
            4 * MIB,
            Attributes::RAM,
        )
        .unwrap();
    assert_eq!(stage2.usage().pages, 1024);
    let found = at(&stage2, RAM + 0x20_0FFF).unwrap();
    assert_eq!(usize::from(found.pa), 0x8020_1FFF);
    assert_eq!(found.remaining_bytes, 1);
}

#[test]
fn a_translation_says_everything_about_its_leaf() {
    let (mut stage2, mut tlb) = stage2();
    let attributes = Attributes::DEVICE.with_owner(OwnerBits::new(5).unwrap());
    stage2
        .map(
            &mut tlb,
            0x20_0000.into(),
            0x900_0000.into(),
            2 * MIB,
            attributes,
        )
        .unwrap();
    assert_eq!(
        at(&stage2, 0x20_0234),
        Some(Translation {
            pa: 0x900_0234.into(),
            attributes,
            leaf: LeafSize::Block2MiB,
            remaining_bytes: 0x1F_FDCC,
        })
    );
    assert_eq!(at(&stage2, 0x1F_FFFF), None);
    assert_eq!(at(&stage2, 0x40_0000), None);
    assert_eq!(at(&stage2, usize::MAX), None, "beyond the address space");
}

#[test]
fn vttbr_is_the_vmid_above_the_root() {
    let (stage2, _) = stage2();
    let root = usize::from(stage2.root());
    assert!(
        root.is_multiple_of(2 * PAGE_BYTES),
        "two tables, aligned to their size"
    );
    assert_eq!(stage2.vttbr(), 7 << 48 | root as u64);
    assert_eq!(stage2.vmid().raw(), 7);
}

#[test]
fn odd_requests_are_refused_by_name() {
    let (mut stage2, mut tlb) = with_ram(4 * MIB);
    let before = stage2.usage();
    let end = 1usize << 40;
    let cases = [
        (0, 0, 0, MapError::Empty),
        (0x800, 0, PAGE, MapError::Misaligned),
        (0, 0x800, PAGE, MapError::Misaligned),
        (0, 0, 0x1800, MapError::Misaligned),
        (end, 0, PAGE, MapError::OutsideIpaSpace),
        (end - PAGE_BYTES, 0, 2 * PAGE, MapError::OutsideIpaSpace),
        (usize::MAX - 0xFFF, 0, PAGE, MapError::OutsideIpaSpace),
        (0x1000, 0, u64::MAX - 0xFFF, MapError::OutsideIpaSpace),
        (0, end, PAGE, MapError::OutsidePaSpace),
        (0, usize::MAX - 0xFFF, PAGE, MapError::OutsidePaSpace),
        (
            RAM + 0x1000,
            0,
            PAGE,
            MapError::AlreadyMapped((RAM + 0x1000).into()),
        ),
        (RAM - 0x1000, 0, GIB, MapError::AlreadyMapped(RAM.into())),
    ];
    for (ipa, pa, size, error) in cases {
        let result = stage2.map(&mut tlb, ipa.into(), pa.into(), size, Attributes::RAM);
        assert_eq!(result, Err(error), "{ipa:#x} {pa:#x} {size:#x}");
    }
    let hole = MapError::NotMapped((RAM + 0x40_0000).into());
    assert_eq!(
        stage2.unmap(&mut tlb, (RAM + 0x1000).into(), 4 * MIB).err(),
        Some(hole)
    );
    let result = stage2.protect(&mut tlb, (RAM + 0x1000).into(), 4 * MIB, Attributes::ROM);
    assert_eq!(result.err(), Some(hole));
    assert_eq!(stage2.usage(), before);
    assert!(tlb.events.is_empty(), "nothing was touched");
}

#[test]
fn both_ends_of_every_address_space_are_walked_by_the_hardware() {
    for parange in 0..7 {
        for ipa_bits in 25..=48 {
            let config = Stage2Config::from_parange(parange, Some(ipa_bits));
            let vmid = HwVmid::new(1).unwrap();
            let mut stage2 = Stage2::new(VecTables::new(), config, vmid).unwrap();
            let mut tlb = TlbLog::new();
            let last = (1usize << config.ipa_bits()) - PAGE_BYTES;
            for (ipa, pa) in [(0, 0x5000), (last, 0x1000)] {
                stage2
                    .map(&mut tlb, ipa.into(), pa.into(), PAGE, Attributes::RAM)
                    .unwrap();
                assert_eq!(
                    at(&stage2, ipa + 1).map(|found| found.pa),
                    Some((pa + 1).into())
                );
                let memory = stage2.memory();
                let walked = walk(memory, config.vtcr(), stage2.vttbr(), ipa as u64 + 1);
                assert_eq!(walked.map(|walk| walk.pa), Ok(pa as u64 + 1));
            }
            for ipa in [0, last] {
                stage2
                    .unmap(&mut tlb, ipa.into(), PAGE)
                    .unwrap()
                    .settle(&mut tlb);
            }
            assert_eq!(stage2.memory().frames_in_use(), config.root_frames());
        }
    }
}

#[test]
fn unmapping_one_page_of_a_gigabyte_splits_twice() {
    let (mut stage2, mut tlb) = with_ram(GIB);
    let page = RAM + 0x1234_5000;
    stage2
        .unmap(&mut tlb, page.into(), PAGE)
        .unwrap()
        .settle(&mut tlb);
    assert_eq!(at(&stage2, page), None);
    for near in [page - 1, page + PAGE_BYTES, RAM, RAM + (1 << 30) - 1] {
        assert_eq!(
            at(&stage2, near).map(|found| usize::from(found.pa)),
            Some(near)
        );
    }
    let usage = stage2.usage();
    assert_eq!(
        (usage.pages, usage.blocks_2mib, usage.blocks_1gib),
        (511, 511, 0)
    );
    let block = RAM + 0x1220_0000;
    assert_eq!(
        tlb.take_invalidated(),
        [
            (range(RAM, RAM + (1 << 30)), LeafSize::Block1GiB),
            (range(block, block + (2 << 20)), LeafSize::Block2MiB),
            (range(page, page + PAGE_BYTES), LeafSize::Page),
        ],
        "both splits break before they make"
    );
}

#[test]
fn tables_go_when_their_last_entry_does_but_only_when_the_debt_is_paid() {
    let (mut stage2, mut tlb) = stage2();
    stage2
        .map(
            &mut tlb,
            RAM.into(),
            0x1000.into(),
            8 * KIB,
            Attributes::RAM,
        )
        .unwrap();
    assert_eq!(stage2.usage().table_frames, 2 + 2);
    stage2
        .unmap(&mut tlb, RAM.into(), PAGE)
        .unwrap()
        .settle(&mut tlb);
    assert_eq!(stage2.usage().table_frames, 2 + 2);
    let debt = stage2.unmap(&mut tlb, (RAM + 0x1000).into(), PAGE).unwrap();
    assert!(!debt.is_empty());
    debt.defer();
    assert_eq!(stage2.usage().table_frames, 2);
    assert_eq!(
        stage2.memory().frames_in_use(),
        4,
        "still reachable for a walker"
    );
    // Mapping settles what was deferred.
    tlb.events.clear();
    stage2
        .map(&mut tlb, (RAM * 2).into(), 0.into(), GIB, Attributes::RAM)
        .unwrap();
    assert_eq!(
        tlb.take_invalidated(),
        [(range(RAM + 0x1000, RAM + 0x2000), LeafSize::Page)]
    );
    assert_eq!(stage2.memory().frames_in_use(), 2);
}

#[test]
fn deferred_debts_are_settled_by_one_invalidation() {
    let (mut stage2, mut tlb) = with_ram(8 * MIB);
    stage2.unmap(&mut tlb, RAM.into(), 2 * MIB).unwrap().defer();
    let last = RAM + (6 << 20);
    stage2
        .unmap(&mut tlb, last.into(), 2 * MIB)
        .unwrap()
        .settle(&mut tlb);
    assert_eq!(
        tlb.take_invalidated(),
        [(range(RAM, RAM + (8 << 20)), LeafSize::Block2MiB)]
    );
}

#[test]
fn permissions_change_in_place_and_owe_a_flush() {
    let (mut stage2, mut tlb) = with_ram(4 * MIB);
    let debt = stage2
        .protect(&mut tlb, RAM.into(), 2 * MIB, Attributes::ROM)
        .unwrap();
    assert!(!debt.is_empty());
    debt.settle(&mut tlb);
    assert_eq!(
        at(&stage2, RAM).map(|found| found.attributes),
        Some(Attributes::ROM)
    );
    assert_eq!(
        at(&stage2, RAM + (2 << 20)).map(|found| found.attributes),
        Some(Attributes::RAM)
    );
    assert_eq!(
        tlb.take_invalidated(),
        [(range(RAM, RAM + (2 << 20)), LeafSize::Block2MiB)]
    );
}

#[test]
fn owner_bits_alone_owe_nothing() {
    let (mut stage2, mut tlb) = with_ram(2 * MIB);
    let lent = Attributes::RAM.with_owner(OwnerBits::new(3).unwrap());
    let debt = stage2.protect(&mut tlb, RAM.into(), 2 * MIB, lent).unwrap();
    assert!(debt.is_empty());
    debt.settle(&mut tlb);
    assert_eq!(tlb.events, [TlbEvent::Publish]);
    assert_eq!(at(&stage2, RAM).map(|found| found.attributes), Some(lent));
}

#[test]
fn a_new_memory_type_is_broken_before_it_is_made() {
    let (mut stage2, mut tlb) = with_ram(4 * MIB);
    let uncached = Attributes::new(
        Permissions::READ | Permissions::WRITE,
        MemoryKind::NormalNonCacheable,
    );
    let vttbr = stage2.vttbr();
    let debt = stage2
        .protect(&mut tlb, RAM.into(), 4 * MIB, uncached)
        .unwrap();
    assert!(debt.is_empty(), "it was invalidated on the way");
    debt.settle(&mut tlb);
    assert_eq!(
        tlb.events,
        [
            TlbEvent::Invalidate {
                vttbr,
                range: range(RAM, RAM + (4 << 20)),
                stride: LeafSize::Block2MiB,
            },
            TlbEvent::Publish,
        ]
    );
    assert!(
        stage2
            .leaves()
            .all(|leaf| leaf.translation.attributes == uncached)
    );
}

#[test]
fn a_page_without_permissions_keeps_its_frame_and_owner() {
    let (mut stage2, mut tlb) = with_ram(2 * MIB);
    let taken = Attributes::RAM
        .with_permissions(Permissions::empty())
        .with_owner(OwnerBits::new(1).unwrap());
    stage2
        .protect(&mut tlb, RAM.into(), PAGE, taken)
        .unwrap()
        .settle(&mut tlb);
    let found = at(&stage2, RAM).unwrap();
    assert_eq!((usize::from(found.pa), found.attributes), (RAM, taken));
}

#[test]
fn merging_undoes_splits_up_to_the_largest_block() {
    let (mut stage2, mut tlb) = with_ram(GIB);
    let page: GuestPhysAddr = (RAM + 0x5000).into();
    for attributes in [Attributes::ROM, Attributes::RAM] {
        stage2
            .protect(&mut tlb, page, PAGE, attributes)
            .unwrap()
            .settle(&mut tlb);
        let merged = stage2.merge(&mut tlb, RAM.into(), GIB).unwrap();
        assert_eq!(merged, if attributes == Attributes::RAM { 2 } else { 0 });
    }
    assert_eq!(stage2.usage().blocks_1gib, 1);
    assert_eq!(stage2.memory().frames_in_use(), 2);
}

#[test]
fn merging_stays_within_its_range_and_wants_aligned_outputs() {
    let (mut stage2, mut tlb) = stage2();
    for (ipa, pa) in [(RAM, RAM), (2 * RAM, 2 * RAM + PAGE_BYTES)] {
        for half in [0, 1 << 20] {
            stage2
                .map(
                    &mut tlb,
                    (ipa + half).into(),
                    (pa + half).into(),
                    MIB,
                    Attributes::RAM,
                )
                .unwrap();
        }
    }
    assert_eq!(stage2.usage().pages, 1024);
    let inside = (RAM + PAGE_BYTES).into();
    assert_eq!(stage2.merge(&mut tlb, inside, 2 * MIB - PAGE), Ok(0));
    assert_eq!(stage2.merge(&mut tlb, 0.into(), 4 * GIB), Ok(1));
    let usage = stage2.usage();
    assert_eq!((usage.pages, usage.blocks_2mib), (512, 1));
}

#[test]
fn a_wide_vmid_needs_a_configuration_for_it() {
    let config = Stage2Config::from_parange(5, None);
    let wide = HwVmid::new(256).unwrap();
    let result = Stage2::new(VecTables::new(), config, wide);
    assert_eq!(result.err(), Some(MapError::VmidTooWide));
    let config = config.with_vmid_size(s2_mmu::VmidSize::Bits16);
    assert!(Stage2::new(VecTables::new(), config, wide).is_ok());
    let mut empty = VecTables::new();
    empty.limit_allocations(Some(0));
    assert_eq!(
        Stage2::new(empty, config, wide).err(),
        Some(MapError::OutOfTables)
    );
}

#[test]
fn destroying_returns_every_frame_after_one_flush_of_the_vmid() {
    let (mut stage2, mut tlb) = with_ram(GIB);
    stage2
        .unmap(&mut tlb, (RAM + 0x1000).into(), PAGE)
        .unwrap()
        .defer();
    let vttbr = stage2.vttbr();
    tlb.events.clear();
    let memory = stage2.destroy(&mut tlb);
    assert_eq!(memory.frames_in_use(), 0);
    assert_eq!(tlb.events, [TlbEvent::InvalidateAll { vttbr }]);
}

//! Blobs that are not what they claim: errors, never panics.

use dtb_platform::{
    BlobError, BootModule, DiskConfig, DiskPart, DiskSource, HostOptions, MachineFacts, NetConfig,
    Placement, Platform, PlatformError, Uplink, VlanMode, VmConfig, add_bootargs, add_domains,
    add_uplink, blob_bytes, uplink, vm_configs, vm_configs_on,
};
use proptest::prelude::*;

use crate::machines::{TestNode, board, node, qemu_virt};
use crate::platform::range;

/// Offsets of header fields in bytes.
const TOTAL_SIZE: usize = 4;
const STRUCTURE_OFFSET: usize = 8;
const STRINGS_OFFSET: usize = 12;
const RESERVATIONS_OFFSET: usize = 16;
const VERSION: usize = 20;
const LAST_COMPATIBLE_VERSION: usize = 24;
const STRUCTURE_SIZE: usize = 36;

const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROPERTY: u32 = 3;
const NOP: u32 = 4;
const END: u32 = 9;

fn put(blob: &mut [u8], at: usize, word: u32) {
    blob[at..at + 4].copy_from_slice(&word.to_be_bytes());
}

fn get(blob: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(blob[at..at + 4].try_into().expect("four bytes"))
}

/// Reads `blob` in every way there is, only to see that each returns.
fn read_all(blob: &[u8]) {
    let _ = vm_configs(blob);
    let _ = uplink(blob);
    if let Ok(platform) = Platform::from_fdt(blob) {
        let _ = vm_configs_on(blob, &MachineFacts::of(&platform, &[]));
        let _ = HostOptions::parse(&platform.bootargs.unwrap_or_default());
    }
    let _ = add_domains(blob, &[]);
    let _ = add_bootargs(blob, "more");
}

fn refused(blob: &[u8]) -> BlobError {
    match Platform::from_fdt(blob) {
        Err(PlatformError::Blob(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// A blob whose structure block holds these words; its only string is `a`.
fn with_structure(words: &[u32]) -> Vec<u8> {
    let structure: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
    let strings = 56 + structure.len();
    let mut blob = vec![0; 56];
    for (at, word) in [
        (0, 0xd00d_feed),
        (TOTAL_SIZE, strings + 2),
        (STRUCTURE_OFFSET, 56),
        (STRINGS_OFFSET, strings),
        (RESERVATIONS_OFFSET, 40),
        (VERSION, 17),
        (LAST_COMPATIBLE_VERSION, 16),
        (32, 2),
        (STRUCTURE_SIZE, structure.len()),
    ] {
        put(&mut blob, at, u32::try_from(word).expect("a word"));
    }
    blob.extend(structure);
    blob.extend(b"a\0");
    blob
}

/// A host's tree with a VM, so that there is something to read everywhere.
fn full_tree(tree: &TestNode) -> Vec<u8> {
    let vm = VmConfig {
        node: "vm".into(),
        name: "vm".into(),
        cpus: 1,
        memory_bytes: 0x100_0000,
        boot: BootModule::Kernel(range(0x4800_0000, 0x1000)),
        ramdisk: Some(range(0x4900_0000, 0x1000)),
        bootargs: Some("quiet".into()),
        placement: Placement::Pinned(vec![0]),
        weight: 100,
        priority: 0,
        its: true,
        disks: vec![DiskConfig {
            source: DiskSource::Host {
                disk: 0,
                part: DiskPart::Partition(1),
            },
            read_only: true,
        }],
        nets: vec![NetConfig {
            mac: Some([2, 0, 0, 0, 0, 1]),
            vlan: VlanMode::default(),
            anti_spoofing: true,
        }],
    };
    let out = Uplink {
        card: 0,
        vlan: VlanMode::default(),
    };
    let tree = tree.blob_reserving(&[(0x1000, 0x1000)]);
    let tree = add_domains(&tree, &[vm]).expect("a good description");
    add_uplink(&tree, &out).expect("a good description")
}

#[test]
fn a_blob_cut_anywhere_is_an_error() {
    let blob = full_tree(&board());
    for length in 0..blob.len() {
        assert_eq!(refused(&blob[..length]), BlobError::Truncated, "{length}");
    }
    assert!(Platform::from_fdt(&blob).is_ok());
}

#[test]
fn a_blob_that_admits_to_be_cut_is_an_error_too() {
    let blob = full_tree(&board());
    for length in 40..blob.len() {
        let mut cut = blob[..length].to_vec();
        put(&mut cut, TOTAL_SIZE, u32::try_from(length).expect("a word"));
        refused(&cut);
    }
}

#[test]
fn what_follows_a_blob_is_ignored() {
    let blob = qemu_virt().blob();
    let mut longer = blob.clone();
    longer.extend([0xff; 33]);
    assert_eq!(Platform::from_fdt(&longer), Platform::from_fdt(&blob));
    assert_eq!(blob_bytes(&longer), Ok(blob.len()));
    // Nor does it matter where in memory it starts.
    longer.insert(0, 0);
    assert_eq!(Platform::from_fdt(&longer[1..]), Platform::from_fdt(&blob));
}

#[test]
fn headers_that_lie_are_told_apart() {
    let with = |at: usize, word: u32| {
        let mut blob = qemu_virt().blob();
        put(&mut blob, at, word);
        refused(&blob)
    };
    assert_eq!(with(0, 0xedfe_0dd0), BlobError::BadMagic);
    assert_eq!(with(TOTAL_SIZE, 39), BlobError::Truncated);
    assert_eq!(with(TOTAL_SIZE, u32::MAX), BlobError::Truncated);
    assert_eq!(with(VERSION, 16), BlobError::Version(16));
    assert_eq!(with(LAST_COMPATIBLE_VERSION, 18), BlobError::Version(17));
    for wrong in [u32::MAX, 0x7fff_ffff] {
        assert_eq!(with(STRUCTURE_OFFSET, wrong), BlobError::Block("structure"));
        assert_eq!(with(STRUCTURE_SIZE, wrong), BlobError::Block("structure"));
        assert_eq!(with(STRINGS_OFFSET, wrong), BlobError::Block("strings"));
        assert_eq!(
            with(RESERVATIONS_OFFSET, wrong),
            BlobError::Block("memory reservation")
        );
    }
    assert_eq!(blob_bytes(&[0xd0, 0x0d, 0xfe]), Err(BlobError::Truncated));
}

#[test]
fn structures_that_break_the_format_are_told_where() {
    let at = |words: &[u32]| match refused(&with_structure(words)) {
        BlobError::Structure(at) => at,
        other => panic!("{other:?}"),
    };
    let name = u32::from_be_bytes(*b"n\0\0\0");
    assert_eq!(at(&[]), 0, "nothing");
    assert_eq!(at(&[END]), 0, "no root");
    assert_eq!(at(&[END_NODE, END]), 0, "an end without a start");
    assert_eq!(at(&[PROPERTY, 0, 0, END]), 0, "a property of nothing");
    assert_eq!(at(&[5, END]), 0, "no token");
    assert_eq!(
        at(&[BEGIN_NODE, name, END_NODE, END]),
        0,
        "a root with a name"
    );
    assert_eq!(at(&[BEGIN_NODE, 0, END_NODE]), 12, "no end");
    assert_eq!(at(&[BEGIN_NODE, 0, END]), 8, "an open node");
    assert_eq!(
        at(&[BEGIN_NODE, 0, END_NODE, BEGIN_NODE, 0, END_NODE, END]),
        12,
        "two roots"
    );
    assert_eq!(
        at(&[BEGIN_NODE, 0, BEGIN_NODE, 0, END_NODE, END_NODE, END]),
        8,
        "no name"
    );
    let slash = u32::from_be_bytes(*b"a/b\0");
    assert_eq!(
        at(&[BEGIN_NODE, 0, BEGIN_NODE, slash, END_NODE, END_NODE, END]),
        8,
        "a path"
    );
    let endless = u32::from_be_bytes(*b"abcd");
    assert_eq!(
        at(&[BEGIN_NODE, 0, BEGIN_NODE, endless]),
        8,
        "an endless name"
    );
    let not_utf8 = u32::from_be_bytes([0xff, 0, 0, 0]);
    assert_eq!(
        at(&[BEGIN_NODE, 0, BEGIN_NODE, not_utf8, END_NODE, END_NODE, END]),
        8
    );
    assert_eq!(
        at(&[BEGIN_NODE, 0, PROPERTY, 5, 0, 0, END_NODE, END]),
        28,
        "the end is swallowed"
    );
    assert_eq!(
        at(&[BEGIN_NODE, 0, PROPERTY, u32::MAX, 0, END_NODE, END]),
        8,
        "too long"
    );
    assert_eq!(
        at(&[BEGIN_NODE, 0, PROPERTY, 0, 1, END_NODE, END]),
        8,
        "a name without letters"
    );
    assert_eq!(
        at(&[BEGIN_NODE, 0, PROPERTY, 0, 2, END_NODE, END]),
        8,
        "no such name"
    );
    assert_eq!(
        at(&[
            BEGIN_NODE, 0, BEGIN_NODE, name, END_NODE, PROPERTY, 0, 0, END_NODE, END
        ]),
        20,
        "a property behind a subnode"
    );
    let smallest = with_structure(&[NOP, BEGIN_NODE, 0, NOP, PROPERTY, 0, 0, END_NODE, NOP, END]);
    assert_eq!(vm_configs(&smallest), Ok(vec![]));
}

#[test]
fn nesting_is_followed_to_its_limit_and_no_further() {
    let nested = |levels: usize| {
        let inside = (2..levels).fold(node("n"), |inside, _| node("n").child(inside));
        node("").child(inside).blob()
    };
    assert_eq!(vm_configs(&nested(32)), Ok(vec![]));
    assert_eq!(refused(&nested(33)), BlobError::TooDeep);
}

#[test]
fn no_operation_tokens_hide_nothing() {
    const MARK: [u32; 2] = [0x1234_5678, 0x9abc_def0];
    let mark: Vec<u8> = MARK.iter().flat_map(|word| word.to_be_bytes()).collect();
    // A property in front of all others, in every node; then it is deleted in
    // place, as boot loaders do.
    let plain = full_tree(&board());
    let mut blob = full_tree(&board().map_all(&|node| node.first("mark", &mark)));
    let mut deleted = 0;
    for value in (0..blob.len() - 8).step_by(4) {
        if blob[value..value + 8] == mark[..] && get(&blob, value - 12) == PROPERTY {
            for word in 0..5 {
                put(&mut blob, value - 12 + 4 * word, NOP);
            }
            deleted += 1;
        }
    }
    assert!(deleted > 10);
    assert_eq!(Platform::from_fdt(&blob), Platform::from_fdt(&plain));
    assert_eq!(vm_configs(&blob), vm_configs(&plain));
    assert!(Platform::from_fdt(&blob).is_ok());
}

#[test]
fn an_unterminated_list_of_reservations_is_refused() {
    let mut blob = qemu_virt().blob();
    // Half an entry is left there.
    let near_end = u32::try_from(blob.len()).expect("a word") - 8;
    put(&mut blob, RESERVATIONS_OFFSET, near_end);
    assert_eq!(refused(&blob), BlobError::Block("memory reservation"));
}

/// A word that means something somewhere in a blob.
fn telling_word() -> impl Strategy<Value = u32> {
    prop_oneof![
        0u32..=16,
        Just(u32::MAX),
        Just(0x8000_0000),
        Just(0xffff_fffc),
        0u32..0x1000,
        any::<u32>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn changed_bytes_never_panic(
        small in any::<bool>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut blob = full_tree(&if small { board() } else { qemu_virt() });
        for (at, value) in changes {
            let at = at.index(blob.len());
            blob[at] = value;
        }
        read_all(&blob);
    }

    #[test]
    fn changed_words_never_panic(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), telling_word()), 1..8),
    ) {
        let mut blob = full_tree(&board());
        for (at, value) in changes {
            let at = at.index(blob.len() / 4) * 4;
            put(&mut blob, at, value);
        }
        read_all(&blob);
    }

    #[test]
    fn changed_values_never_panic(
        small in any::<bool>(),
        changes in proptest::collection::vec(
            (any::<prop::sample::Index>(), proptest::collection::vec(telling_word(), 0..6)),
            1..8,
        ),
        cut in 0usize..4,
    ) {
        let mut tree = if small { board() } else { qemu_virt() };
        for (which, words) in changes {
            let mut values = tree.values_mut();
            let value = which.index(values.len());
            let bytes = words.iter().flat_map(|word| word.to_be_bytes());
            *values[value] = bytes.skip(cut).collect();
        }
        read_all(&tree.blob());
    }

    #[test]
    fn structures_of_random_tokens_never_panic(
        words in proptest::collection::vec(telling_word(), 0..64),
    ) {
        read_all(&with_structure(&words));
    }

    #[test]
    fn bytes_of_any_kind_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        read_all(&bytes);
        let mut blob = vec![0xd0, 0x0d, 0xfe, 0xed];
        blob.extend(&bytes);
        read_all(&blob);
    }
}

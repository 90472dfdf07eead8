//! Random operations against a page-by-page model, the independent walker and
//! a machine whose TLB caches at random.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;

use proptest::prelude::{Just, Strategy, prop_oneof, proptest};
use s2_mmu::fakes::{ModelMachine, ModelTables, ModelTlb};
use s2_mmu::walker::{Walk, walk};
use s2_mmu::{
    Attributes, HwVmid, MapError, MemoryKind, OwnerBits, PAGE_BYTES, Permissions, Stage2,
    Stage2Config,
};

const BLOCK: usize = 2 << 20;
const GIGA: usize = 1 << 30;

/// A page-by-page model would be too large for gigabytes. Addresses are drawn
/// from the edges of blocks instead, and the model keeps what lies between two
/// neighbouring edges, all in one state at any time.
fn edges() -> Vec<usize> {
    let mut edges = Vec::new();
    for base in [0, GIGA, 2 * GIGA] {
        for offset in [
            0,
            PAGE_BYTES,
            2 * PAGE_BYTES,
            BLOCK - PAGE_BYTES,
            BLOCK,
            BLOCK + PAGE_BYTES,
            2 * BLOCK,
            3 * BLOCK,
            GIGA - BLOCK,
            GIGA - PAGE_BYTES,
        ] {
            edges.push(base + offset);
        }
    }
    edges
}

/// What one operation works on, as indices of edges.
#[derive(Clone, Copy, Debug)]
struct Span {
    from: usize,
    to: usize,
}

#[derive(Clone, Copy, Debug)]
enum Operation {
    Map(Span, usize, Attributes),
    Unmap(Span, bool),
    Protect(Span, Attributes, bool),
    Merge(Span),
}

fn spans() -> impl Strategy<Value = Span> {
    let last = edges().len() - 1;
    let short = (0..last, 1..4usize).prop_map(move |(from, count)| Span {
        from,
        to: last.min(from + count),
    });
    let long = (0..last, 1..=last).prop_map(move |(from, count)| Span {
        from,
        to: last.min(from + count),
    });
    prop_oneof![3 => short, 1 => long]
}

fn attributes() -> impl Strategy<Value = Attributes> {
    let memory = prop_oneof![
        4 => Just(MemoryKind::Normal),
        1 => Just(MemoryKind::NormalNonCacheable),
        1 => Just(MemoryKind::Device),
    ];
    (0u8..8, memory, 0u8..3).prop_map(|(permissions, memory, owner)| Attributes {
        permissions: Permissions::from_bits_truncate(permissions),
        memory,
        owner: OwnerBits::new(owner).unwrap(),
    })
}

fn operations() -> impl Strategy<Value = Operation> {
    // Aligned as the guest address, to a block only, or to a page only.
    let shift = prop_oneof![8 => Just(0), 4 => Just(BLOCK), 1 => Just(PAGE_BYTES)];
    let defer = prop_oneof![Just(true), Just(false)];
    prop_oneof![
        3 => (spans(), shift, attributes())
            .prop_map(|(span, shift, attributes)| {
                // A gigabyte in pages would take its time.
                let long = edges()[span.to] - edges()[span.from] > 4 * BLOCK;
                let shift = if long { shift & !(BLOCK - 1) } else { shift };
                Operation::Map(span, shift, attributes)
            }),
        2 => (spans(), defer.clone()).prop_map(|(span, defer)| Operation::Unmap(span, defer)),
        2 => (spans(), attributes(), defer)
            .prop_map(|(span, attributes, defer)| Operation::Protect(span, attributes, defer)),
        1 => spans().prop_map(Operation::Merge),
    ]
}

/// The state of the map, one entry for each mapped interval between edges: the
/// output of its first byte, and its attributes.
type Model = BTreeMap<usize, (usize, Attributes)>;

/// A stage 2 on the model machine, beside its model.
struct Bench {
    edges: Vec<usize>,
    config: Stage2Config,
    machine: ModelMachine,
    tlb: ModelTlb,
    stage2: Stage2<ModelTables>,
    model: Model,
    /// Whether a debt was deferred and not settled since.
    owing: bool,
}

impl Bench {
    fn new(seed: u64) -> Self {
        let edges = edges();
        let config = Stage2Config::from_parange(2, None);
        let pages = edges.iter().map(|&edge| edge.into());
        let machine = ModelMachine::new(seed, pages);
        let vmid = HwVmid::new(3).unwrap();
        let stage2 = Stage2::new(machine.tables(), config, vmid).unwrap();
        let mut tlb = machine.tlb();
        s2_mmu::Stage2Tlb::publish(&mut tlb);
        machine.run(config.vtcr(), stage2.vttbr());
        Self {
            edges,
            config,
            tlb,
            machine,
            stage2,
            model: Model::new(),
            owing: false,
        }
    }

    /// Returns start and size of a span.
    fn bounds(&self, span: Span) -> (usize, u64) {
        let start = self.edges[span.from];
        (start, (self.edges[span.to] - start) as u64)
    }

    /// Does the operation on the tree alone.
    fn on_tree(&mut self, operation: Operation) -> Result<(), MapError> {
        let (stage2, tlb) = (&mut self.stage2, &mut self.tlb);
        let bounds = |span: Span| {
            let start = self.edges[span.from];
            (start.into(), (self.edges[span.to] - start) as u64)
        };
        let (debt, defer) = match operation {
            Operation::Map(span, shift, attributes) => {
                let (start, size) = bounds(span);
                let pa = (usize::from(start) + 4 * GIGA + shift).into();
                stage2.map(tlb, start, pa, size, attributes)?;
                self.owing = false;
                return Ok(());
            }
            Operation::Merge(span) => {
                let (start, size) = bounds(span);
                stage2.merge(tlb, start, size)?;
                self.owing = false;
                return Ok(());
            }
            Operation::Unmap(span, defer) => {
                let (start, size) = bounds(span);
                (stage2.unmap(tlb, start, size)?, defer)
            }
            Operation::Protect(span, attributes, defer) => {
                let (start, size) = bounds(span);
                (stage2.protect(tlb, start, size, attributes)?, defer)
            }
        };
        if defer {
            self.owing |= !debt.is_empty();
            debt.defer();
        } else {
            debt.settle(tlb);
            self.owing = false;
        }
        Ok(())
    }

    /// Does the operation on the model: what the tree should have done.
    fn on_model(&mut self, operation: Operation) -> Result<(), MapError> {
        let (span, wants_mapped) = match operation {
            Operation::Map(span, ..) => (span, Some(false)),
            Operation::Unmap(span, _) | Operation::Protect(span, ..) => (span, Some(true)),
            Operation::Merge(span) => (span, None),
        };
        let intervals = &self.edges[span.from..span.to];
        if let Some(wanted) = wants_mapped
            && let Some(&odd) = intervals
                .iter()
                .find(|&edge| self.model.contains_key(edge) != wanted)
        {
            return Err(if wanted {
                MapError::NotMapped(odd.into())
            } else {
                MapError::AlreadyMapped(odd.into())
            });
        }
        for &edge in intervals {
            match operation {
                Operation::Map(_, shift, attributes) => {
                    self.model
                        .insert(edge, (edge + 4 * GIGA + shift, attributes));
                }
                Operation::Unmap(..) => {
                    self.model.remove(&edge);
                }
                Operation::Protect(_, attributes, _) => {
                    if let Some(interval) = self.model.get_mut(&edge) {
                        interval.1 = attributes;
                    }
                }
                Operation::Merge(_) => {}
            }
        }
        Ok(())
    }

    fn walk(&self, ipa: usize) -> Option<Walk> {
        let memory = self.stage2.memory();
        walk(memory, self.config.vtcr(), self.stage2.vttbr(), ipa as u64).ok()
    }

    /// Compares the model, the tree's own lookup and the hardware's walk at the
    /// first and the last page of each interval.
    fn compare(&self) {
        for pair in self.edges.windows(2) {
            for ipa in [pair[0], pair[1] - 1] {
                let expected = self
                    .model
                    .get(&pair[0])
                    .map(|&(pa, attributes)| (pa + (ipa - pair[0]), attributes));
                let found = self.stage2.translate(ipa.into());
                assert_eq!(
                    found.map(|found| (found.pa.into(), found.attributes)),
                    expected,
                    "{ipa:#x}"
                );
                let walked = self.walk(ipa);
                let fields =
                    walked.map(|walk| (walk.pa, walk.readable, walk.writable, walk.executable));
                let expected = expected.map(|(pa, Attributes { permissions, .. })| {
                    (
                        pa as u64,
                        permissions.contains(Permissions::READ),
                        permissions.contains(Permissions::WRITE),
                        permissions.contains(Permissions::EXECUTE),
                    )
                });
                assert_eq!(fields, expected, "{ipa:#x} walked");
            }
        }
    }

    /// Does the operation on both and compares everything.
    fn step(&mut self, operation: Operation) {
        self.machine.touch(4);
        let expected = self.on_model(operation);
        let before = self.stage2.usage();
        assert_eq!(self.on_tree(operation), expected, "{operation:?}");
        if expected.is_err() {
            assert_eq!(
                self.stage2.usage(),
                before,
                "a refused request changes nothing"
            );
        }
        self.compare();
        if !self.owing {
            self.machine.assert_nothing_stale();
            assert_eq!(
                self.machine.frames_in_use(),
                self.stage2.usage().table_frames
            );
        }
    }

    /// Unmaps what is left piece by piece: the tables go with it.
    fn empty(&mut self) {
        for from in 0..self.edges.len() - 1 {
            if self.model.contains_key(&self.edges[from]) {
                let span = Span { from, to: from + 1 };
                self.step(Operation::Unmap(span, false));
            }
        }
        let usage = self.stage2.usage();
        assert_eq!(usage.table_frames, self.config.root_frames());
    }

    fn finish(mut self) {
        self.machine.stop();
        drop(self.stage2.destroy(&mut self.tlb));
        assert_eq!(self.machine.frames_in_use(), 0, "every frame came back");
    }
}

proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(48))]

    #[test]
    fn the_tree_does_what_the_model_does(
        seed: u64,
        operations in proptest::collection::vec(operations(), 1..40),
    ) {
        let mut bench = Bench::new(seed);
        for operation in operations {
            bench.step(operation);
        }
        bench.empty();
        bench.finish();
    }

    #[test]
    fn an_operation_that_runs_out_of_tables_changes_nothing(
        seed: u64,
        before in proptest::collection::vec(operations(), 1..12),
        last in operations(),
    ) {
        let mut bench = Bench::new(seed);
        for operation in before {
            bench.step(operation);
        }
        // Fail at the first allocation, then at the second, and so on.
        for count in 0.. {
            let usage = bench.stage2.usage();
            bench.machine.limit_allocations(Some(count));
            let result = bench.on_tree(last);
            bench.machine.limit_allocations(None);
            if result != Err(MapError::OutOfTables) {
                assert_eq!(result, bench.on_model(last));
                break;
            }
            assert_eq!(bench.stage2.usage(), usage);
            bench.compare();
        }
        bench.compare();
        bench.finish();
    }
}

#[test]
fn merging_what_was_mapped_in_pieces_gives_the_blocks_of_one_piece() {
    let mut bench = Bench::new(1);
    let count = bench.edges.len();
    for from in 0..count - 1 {
        bench.step(Operation::Map(
            Span { from, to: from + 1 },
            0,
            Attributes::RAM,
        ));
    }
    let whole = Span {
        from: 0,
        to: count - 1,
    };
    bench.step(Operation::Merge(whole));
    let (start, size) = bench.bounds(whole);
    let merged = bench.stage2.usage();
    let mut single = Bench::new(1);
    single
        .stage2
        .map(
            &mut single.tlb,
            start.into(),
            (start + 4 * GIGA).into(),
            size,
            Attributes::RAM,
        )
        .unwrap();
    assert_eq!(merged, single.stage2.usage());
    assert_eq!(merged.blocks_1gib, 2);
}

//! Which memory is left when some is taken.

use alloc::vec::Vec;

use vm_contract::HostPhysAddrRange;

/// Returns the parts of `memory` that no range of `taken` covers, in ascending
/// order.
#[must_use]
pub fn without(
    memory: &[HostPhysAddrRange],
    taken: &[HostPhysAddrRange],
) -> Vec<HostPhysAddrRange> {
    let mut left: Vec<HostPhysAddrRange> = memory.to_vec();
    for hole in taken.iter().filter(|hole| !hole.is_empty()) {
        left = left
            .iter()
            .flat_map(|range| {
                let below = HostPhysAddrRange {
                    start: range.start,
                    end: range.end.min(hole.start),
                };
                let above = HostPhysAddrRange {
                    start: range.start.max(hole.end),
                    end: range.end,
                };
                [below, above]
            })
            .filter(|range| range.start < range.end)
            .collect();
    }
    left.sort_unstable_by_key(|range| range.start);
    left
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(start: usize, end: usize) -> HostPhysAddrRange {
        HostPhysAddrRange {
            start: start.into(),
            end: end.into(),
        }
    }

    #[test]
    fn holes_split_ranges_and_swallow_them() {
        let memory = [range(0x5000, 0x6000), range(0x1000, 0x4000)];
        let taken = [
            range(0x2000, 0x3000),
            range(0x4800, 0x6000),
            range(0x3800, 0x3800),
        ];
        assert_eq!(
            without(&memory, &taken),
            [range(0x1000, 0x2000), range(0x3000, 0x4000)]
        );
    }

    proptest! {
        #[test]
        fn an_address_is_left_exactly_if_it_was_there_and_is_not_taken(
            memory in prop::collection::vec((0..100usize, 0..20usize), 0..4),
            taken in prop::collection::vec((0..100usize, 0..20usize), 0..6),
        ) {
            let make = |list: &[(usize, usize)]| -> Vec<_> {
                list.iter().map(|(start, size)| range(*start, start + size)).collect()
            };
            let (memory, taken) = (make(&memory), make(&taken));
            let left = without(&memory, &taken);
            for at in (0..130).map(vm_contract::HostPhysAddr::from) {
                let among = |list: &[HostPhysAddrRange]| list.iter().any(|range| range.contains(at));
                prop_assert_eq!(among(&left), among(&memory) && !among(&taken));
            }
        }
    }
}

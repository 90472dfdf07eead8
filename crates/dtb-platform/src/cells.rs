//! Addresses and sizes in cells, and their way through the buses above.

use alloc::vec::Vec;

use vm_contract::{HostPhysAddr, HostPhysAddrRange};

use crate::PropertyError;
use crate::blob::be32;
use crate::tree::Node;

const REG: &str = "reg";
const REG_ALLOWED: &str = "pairs of an address and a size, in one or two cells each, \
                           that the parents' `ranges` translate";
const CELLS_ALLOWED: &str = "one word";

/// How many words the addresses and sizes of a node's children take.
#[derive(Clone, Copy)]
struct CellCounts {
    address: u32,
    size: u32,
}

impl CellCounts {
    /// Reads what `bus` says of its children; where it says nothing, two and
    /// one (Devicetree Specification, "#address-cells and #size-cells").
    fn of(bus: Node<'_, '_>) -> Result<Self, PropertyError> {
        Ok(Self {
            address: bus.word("#address-cells", CELLS_ALLOWED)?.unwrap_or(2),
            size: bus.word("#size-cells", CELLS_ALLOWED)?.unwrap_or(1),
        })
    }
}

/// The words of a property, taken from its start.
pub(crate) struct Cells<'a>(&'a [u8]);

impl<'a> Cells<'a> {
    pub(crate) fn new(value: &'a [u8]) -> Self {
        Self(value)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes one word.
    pub(crate) fn word(&mut self) -> Option<u32> {
        let word = be32(self.0, 0)?;
        self.0 = self.0.get(4..)?;
        Some(word)
    }

    /// Takes a number of `count` words; none is zero. More than two do not
    /// make a physical address.
    fn number(&mut self, count: u32) -> Option<u64> {
        match count {
            0 => Some(0),
            1 => self.word().map(u64::from),
            2 => Some(u64::from(self.word()?) << 32 | u64::from(self.word()?)),
            _ => None,
        }
    }
}

/// Reads the only number in `reg` of a node whose siblings need no sizes, such
/// as a CPU.
pub(crate) fn identity(node: Node<'_, '_>, allowed: &'static str) -> Result<u64, PropertyError> {
    let value = node
        .property(REG)
        .ok_or_else(|| node.missing(REG, allowed))?;
    let counts = counts_above(node)?;
    let mut cells = Cells::new(value);
    cells
        .number(counts.address)
        .filter(|_| counts.address > 0)
        .ok_or_else(|| node.invalid(REG, allowed))
}

/// Reads `reg` as ranges of physical addresses, translated by every bus
/// between the node and the root.
pub(crate) fn reg(node: Node<'_, '_>) -> Result<Vec<HostPhysAddrRange>, PropertyError> {
    ranges(node, |start, size| translate(node, start, size))
}

/// Reads `reg` as ranges of physical addresses, whatever the parents are: what
/// lies in `/chosen` is on no bus.
pub(crate) fn plain_reg(node: Node<'_, '_>) -> Result<Vec<HostPhysAddrRange>, PropertyError> {
    ranges(node, |start, _| Ok(Some(start)))
}

/// Builds a range from where it starts and how long it is, unless it leaves
/// the address space.
pub(crate) fn range(start: u64, size: u64) -> Option<HostPhysAddrRange> {
    let start = HostPhysAddr::from(usize::try_from(start).ok()?);
    HostPhysAddrRange::try_from_start_size(start, usize::try_from(size).ok()?)
}

fn ranges(
    node: Node<'_, '_>,
    place: impl Fn(u64, u64) -> Result<Option<u64>, PropertyError>,
) -> Result<Vec<HostPhysAddrRange>, PropertyError> {
    let invalid = || node.invalid(REG, REG_ALLOWED);
    let value = node
        .property(REG)
        .ok_or_else(|| node.missing(REG, REG_ALLOWED))?;
    let counts = counts_above(node)?;
    if counts.address == 0 || counts.size == 0 {
        return Err(invalid());
    }
    let mut cells = Cells::new(value);
    let mut ranges = Vec::new();
    while !cells.is_empty() {
        let start = cells.number(counts.address).ok_or_else(invalid)?;
        let size = cells.number(counts.size).ok_or_else(invalid)?;
        let start = place(start, size)?.ok_or_else(invalid)?;
        ranges.push(range(start, size).ok_or_else(invalid)?);
    }
    if ranges.is_empty() {
        Err(invalid())
    } else {
        Ok(ranges)
    }
}

fn counts_above(node: Node<'_, '_>) -> Result<CellCounts, PropertyError> {
    node.parent().map_or(
        Ok(CellCounts {
            address: 2,
            size: 1,
        }),
        CellCounts::of,
    )
}

/// Translates an address on the bus above `node` into a physical one, or
/// returns `None` if a bus on the way does not pass it on.
fn translate(node: Node<'_, '_>, start: u64, size: u64) -> Result<Option<u64>, PropertyError> {
    let mut start = start;
    let mut bus = node.parent();
    while let Some(here) = bus
        && let Some(above) = here.parent()
    {
        // Without the property, nothing below is reachable from above.
        let Some(map) = here.property("ranges") else {
            return Ok(None);
        };
        if !map.is_empty() {
            let passed = pass_on(
                map,
                CellCounts::of(here)?,
                CellCounts::of(above)?,
                start,
                size,
            );
            let Some(passed) = passed else {
                return Ok(None);
            };
            start = passed;
        }
        bus = Some(above);
    }
    Ok(Some(start))
}

/// Looks an address up in `ranges`: triples of an address below, the address
/// above and a size.
fn pass_on(map: &[u8], below: CellCounts, above: CellCounts, start: u64, size: u64) -> Option<u64> {
    let mut cells = Cells::new(map);
    while !cells.is_empty() {
        let child = cells.number(below.address)?;
        let parent = cells.number(above.address)?;
        let length = cells.number(below.size)?;
        let offset = start.checked_sub(child);
        if let Some(offset) = offset
            && offset.checked_add(size).is_some_and(|end| end <= length)
        {
            return parent.checked_add(offset);
        }
    }
    None
}

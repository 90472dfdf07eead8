//! Interrupt specifiers of the GIC: three cells, type, number and flags.

use alloc::vec::Vec;

use vm_contract::IntId;

use crate::PropertyError;
use crate::cells::Cells;
use crate::gic;
use crate::tree::Node;

const SPI: u32 = 0;
const PPI: u32 = 1;
const EDGES: u32 = 0b0011;
const LEVEL_HIGH: u32 = 0b0100;

const ALLOWED: &str = "specifiers of three or more cells: \
                       0 for SPI or 1 for PPI, a number that exists, and flags";

/// How a device signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trigger {
    /// By a change of its line.
    Edge,
    /// By holding its line for as long as it wants attention.
    Level,
}

/// An interrupt and how its device signals it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Interrupt {
    /// The number at the interrupt controller.
    pub id: IntId,
    /// The kind of signal; level where the tree does not say.
    pub trigger: Trigger,
}

/// Reads the interrupts that `node` raises at the GIC; `None` if it raises
/// none, or any of them elsewhere.
pub(crate) fn of(node: Node<'_, '_>) -> Result<Option<Vec<Interrupt>>, PropertyError> {
    const EXTENDED: &str = "interrupts-extended";
    const PLAIN: &str = "interrupts";
    let found = [EXTENDED, PLAIN]
        .into_iter()
        .find_map(|name| Some((name, node.property(name)?)));
    let Some((name, value)) = found else {
        return Ok(None);
    };
    let invalid = || node.invalid(name, ALLOWED);

    let mut cells = Cells::new(value);
    let mut interrupts = Vec::new();
    while !cells.is_empty() {
        let controller = if name == EXTENDED {
            cells
                .word()
                .and_then(|phandle| node.tree().phandle(phandle))
        } else {
            controller_above(node)
        };
        let Some(controller) = controller.filter(|node| gic::is_gic(*node)) else {
            return Ok(None);
        };
        let count = controller
            .word("#interrupt-cells", "one word")?
            .unwrap_or(0);
        interrupts.push(specifier(&mut cells, count).ok_or_else(invalid)?);
    }
    Ok(Some(interrupts))
}

/// Finds who takes the interrupts of `node`: the nearest node up the tree, or
/// up the chain of `interrupt-parent`, that has `#interrupt-cells`.
fn controller_above<'t, 'a>(node: Node<'t, 'a>) -> Option<Node<'t, 'a>> {
    let mut here = node;
    // References can form a circle; no straight way is longer than the tree.
    for _ in node.tree().nodes() {
        here = match here.property("interrupt-parent") {
            Some(phandle) => node.tree().phandle(crate::tree::word(phandle)?)?,
            None => here.parent()?,
        };
        if here.property("#interrupt-cells").is_some() {
            return Some(here);
        }
    }
    None
}

/// Takes one specifier of `count` cells.
fn specifier(cells: &mut Cells<'_>, count: u32) -> Option<Interrupt> {
    let (kind, number, flags) = (cells.word()?, cells.word()?, cells.word()?);
    for _ in 3..count {
        cells.word()?;
    }
    let id = match kind {
        SPI => IntId::spi(number)?,
        PPI => IntId::ppi(number)?,
        _ => return None,
    };
    let trigger = if flags & EDGES != 0 {
        Trigger::Edge
    } else {
        Trigger::Level
    };
    Some(Interrupt { id, trigger }).filter(|_| count >= 3)
}

/// Returns the specifier of a line that is active while high, or `None` for an
/// interrupt that no line can raise.
pub(crate) fn level_high(id: IntId) -> Option<[u32; 3]> {
    if id.is_spi() {
        Some([SPI, id.raw() - IntId::SPI_BASE, LEVEL_HIGH])
    } else if id.is_ppi() {
        Some([PPI, id.raw() - IntId::PPI_BASE, LEVEL_HIGH])
    } else {
        None
    }
}

//! What the hypervisor counts and records about itself, read from outside while
//! it runs: from the memory of the machine, through QEMU's control channel.
//!
//! docs/telemetry.md shows how it lies there.

pub(crate) mod chrome;
mod counters;
mod event;
mod machine;
mod memory;
mod qmp;
mod ring;
pub(crate) mod top;
pub(crate) mod tracer;

use std::path::Path;

use anyhow::{Context, Result};
use object::{Object, ObjectSymbol};

/// The name of the symbol where the address of the header is.
const ANCHOR: &str = "ARMATURE_TELEMETRY";

/// Returns where in an image the address of the header is, given the image's ELF
/// file.
pub(crate) fn anchor(elf: &Path) -> Result<u64> {
    let bytes = std::fs::read(elf).with_context(|| format!("cannot read {}", elf.display()))?;
    let file = object::File::parse(bytes.as_slice())
        .with_context(|| format!("cannot read {}", elf.display()))?;
    let symbol = file.symbols().find(|symbol| symbol.name() == Ok(ANCHOR));
    let symbol = symbol.with_context(|| format!("{} has no {ANCHOR}", elf.display()))?;
    Ok(symbol.address())
}

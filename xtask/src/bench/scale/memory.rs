//! The memory that the hypervisor needs for a VM.

use std::fmt;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::bench::measure;
use crate::run::monitor::{self, VmMemory};
use crate::run::spec::MachineSpec;
use crate::workspace::Workspace;

/// Bytes of a frame, of a KiB and of a MiB.
const FRAME: u64 = 4096;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// What the VM has.
const MEMORY_MIB: u64 = 1024;
const VCPUS: u32 = 4;

/// What page tables may take, and everything else, in bytes.
const TABLES_AIM: u64 = 2 * MIB + MIB / 2;
const OTHER_AIM: u64 = 256 * KIB;

/// What a VM takes, in bytes.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Memory {
    memory_mib: u64,
    vcpus: u32,
    /// Its page tables as long as they map its memory by large blocks, and when
    /// they map all of it page by page.
    tables: u64,
    most_tables: u64,
    /// What the hypervisor's heap holds for it, and frames that are neither its
    /// memory nor its page tables.
    other: u64,
}

impl Memory {
    /// Asks the monitor, with the VM and after it has been turned off.
    pub(super) fn measure(workspace: &Workspace) -> Result<Self> {
        let company = measure::vm(workspace, "vm0", 1, "idle")?;
        let mut vm = measure::vm(workspace, "vm1", VCPUS, "idle")?;
        vm.memory_mib = MEMORY_MIB;
        let mut guest = measure::start(workspace, MachineSpec::of(1, vec![company, vm]))?;
        for _ in 0..2 {
            guest.expect("idle from now on")?;
        }
        monitor::enter(&mut guest)?;
        let own = VmMemory::ask(&mut guest, 1)?;
        let with = monitor::Memory::ask(&mut guest)?;
        monitor::stop(&mut guest, 1)?;
        let without = monitor::Memory::ask(&mut guest)?;
        Self::of(&own, &with, &without)
            .context("the hypervisor has less memory when a VM is off than before")
    }

    fn of(own: &VmMemory, with: &monitor::Memory, without: &monitor::Memory) -> Option<Self> {
        let heap = without.heap_used.abs_diff(with.heap_used);
        let frames = without.frames_free.checked_sub(with.frames_free)?;
        let others = frames.checked_sub(own.frames + own.tables)?;
        (with.heap_used >= without.heap_used).then_some(Self {
            memory_mib: own.frames * FRAME / MIB,
            vcpus: VCPUS,
            tables: own.tables * FRAME,
            most_tables: own.most_tables * FRAME,
            other: heap + others * FRAME,
        })
    }

    /// Says which aims are missed.
    pub(super) fn missed(&self) -> Vec<String> {
        [
            ("page tables", self.most_tables, TABLES_AIM),
            ("everything but page tables", self.other, OTHER_AIM),
        ]
        .into_iter()
        .filter(|(_, bytes, aim)| bytes > aim)
        .map(|(what, bytes, aim)| {
            format!("{what} of a VM take {bytes} bytes, the aim is {aim} bytes")
        })
        .collect()
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            memory_mib,
            vcpus,
            tables,
            most_tables,
            other,
        } = self;
        writeln!(
            f,
            "A VM of {memory_mib} MiB and {vcpus} vCPUs takes, besides its memory\n"
        )?;
        writeln!(f, "{tables:>9} bytes of page tables")?;
        writeln!(
            f,
            "{most_tables:>9} bytes of page tables at most; the aim is {TABLES_AIM}"
        )?;
        writeln!(
            f,
            "{other:>9} bytes of everything else; the aim is {OTHER_AIM}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(frames_free: u64, heap_used: u64) -> monitor::Memory {
        monitor::Memory {
            frames_free,
            heap_used,
        }
    }

    #[test]
    fn what_is_neither_memory_nor_tables_is_everything_else() {
        let own = VmMemory {
            frames: 1000,
            tables: 10,
            most_tables: 50,
        };
        let found = Memory::of(&own, &memory(500, 9000), &memory(1512, 1000)).unwrap();
        assert_eq!(found.other, 8000 + 2 * FRAME);
        assert_eq!((found.tables, found.most_tables), (10 * FRAME, 50 * FRAME));
        assert_eq!(
            Memory::of(&own, &memory(500, 9000), &memory(500, 9000)),
            None
        );
    }

    #[test]
    fn what_takes_too_much_is_named() {
        let memory = Memory {
            memory_mib: 1024,
            vcpus: 4,
            tables: FRAME,
            most_tables: TABLES_AIM,
            other: OTHER_AIM + 1,
        };
        assert_eq!(
            memory.missed(),
            ["everything but page tables of a VM take 262145 bytes, the aim is 262144 bytes"]
        );
    }
}

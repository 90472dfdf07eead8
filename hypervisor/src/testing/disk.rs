//! A disk of the machine.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use std::sync::{Mutex, MutexGuard};

use vm_contract::IntId;

use crate::storage::{
    Buffer, Command, DiskError, DiskFacts, DiskHardware, Finished, HostDisk, SECTOR_BYTES,
    SLOT_BYTES, SLOT_COUNT,
};

/// A disk that does what it was asked for when the test says so, in the order that the
/// test says. Clones are the same disk.
#[derive(Clone)]
pub(crate) struct FakeDisk(Arc<Mutex<DiskState>>);

/// What it has and what it is at.
pub(crate) struct DiskState {
    pub(crate) bytes: Vec<u8>,
    pub(crate) started: Vec<(usize, Command, Buffer)>,
    finished: Vec<Finished>,
    pub(crate) flushes: usize,
    pub(crate) acknowledged: usize,
    pub(crate) is_broken: bool,
}

impl Default for FakeDisk {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(DiskState {
            bytes: vec![0; usize::try_from(Self::SECTORS).expect("small") * SECTOR_BYTES],
            started: Vec::new(),
            finished: Vec::new(),
            flushes: 0,
            acknowledged: 0,
            is_broken: false,
        })))
    }
}

impl FakeDisk {
    pub(crate) const SECTORS: u64 = 4096;

    /// Returns the interrupt that it raises.
    pub(crate) fn interrupt() -> IntId {
        IntId::new(79).expect("an SPI")
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, DiskState> {
        self.0.lock().expect("no test panics while it holds this")
    }

    /// Returns a disk of the machine, with this hardware and memory that is never freed.
    pub(crate) fn host_disk(&self) -> Arc<HostDisk> {
        let memory = Box::leak(vec![0u8; SLOT_COUNT * SLOT_BYTES].into_boxed_slice());
        let buffers = memory.chunks_exact_mut(SLOT_BYTES).collect();
        Arc::new(HostDisk::new(Box::new(self.clone()), buffers))
    }
}

impl DiskState {
    /// Does request number `n` of those that were started.
    pub(crate) fn finish(&mut self, n: usize, failure: Option<DiskError>) {
        let (slot, command, buffer) = self.started.remove(n);
        let at = |sector: u64| usize::try_from(sector).expect("small") * SECTOR_BYTES;
        let result = failure.map_or(Ok(()), Err);
        match command {
            _ if result.is_err() => {}
            Command::Read { sector, bytes } => {
                buffer[..bytes].copy_from_slice(&self.bytes[at(sector)..][..bytes]);
            }
            Command::Write { sector, bytes } => {
                self.bytes[at(sector)..][..bytes].copy_from_slice(&buffer[..bytes]);
            }
            Command::Flush => self.flushes += 1,
            Command::Discard { sector, sectors } => {
                self.bytes[at(sector)..][..at(sectors.into())].fill(0xdd);
            }
            Command::WriteZeroes {
                sector, sectors, ..
            } => self.bytes[at(sector)..][..at(sectors.into())].fill(0),
        }
        self.finished.push(Finished {
            slot,
            buffer,
            result,
        });
    }

    pub(crate) fn finish_all(&mut self) {
        while !self.started.is_empty() {
            self.finish(0, None);
        }
    }
}

impl DiskHardware for FakeDisk {
    fn facts(&self) -> DiskFacts {
        DiskFacts {
            capacity_sectors: Self::SECTORS,
            is_read_only: false,
            block_bytes: 512,
            max_request_bytes: SLOT_BYTES,
            max_discard_sectors: 64,
            max_zeroes_sectors: 64,
        }
    }

    fn start(&mut self, slot: usize, command: Command, buffer: Buffer) -> Result<(), Buffer> {
        let mut state = self.state();
        assert!(state.started.iter().all(|(other, ..)| *other != slot));
        if state.is_broken {
            return Err(buffer);
        }
        state.started.push((slot, command, buffer));
        Ok(())
    }

    fn acknowledge(&mut self) {
        self.state().acknowledged += 1;
    }

    fn take_finished(&mut self) -> Option<Finished> {
        self.state().finished.pop()
    }
}

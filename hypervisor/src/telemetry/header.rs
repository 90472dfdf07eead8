//! Where everything is, for a reader outside the machine: all in physical
//! addresses, which are EL2's own. docs/telemetry.md shows the layout.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use super::{BUCKETS, ExitCounters, Reason};

/// What a header begins with: "armatele", little-endian.
const MAGIC: u64 = u64::from_le_bytes(*b"armatele");
/// Changes when the layout does.
const VERSION: u64 = 1;

/// Returns the address of something that is neither moved nor freed.
pub(super) fn address<T>(pointer: *const T) -> u64 {
    pointer.expose_provenance() as u64
}

/// So many entries from this address on.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Table {
    /// Where the first one is.
    pub address: u64,
    /// How many there are.
    pub count: u64,
}

impl Table {
    fn of<T>(entries: &[T]) -> Self {
        Self {
            address: address(entries.as_ptr()),
            count: entries.len() as u64,
        }
    }
}

/// Where everything is.
#[derive(Debug)]
#[repr(C)]
pub struct Header {
    /// `armatele`.
    pub magic: u64,
    /// 1.
    pub version: u64,
    /// How fast the system counter counts.
    pub ticks_per_second: u64,
    /// Bytes: the names of the reasons in the order of their numbers, each with a
    /// line feed at its end.
    pub reasons: Table,
    /// Tables of bytes: the name of each VM.
    pub vms: Table,
    /// Of 16 bytes: each vCPU's VM, its number, both 32 bits, and the address of its
    /// counters, 64 bits each.
    pub vcpus: Table,
    /// How many counters each reason has, one for each size of cost, the greatest
    /// first.
    pub buckets: u64,
    /// The address of a table with the address of each CPU's ring; 0 before tracing
    /// was switched on. A ring begins with the address of its events, how many it
    /// holds and how many have been written, 64 bits each.
    pub rings: AtomicU64,
    /// How many rings there are.
    pub ring_count: AtomicU64,
}

/// A vCPU.
#[derive(Debug)]
#[repr(C)]
pub(super) struct VcpuEntry {
    /// The number of its VM.
    vm: u32,
    /// Its own.
    vcpu: u32,
    /// Its counters, 64 bits each.
    counters: u64,
}

impl Header {
    /// Says where the rings are.
    pub(super) fn announce(&self, rings: &[u64]) {
        self.ring_count.store(rings.len() as u64, Ordering::Relaxed);
        self.rings.store(address(rings.as_ptr()), Ordering::Release);
    }

    /// Returns the address of this header.
    #[must_use]
    pub fn address(&self) -> u64 {
        address(core::ptr::from_ref(self))
    }
}

/// The header and what it points to.
#[derive(Debug)]
pub(super) struct Tables {
    header: Box<Header>,
    _names: Box<[String]>,
    _vms: Box<[Table]>,
    _vcpus: Box<[VcpuEntry]>,
}

impl Tables {
    pub(super) fn new(
        names: Vec<String>,
        counters: &[Vec<Arc<ExitCounters>>],
        ticks_per_second: u64,
    ) -> Self {
        let names = names.into_boxed_slice();
        let vms: Box<[_]> = names
            .iter()
            .map(|name| Table::of(name.as_bytes()))
            .collect();
        let of_vm = |(vm, counters): (u32, &Vec<Arc<ExitCounters>>)| {
            let entry = move |(vcpu, counters): (u32, &Arc<ExitCounters>)| VcpuEntry {
                vm,
                vcpu,
                counters: address(counters.cells()),
            };
            (0..).zip(counters).map(entry).collect::<Vec<_>>()
        };
        let vcpus: Box<[_]> = (0..).zip(counters).flat_map(of_vm).collect();
        let header = Box::new(Header {
            magic: MAGIC,
            version: VERSION,
            ticks_per_second,
            reasons: Table::of(Reason::NAMES.as_bytes()),
            vms: Table::of(&vms),
            vcpus: Table::of(&vcpus),
            buckets: BUCKETS as u64,
            rings: AtomicU64::new(0),
            ring_count: AtomicU64::new(0),
        });
        Self {
            header,
            _names: names,
            _vms: vms,
            _vcpus: vcpus,
        }
    }

    pub(super) const fn header(&self) -> &Header {
        &self.header
    }
}

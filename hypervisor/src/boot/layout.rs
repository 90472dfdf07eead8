//! Where the image and its stacks lie.
#![expect(unsafe_code, reason = "linker symbols")]

use alloc::vec::Vec;

use spin::Once;
use vm_contract::{HostPhysAddr, HostPhysAddrRange};

unsafe extern "C" {
    static __image_start: u8;
    static __text_end: u8;
    static __rodata_end: u8;
    static __image_end: u8;
    static __boot_stack_guard: u8;
    static __boot_fault_stack_guard: u8;
    #[link_name = "park"]
    fn park_forever() -> !;
}

/// Bytes of an unmapped page.
pub(crate) const GUARD_BYTES: usize = 4096;
/// Bytes of the stack of a secondary CPU.
const STACK_BYTES: usize = 64 << 10;
/// Bytes of the stack on which a CPU reports that the other one is broken.
const FAULT_STACK_BYTES: usize = 16 << 10;
/// Both, each with its guard page.
pub(crate) const STACKS_BYTES: usize = 2 * GUARD_BYTES + STACK_BYTES + FAULT_STACK_BYTES;

/// What reports need to know about memory; set once the tables are in force.
static MAPPED: Once<Mapped> = Once::new();

struct Mapped {
    memory: Vec<HostPhysAddrRange>,
    guards: Vec<HostPhysAddrRange>,
}

fn between(start: *const u8, end: *const u8) -> HostPhysAddrRange {
    HostPhysAddrRange {
        start: start.addr().into(),
        end: end.addr().into(),
    }
}

/// Returns the whole image, its stacks included.
pub(crate) fn image() -> HostPhysAddrRange {
    between(&raw const __image_start, &raw const __image_end)
}

/// Returns the code.
pub(super) fn text() -> HostPhysAddrRange {
    between(&raw const __image_start, &raw const __text_end)
}

/// Returns the constants.
pub(super) fn read_only() -> HostPhysAddrRange {
    between(&raw const __text_end, &raw const __rodata_end)
}

/// Returns the guard pages of the boot CPU's stacks.
pub(super) fn boot_guards() -> [HostPhysAddrRange; 2] {
    [
        &raw const __boot_stack_guard,
        &raw const __boot_fault_stack_guard,
    ]
    .map(|guard| HostPhysAddrRange::from_start_size(guard.addr().into(), GUARD_BYTES))
}

/// The stacks of one secondary CPU.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stacks {
    base: HostPhysAddr,
}

impl Stacks {
    /// Lays out stacks in the [`STACKS_BYTES`] from `base`.
    pub(super) const fn at(base: HostPhysAddr) -> Self {
        Self { base }
    }

    pub(super) fn guards(self) -> [HostPhysAddrRange; 2] {
        [self.base, self.top()].map(|start| HostPhysAddrRange::from_start_size(start, GUARD_BYTES))
    }

    /// One past the ordinary stack.
    pub(super) fn top(self) -> HostPhysAddr {
        self.base + GUARD_BYTES + STACK_BYTES
    }

    /// One past the fault stack.
    pub(super) fn fault_top(self) -> HostPhysAddr {
        self.base + STACKS_BYTES
    }
}

/// Remembers what is mapped as memory and what is kept unmapped.
pub(super) fn remember(memory: Vec<HostPhysAddrRange>, guards: Vec<HostPhysAddrRange>) {
    MAPPED.call_once(|| Mapped { memory, guards });
}

/// Tells whether `address` lies in the guard page of a stack.
pub(crate) fn is_guard_page(address: usize) -> bool {
    let address = HostPhysAddr::from(address);
    MAPPED
        .get()
        .is_some_and(|mapped| mapped.guards.iter().any(|page| page.contains(address)))
}

/// Tells whether `address` can be read as memory.
pub(crate) fn is_mapped_memory(address: usize) -> bool {
    let at = HostPhysAddr::from(address);
    !is_guard_page(address)
        && MAPPED
            .get()
            .is_some_and(|mapped| mapped.memory.iter().any(|range| range.contains(at)))
}

/// Stops this CPU for good.
pub(crate) fn park() -> ! {
    // SAFETY: waits for events for ever; there is nothing to be upheld.
    unsafe { park_forever() }
}

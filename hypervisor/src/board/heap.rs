//! The hypervisor's heap: a fixed piece of its own image, outside every guest's
//! reach. Used while VMs are built, not between an exit and the next entry.
#![expect(unsafe_code, reason = "the heap's memory is handed to the allocator")]

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;

use buddy_system_allocator::LockedHeap;

/// Enough for page tables of a large machine, VM descriptions and vGIC state.
const HEAP_BYTES: usize = 16 << 20;

#[global_allocator]
static HEAP: LockedHeap<32> = LockedHeap::empty();

#[repr(align(4096))]
struct Space(UnsafeCell<MaybeUninit<[u8; HEAP_BYTES]>>);

// SAFETY: only `init` touches the space, once; later the allocator's lock
// guards it.
unsafe impl Sync for Space {}

/// Not cleared at the start, unlike other statics: its section says so.
#[unsafe(link_section = ".bss.heap")]
static SPACE: Space = Space(UnsafeCell::new(MaybeUninit::uninit()));

/// Returns how many bytes are in use, as the allocator rounds them.
pub(crate) fn used() -> usize {
    HEAP.lock().stats_alloc_actual()
}

/// Makes the heap usable. Called once, by the boot CPU, before anything allocates.
pub(crate) fn init() {
    // SAFETY: the space is used for nothing else, and this runs once.
    unsafe { HEAP.lock().init(SPACE.0.get() as usize, HEAP_BYTES) };
}

//! Memory that a driver reaches by pointers and a device by addresses: the
//! guest-physical address of a byte is its address on the host.

use std::alloc::{Layout, alloc_zeroed};
use std::cell::{Cell, RefCell};
use std::ptr::{self, NonNull};

use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr};
use vm_contract::{AccessError, GuestMemory, GuestPhysAddr};

const PAGES: usize = 512;
const BYTES: usize = PAGES * PAGE_SIZE;

thread_local! {
    /// Each test has its own, as drivers call their `Hal` without a value.
    static ARENA: Arena = Arena::new();
}

/// Pages that are never freed, and which of them are in use.
struct Arena {
    base: *mut u8,
    used: RefCell<[bool; PAGES]>,
    /// Where to look first.
    hint: Cell<usize>,
}

impl Arena {
    fn new() -> Self {
        let layout = Layout::from_size_align(BYTES, PAGE_SIZE).expect("a valid layout");
        // SAFETY: the layout is not empty.
        let base = unsafe { alloc_zeroed(layout) };
        assert!(!base.is_null(), "out of memory");
        Self {
            base,
            used: RefCell::new([false; PAGES]),
            hint: Cell::new(0),
        }
    }

    /// Takes `count` pages in a row, filled with zeros.
    fn take(&self, count: usize) -> NonNull<u8> {
        let mut used = self.used.borrow_mut();
        let free = |start: &usize| {
            used.get(*start..start + count)
                .is_some_and(|pages| pages.iter().all(|used| !used))
        };
        let hint = self.hint.get();
        let start = (hint..PAGES).chain(0..hint).find(free).expect("pages");
        mark(used.as_mut_slice(), start, count, true);
        self.hint.set(start + count);
        let page = self.base.wrapping_add(start * PAGE_SIZE);
        // SAFETY: the pages lie in the arena and nobody else uses them.
        unsafe { ptr::write_bytes(page, 0, count * PAGE_SIZE) };
        NonNull::new(page).expect("within the arena")
    }

    fn give_back(&self, page: *mut u8, count: usize) {
        let start = (page.addr() - self.base.addr()) / PAGE_SIZE;
        mark(self.used.borrow_mut().as_mut_slice(), start, count, false);
    }

    /// Returns a pointer to `len` bytes at `address`, if they are in the arena.
    fn at(&self, address: GuestPhysAddr, len: usize) -> Result<*mut u8, AccessError> {
        let offset = usize::from(address).checked_sub(self.base.addr());
        let offset = offset.ok_or(AccessError::OutsideMemory)?;
        match offset.checked_add(len) {
            Some(end) if end <= BYTES => Ok(self.base.wrapping_add(offset)),
            _ => Err(AccessError::OutsideMemory),
        }
    }
}

fn mark(used: &mut [bool], start: usize, count: usize, value: bool) {
    let pages = used.get_mut(start..start + count);
    pages.expect("pages of the arena").fill(value);
}

/// The arena of this thread, as guest memory.
pub(crate) struct ArenaMemory;

impl GuestMemory for ArenaMemory {
    fn read(&self, address: GuestPhysAddr, buffer: &mut [u8]) -> Result<(), AccessError> {
        ARENA.with(|arena| {
            let source = arena.at(address, buffer.len())?;
            // SAFETY: the bytes lie in the arena, the buffer does not.
            unsafe { ptr::copy_nonoverlapping(source, buffer.as_mut_ptr(), buffer.len()) };
            Ok(())
        })
    }

    fn write(&self, address: GuestPhysAddr, bytes: &[u8]) -> Result<(), AccessError> {
        ARENA.with(|arena| {
            let target = arena.at(address, bytes.len())?;
            // SAFETY: as above.
            unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len()) };
            Ok(())
        })
    }
}

/// Gives drivers the pages of the arena; buffers are copied in and out, as with
/// bounce buffers.
pub(crate) struct ArenaHal;

// SAFETY: pages come from the arena, zeroed and aligned, and are handed out once.
unsafe impl Hal for ArenaHal {
    fn dma_alloc(pages: usize, _direction: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        let page = ARENA.with(|arena| arena.take(pages));
        (page.addr().get() as PhysAddr, page)
    }

    unsafe fn dma_dealloc(_address: PhysAddr, page: NonNull<u8>, pages: usize) -> i32 {
        ARENA.with(|arena| arena.give_back(page.as_ptr(), pages));
        0
    }

    unsafe fn mmio_phys_to_virt(_address: PhysAddr, _size: usize) -> NonNull<u8> {
        unreachable!("only PCI asks for this")
    }

    unsafe fn share(buffer: NonNull<[u8]>, direction: BufferDirection) -> PhysAddr {
        let pages = buffer.len().div_ceil(PAGE_SIZE);
        let copy = ARENA.with(|arena| arena.take(pages));
        if direction != BufferDirection::DeviceToDriver {
            // SAFETY: the caller's buffer is valid, the copy is as long.
            unsafe {
                ptr::copy_nonoverlapping(buffer.cast::<u8>().as_ptr(), copy.as_ptr(), buffer.len());
            }
        }
        copy.addr().get() as PhysAddr
    }

    unsafe fn unshare(address: PhysAddr, buffer: NonNull<[u8]>, direction: BufferDirection) {
        let address = usize::try_from(address).expect("an address of this host");
        ARENA.with(|arena| {
            let copy = arena
                .at(address.into(), buffer.len())
                .expect("shared before");
            if direction != BufferDirection::DriverToDevice {
                // SAFETY: the caller's buffer is valid, the copy is as long.
                unsafe {
                    ptr::copy_nonoverlapping(copy, buffer.cast::<u8>().as_ptr(), buffer.len());
                }
            }
            arena.give_back(copy, buffer.len().div_ceil(PAGE_SIZE));
        });
    }
}

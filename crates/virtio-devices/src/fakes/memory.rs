//! Simulated guest memory.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::ops::Range;

use vm_contract::{AccessError, GuestMemory, GuestPhysAddr};

/// Is called after each read by the device with all of the memory.
type Disturbance = Box<dyn FnMut(&mut [u8])>;

/// One range of guest memory, filled with zeros at first.
pub struct SimMemory {
    base: u64,
    bytes: RefCell<Vec<u8>>,
    disturbance: RefCell<Option<Disturbance>>,
    accesses: Cell<u64>,
}

impl SimMemory {
    /// Makes memory of `bytes` bytes that starts at `base`.
    #[must_use]
    pub fn new(base: u64, bytes: usize) -> Self {
        Self {
            base,
            bytes: RefCell::new(vec![0; bytes]),
            disturbance: RefCell::new(None),
            accesses: Cell::new(0),
        }
    }

    /// Returns where the memory starts.
    #[must_use]
    pub const fn base(&self) -> u64 {
        self.base
    }

    /// Calls `disturbance` after each read of a device: another CPU of the guest
    /// that writes at the same time.
    pub fn disturb(&self, disturbance: impl FnMut(&mut [u8]) + 'static) {
        *self.disturbance.borrow_mut() = Some(Box::new(disturbance));
    }

    /// Leaves the memory alone from now on.
    pub fn calm(&self) {
        *self.disturbance.borrow_mut() = None;
    }

    /// Returns how often devices have read or written.
    #[must_use]
    pub const fn accesses(&self) -> u64 {
        self.accesses.get()
    }

    /// Returns a copy of `len` bytes at `address`.
    ///
    /// # Panics
    /// If they are not all in memory.
    #[must_use]
    pub fn bytes(&self, address: u64, len: usize) -> Vec<u8> {
        let range = self.range(address, len).expect("it lies in memory");
        let bytes = self.bytes.borrow();
        bytes.get(range).expect("it lies in memory").to_vec()
    }

    /// Writes `bytes` at `address`, as the guest.
    ///
    /// # Panics
    /// If they do not all fit.
    pub fn set(&self, address: u64, bytes: &[u8]) {
        self.put(address, bytes).expect("it lies in memory");
    }

    /// Reads the 16-bit number at `address`, as the guest.
    ///
    /// # Panics
    /// If it is not in memory.
    #[must_use]
    pub fn get_u16(&self, address: u64) -> u16 {
        let mut bytes = [0; 2];
        bytes.copy_from_slice(&self.bytes(address, 2));
        u16::from_le_bytes(bytes)
    }

    /// Writes the 16-bit number at `address`, as the guest.
    ///
    /// # Panics
    /// If it is not in memory.
    pub fn set_u16(&self, address: u64, value: u16) {
        self.set(address, &value.to_le_bytes());
    }

    fn range(&self, address: u64, len: usize) -> Option<Range<usize>> {
        let start = usize::try_from(address.checked_sub(self.base)?).ok()?;
        let end = start.checked_add(len)?;
        (end <= self.bytes.borrow().len()).then_some(start..end)
    }

    fn put(&self, address: u64, bytes: &[u8]) -> Option<()> {
        let range = self.range(address, bytes.len())?;
        let mut memory = self.bytes.borrow_mut();
        memory.get_mut(range)?.copy_from_slice(bytes);
        Some(())
    }

    fn count(&self) {
        self.accesses.set(self.accesses.get() + 1);
    }
}

impl GuestMemory for SimMemory {
    fn read(&self, address: GuestPhysAddr, buffer: &mut [u8]) -> Result<(), AccessError> {
        self.count();
        let range = self.range(usize::from(address) as u64, buffer.len());
        let range = range.ok_or(AccessError::OutsideMemory)?;
        let mut bytes = self.bytes.borrow_mut();
        let source = bytes.get(range).ok_or(AccessError::OutsideMemory)?;
        buffer.copy_from_slice(source);
        if let Some(disturbance) = self.disturbance.borrow_mut().as_mut() {
            disturbance(&mut bytes);
        }
        Ok(())
    }

    fn write(&self, address: GuestPhysAddr, bytes: &[u8]) -> Result<(), AccessError> {
        self.count();
        self.put(usize::from(address) as u64, bytes)
            .ok_or(AccessError::OutsideMemory)
    }
}

impl fmt::Debug for SimMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimMemory")
            .field("base", &self.base)
            .field("len", &self.bytes.borrow().len())
            .finish_non_exhaustive()
    }
}

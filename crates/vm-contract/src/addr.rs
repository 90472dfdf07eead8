//! Guest and host physical addresses.

use memory_addr::{AddrRange, def_usize_addr, def_usize_addr_formatter};

def_usize_addr! {
    /// An intermediate physical address (IPA): what a guest believes to be
    /// physical. It means nothing without a stage-2 translation.
    pub type GuestPhysAddr;

    /// A physical address of the machine itself.
    pub type HostPhysAddr;
}

def_usize_addr_formatter! {
    GuestPhysAddr = "IPA:{}";
    HostPhysAddr = "PA:{}";
}

/// A half-open range of guest physical addresses.
pub type GuestPhysAddrRange = AddrRange<GuestPhysAddr>;

/// A half-open range of host physical addresses.
pub type HostPhysAddrRange = AddrRange<HostPhysAddr>;

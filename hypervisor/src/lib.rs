//! The reference hypervisor.
#![no_std]

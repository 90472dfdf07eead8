//! Host device tree to platform description, VM description to guest device tree.
#![no_std]

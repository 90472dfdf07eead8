//! A virtual GICv3: distributor, redistributors and list-register handling.
#![no_std]

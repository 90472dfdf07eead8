//! AArch64 stage-2 translation tables with ownership bits, VMIDs and TLB debts.
#![no_std]

//! TLB maintenance on the machine, at EL2.
#![expect(
    unsafe_code,
    reason = "TLB maintenance instructions exist only as assembly"
)]

use core::arch::asm;

use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::{Readable, SCTLR_EL1, TCR_EL1, VTTBR_EL2, Writeable};
use vm_contract::GuestPhysAddrRange;

use crate::level::{LeafSize, PAGE_BYTES};
use crate::tlb::Stage2Tlb;

/// Ranges with more leaves than this are invalidated as a whole VMID.
const MAX_BY_ADDRESS: usize = 64;

/// TCR_EL1.EPD0 and EPD1: a TLB miss of stage 1 faults instead of starting a
/// walk.
const TCR_NO_WALKS: u64 =
    TCR_EL1::EPD0::DisableTTBR0Walks.value | TCR_EL1::EPD1::DisableTTBR1Walks.value;

/// SCTLR_EL1.M: stage 1 is on.
const SCTLR_M: u64 = SCTLR_EL1::M::Enable.value;

/// The TLBs of all CPUs in the Inner Shareable domain, reached from EL2.
///
/// Where VTTBR_EL2 names another guest, it is set for the time of the
/// operation and put back. HCR_EL2.TGE must be 0, and interrupts masked as they
/// are in a hypervisor that takes them as exits only.
#[derive(Clone, Copy, Debug, Default)]
pub struct El2Tlb;

impl Stage2Tlb for El2Tlb {
    fn publish(&mut self) {
        barrier::dsb(barrier::ISHST);
    }

    fn invalidate(&mut self, vttbr: u64, range: GuestPhysAddrRange, stride: LeafSize) {
        let (start, end) = (usize::from(range.start), usize::from(range.end));
        if end.saturating_sub(start).div_ceil(stride.bytes()) > MAX_BY_ADDRESS {
            self.invalidate_all(vttbr);
            return;
        }
        with_vttbr(vttbr, || {
            barrier::dsb(barrier::ISHST);
            for ipa in (start..end).step_by(stride.bytes()) {
                tlbi_ipas2e1is(ipa);
            }
            // The combined entries may be removed only after the stage-2
            // entries from which they could be made again.
            barrier::dsb(barrier::ISH);
            tlbi_vmalle1is();
            barrier::dsb(barrier::ISH);
            barrier::isb(barrier::SY);
        });
    }

    fn invalidate_all(&mut self, vttbr: u64) {
        with_vttbr(vttbr, || {
            barrier::dsb(barrier::ISHST);
            tlbi_vmalls12e1is();
            barrier::dsb(barrier::ISH);
            barrier::isb(barrier::SY);
        });
    }
}

/// Runs `operation` with VTTBR_EL2 = `vttbr`, whose VMID the TLB instructions
/// take.
///
/// Meanwhile EL1's registers belong to another guest. Cortex-A57, A72 and A76
/// may translate for EL1 on speculation (errata 1319537, 1319367 and 1165522) and
/// would keep what comes of it under the wrong VMID. So stage 1 is on and each of
/// its walks refused until everything fits together again. The walks have to be
/// off before stage 1 is on.
fn with_vttbr(vttbr: u64, operation: impl FnOnce()) {
    let current = VTTBR_EL2.get();
    // CnP does not take part in naming the guest.
    if (current ^ vttbr) & !1 == 0 {
        operation();
        return;
    }
    let tcr = TCR_EL1.get();
    let sctlr = SCTLR_EL1.get();
    TCR_EL1.set(tcr | TCR_NO_WALKS);
    barrier::isb(barrier::SY);
    SCTLR_EL1.set(sctlr | SCTLR_M);
    barrier::isb(barrier::SY);
    VTTBR_EL2.set(vttbr);
    barrier::isb(barrier::SY);
    operation();
    VTTBR_EL2.set(current);
    barrier::isb(barrier::SY);
    SCTLR_EL1.set(sctlr);
    barrier::isb(barrier::SY);
    TCR_EL1.set(tcr);
}

/// Removes stage-2 entries, of any level, for `ipa` and the current VMID.
fn tlbi_ipas2e1is(ipa: usize) {
    let page = ipa / PAGE_BYTES;
    // SAFETY: removing TLB entries changes no translation and no memory. Below
    // EL2 the instruction is undefined, and traps.
    unsafe { asm!("tlbi ipas2e1is, {}", in(reg) page, options(nostack, preserves_flags)) }
}

/// Removes stage-1 and combined entries of the current VMID.
fn tlbi_vmalle1is() {
    // SAFETY: as for `tlbi_ipas2e1is`.
    unsafe { asm!("tlbi vmalle1is", options(nostack, preserves_flags)) }
}

/// Removes stage-1, stage-2 and combined entries of the current VMID.
fn tlbi_vmalls12e1is() {
    // SAFETY: as for `tlbi_ipas2e1is`.
    unsafe { asm!("tlbi vmalls12e1is", options(nostack, preserves_flags)) }
}

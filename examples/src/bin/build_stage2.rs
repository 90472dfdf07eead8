//! Builds the second stage of translation of a guest, takes a page away from it
//! and pays for that.
//!
//! `VecTables` keeps the tables in a `Vec`, `TlbLog` notes what a TLB would be
//! told. On the machine the hypervisor implements `TableMem` on its frames, and
//! `El2Tlb` issues the TLBI instructions.
//!
//! Expected output:
//!
//! ```text
//! IPA:0x40201234 -> PA:0x80401234 in a leaf of 2048 KiB
//! not memory, so a load there is an exit: IPA:0x9000000 -> nothing
//! after unmap: IPA:0x40201234 -> nothing
//! its neighbour: IPA:0x40202000 -> PA:0x80402000 in a leaf of 4 KiB
//! the debt: 4 KiB from IPA:0x40201000
//! VTTBR_EL2: VMID 1, VTCR_EL2.T0SZ: 24
//! table frames after the end: 0
//! ```

use s2_mmu::fakes::{TlbLog, VecTables};
use s2_mmu::{Attributes, HwVmid, MapError, PAGE_BYTES, Stage2, Stage2Config};
use vm_contract::{GuestPhysAddr, HostPhysAddr};

/// ID_AA64MMFR0_EL1.PARange of a CPU with 40 bits of physical address.
const PARANGE_40_BITS: u64 = 2;
/// Where the guest sees its RAM, and what lies there.
const GUEST_RAM: GuestPhysAddr = GuestPhysAddr::from_usize(0x4000_0000);
const HOST_RAM: HostPhysAddr = HostPhysAddr::from_usize(0x8020_0000);
const RAM_BYTES: u64 = 64 << 20;
/// A page in the middle of a 2 MiB block.
const LOST_PAGE: GuestPhysAddr = GuestPhysAddr::from_usize(0x4020_1000);
/// The UART, which is not memory.
const UART: GuestPhysAddr = GuestPhysAddr::from_usize(0x0900_0000);

fn main() -> Result<(), MapError> {
    let config = Stage2Config::from_parange(PARANGE_40_BITS, None);
    let vmid = HwVmid::new(1).ok_or(MapError::VmidTooWide)?;
    let mut tlb = TlbLog::new();
    let mut stage2 = Stage2::new(VecTables::new(), config, vmid)?;

    stage2.map(&mut tlb, GUEST_RAM, HOST_RAM, RAM_BYTES, Attributes::RAM)?;
    show("", &stage2, LOST_PAGE + 0x234);
    show("not memory, so a load there is an exit: ", &stage2, UART);

    // The block is split. What it was may still be in a TLB: unmap returns a
    // debt, and nobody may have the page before it is settled.
    let debt = stage2.unmap(&mut tlb, LOST_PAGE, PAGE_BYTES as u64)?;
    // Splitting the block has invalidated it already: break before make.
    tlb.events.clear();
    debt.settle(&mut tlb);
    show("after unmap: ", &stage2, LOST_PAGE + 0x234);
    show("its neighbour: ", &stage2, LOST_PAGE + PAGE_BYTES);
    for (range, _) in tlb.take_invalidated() {
        println!(
            "the debt: {} KiB from {:?}",
            range.size() >> 10,
            range.start
        );
    }

    // What is loaded when a vCPU of the guest is entered.
    println!(
        "VTTBR_EL2: VMID {}, VTCR_EL2.T0SZ: {}",
        stage2.vttbr() >> 48,
        config.vtcr() & 0x3F
    );
    let tables = stage2.destroy(&mut tlb);
    println!("table frames after the end: {}", tables.frames_in_use());
    Ok(())
}

fn show(when: &str, stage2: &Stage2<VecTables>, ipa: GuestPhysAddr) {
    match stage2.translate(ipa) {
        Some(found) => println!(
            "{when}{ipa:?} -> {:?} in a leaf of {} KiB",
            found.pa,
            found.leaf.bytes() >> 10
        ),
        None => println!("{when}{ipa:?} -> nothing"),
    }
}

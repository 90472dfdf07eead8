//! A driver for the GICv3 (IHI 0069): as much as the guests need.

use super::{cpu, mmio, timer};
use crate::{check, sysreg};

/// The distributor's registers.
pub const GICD: u64 = 0x0800_0000;
/// The first redistributor's registers.
pub const GICR: u64 = 0x080A_0000;
/// From one redistributor to the next.
pub const GICR_STRIDE: u64 = 0x2_0000;
/// From a redistributor's first frame to its second: SGIs and PPIs.
pub const SGI_FRAME: u64 = 0x1_0000;

/// GICD_CTLR.
pub const CTLR: u64 = 0x0;
/// GICD_TYPER.
pub const TYPER: u64 = 0x4;
/// GICD_ISENABLER and its kind: group, set-enable and so on, one bit for each
/// interrupt.
pub const IGROUPR: u64 = 0x80;
/// Set-enable registers.
pub const ISENABLER: u64 = 0x100;
/// Clear-enable registers.
pub const ICENABLER: u64 = 0x180;
/// Set-pending registers.
pub const ISPENDR: u64 = 0x200;
/// Clear-pending registers.
pub const ICPENDR: u64 = 0x280;
/// Set-active registers.
pub const ISACTIVER: u64 = 0x300;
/// Clear-active registers.
pub const ICACTIVER: u64 = 0x380;
/// Priority registers, one byte for each interrupt.
pub const IPRIORITYR: u64 = 0x400;
/// Configuration registers, two bits for each interrupt.
pub const ICFGR: u64 = 0xC00;
/// Affinity routing registers of SPIs, eight bytes each.
pub const IROUTER: u64 = 0x6000;

const CTLR_ENABLE_G1: u32 = 1 << 1;
const CTLR_ARE: u32 = 1 << 4;
const CTLR_RWP: u32 = 1 << 31;
/// GICR_WAKER.
pub const WAKER: u64 = 0x14;
/// GICR_PROPBASER.
pub const PROPBASER: u64 = 0x70;
/// GICR_PENDBASER.
pub const PENDBASER: u64 = 0x78;

/// Nothing is pending.
pub const SPURIOUS: u32 = 1023;

/// Tells whether the machine has a GICv3, whose CPU interface is in the CPU.
#[must_use]
pub fn has_gicv3() -> bool {
    sysreg!("id_aa64pfr0_el1") >> 24 & 0xF != 0
}

/// Returns how many interrupts the distributor has, SGIs and PPIs included.
#[must_use]
pub fn intid_count() -> u32 {
    ((mmio::read32(GICD + TYPER) & 0x1F) + 1) * 32
}

/// Returns this CPU's redistributor.
#[must_use]
pub fn redistributor() -> u64 {
    let mpidr = cpu::mpidr();
    let affinity = mpidr & 0xFF_FFFF | (mpidr >> 32) << 24;
    let mut frame = GICR;
    loop {
        let typer = mmio::read64(frame + 8);
        if typer >> 32 == affinity {
            return frame;
        }
        check!(
            typer & 1 << 4 == 0,
            "no redistributor has affinity {affinity:#x}"
        );
        frame += GICR_STRIDE;
    }
}

/// Brings the distributor to a known state: all SPIs off, inactive, group 1,
/// edge-triggered, of priority 0xA0, for the boot CPU; affinity routing on.
pub fn init_distributor() {
    let control = GICD + CTLR;
    mmio::write32(control, 0);
    wait_for_writes(control, CTLR_RWP);
    mmio::write32(control, CTLR_ARE);
    wait_for_writes(control, CTLR_RWP);
    let mpidr = cpu::mpidr();
    for intid in 32..intid_count() {
        if intid % 32 == 0 {
            let word = u64::from(intid / 32) * 4;
            mmio::write32(GICD + ICENABLER + word, u32::MAX);
            mmio::write32(GICD + ICPENDR + word, u32::MAX);
            mmio::write32(GICD + ICACTIVER + word, u32::MAX);
            mmio::write32(GICD + IGROUPR + word, u32::MAX);
        }
        if intid % 16 == 0 {
            mmio::write32(GICD + ICFGR + u64::from(intid / 16) * 4, 0xAAAA_AAAA);
        }
        set_priority(intid, 0xA0);
        route(intid, mpidr);
    }
    wait_for_writes(control, CTLR_RWP);
    mmio::write32(control, CTLR_ARE | CTLR_ENABLE_G1);
    wait_for_writes(control, CTLR_RWP);
}

/// Brings this CPU's redistributor and CPU interface to a known state: SGIs on,
/// PPIs off, group 1, priority 0xA0; priority mask open; EOI deactivates too.
pub fn init_cpu() {
    let frame = redistributor();
    let waker = mmio::read32(frame + WAKER) & !0b10;
    mmio::write32(frame + WAKER, waker);
    let awake = timer::wait_until(|| mmio::read32(frame + WAKER) & 0b100 == 0);
    check!(awake, "GICR_WAKER.ChildrenAsleep stays set");
    let sgi = frame + SGI_FRAME;
    mmio::write32(sgi + ICENABLER, u32::MAX);
    mmio::write32(sgi + ICPENDR, u32::MAX);
    mmio::write32(sgi + ICACTIVER, u32::MAX);
    mmio::write32(sgi + IGROUPR, u32::MAX);
    for word in 0..8 {
        mmio::write32(sgi + IPRIORITYR + 4 * word, 0xA0A0_A0A0);
    }
    wait_for_writes(frame, 1 << 3);
    mmio::write32(sgi + ISENABLER, 0xFFFF);
    let enabled = sysreg!("icc_sre_el1") | 1;
    sysreg!("icc_sre_el1", enabled);
    sysreg!("icc_pmr_el1", 0xFF);
    sysreg!("icc_bpr1_el1", 0);
    sysreg!("icc_ctlr_el1", 0);
    sysreg!("icc_igrpen1_el1", 1);
}

fn wait_for_writes(register: u64, bit: u32) {
    let done = timer::wait_until(|| mmio::read32(register) & bit == 0);
    check!(done, "register write pending stays set at {register:#x}");
}

/// Returns the address of the bit array at `array` that holds `intid`, and the
/// bit.
#[must_use]
pub fn bit_register(array: u64, intid: u32) -> (u64, u32) {
    if intid < 32 {
        (redistributor() + SGI_FRAME + array, 1 << intid)
    } else {
        (GICD + array + u64::from(intid / 32) * 4, 1 << (intid % 32))
    }
}

/// Writes the bit of `intid` in the bit array at `array`.
pub fn set_bit(array: u64, intid: u32) {
    let (register, bit) = bit_register(array, intid);
    mmio::write32(register, bit);
}

/// Reads the bit of `intid` in the bit array at `array`.
#[must_use]
pub fn bit(array: u64, intid: u32) -> bool {
    let (register, bit) = bit_register(array, intid);
    mmio::read32(register) & bit != 0
}

/// Writes the word of this CPU's SGIs and PPIs in the bit array at `array`.
pub fn write_private(array: u64, bits: u32) {
    mmio::write32(redistributor() + SGI_FRAME + array, bits);
}

/// Reads the word of this CPU's SGIs and PPIs in the bit array at `array`.
#[must_use]
pub fn read_private(array: u64) -> u32 {
    mmio::read32(redistributor() + SGI_FRAME + array)
}

/// Enables an interrupt; a PPI or SGI of this CPU.
pub fn enable(intid: u32) {
    set_bit(ISENABLER, intid);
}

/// Disables an interrupt and waits until that has its effect.
pub fn disable(intid: u32) {
    set_bit(ICENABLER, intid);
    if intid < 32 {
        wait_for_writes(redistributor(), 1 << 3);
    } else {
        wait_for_writes(GICD + CTLR, CTLR_RWP);
    }
}

/// Sets the priority of an interrupt; a PPI or SGI of this CPU.
pub fn set_priority(intid: u32, priority: u8) {
    let base = if intid < 32 {
        redistributor() + SGI_FRAME
    } else {
        GICD
    };
    mmio::write8(base + IPRIORITYR + u64::from(intid), priority);
}

/// Makes an SPI level-sensitive (or edge-triggered).
pub fn set_level_sensitive(intid: u32, level: bool) {
    let register = GICD + ICFGR + u64::from(intid / 16) * 4;
    let bit = 2 << (intid % 16 * 2);
    let value = mmio::read32(register);
    mmio::write32(register, if level { value & !bit } else { value | bit });
}

/// Routes an SPI to the CPU with this MPIDR.
pub fn route(intid: u32, mpidr: u64) {
    mmio::write64(GICD + IROUTER + u64::from(intid) * 8, mpidr);
}

/// Acknowledges the highest pending group 1 interrupt.
#[must_use]
pub fn acknowledge() -> u32 {
    (sysreg!("icc_iar1_el1") & 0xFF_FFFF) as u32
}

/// Ends an interrupt: drops its priority and, in EOImode 0, deactivates it.
pub fn end(intid: u32) {
    sysreg!("icc_eoir1_el1", u64::from(intid));
}

/// Deactivates an interrupt in EOImode 1.
pub fn deactivate(intid: u32) {
    sysreg!("icc_dir_el1", u64::from(intid));
}

/// Returns what to write to ICC_SGI1R_EL1 for SGI `intid` to one CPU.
#[must_use]
pub const fn sgi_to(intid: u32, mpidr: u64) -> u64 {
    let aff0 = mpidr & 0xFF;
    (intid as u64) << 24
        | 1 << (aff0 & 15)
        | (aff0 >> 4) << 44
        | (mpidr >> 8 & 0xFF) << 16
        | (mpidr >> 16 & 0xFF) << 32
        | (mpidr >> 32 & 0xFF) << 48
}

/// Sends an SGI: `target` is what ICC_SGI1R_EL1 takes.
pub fn send_sgi(target: u64) {
    cpu::dsb();
    sysreg!("icc_sgi1r_el1", target);
}

/// Sends SGI `intid` to all CPUs but this one.
pub fn send_sgi_to_others(intid: u32) {
    send_sgi(u64::from(intid) << 24 | 1 << 40);
}

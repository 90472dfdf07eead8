//! The hardware edge: the virtual interface control registers, GICH.

use arm_vgic_core::{IchRegs, ListRegister};

use crate::regs::lr;

/// How many list registers are used at most.
const MAX_LRS: usize = 16;

/// ICH_HCR_EL2.TDIR, which GICH_HCR does not have.
const TDIR: u64 = 1 << 14;

/// The GICH frame of the CPU this runs on, in its own format (IHI 0048, chapter
/// 5). Implemented by `El2Gich` on the machine and by `FakeGich` in tests.
pub trait GichRegs {
    /// Reads GICH_VTR.
    fn read_vtr(&self) -> u32;
    /// Reads GICH_HCR.
    fn read_hcr(&self) -> u32;
    /// Writes GICH_HCR.
    fn write_hcr(&mut self, value: u32);
    /// Reads GICH_VMCR.
    fn read_vmcr(&self) -> u32;
    /// Writes GICH_VMCR.
    fn write_vmcr(&mut self, value: u32);
    /// Reads GICH_APR.
    fn read_apr(&self) -> u32;
    /// Writes GICH_APR.
    fn write_apr(&mut self, value: u32);
    /// Reads `GICH_LR<n>`; `n` is below the number that GICH_VTR gives.
    fn read_lr(&self, n: usize) -> u32;
    /// Writes `GICH_LR<n>`; `n` is below the number that GICH_VTR gives.
    fn write_lr(&mut self, n: usize, value: u32);
}

/// The list registers of a GICv2 in the form that the [`Controller`] knows.
///
/// GICH_HCR and GICH_VMCR have the layout of their GICv3 counterparts as far as
/// they go; list registers are translated; there is one active-priority register
/// for both groups, which stands for the one of Group 0.
///
/// [`Controller`]: arm_vgic_core::Controller
#[derive(Clone, Copy, Debug)]
pub struct VirtualInterface<R> {
    gich: R,
    vtr: u32,
}

impl<R: GichRegs> VirtualInterface<R> {
    /// Reads what this CPU implements, and empties the list registers that are more
    /// than a [`Controller`](arm_vgic_core::Controller) uses.
    pub fn new(mut gich: R) -> Self {
        let vtr = gich.read_vtr();
        for n in MAX_LRS..lr_count(vtr) {
            gich.write_lr(n, 0);
        }
        Self { gich, vtr }
    }

    /// Returns the registers.
    pub const fn gich(&self) -> &R {
        &self.gich
    }

    /// Returns the registers.
    pub const fn gich_mut(&mut self) -> &mut R {
        &mut self.gich
    }
}

impl<R: GichRegs> IchRegs for VirtualInterface<R> {
    #[inline]
    fn lr_count(&self) -> usize {
        lr_count(self.vtr).min(MAX_LRS)
    }

    #[inline]
    fn priority_bits(&self) -> u32 {
        (self.vtr >> 29) + 1
    }

    #[inline]
    fn preemption_bits(&self) -> u32 {
        (self.vtr >> 26 & 0x7) + 1
    }

    #[inline]
    fn can_trap_dir(&self) -> bool {
        // By stage 2, always.
        true
    }

    #[inline]
    fn read_lr(&self, n: usize) -> ListRegister {
        from_gich(self.gich.read_lr(n))
    }

    #[inline]
    fn write_lr(&mut self, n: usize, value: ListRegister) {
        self.gich.write_lr(n, to_gich(value));
    }

    #[inline]
    fn read_vmcr(&self) -> u64 {
        self.gich.read_vmcr().into()
    }

    #[inline]
    fn write_vmcr(&mut self, value: u64) {
        self.gich.write_vmcr(low(value));
    }

    #[inline]
    fn read_hcr(&self) -> u64 {
        self.gich.read_hcr().into()
    }

    #[inline]
    fn write_hcr(&mut self, value: u64) {
        self.gich.write_hcr(low(value & !TDIR));
    }

    #[inline]
    fn read_ap0r(&self, n: usize) -> u64 {
        match n {
            0 => self.gich.read_apr().into(),
            _ => 0,
        }
    }

    #[inline]
    fn write_ap0r(&mut self, n: usize, value: u64) {
        if n == 0 {
            self.gich.write_apr(low(value));
        }
    }

    #[inline]
    fn read_ap1r(&self, _: usize) -> u64 {
        0
    }

    #[inline]
    fn write_ap1r(&mut self, _: usize, _: u64) {}
}

/// Returns how many list registers there are, as GICH_VTR says.
const fn lr_count(vtr: u32) -> usize {
    (vtr & 0x3F) as usize + 1
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "these registers have 32 bits"
)]
const fn low(value: u64) -> u32 {
    value as u32
}

/// Translates a list register to `GICH_LR<n>`. The priority loses its lowest three
/// bits, which a GICv2 with virtualization does not implement.
const fn to_gich(value: ListRegister) -> u32 {
    let mut bits = value.intid() & lr::INTID_MASK;
    bits |= (value.priority() as u32 >> 3) << lr::PRIORITY_SHIFT;
    if value.is_pending() {
        bits |= lr::PENDING;
    }
    if value.is_active() {
        bits |= lr::ACTIVE;
    }
    if value.is_group1() {
        bits |= lr::GROUP1;
    }
    if let Some(physical) = value.pintid() {
        bits |= lr::HW | (physical as u32 & lr::INTID_MASK) << lr::PINTID_SHIFT;
    } else {
        bits |= (value.source() as u32) << lr::PINTID_SHIFT;
        if value.has_eoi_maintenance() {
            bits |= lr::EOI;
        }
    }
    bits
}

/// Translates `GICH_LR<n>` to a list register.
const fn from_gich(bits: u32) -> ListRegister {
    let priority = (bits >> lr::PRIORITY_SHIFT & 0x1F) as u8;
    let mut value = ListRegister::new(bits & lr::INTID_MASK, priority << 3, bits & lr::GROUP1 != 0);
    if bits & lr::PENDING != 0 {
        value = value.pending();
    }
    if bits & lr::ACTIVE != 0 {
        value = value.active();
    }
    if bits & lr::HW != 0 {
        let physical = (bits >> lr::PINTID_SHIFT & lr::INTID_MASK) as u16;
        return value.linked(physical);
    }
    if bits & lr::EOI != 0 {
        value = value.with_eoi_maintenance();
    }
    let source = (bits >> lr::PINTID_SHIFT & lr::SOURCE_MASK) as u8;
    value.with_source(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_lie_where_the_architecture_puts_them() {
        let lr = ListRegister::new;
        assert_eq!(to_gich(lr(0x3FF, 0, false)), 0x3FF);
        assert_eq!(to_gich(lr(0, 0xF8, false)), 0x1F << 23);
        assert_eq!(to_gich(lr(0, 0x08, true)), 1 << 30 | 1 << 23);
        assert_eq!(to_gich(ListRegister::EMPTY.pending()), 1 << 28);
        assert_eq!(to_gich(ListRegister::EMPTY.active()), 1 << 29);
        assert_eq!(
            to_gich(ListRegister::EMPTY.linked(0x3FF)),
            1 << 31 | 0x3FF << 10
        );
        assert_eq!(to_gich(ListRegister::EMPTY.with_source(7)), 7 << 10);
        assert_eq!(to_gich(ListRegister::EMPTY.with_eoi_maintenance()), 1 << 19);
    }

    #[test]
    fn what_is_implemented_is_read_from_the_type_register() {
        for (lr_count, vtr) in [(1, 0), (4, 3), (16, 15), (64, 63)] {
            let interface = VirtualInterface::new(crate::FakeGich::new(lr_count));
            assert_eq!(
                interface.vtr,
                0x9000_0000 | vtr,
                "PRIbits and PREbits are 4"
            );
            assert_eq!(interface.lr_count(), lr_count.min(16));
            let rest = interface.gich.list_registers().iter().skip(16);
            assert!(rest.copied().all(|entry| entry == 0), "of boot firmware");
            assert_eq!(interface.priority_bits(), 5);
            assert_eq!(interface.preemption_bits(), 5);
            assert!(interface.can_trap_dir());
        }
    }

    #[test]
    fn every_list_register_survives_the_translation() {
        // Reserved bits: 22:20, and with HW = 0 also 18:13.
        for pattern in 0..=u16::MAX {
            let bits = u32::from(pattern) << 16 | u32::from(pattern);
            let unlinked = if bits & lr::HW == 0 { 0x3F << 13 } else { 0 };
            let bits = bits & !(7 << 20 | unlinked);
            assert_eq!(to_gich(from_gich(bits)), bits);
        }
    }
}

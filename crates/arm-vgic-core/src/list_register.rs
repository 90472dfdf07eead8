//! The format of a list register, `ICH_LR<n>_EL2`. That of GICv2, `GICH_LR<n>`,
//! has the same fields elsewhere.

/// The value of one list register.
///
/// ```
/// use arm_vgic_core::ListRegister;
///
/// let lr = ListRegister::new(27, 0xA0, true).pending().linked(27);
/// assert_eq!(lr.bits(), 0x70A0_001B_0000_001B);
/// assert!(lr.is_pending() && !lr.is_active());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ListRegister(u64);

impl ListRegister {
    const PENDING: u64 = 1 << 62;
    const ACTIVE: u64 = 1 << 63;
    const HW: u64 = 1 << 61;
    const GROUP1: u64 = 1 << 60;
    const PRIORITY_SHIFT: u32 = 48;
    /// With HW = 0 the highest bits of pINTID are not part of a number: this
    /// one asks for maintenance on deactivation.
    const EOI: u64 = 1 << 41;
    const PINTID_SHIFT: u32 = 32;
    const PINTID_MASK: u64 = 0x1FFF;
    /// With HW = 0, GICv2's CPUID.
    const SOURCE_MASK: u64 = 0x7;

    /// The list register that holds nothing.
    pub const EMPTY: Self = Self(0);

    /// Returns an inactive list register for the virtual interrupt `intid`, in
    /// Group 1 if `group1`, else in Group 0.
    #[must_use]
    pub const fn new(intid: u32, priority: u8, group1: bool) -> Self {
        let group = if group1 { Self::GROUP1 } else { 0 };
        Self(group | (priority as u64) << Self::PRIORITY_SHIFT | intid as u64)
    }

    /// Returns the list register with this value.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Returns the value of the register.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Adds the pending state.
    #[must_use]
    pub const fn pending(self) -> Self {
        Self(self.0 | Self::PENDING)
    }

    /// Adds the active state.
    #[must_use]
    pub const fn active(self) -> Self {
        Self(self.0 | Self::ACTIVE)
    }

    /// Removes the pending state.
    #[must_use]
    pub const fn without_pending(self) -> Self {
        Self(self.0 & !Self::PENDING)
    }

    /// Removes the active state.
    #[must_use]
    pub const fn without_active(self) -> Self {
        Self(self.0 & !Self::ACTIVE)
    }

    /// Links the register to the physical interrupt `pintid` (HW = 1): the
    /// guest's deactivation of the virtual one deactivates it as well. Only 13
    /// bits of `pintid` count.
    #[must_use]
    pub const fn linked(self, pintid: u16) -> Self {
        Self(self.0 | Self::HW | (pintid as u64 & Self::PINTID_MASK) << Self::PINTID_SHIFT)
    }

    /// Names the vCPU, 0 to 7, that sent the SGI. GICv2 shows that to the guest;
    /// a GICv3 has no such field, and those bits of an unlinked register are zero.
    #[must_use]
    pub const fn with_source(self, vcpu: u8) -> Self {
        let cleared = self.0 & !(Self::SOURCE_MASK << Self::PINTID_SHIFT);
        Self(cleared | (vcpu as u64 & Self::SOURCE_MASK) << Self::PINTID_SHIFT)
    }

    /// Returns the vCPU that sent the SGI, as [`with_source`](Self::with_source)
    /// put it in.
    #[must_use]
    pub const fn source(self) -> u8 {
        (self.0 >> Self::PINTID_SHIFT & Self::SOURCE_MASK) as u8
    }

    /// Asks for a maintenance interrupt when the guest deactivates the
    /// interrupt. Not for linked registers, which cannot do this.
    #[must_use]
    pub const fn with_eoi_maintenance(self) -> Self {
        Self(self.0 | Self::EOI)
    }

    /// Tells whether the interrupt is pending, alone or besides active.
    #[must_use]
    pub const fn is_pending(self) -> bool {
        self.0 & Self::PENDING != 0
    }

    /// Tells whether the interrupt is active, alone or besides pending.
    #[must_use]
    pub const fn is_active(self) -> bool {
        self.0 & Self::ACTIVE != 0
    }

    /// Tells whether the interrupt is neither pending nor active.
    #[must_use]
    pub const fn is_inactive(self) -> bool {
        self.0 & (Self::PENDING | Self::ACTIVE) == 0
    }

    /// Tells whether the interrupt is pending and not active.
    #[must_use]
    pub const fn is_merely_pending(self) -> bool {
        self.0 & (Self::PENDING | Self::ACTIVE) == Self::PENDING
    }

    /// Tells whether the register is linked to a physical interrupt.
    #[must_use]
    pub const fn is_linked(self) -> bool {
        self.0 & Self::HW != 0
    }

    /// Tells whether the interrupt is in Group 1.
    #[must_use]
    pub const fn is_group1(self) -> bool {
        self.0 & Self::GROUP1 != 0
    }

    /// Tells whether deactivation asks for a maintenance interrupt.
    #[must_use]
    pub const fn has_eoi_maintenance(self) -> bool {
        !self.is_linked() && self.0 & Self::EOI != 0
    }

    /// Returns the number of the virtual interrupt.
    #[must_use]
    pub const fn intid(self) -> u32 {
        (self.0 & 0xFFFF_FFFF) as u32
    }

    /// Returns the number of the linked physical interrupt, or `None` if the
    /// register is not linked.
    #[must_use]
    pub const fn pintid(self) -> Option<u16> {
        if self.is_linked() {
            Some((self.0 >> Self::PINTID_SHIFT & Self::PINTID_MASK) as u16)
        } else {
            None
        }
    }

    /// Returns the priority; lower numbers go first.
    #[must_use]
    pub const fn priority(self) -> u8 {
        (self.0 >> Self::PRIORITY_SHIFT & 0xFF) as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_lie_where_the_architecture_puts_them() {
        assert_eq!(ListRegister::new(0x1234_5678, 0, false).bits(), 0x1234_5678);
        assert_eq!(
            ListRegister::new(0, 0xFF, false).bits(),
            0x00FF_0000_0000_0000
        );
        assert_eq!(ListRegister::new(0, 0, true).bits(), 1 << 60);
        assert_eq!(ListRegister::EMPTY.pending().bits(), 0b01 << 62);
        assert_eq!(ListRegister::EMPTY.active().bits(), 0b10 << 62);
        assert_eq!(
            ListRegister::EMPTY.linked(0x3FF).bits(),
            1 << 61 | 0x3FF << 32
        );
        assert_eq!(ListRegister::EMPTY.with_eoi_maintenance().bits(), 1 << 41);
    }

    #[test]
    fn what_was_put_in_is_read_back() {
        let lr = ListRegister::new(1019, 0xA8, true).pending().active();
        assert!(lr.is_pending() && lr.is_active() && lr.is_group1() && !lr.is_inactive());
        assert_eq!((lr.intid(), lr.priority(), lr.pintid()), (1019, 0xA8, None));
        assert!(lr.without_pending().without_active().is_inactive());
        assert_eq!(lr.linked(0xFFFF).pintid(), Some(0x1FFF), "13 bits");
    }

    #[test]
    fn the_eoi_bit_of_a_linked_register_is_part_of_the_physical_number() {
        let lr = ListRegister::EMPTY.linked(1 << 9);
        assert_eq!(lr.bits() >> 41 & 1, 1);
        assert!(!lr.has_eoi_maintenance());
    }

    #[test]
    fn a_link_that_is_made_again_stays() {
        let once = ListRegister::EMPTY.linked(27);
        assert_eq!(once.linked(27), once);
    }
}

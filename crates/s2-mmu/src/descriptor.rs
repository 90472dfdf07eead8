//! The codec of stage-2 descriptors: VMSAv8-64, 4 KiB granule, 48-bit output
//! addresses, HCR_EL2.FWB = 0 (Arm DDI 0487, "VMSAv8-64 translation table
//! format descriptors" and "stage 2 memory type and Cacheability attributes").

use vm_contract::HostPhysAddr;

use crate::attributes::{Attributes, MemoryKind, OwnerBits, Permissions};
use crate::level::{LAST_LEVEL, span};

const VALID: u64 = 1 << 0;
/// Tells a table from a block above the last level; set in every page.
const TABLE_OR_PAGE: u64 = 1 << 1;
const MEM_ATTR_SHIFT: u32 = 2;
const MEM_ATTR_MASK: u64 = 0b1111 << MEM_ATTR_SHIFT;
const S2AP_READ: u64 = 1 << 6;
const S2AP_WRITE: u64 = 1 << 7;
const SH_OUTER: u64 = 0b10 << 8;
const SH_INNER: u64 = 0b11 << 8;
/// The access flag; clear, it would make the first access fault.
const AF: u64 = 1 << 10;
/// Bits 47:12: the next table, or the output address.
const ADDRESS: u64 = 0x0000_FFFF_FFFF_F000;
/// XN\[1\]: with XN\[0\] (bit 53) clear it means "nowhere" with and without
/// FEAT_XNX.
const XN: u64 = 1 << 54;
const SOFTWARE_SHIFT: u32 = 55;
/// Bits 58:55, which the hardware ignores.
const SOFTWARE: u64 = 0b1111 << SOFTWARE_SHIFT;

const DEVICE_NGNRNE: u64 = 0b0000;
const DEVICE_NGNRE: u64 = 0b0001;
const NORMAL_NC: u64 = 0b0101;
const NORMAL_WB: u64 = 0b1111;

/// One 64-bit entry of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptor(u64);

impl Descriptor {
    /// The entry that translates nothing.
    pub(crate) const INVALID: Self = Self(0);

    /// Reads an entry from its raw form.
    pub(crate) const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// Returns the raw form.
    pub(crate) const fn raw(self) -> u64 {
        self.0
    }

    /// Returns the entry that points to the table at `table`.
    pub(crate) fn table(table: HostPhysAddr) -> Self {
        Self(address_bits(table) | TABLE_OR_PAGE | VALID)
    }

    /// Returns the block, or at the last level the page, that shows `pa`.
    pub(crate) fn leaf(level: u8, pa: HostPhysAddr, attributes: Attributes) -> Self {
        let kind = if level == LAST_LEVEL {
            TABLE_OR_PAGE | VALID
        } else {
            VALID
        };
        let memory = match attributes.memory {
            MemoryKind::Normal => NORMAL_WB << MEM_ATTR_SHIFT | SH_INNER,
            MemoryKind::NormalNonCacheable => NORMAL_NC << MEM_ATTR_SHIFT | SH_OUTER,
            MemoryKind::Device => DEVICE_NGNRE << MEM_ATTR_SHIFT | SH_OUTER,
            MemoryKind::DeviceNoEarlyAck => DEVICE_NGNRNE << MEM_ATTR_SHIFT | SH_OUTER,
        };
        let mut raw = address_bits(pa) | AF | memory | kind;
        if attributes.permissions.contains(Permissions::READ) {
            raw |= S2AP_READ;
        }
        if attributes.permissions.contains(Permissions::WRITE) {
            raw |= S2AP_WRITE;
        }
        if !attributes.permissions.contains(Permissions::EXECUTE) {
            raw |= XN;
        }
        Self(raw | u64::from(attributes.owner.raw()) << SOFTWARE_SHIFT)
    }

    /// Tells whether the hardware translates through this entry.
    pub(crate) const fn is_valid(self) -> bool {
        self.0 & VALID != 0
    }

    /// Returns the entry made invalid, everything else kept for remaking it.
    pub(crate) const fn broken(self) -> Self {
        Self(self.0 & !VALID)
    }

    /// Returns where the next table lies, if this entry at `level` points to one.
    pub(crate) fn next_table(self, level: u8) -> Option<HostPhysAddr> {
        let is_table =
            level < LAST_LEVEL && self.0 & (TABLE_OR_PAGE | VALID) == TABLE_OR_PAGE | VALID;
        is_table.then(|| self.address())
    }

    /// Tells whether this entry at `level` is a block or a page.
    pub(crate) fn is_leaf(self, level: u8) -> bool {
        self.is_valid() && self.next_table(level).is_none()
    }

    /// Returns the address in the entry, of the next table or of the output.
    pub(crate) fn address(self) -> HostPhysAddr {
        HostPhysAddr::from_usize((self.0 & ADDRESS) as usize)
    }

    /// Returns what a leaf says besides its address. A memory type that this
    /// crate never writes is reported as the nearest stricter one.
    pub(crate) fn attributes(self) -> Attributes {
        let mut permissions = Permissions::empty();
        permissions.set(Permissions::READ, self.0 & S2AP_READ != 0);
        permissions.set(Permissions::WRITE, self.0 & S2AP_WRITE != 0);
        permissions.set(Permissions::EXECUTE, self.0 & XN == 0);
        let memory = match (self.0 & MEM_ATTR_MASK) >> MEM_ATTR_SHIFT {
            NORMAL_WB => MemoryKind::Normal,
            DEVICE_NGNRNE => MemoryKind::DeviceNoEarlyAck,
            0b0001..=0b0011 => MemoryKind::Device,
            _ => MemoryKind::NormalNonCacheable,
        };
        let owner = ((self.0 & SOFTWARE) >> SOFTWARE_SHIFT).to_le_bytes()[0];
        Attributes {
            permissions,
            memory,
            owner: OwnerBits::new(owner).unwrap_or_default(),
        }
    }

    /// Tells whether the hardware could see a difference between two leaves:
    /// they differ in more than the software bits.
    pub(crate) const fn differs_for_hardware(self, other: Self) -> bool {
        (self.0 ^ other.0) & !SOFTWARE != 0
    }

    /// Tells whether two leaves differ in memory type or shareability, which
    /// requires break-before-make.
    pub(crate) const fn differs_in_memory(self, other: Self) -> bool {
        (self.0 ^ other.0) & (MEM_ATTR_MASK | SH_INNER) != 0
    }

    /// Returns the leaf at `level + 1` that shows the part of this leaf, at
    /// `level`, with the number `index`.
    pub(crate) fn part(self, level: u8, index: usize) -> Self {
        let pa = self.address() + index * span(level + 1);
        Self::leaf(level + 1, pa, self.attributes())
    }
}

/// Returns the address field of an address. What does not fit was refused
/// before.
fn address_bits(address: HostPhysAddr) -> u64 {
    usize::from(address) as u64 & ADDRESS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::*;

    #[test]
    fn guest_ram_encodes_as_the_architecture_writes_it() {
        let pa = HostPhysAddr::from(0x4020_0000);
        assert_eq!(
            Descriptor::leaf(2, pa, Attributes::RAM).raw(),
            0x4020_0000 | 0x7FD,
            "AF, inner shareable, read and write, write-back, block"
        );
        assert_eq!(
            Descriptor::leaf(3, pa, Attributes::RAM).raw(),
            0x4020_0000 | 0x7FF
        );
        assert_eq!(
            Descriptor::leaf(3, pa, Attributes::DEVICE).raw(),
            0x4020_0000 | 1 << 54 | 0x6C7,
        );
        assert_eq!(Descriptor::table(pa).raw(), 0x4020_0003);
    }

    #[test]
    fn only_memory_type_changes_require_a_break() {
        let pa = HostPhysAddr::from(0x4020_0000);
        let ram = Descriptor::leaf(2, pa, Attributes::RAM);
        let rom = Descriptor::leaf(2, pa, Attributes::ROM);
        let device = Descriptor::leaf(2, pa, Attributes::DEVICE);
        assert!(!ram.differs_in_memory(rom));
        assert!(ram.differs_in_memory(device));
        let owned = Attributes::RAM.with_owner(OwnerBits::new(9).unwrap());
        assert!(!ram.differs_for_hardware(Descriptor::leaf(2, pa, owned)));
        assert!(ram.differs_for_hardware(rom));
    }

    proptest! {
        #[test]
        fn any_64_bits_decode(raw: u64, level in 0u8..=3) {
            let entry = Descriptor::from_raw(raw);
            let kinds = [!entry.is_valid(), entry.next_table(level).is_some(), entry.is_leaf(level)];
            prop_assert_eq!(kinds.iter().filter(|&&kind| kind).count(), 1);
            prop_assert!(usize::from(entry.address()) < 1 << 48);
            // What decodes can be encoded again and then means the same.
            let again = Descriptor::leaf(3, entry.address(), entry.attributes());
            prop_assert_eq!(again.attributes(), entry.attributes());
        }

        #[test]
        fn a_leaf_says_what_was_put_in(
            page in 0usize..1 << 36,
            permissions in 0u8..8,
            memory in any::<proptest::sample::Index>(),
            owner in 0u8..16,
            level in 1u8..=3,
        ) {
            let kinds = [
                MemoryKind::Normal,
                MemoryKind::NormalNonCacheable,
                MemoryKind::Device,
                MemoryKind::DeviceNoEarlyAck,
            ];
            let attributes = Attributes {
                permissions: Permissions::from_bits_truncate(permissions),
                memory: *memory.get(&kinds),
                owner: OwnerBits::new(owner).unwrap(),
            };
            let pa = HostPhysAddr::from(page << 12);
            let leaf = Descriptor::leaf(level, pa, attributes);
            prop_assert!(leaf.is_leaf(level));
            prop_assert_eq!(leaf.address(), pa);
            prop_assert_eq!(leaf.attributes(), attributes);
            prop_assert!(!leaf.broken().is_valid());
        }
    }
}

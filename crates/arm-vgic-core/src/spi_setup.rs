//! The short way to the registers that set SPIs up, to which most accesses of guests go.

use vm_contract::Width;

use crate::controller::Controller;
use crate::irq_register::BitRegister;
use crate::kicks::Kicks;

/// `GICD_IGROUPR<n>`, `GICD_ISENABLER<n>` or `GICD_ICENABLER<n>` of 32 SPIs, read or
/// written as a word. No list register has a part in what they show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpiSetup {
    /// Which 32 SPIs, from 0 for 32 to 63 on.
    index: usize,
    register: BitRegister,
}

impl SpiSetup {
    const IGROUPR: u64 = 0x080;
    /// Behind ICENABLER.
    const END: u64 = 0x200;

    /// Returns what an access of `width` at `offset` in a distributor is about, if it is
    /// about such a register. Bank 0 has SGIs and PPIs and is none.
    #[inline(always)]
    #[must_use]
    pub fn decode(offset: u64, width: Width) -> Option<Self> {
        let is_word = width == Width::Word && offset.is_multiple_of(4);
        if !is_word || !(Self::IGROUPR..Self::END).contains(&offset) {
            return None;
        }
        let bank = (offset % 0x80 / 4) as usize;
        Some(Self {
            index: bank.checked_sub(1)?,
            register: match offset / 0x80 {
                1 => BitRegister::Group,
                2 => BitRegister::SetEnable,
                _ => BitRegister::ClearEnable,
            },
        })
    }
}

impl Controller {
    /// Reads such a register, as [`read_register`](Self::read_register) would.
    #[inline(always)]
    #[must_use]
    pub fn read_spi_setup(&self, setup: SpiSetup) -> u32 {
        let Some(spis) = self.shared.spis.get(setup.index) else {
            return 0;
        };
        match setup.register {
            BitRegister::Group => spis.bank.group,
            _ => spis.bank.enabled,
        }
    }

    /// Writes such a register, as [`write_register`](Self::write_register) would. Returns
    /// whom to kick if anybody.
    #[inline(always)]
    #[must_use = "a vCPU that is not kicked never sees its interrupt"]
    pub fn write_spi_setup(&mut self, setup: SpiSetup, value: u32) -> Option<Kicks> {
        let spis = self.shared.spis.get_mut(setup.index)?;
        let (bank, value) = (&mut spis.bank, value & spis.valid);
        let field = match setup.register {
            BitRegister::Group => &mut bank.group,
            _ => &mut bank.enabled,
        };
        let before = *field;
        *field = match setup.register {
            BitRegister::Group => value,
            BitRegister::SetEnable => before | value,
            _ => before & !value,
        };
        let changed = before ^ *field;
        if changed == 0 || changed & spis.alive() == 0 {
            return None;
        }
        Some(self.spi_setup_changed(setup.index, changed))
    }

    #[inline(never)]
    fn spi_setup_changed(&mut self, index: usize, changed: u32) -> Kicks {
        let mut kicks = Kicks::NONE;
        self.spis_changed(index, changed, &mut kicks);
        kicks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::IrqRegister;
    use vm_contract::{IntId, VcpuId};

    const VCPU: VcpuId = VcpuId::new(0);

    /// Two controllers with the same history: one goes the long way.
    fn pair() -> [Controller; 2] {
        let mut controller = Controller::new(1, 64).expect("a good shape");
        let _ = controller.enable_groups(false, true);
        let spi = IntId::spi(8).expect("an SPI");
        let _ = controller.route(spi, Some(VCPU));
        let _ = controller.set_spi_level(spi, true);
        [controller.clone(), controller]
    }

    #[test]
    fn the_short_way_does_what_the_long_way_does() {
        let [mut short, mut long] = pair();
        let values = [0, 1 << 8, u32::MAX, 0x55AA_0F0F, 1 << 8, 0];
        let offsets = [
            0x084, 0x104, 0x184, 0x088, 0x108, 0x188, 0x0FC, 0x17C, 0x1FC,
        ];
        let mut kicked = 0;
        for value in values {
            for offset in offsets {
                let setup = SpiSetup::decode(offset, Width::Word).expect("such a register");
                let register = IrqRegister::decode(offset).expect("a register");
                let kicks = long.write_register(VCPU, register, Width::Word, value.into());
                let shorter = short.write_spi_setup(setup, value);
                assert_eq!(
                    shorter.unwrap_or(Kicks::NONE),
                    kicks,
                    "{offset:#x} {value:#x}"
                );
                kicked += kicks.iter().count();
                let read = long.read_register(VCPU, register, Width::Word);
                assert_eq!(u64::from(short.read_spi_setup(setup)), read);
                assert_eq!(short.deliverable(VCPU), long.deliverable(VCPU));
            }
        }
        assert!(kicked > 0, "it was about something");
    }

    #[test]
    fn other_places_and_widths_are_no_such_register() {
        for offset in [
            0x07C,
            0x080,
            0x086,
            0x100,
            0x180,
            0x200,
            0x204,
            0x284,
            1 << 32 | 0x84,
        ] {
            assert_eq!(SpiSetup::decode(offset, Width::Word), None, "{offset:#x}");
        }
        assert_eq!(SpiSetup::decode(0x084, Width::Byte), None);
        assert_eq!(SpiSetup::decode(0x084, Width::Dword), None);
    }
}

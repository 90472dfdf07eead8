//! Accesses of every width, aligned or not.

use alloc::format;

use super::list;
use crate::Frame;
use crate::conformance::board::{
    Board, GICD_CTLR, ICENABLER, ICFGR, ICPENDR, IGROUPR, IPRIORITYR, IROUTER, ISACTIVER,
    ISENABLER, ISPENDR, SGI_BASE, Verdict, expect,
};
use crate::conformance::{Factory, Rule};
use vm_contract::Width;

pub(super) const RULES: &[Rule] = list![
    "GIC memory-mapped register access" => [
        accesses_of_other_widths_change_nothing,
        misaligned_accesses_change_nothing,
        reads_of_any_width_change_nothing,
        values_are_no_wider_than_their_access,
        every_place_takes_every_write,
    ],
];

const WIDTHS: [Width; 4] = [Width::Byte, Width::Half, Width::Word, Width::Dword];

/// Registers of single words.
const WORDS: [u64; 5] = [
    ISENABLER + 4,
    ISPENDR + 4,
    ISACTIVER + 4,
    IGROUPR + 4,
    ICFGR + 8,
];

fn accesses_of_other_widths_change_nothing(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::awake(make, &[0], 32)?;
    for offset in WORDS {
        for width in [Width::Byte, Width::Half, Width::Dword] {
            let before = gic.gicd(offset)?;
            let place = offset & !(width.bytes() - 1);
            gic.try_write(Frame::Distributor, place, width, u64::MAX);
            expect(
                &format!("{offset:#x} after {width:?}"),
                gic.gicd(offset)?,
                before,
            )?;
        }
    }
    let control = gic.gicd(GICD_CTLR)?;
    gic.try_write(Frame::Distributor, GICD_CTLR, Width::Byte, 0);
    expect("GICD_CTLR after a byte", gic.gicd(GICD_CTLR)?, control)?;
    let router = IROUTER + 8 * 40;
    gic.try_write(Frame::Distributor, router, Width::Half, 1);
    expect("GICD_IROUTER40 after a halfword", gic.gicd(router)?, 0)?;
    gic.try_write(Frame::Distributor, IPRIORITYR + 40, Width::Half, 0xFFFF);
    let priorities = gic.gicd(IPRIORITYR + 40)?;
    expect("GICD_IPRIORITYR10 after a halfword", priorities, 0)
}

fn misaligned_accesses_change_nothing(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::awake(make, &[0], 64)?;
    for offset in WORDS {
        for shift in 1..4 {
            gic.try_write(Frame::Distributor, offset + shift, Width::Word, u64::MAX);
        }
        for word in [offset, offset + 4] {
            expect(&format!("{word:#x}"), gic.gicd(word)?, 0)?;
        }
    }
    let router = IROUTER + 8 * 40;
    gic.try_write(Frame::Distributor, router + 4, Width::Dword, u64::MAX);
    for word in [router, router + 4, router + 8] {
        expect("a router after a misaligned access", gic.gicd(word)?, 0)?;
    }
    Ok(())
}

fn reads_of_any_width_change_nothing(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.set_bit(0, ISPENDR, 50)?;
    gic.set_bit(0, ISACTIVER, 51)?;
    for offset in (0..0x1000).chain(0x6000..0x6200) {
        for width in WIDTHS {
            let _ = gic.try_read(Frame::Distributor, offset, width);
            let _ = gic.try_read(Frame::Redistributors, SGI_BASE + offset, width);
        }
    }
    gic.expect_pending(0, 50, true)?;
    gic.expect_active(0, 51, true)?;
    expect("GICD_ICENABLER1", gic.gicd(ICENABLER + 4)?, u32::MAX)?;
    expect("GICD_ICPENDR1", gic.gicd(ICPENDR + 4)?, 1 << 18)?;
    gic.take(0, 50)
}

fn values_are_no_wider_than_their_access(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    for (frame, end) in [
        (Frame::Distributor, 0x1_0000),
        (Frame::Redistributors, 0x2_0000),
    ] {
        for offset in 0..end {
            for width in WIDTHS {
                if let Some(value) = gic.try_read(frame, offset, width) {
                    let what = format!("{frame:?}+{offset:#x} {width:?}");
                    expect(&what, value, width.truncate(value))?;
                }
            }
        }
    }
    Ok(())
}

fn every_place_takes_every_write(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 2)?;
    for (frame, end) in [
        (Frame::Distributor, 0x1_0010),
        (Frame::Redistributors, 0x4_0010),
    ] {
        for offset in 0..end {
            for width in WIDTHS {
                gic.try_write(frame, offset, width, u64::MAX);
            }
        }
    }
    // Whatever came of that, the GIC still works once it is put right.
    gic.enable_all()?;
    for vcpu in 0..2 {
        gic.wake(vcpu)?;
        for register in [ICPENDR, 0x380] {
            gic.set_sgi_base(vcpu, register, u32::MAX)?;
        }
    }
    for bank in [4, 8] {
        gic.set_gicd(ICPENDR + bank, u32::MAX)?;
        gic.set_gicd(0x380 + bank, u32::MAX)?;
    }
    gic.set_gicd(GICD_CTLR, 0x53)?;
    gic.nothing(0)?;
    gic.spi(50, true);
    gic.take(0, 50)
}

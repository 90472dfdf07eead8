//! The GICv2 (IHI 0048): the distributor's registers of each CPU's own, the CPU
//! interface in memory, SGIs by sender.

pub(crate) mod interface;
mod registers;
mod senders;
mod walk;

use test_guests::runtime::machine;

use crate::registers::{reserved, widths};
use crate::{elsewhere, exceptions, flood, levels, partner, transcript, walk as walks};
use interface::Gicc;

/// Writes the transcript. The boot arguments `flood` and `walk` leave the rest out.
pub(crate) fn run() {
    partner::start::<Gicc>();
    let sections: &[fn()] = if machine::has_boot_word("flood") {
        &[flood::run::<Gicc>]
    } else if machine::has_boot_word("walk") {
        &[walks::all::<Gicc>]
    } else {
        &[
            registers::at_reset,
            || widths::<Gicc>(&registers::WIDTHS, &[]),
            || reserved::<Gicc>(&registers::FRAMES),
            exceptions::deliver::<Gicc>,
            senders::run,
            elsewhere::in_hand::<Gicc>,
            elsewhere::held_back::<Gicc>,
            levels::one_by_one::<Gicc>,
            levels::at_random::<Gicc>,
            flood::run::<Gicc>,
            walks::all::<Gicc>,
        ]
    };
    transcript::print_all(sections);
    partner::leave();
}

//! The GICv3 (IHI 0069): distributor and redistributors in memory, the CPU interface
//! in the CPU.

pub(crate) mod interface;
mod registers;
mod walk;

use test_guests::runtime::{gic, machine};

use crate::registers::{reserved, widths};
use crate::{elsewhere, exceptions, flood, its, levels, partner, transcript, walk as walks};
use interface::Icc;

/// Writes the transcript. The boot arguments `flood`, `walk` and `its` leave the rest
/// out.
pub(crate) fn run() {
    registers::at_reset();
    transcript::print();
    gic::init_cpu();
    partner::start::<Icc>();
    let sections: &[fn()] = if machine::has_boot_word("flood") {
        &[flood::run::<Icc>]
    } else if machine::has_boot_word("walk") {
        &[walks::all::<Icc>]
    } else if machine::has_boot_word("its") {
        &[its::registers, its::walk]
    } else {
        &[
            registers::wake,
            || widths::<Icc>(&registers::WIDTHS, &registers::IDENTIFICATION),
            || reserved::<Icc>(&registers::FRAMES),
            exceptions::deliver::<Icc>,
            exceptions::nest,
            elsewhere::in_hand::<Icc>,
            elsewhere::held_back::<Icc>,
            levels::one_by_one::<Icc>,
            levels::at_random::<Icc>,
            flood::run::<Icc>,
            walks::all::<Icc>,
        ]
    };
    transcript::print_all(sections);
    partner::leave();
}

//! Message-based SPIs.

use super::list;
use crate::Frame;
use crate::conformance::board::{Board, ICENABLER, ISENABLER};
use crate::conformance::{Factory, Failure, Outcome, Rule};
use vm_contract::Width;

pub(super) const RULES: &[Rule] = list![
    "GICD_SETSPI_NSR" => [
        message_makes_an_edge_triggered_spi_pending_once,
        message_holds_a_level_sensitive_spi_until_it_is_withdrawn,
        message_is_taken_by_halfword_and_word,
        message_to_a_disabled_spi_waits,
        messages_to_what_is_no_spi_mean_nothing,
    ],
    "GICD_CLRSPI_NSR" => [
        withdrawing_a_message_clears_a_pending_edge,
        withdrawing_a_message_leaves_what_a_wire_asserts,
        wire_does_not_withdraw_a_message,
        withdrawing_a_message_leaves_the_active_state,
    ],
];

const SETSPI: u64 = 0x40;
const CLRSPI: u64 = 0x48;

/// Returns a board, or `None` if this GIC takes no messages.
fn board(make: &Factory<'_>) -> Result<Option<Board>, Failure> {
    let mut gic = Board::ready(make, 1)?;
    let supported = gic.gicd(0x4)? >> 16 & 1 != 0;
    Ok(supported.then_some(gic))
}

fn message_makes_an_edge_triggered_spi_pending_once(
    make: &Factory<'_>,
) -> Result<Outcome, Failure> {
    let Some(mut gic) = board(make)? else {
        return Ok(Outcome::DoesNotApply);
    };
    gic.configure(60, true)?;
    gic.set_gicd(SETSPI, 60)?;
    gic.set_gicd(SETSPI, 60)?;
    gic.take(0, 60)?;
    gic.set_gicd(SETSPI, 60)?;
    gic.end(0, 60);
    gic.take_and_end(0, 60)?;
    gic.nothing(0)?;
    Ok(Outcome::Kept)
}

fn message_holds_a_level_sensitive_spi_until_it_is_withdrawn(
    make: &Factory<'_>,
) -> Result<Outcome, Failure> {
    let Some(mut gic) = board(make)? else {
        return Ok(Outcome::DoesNotApply);
    };
    gic.set_gicd(SETSPI, 60)?;
    gic.take_and_end(0, 60)?;
    gic.take(0, 60)?;
    gic.expect_pending(0, 60, true)?;
    gic.set_gicd(CLRSPI, 60)?;
    gic.expect_pending(0, 60, false)?;
    gic.end(0, 60);
    gic.nothing(0)?;
    Ok(Outcome::Kept)
}

fn message_is_taken_by_halfword_and_word(make: &Factory<'_>) -> Result<Outcome, Failure> {
    let Some(mut gic) = board(make)? else {
        return Ok(Outcome::DoesNotApply);
    };
    for width in [Width::Half, Width::Word] {
        gic.write(Frame::Distributor, SETSPI, width, 60)?;
        gic.take(0, 60)?;
        gic.write(Frame::Distributor, CLRSPI, width, 60)?;
        gic.end(0, 60);
        gic.nothing(0)?;
    }
    Ok(Outcome::Kept)
}

fn message_to_a_disabled_spi_waits(make: &Factory<'_>) -> Result<Outcome, Failure> {
    let Some(mut gic) = board(make)? else {
        return Ok(Outcome::DoesNotApply);
    };
    gic.set_bit(0, ICENABLER, 60)?;
    gic.set_gicd(SETSPI, 60)?;
    gic.nothing(0)?;
    gic.expect_pending(0, 60, true)?;
    gic.set_bit(0, ISENABLER, 60)?;
    gic.take(0, 60)?;
    Ok(Outcome::Kept)
}

fn messages_to_what_is_no_spi_mean_nothing(make: &Factory<'_>) -> Result<Outcome, Failure> {
    let Some(mut gic) = board(make)? else {
        return Ok(Outcome::DoesNotApply);
    };
    for intid in [0, 15, 16, 31, 96, 1019, 1020, 1023] {
        gic.set_gicd(SETSPI, intid)?;
        gic.nothing(0)?;
    }
    gic.set_bit(0, 0x200, 20)?;
    gic.set_gicd(CLRSPI, 20)?;
    gic.take(0, 20)?;
    Ok(Outcome::Kept)
}

fn withdrawing_a_message_clears_a_pending_edge(make: &Factory<'_>) -> Result<Outcome, Failure> {
    let Some(mut gic) = board(make)? else {
        return Ok(Outcome::DoesNotApply);
    };
    gic.configure(60, true)?;
    gic.set_gicd(SETSPI, 60)?;
    gic.set_gicd(CLRSPI, 60)?;
    gic.expect_pending(0, 60, false)?;
    gic.nothing(0)?;
    Ok(Outcome::Kept)
}

fn withdrawing_a_message_leaves_what_a_wire_asserts(
    make: &Factory<'_>,
) -> Result<Outcome, Failure> {
    let Some(mut gic) = board(make)? else {
        return Ok(Outcome::DoesNotApply);
    };
    gic.set_gicd(SETSPI, 60)?;
    gic.spi(60, true);
    gic.set_gicd(CLRSPI, 60)?;
    gic.expect_pending(0, 60, true)?;
    gic.take(0, 60)?;
    Ok(Outcome::Kept)
}

fn wire_does_not_withdraw_a_message(make: &Factory<'_>) -> Result<Outcome, Failure> {
    let Some(mut gic) = board(make)? else {
        return Ok(Outcome::DoesNotApply);
    };
    gic.set_gicd(SETSPI, 60)?;
    gic.spi(60, true);
    gic.spi(60, false);
    gic.expect_pending(0, 60, true)?;
    gic.take(0, 60)?;
    Ok(Outcome::Kept)
}

fn withdrawing_a_message_leaves_the_active_state(make: &Factory<'_>) -> Result<Outcome, Failure> {
    let Some(mut gic) = board(make)? else {
        return Ok(Outcome::DoesNotApply);
    };
    gic.set_gicd(SETSPI, 60)?;
    gic.take(0, 60)?;
    gic.set_gicd(CLRSPI, 60)?;
    gic.expect_active(0, 60, true)?;
    Ok(Outcome::Kept)
}

//! The control queue (VirtIO 1.2, 5.1.6.5).

use super::filter::{Addresses, Modes};
use super::{CONTROL, CTRL_RX, CTRL_RX_EXTRA, Net, NetBackend};
use crate::{DataBuffers, DriverFault, Queues, Work};

/// Classes of commands.
const CLASS_RX: u8 = 0;
const CLASS_MAC: u8 = 1;
/// Of the addresses, the one command that is allowed: another address of its own would
/// let a guest take a neighbour's.
const MAC_TABLE_SET: u8 = 0;

/// How many bytes class and command have.
const HEADER_BYTES: usize = 2;
/// How many bytes the count of a list of addresses has.
const COUNT_BYTES: usize = 4;
const ADDRESS_BYTES: usize = 6;

/// Where what is particular to a command starts.
const DATA: u64 = HEADER_BYTES as u64;

/// The answers.
const OK: u8 = 0;
const ERROR: u8 = 1;

impl<B: NetBackend> Net<B> {
    /// Does what the driver asks for in the control queue.
    pub(super) fn control(&mut self, queues: &mut Queues<'_>) -> Result<Work, DriverFault> {
        self.descriptors = 0;
        while !self.is_tired() {
            if !self.pop(CONTROL, queues)? {
                return Ok(Work::Done);
            }
            self.command(queues)?;
            queues.push(CONTROL, self.chain.head(), 1)?;
        }
        Ok(Work::Left)
    }

    fn command(&mut self, queues: &Queues<'_>) -> Result<(), DriverFault> {
        let request = self.chain.readable(queues.memory());
        let mut header = [0; HEADER_BYTES];
        let done = if request.len() < DATA {
            None
        } else {
            request.read_at(0, &mut header)?;
            let [class, command] = header;
            match class {
                CLASS_RX => set_mode(&mut self.filter.modes, self.agreed, command, &request)?,
                CLASS_MAC if command == MAC_TABLE_SET && self.agreed & CTRL_RX != 0 => {
                    let tables = tables(&request)?;
                    tables.map(|tables| (self.filter.unicast, self.filter.multicast) = tables)
                }
                _ => None,
            }
        };
        let answer = if done.is_some() { OK } else { ERROR };
        let target = self.chain.writable(queues.memory());
        if target.is_empty() {
            return Err(DriverFault::Request);
        }
        Ok(target.write_at(0, &[answer])?)
    }
}

/// Sets one of the modes (5.1.6.5.1); `None` if there is no such command.
fn set_mode(
    modes: &mut Modes,
    agreed: u64,
    command: u8,
    request: &DataBuffers<'_>,
) -> Result<Option<()>, DriverFault> {
    let (mode, feature) = match command {
        0 => (&mut modes.promiscuous, CTRL_RX),
        1 => (&mut modes.all_multicast, CTRL_RX),
        2 => (&mut modes.all_unicast, CTRL_RX_EXTRA),
        3 => (&mut modes.no_multicast, CTRL_RX_EXTRA),
        4 => (&mut modes.no_unicast, CTRL_RX_EXTRA),
        5 => (&mut modes.no_broadcast, CTRL_RX_EXTRA),
        _ => return Ok(None),
    };
    if agreed & feature == 0 || request.len() <= DATA {
        return Ok(None);
    }
    let mut on = [0];
    request.read_at(DATA, &mut on)?;
    *mode = on != [0];
    Ok(Some(()))
}

/// Reads both lists of addresses (5.1.6.5.2), or returns `None` if they are not whole.
fn tables(request: &DataBuffers<'_>) -> Result<Option<(Addresses, Addresses)>, DriverFault> {
    let Some((unicast, end)) = table(request, DATA)? else {
        return Ok(None);
    };
    let multicast = table(request, end)?;
    Ok(multicast.map(|(multicast, _)| (unicast, multicast)))
}

/// Reads the list at `offset`, and returns it with where it ends.
fn table(request: &DataBuffers<'_>, offset: u64) -> Result<Option<(Addresses, u64)>, DriverFault> {
    let Some(count) = request.slice(offset, COUNT_BYTES as u64) else {
        return Ok(None);
    };
    let mut bytes = [0; COUNT_BYTES];
    count.read_at(0, &mut bytes)?;
    let count = u64::from(u32::from_le_bytes(bytes));
    let first = offset + COUNT_BYTES as u64;
    let address = |number| first + number * ADDRESS_BYTES as u64;
    let end = address(count);
    if end > request.len() {
        return Ok(None);
    }
    let mut list = Addresses::NONE;
    // One more than there is room for says that there is none.
    for number in 0..count.min(Addresses::MOST + 1) {
        let mut bytes = [0; ADDRESS_BYTES];
        request.read_at(address(number), &mut bytes)?;
        list.add(bytes);
    }
    Ok(Some((list, end)))
}

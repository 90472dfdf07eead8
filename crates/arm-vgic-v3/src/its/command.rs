//! The commands of an ITS: 32 bytes each, in the guest's memory.

use thiserror::Error;

/// The bytes of a command.
pub(super) const COMMAND_BYTES: u64 = 32;

/// Why a command was passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CommandError {
    /// There is no command of this number.
    #[error("there is no command {0:#04x}")]
    Unknown(u8),
    /// The command or an entry that it needs lies outside the guest's memory.
    #[error("the command or a table lies outside the guest's memory")]
    Unreachable,
    /// The table of devices has no place for this one.
    #[error("the table of devices has no place for {0:#x}")]
    DeviceOutOfRange(u32),
    /// No events of this device have been mapped.
    #[error("device {0:#x} is not mapped")]
    DeviceUnmapped(u32),
    /// A device cannot have events whose numbers have so many bits.
    #[error("events do not have {0} bits")]
    EventBits(u32),
    /// The device does not have this event.
    #[error("the device has no event {0:#x}")]
    EventOutOfRange(u32),
    /// The event has not been mapped.
    #[error("event {0:#x} is not mapped")]
    EventUnmapped(u32),
    /// The table of collections has no place for this one.
    #[error("the table of collections has no place for {0:#x}")]
    CollectionOutOfRange(u16),
    /// The collection has not been mapped to a vCPU.
    #[error("collection {0:#x} is not mapped")]
    CollectionUnmapped(u16),
    /// The INTID is not that of an LPI.
    #[error("{0} is no LPI")]
    NoLpi(u32),
    /// There is no redistributor of this number.
    #[error("there is no redistributor {0}")]
    NoRedistributor(u64),
}

/// A decoded command. Its fields are as the guest wrote them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Says where the events of a device lie, or that it has none (`None`). The
    /// address is as the command has it, with other fields around.
    MapDevice {
        device: u32,
        size: u8,
        events: Option<u64>,
    },
    /// Says which redistributor a collection goes to, if to any.
    MapCollection {
        collection: u16,
        target: Option<u64>,
    },
    /// MAPTI, and MAPI, whose INTID is the event's number.
    MapEvent {
        device: u32,
        event: u32,
        intid: u32,
        collection: u16,
    },
    /// MOVI.
    MoveEvent {
        device: u32,
        event: u32,
        collection: u16,
    },
    /// Forgets an event.
    Discard { device: u32, event: u32 },
    /// INT.
    Interrupt { device: u32, event: u32 },
    /// Makes an event's interrupt not pending.
    Clear { device: u32, event: u32 },
    /// INV: the properties of an event's interrupt have changed.
    Invalidate { device: u32, event: u32 },
    /// INVALL: those of a collection's interrupts have.
    InvalidateAll { collection: u16 },
    /// Moves everything pending from one redistributor to another.
    MoveAll { from: u64, to: u64 },
    /// Waits for what was done to a redistributor.
    Sync { target: u64 },
}

impl Command {
    /// Decodes a command.
    pub(super) fn decode(bytes: &[u8; 32]) -> Result<Self, CommandError> {
        let word = |n: usize| {
            let mut word = [0; 8];
            for (to, from) in word.iter_mut().zip(bytes.iter().skip(8 * n)) {
                *to = *from;
            }
            u64::from_le_bytes(word)
        };
        let [first, second, third, fourth] = [word(0), word(1), word(2), word(3)];
        let [number, ..] = first.to_le_bytes();
        let (device, event) = (upper(first), lower(second));
        let collection = (third & 0xFFFF) as u16;
        // A redistributor is named by its number (GITS_TYPER.PTA = 0).
        let redistributor = |word: u64| word >> 16 & 0x7_FFFF_FFFF;
        let valid = third >> 63 != 0;
        Ok(match number {
            0x01 => Self::MoveEvent {
                device,
                event,
                collection,
            },
            0x03 => Self::Interrupt { device, event },
            0x04 => Self::Clear { device, event },
            0x05 => Self::Sync {
                target: redistributor(third),
            },
            0x08 => Self::MapDevice {
                device,
                size: (second & 0x1F) as u8,
                events: valid.then_some(third),
            },
            0x09 => Self::MapCollection {
                collection,
                target: valid.then_some(redistributor(third)),
            },
            0x0A => Self::MapEvent {
                device,
                event,
                intid: upper(second),
                collection,
            },
            0x0B => Self::MapEvent {
                device,
                event,
                intid: event,
                collection,
            },
            0x0C => Self::Invalidate { device, event },
            0x0D => Self::InvalidateAll { collection },
            0x0E => Self::MoveAll {
                from: redistributor(third),
                to: redistributor(fourth),
            },
            0x0F => Self::Discard { device, event },
            unknown => return Err(CommandError::Unknown(unknown)),
        })
    }
}

fn upper(word: u64) -> u32 {
    (word >> 32) as u32
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
fn lower(word: u64) -> u32 {
    word as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(words: [u64; 4]) -> Result<Command, CommandError> {
        let mut bytes = [0; 32];
        for (n, word) in words.iter().enumerate() {
            bytes[8 * n..8 * n + 8].copy_from_slice(&word.to_le_bytes());
        }
        Command::decode(&bytes)
    }

    #[test]
    fn fields_lie_where_the_architecture_puts_them() {
        let all = [
            0x1234_5678_FFFF_FF00,
            0x9ABC_DEF0_8765_4321,
            0xFFFF_0003_0000_4444,
            0xFFFF_0005_0000_5555,
        ];
        let with = |number| decode([all[0] | number, all[1], all[2], all[3]]);
        let (device, event, collection) = (0x1234_5678, 0x8765_4321, 0x4444);
        let target = 0x7_0003_0000 & 0x7_FFFF_FFFF;
        let expected = [
            (
                0x01,
                Command::MoveEvent {
                    device,
                    event,
                    collection,
                },
            ),
            (0x03, Command::Interrupt { device, event }),
            (0x04, Command::Clear { device, event }),
            (0x05, Command::Sync { target }),
            (
                0x08,
                Command::MapDevice {
                    device,
                    size: 1,
                    events: Some(all[2]),
                },
            ),
            (
                0x09,
                Command::MapCollection {
                    collection,
                    target: Some(target),
                },
            ),
            (
                0x0A,
                Command::MapEvent {
                    device,
                    event,
                    intid: 0x9ABC_DEF0,
                    collection,
                },
            ),
            (
                0x0B,
                Command::MapEvent {
                    device,
                    event,
                    intid: event,
                    collection,
                },
            ),
            (0x0C, Command::Invalidate { device, event }),
            (0x0D, Command::InvalidateAll { collection }),
            (
                0x0E,
                Command::MoveAll {
                    from: target,
                    to: 0x7_0005_0000,
                },
            ),
            (0x0F, Command::Discard { device, event }),
        ];
        for (number, command) in expected {
            assert_eq!(with(number), Ok(command), "{number:#x}");
        }
    }

    #[test]
    fn without_the_valid_bit_devices_and_collections_are_unmapped() {
        assert_eq!(
            decode([8, 3, !(1 << 63), 0]),
            Ok(Command::MapDevice {
                device: 0,
                size: 3,
                events: None
            })
        );
        assert_eq!(
            decode([9, 0, 0x1_0007, 0]),
            Ok(Command::MapCollection {
                collection: 7,
                target: None
            })
        );
    }

    #[test]
    fn numbers_that_are_no_command_are_known_as_such() {
        let known = [1, 3, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15];
        for number in 0..=0xFF {
            let decoded = decode([number.into(), 0, 0, 0]);
            assert_eq!(decoded.is_ok(), known.contains(&number), "{number:#x}");
            assert!(decoded.is_ok() || decoded == Err(CommandError::Unknown(number)));
        }
    }
}

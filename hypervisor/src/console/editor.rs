//! The line that is typed to the monitor.

/// The longest command.
const LENGTH: usize = 64;

/// What to show for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Echo {
    Nothing,
    Byte(u8),
    /// The last character disappears.
    Erase,
    /// The line is complete.
    Enter,
}

/// A line of printable ASCII that is being typed or has been entered.
#[derive(Clone, Copy, Debug)]
pub struct TypedLine {
    bytes: [u8; LENGTH],
    len: usize,
}

impl Default for TypedLine {
    fn default() -> Self {
        Self {
            bytes: [0; LENGTH],
            len: 0,
        }
    }
}

impl TypedLine {
    /// Returns what has been typed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..self.len).unwrap_or_default();
        // All of it is ASCII.
        core::str::from_utf8(bytes).unwrap_or_default()
    }

    /// Takes a key. Keys for which there is no room, and control characters
    /// without a meaning here, are ignored.
    pub(super) fn key(&mut self, byte: u8) -> Echo {
        const BACKSPACE: u8 = 0x08;
        const DELETE: u8 = 0x7f;
        match byte {
            b'\r' | b'\n' => Echo::Enter,
            BACKSPACE | DELETE if self.len > 0 => {
                self.len -= 1;
                Echo::Erase
            }
            b' '..=b'~' => match self.bytes.get_mut(self.len) {
                Some(place) => {
                    *place = byte;
                    self.len += 1;
                    Echo::Byte(byte)
                }
                None => Echo::Nothing,
            },
            _ => Echo::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backspace_takes_characters_back_and_stops_at_the_start() {
        let mut line = TypedLine::default();
        for byte in *b"ab" {
            assert_eq!(line.key(byte), Echo::Byte(byte));
        }
        assert_eq!(line.key(0x7f), Echo::Erase);
        assert_eq!(line.key(0x08), Echo::Erase);
        assert_eq!(line.key(0x08), Echo::Nothing);
        assert_eq!(line.key(b'c'), Echo::Byte(b'c'));
        assert_eq!(line.as_str(), "c");
        assert_eq!(line.key(b'\r'), Echo::Enter);
    }

    #[test]
    fn a_line_has_an_end_and_no_control_characters() {
        let mut line = TypedLine::default();
        assert_eq!(line.key(0x1b), Echo::Nothing);
        assert_eq!(line.key(0xff), Echo::Nothing);
        for _ in 0..100 {
            line.key(b'x');
        }
        assert_eq!(line.as_str().len(), LENGTH);
    }
}

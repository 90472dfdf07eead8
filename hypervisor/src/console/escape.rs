//! The keys that are for the console and not for a guest.

/// Ctrl-]: the next key is for the console.
pub(super) const ESCAPE: u8 = 0x1d;

/// What a typed byte is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// Nothing yet: the key that says what is wanted comes next.
    Begun,
    /// Whoever has the focus.
    Typed(u8),
    /// Giving the focus to the next VM.
    Next,
    /// Giving the focus to a VM, by number.
    Vm(u8),
    /// Listing the VMs.
    List,
    /// Giving the focus to the monitor.
    Monitor,
    /// Saying which keys there are; any key that means nothing asks for it, too.
    Help,
}

/// Tells keys for the console from all others. An escape sequence may arrive in
/// pieces.
#[derive(Debug, Default)]
pub(super) struct Escape {
    begun: bool,
}

impl Escape {
    /// Takes one typed byte.
    pub(super) const fn feed(&mut self, byte: u8) -> Key {
        if !self.begun {
            self.begun = byte == ESCAPE;
            return if self.begun {
                Key::Begun
            } else {
                Key::Typed(byte)
            };
        }
        self.begun = false;
        match byte {
            ESCAPE => Key::Typed(ESCAPE),
            b'n' => Key::Next,
            b'0'..=b'9' => Key::Vm(byte - b'0'),
            b'l' => Key::List,
            b'm' => Key::Monitor,
            _ => Key::Help,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sequence_means_what_the_documentation_says() {
        let mut escape = Escape::default();
        for (key, meaning) in [
            (b'n', Key::Next),
            (b'0', Key::Vm(0)),
            (b'9', Key::Vm(9)),
            (b'l', Key::List),
            (b'm', Key::Monitor),
            (b'?', Key::Help),
            (b'x', Key::Help),
            (ESCAPE, Key::Typed(ESCAPE)),
        ] {
            assert_eq!(escape.feed(ESCAPE), Key::Begun);
            assert_eq!(escape.feed(key), meaning);
            assert_eq!(
                escape.feed(key),
                if key == ESCAPE {
                    Key::Begun
                } else {
                    Key::Typed(key)
                }
            );
            if key == ESCAPE {
                assert_eq!(escape.feed(ESCAPE), Key::Typed(ESCAPE));
            }
        }
    }

    #[test]
    fn all_other_bytes_are_typed() {
        let mut escape = Escape::default();
        for byte in (0..=u8::MAX).filter(|byte| *byte != ESCAPE) {
            assert_eq!(escape.feed(byte), Key::Typed(byte));
        }
    }
}

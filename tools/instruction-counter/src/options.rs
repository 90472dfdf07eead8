//! What is said about the plugin on QEMU's command line.

use std::fmt;
use std::path::PathBuf;

/// The plugin's options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The file of the counters. Its length says how many there are.
    pub counters: PathBuf,
    /// How many CPUs have counters.
    pub cpus: usize,
    /// The virtual address at which the program is entered, its first byte.
    pub start: u64,
    /// The length of its image.
    pub bytes: usize,
    /// The virtual address of an instruction before whose first execution the
    /// counting ends, if it does not go on for ever.
    pub end: Option<u64>,
}

/// What is wrong with the options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OptionsError {
    /// This is missing.
    Missing(&'static str),
    /// This is unknown, or its value is not a number that fits.
    Wrong(String),
}

impl fmt::Display for OptionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(name) => write!(f, "{name}=… is missing"),
            Self::Wrong(option) => write!(f, "{option:?} is not understood"),
        }
    }
}

impl std::error::Error for OptionsError {}

impl Options {
    /// Reads options of the form `name=value`; numbers may be hexadecimal.
    ///
    /// # Errors
    ///
    /// Whoever wrote the command line left out an option or wrote one that
    /// makes no sense.
    pub fn parse(words: impl IntoIterator<Item = String>) -> Result<Self, OptionsError> {
        let (mut counters, mut cpus, mut start, mut bytes) = (None, None, None, None);
        let mut end = None;
        for word in words {
            let understood = match word.split_once('=') {
                Some(("counters", value)) => {
                    counters = Some(PathBuf::from(value));
                    true
                }
                Some(("cpus", value)) => store(value, &mut cpus),
                Some(("start", value)) => store(value, &mut start),
                Some(("bytes", value)) => store(value, &mut bytes),
                Some(("end", value)) => store(value, &mut end),
                _ => false,
            };
            if !understood {
                return Err(OptionsError::Wrong(word));
            }
        }
        Ok(Self {
            counters: counters.ok_or(OptionsError::Missing("counters"))?,
            cpus: cpus.ok_or(OptionsError::Missing("cpus"))?,
            start: start.ok_or(OptionsError::Missing("start"))?,
            bytes: bytes.ok_or(OptionsError::Missing("bytes"))?,
            end,
        })
    }
}

/// Reads a number, and tells whether it is one.
fn store<T: TryFrom<u64>>(value: &str, number: &mut Option<T>) -> bool {
    let read = match value.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => value.parse(),
    };
    *number = read.ok().and_then(|read| T::try_from(read).ok());
    number.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, OptionsError> {
        Options::parse(line.split(' ').map(str::to_owned))
    }

    #[test]
    fn options_come_in_any_order() {
        let expected = Options {
            counters: "a=b".into(),
            cpus: 4,
            start: 0x4020_0000,
            bytes: 512,
            end: None,
        };
        let parsed = parse("bytes=512 start=0x40200000 cpus=4 counters=a=b");
        assert_eq!(parsed.as_ref(), Ok(&expected));
        let parsed = parse("end=0x10 bytes=512 start=0x40200000 cpus=4 counters=a=b");
        let end = Some(16);
        assert_eq!(parsed, Ok(Options { end, ..expected }));
    }

    #[test]
    fn every_other_option_is_needed_and_understood() {
        assert_eq!(
            parse("bytes=512 start=0 counters=f"),
            Err(OptionsError::Missing("cpus"))
        );
        for word in ["cpus=many", "cpus", "top=3", "start=-1", "bytes=0x"] {
            assert_eq!(parse(word), Err(OptionsError::Wrong(word.into())));
        }
    }
}

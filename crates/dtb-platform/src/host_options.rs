//! The hypervisor's own options: words of the host's command line.

use alloc::string::String;
use alloc::vec::Vec;
use core::ops::RangeInclusive;

use log::LevelFilter;
use thiserror::Error;

/// What every option begins with. Other words are somebody else's.
const PREFIX: &str = "armature.";

/// What the options may be.
mod allowed {
    pub(super) const LOG: &str = "`off`, `error`, `warn`, `info`, `debug` or `trace`";
    pub(super) const MEMORY: &str = "`zero`";
    pub(super) const SLICE: &str = "a number of milliseconds from 1 to 1000";
    pub(super) const TRACE: &str = "`on` or `off`";
}

/// What the operator of the machine asks of the hypervisor itself, in
/// `/chosen/bootargs`.
///
/// ```
/// use dtb_platform::HostOptions;
/// use log::LevelFilter;
///
/// let (options, refused) = HostOptions::parse("quiet armature.slice=5 armature.log=all");
/// assert_eq!(options.slice_ms, 5);
/// assert_eq!(options.log_level, LevelFilter::Info);
/// assert_eq!(
///     refused[0].to_string(),
///     "/chosen/bootargs: `armature.log=all` is invalid: \
///      it must be `off`, `error`, `warn`, `info`, `debug` or `trace`"
/// );
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostOptions {
    /// `armature.log=`: how much the hypervisor says.
    pub log_level: LevelFilter,
    /// `armature.slice=`: how long a vCPU runs, in milliseconds, while others
    /// of its priority wait for the CPU: one of [`HostOptions::SLICES_MS`].
    pub slice_ms: u32,
    /// `armature.trace=`: whether exits, interrupts and turns are traced from the
    /// start.
    pub trace: bool,
    /// `armature.memory=zero`: whether whoever loaded the hypervisor promises
    /// that all memory above its image is zero, except for what was loaded.
    pub memory_is_zero: bool,
}

/// A word of the command line that is meant for the hypervisor and cannot be
/// followed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OptionError {
    /// There is no such option.
    #[error(
        "/chosen/bootargs: `{word}` is not known: \
         it must be `{}=LEVEL`, `{}=MILLISECONDS`, `{}=on` or `{}=zero`",
        HostOptions::LOG,
        HostOptions::SLICE,
        HostOptions::TRACE,
        HostOptions::MEMORY
    )]
    Unknown {
        /// The word as it is written.
        word: String,
    },
    /// The option has no value, or one that is not allowed.
    #[error("/chosen/bootargs: `{word}` is invalid: it must be {allowed}")]
    Invalid {
        /// The word as it is written.
        word: String,
        /// What the value may be, worded to follow "it must be".
        allowed: &'static str,
    },
    /// The option was given before.
    #[error("/chosen/bootargs: `{word}` is one too many: it must be given once")]
    Repeated {
        /// The word as it is written.
        word: String,
    },
}

impl Default for HostOptions {
    fn default() -> Self {
        Self {
            log_level: LevelFilter::Info,
            slice_ms: Self::USUAL_SLICE_MS,
            trace: false,
            memory_is_zero: false,
        }
    }
}

impl HostOptions {
    /// The name of the option for how much the hypervisor says.
    pub const LOG: &str = "armature.log";
    /// The name of the option for the length of slices.
    pub const SLICE: &str = "armature.slice";
    /// The name of the option for tracing.
    pub const TRACE: &str = "armature.trace";
    /// The name of the option for what memory holds at the start.
    pub const MEMORY: &str = "armature.memory";
    /// The slices that there may be, in milliseconds.
    pub const SLICES_MS: RangeInclusive<u32> = 1..=1000;
    /// The slice where nobody chooses, in milliseconds.
    pub const USUAL_SLICE_MS: u32 = 10;

    /// Reads the command line of the host. Words that do not begin with
    /// `armature.` are ignored. A word that cannot be followed is returned as
    /// an error and changes nothing.
    #[must_use]
    pub fn parse(bootargs: &str) -> (Self, Vec<OptionError>) {
        let mut options = Self::default();
        let mut refused = Vec::new();
        let mut seen = Vec::new();
        let words = bootargs.split_whitespace();
        for word in words.filter(|word| word.starts_with(PREFIX)) {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            if seen.contains(&name) {
                refused.push(OptionError::Repeated { word: word.into() });
            } else if let Err(error) = options.follow(word, name, value) {
                refused.push(error);
            } else {
                seen.push(name);
            }
        }
        (options, refused)
    }

    fn follow(&mut self, word: &str, name: &str, value: &str) -> Result<(), OptionError> {
        let invalid = |allowed| OptionError::Invalid {
            word: word.into(),
            allowed,
        };
        match name {
            Self::LOG => {
                let level = value.parse().map_err(|_| invalid(allowed::LOG))?;
                self.log_level = level;
            }
            Self::SLICE => {
                self.slice_ms = milliseconds(value).ok_or_else(|| invalid(allowed::SLICE))?;
            }
            Self::TRACE => {
                self.trace = match value {
                    "on" => true,
                    "off" => false,
                    _ => return Err(invalid(allowed::TRACE)),
                };
            }
            Self::MEMORY => {
                self.memory_is_zero = value == "zero";
                return self
                    .memory_is_zero
                    .then_some(())
                    .ok_or_else(|| invalid(allowed::MEMORY));
            }
            _ => return Err(OptionError::Unknown { word: word.into() }),
        }
        Ok(())
    }
}

fn milliseconds(value: &str) -> Option<u32> {
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    let number = value.parse().ok().filter(|_| digits)?;
    HostOptions::SLICES_MS.contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn without_options_everything_is_as_usual() {
        for bootargs in [
            "",
            "quiet console=ttyAMA0",
            " \n",
            "armature",
            "xarmature.log=off",
        ] {
            assert_eq!(
                HostOptions::parse(bootargs),
                (HostOptions::default(), Vec::new()),
                "{bootargs:?}"
            );
        }
    }

    #[test]
    fn options_are_found_among_other_words() {
        let (options, refused) = HostOptions::parse(
            "armature.trace=on armature.log=trace  quiet armature.slice=1000 armature.memory=zero",
        );
        assert_eq!(refused, []);
        assert_eq!(options.log_level, LevelFilter::Trace);
        assert_eq!(options.slice_ms, 1000);
        assert!(options.trace && options.memory_is_zero);
    }

    #[test]
    fn each_word_that_cannot_be_followed_is_one_error_and_changes_nothing() {
        let log = "it must be `off`, `error`, `warn`, `info`, `debug` or `trace`";
        let slice = "it must be a number of milliseconds from 1 to 1000";
        let known = "it must be `armature.log=LEVEL`, `armature.slice=MILLISECONDS`, \
                     `armature.trace=on` or `armature.memory=zero`";
        for (word, message) in [
            ("armature.log=loud", format!("is invalid: {log}")),
            ("armature.log=", format!("is invalid: {log}")),
            ("armature.log", format!("is invalid: {log}")),
            ("armature.slice=0", format!("is invalid: {slice}")),
            ("armature.slice=1001", format!("is invalid: {slice}")),
            ("armature.slice=+5", format!("is invalid: {slice}")),
            ("armature.slice=5ms", format!("is invalid: {slice}")),
            ("armature.slice=", format!("is invalid: {slice}")),
            (
                "armature.trace",
                "is invalid: it must be `on` or `off`".into(),
            ),
            (
                "armature.memory=one",
                "is invalid: it must be `zero`".into(),
            ),
            ("armature.memory", "is invalid: it must be `zero`".into()),
            ("armature.slise=5", format!("is not known: {known}")),
            ("armature.", format!("is not known: {known}")),
        ] {
            let (options, refused) = HostOptions::parse(word);
            assert_eq!(options, HostOptions::default(), "{word}");
            let messages: Vec<_> = refused.iter().map(OptionError::to_string).collect();
            assert_eq!(messages, [format!("/chosen/bootargs: `{word}` {message}")]);
        }
    }

    #[test]
    fn the_first_word_that_can_be_followed_counts() {
        let (options, refused) =
            HostOptions::parse("armature.slice=x armature.slice=5 armature.slice=7");
        assert_eq!(options.slice_ms, 5);
        let messages: Vec<_> = refused.iter().map(OptionError::to_string).collect();
        assert_eq!(messages.len(), 2);
        assert_eq!(
            messages.last().map(String::as_str),
            Some("/chosen/bootargs: `armature.slice=7` is one too many: it must be given once")
        );
    }
}

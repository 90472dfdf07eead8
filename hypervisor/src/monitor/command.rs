//! What can be typed to the monitor.

/// What the monitor can do, for its user.
pub(super) const HELP: [&str; 15] = [
    "help           this list",
    "vms            the VMs and what they are doing",
    "vcpus          the vCPUs: where they are, where they may run, what they do",
    "stats          the time that each vCPU has run and waited, and each CPU's load",
    "stats N        why the vCPUs of VM N left the guest, how often, and what it cost",
    "mem            free memory, and what each VM has of it",
    "disks          the machine's disks and their partitions",
    "net            what went through the ports of the switch, and what it dropped",
    "pause N        halts VM N; its clock stands still",
    "resume N       lets VM N go on",
    "restart N      starts VM N anew, also if it is off",
    "stop N         turns VM N off",
    "irq N          the interrupts of VM N that are enabled, pending or active",
    "trace on|off   records exits, interrupts and turns, for xtask to read",
    "log LEVEL      logs up to error, warn, info, debug or trace, or off",
];

/// A command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Nothing,
    Help,
    Vms,
    Vcpus,
    Stats,
    Exits(u16),
    Mem,
    Disks,
    Net,
    Pause(u16),
    Resume(u16),
    Restart(u16),
    Stop(u16),
    Irq(u16),
    Trace(bool),
    Log(log::LevelFilter),
}

/// Why a line is no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ParseError<'a> {
    #[error("{0}: no such command; try help")]
    Unknown(&'a str),
    #[error("{0} wants the number of a VM")]
    NoVm(&'a str),
    #[error("log wants one of off, error, warn, info, debug, trace")]
    NoLevel,
    #[error("trace wants on or off")]
    NoSwitch,
    #[error("{0}: too much on this line")]
    TooMuch(&'a str),
}

impl Command {
    pub(super) fn parse(line: &str) -> Result<Self, ParseError<'_>> {
        let mut words = line.split_ascii_whitespace();
        let Some(name) = words.next() else {
            return Ok(Self::Nothing);
        };
        let number = |word: Option<&str>| {
            let number = word.and_then(|word| word.parse().ok());
            number.ok_or(ParseError::NoVm(name))
        };
        let mut vm = || number(words.next());
        let command = match name {
            "help" | "?" => Self::Help,
            "vms" => Self::Vms,
            "vcpus" => Self::Vcpus,
            "stats" => match words.next() {
                Some(word) => Self::Exits(number(Some(word))?),
                None => Self::Stats,
            },
            "mem" => Self::Mem,
            "disks" => Self::Disks,
            "net" => Self::Net,
            "pause" => Self::Pause(vm()?),
            "resume" => Self::Resume(vm()?),
            "restart" => Self::Restart(vm()?),
            "stop" => Self::Stop(vm()?),
            "irq" => Self::Irq(vm()?),
            "trace" => match words.next() {
                Some("on") => Self::Trace(true),
                Some("off") => Self::Trace(false),
                _ => return Err(ParseError::NoSwitch),
            },
            "log" => {
                let level = words.next().and_then(|word| word.parse().ok());
                Self::Log(level.ok_or(ParseError::NoLevel)?)
            }
            _ => return Err(ParseError::Unknown(name)),
        };
        match words.next() {
            Some(word) => Err(ParseError::TooMuch(word)),
            None => Ok(command),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn commands_are_understood_or_explained() {
        for (line, command) in [
            ("", Command::Nothing),
            ("  vms ", Command::Vms),
            ("restart 12", Command::Restart(12)),
            ("irq 1", Command::Irq(1)),
            ("stats", Command::Stats),
            ("stats 2", Command::Exits(2)),
            ("trace on", Command::Trace(true)),
            ("trace off", Command::Trace(false)),
            ("log debug", Command::Log(log::LevelFilter::Debug)),
        ] {
            assert_eq!(Command::parse(line), Ok(command));
        }
        for (line, error) in [
            ("vmss", "vmss: no such command; try help"),
            ("stop", "stop wants the number of a VM"),
            ("stats x", "stats wants the number of a VM"),
            ("stats 1 2", "2: too much on this line"),
            ("stop x", "stop wants the number of a VM"),
            ("pause 70000", "pause wants the number of a VM"),
            ("trace", "trace wants on or off"),
            ("trace 1", "trace wants on or off"),
            (
                "log loud",
                "log wants one of off, error, warn, info, debug, trace",
            ),
            ("vms 1", "1: too much on this line"),
        ] {
            let got = Command::parse(line).expect_err(line);
            assert_eq!(got.to_string(), error);
        }
    }

    #[test]
    fn every_line_of_help_names_a_command() {
        for line in HELP {
            let name = line.split_ascii_whitespace().next().expect("a name");
            assert!(!matches!(Command::parse(name), Err(ParseError::Unknown(_))));
        }
    }
}

//! `cargo xtask bench`.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};

/// What can be measured.
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Boot Linux to its shell, on the hypervisor and without
    Boot(BootOptions),
}

/// Options of `cargo xtask bench boot`.
#[derive(Debug, Args)]
#[command(after_long_help = BOOT_EXIT_STATUS)]
pub(crate) struct BootOptions {
    /// Measure by the clock of this machine as well: five boots on the
    /// hypervisor and five without, by turns
    #[arg(long)]
    pub(crate) wall: bool,

    /// Write the figures to this file, too
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Only boot Linux with so many virtual CPUs [default: both numbers]
    #[arg(long, value_name = "N", value_parser = vcpus())]
    pub(crate) vcpus: Option<u32>,

    /// List these many of the hypervisor's functions for each boot, those that
    /// executed most instructions
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub(crate) functions: usize,
}

fn vcpus() -> impl TypedValueParser<Value = u32> {
    PossibleValuesParser::new(["1", "4"]).try_map(|number| number.parse::<u32>())
}

const BOOT_EXIT_STATUS: &str = "\
Exit status:
  0    everything was measured; a limit that is exceeded is told, no failure
  1    two runs that must be the same differ, or a boot failed
  2    the command line is wrong

The consoles are logged to target/run/bench-boot.log, the latest boot only.";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};

    fn boot(flags: &str) -> Result<BootOptions, clap::Error> {
        let line = format!("x bench boot {flags}");
        match Cli::read(line.split_whitespace())?.command {
            Command::Bench(Bench::Boot(options)) => Ok(options),
            other => panic!("not a boot: {other:?}"),
        }
    }

    #[test]
    fn boots_have_one_virtual_cpu_or_four() {
        assert_eq!(boot("").unwrap().vcpus, None);
        assert_eq!(boot("--vcpus 4 --wall").unwrap().vcpus, Some(4));
        assert_eq!(boot("--vcpus 2").unwrap_err().exit_code(), 2);
    }
}

//! The command line of `cargo xtask bench`.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};

/// What can be measured.
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Count what each operation of a guest costs that may end in the hypervisor
    ///
    /// A guest of our own does each operation some hundred times and looks at the
    /// counter before and after, on a machine whose counter counts instructions.
    /// So the numbers are those of all instructions that pass until the guest goes
    /// on, its own included, and each run has the same. The guest runs on the
    /// hypervisor, with a physical CPU for each virtual one, and without it.
    Exits(ExitsOptions),

    /// Count what more VMs and more virtual CPUs change about that, and what a VM
    /// takes of the machine
    ///
    /// Measures the operations of `exits` beside 0 to 15 other VMs that sleep, and
    /// with 1 to 16 virtual CPUs; the memory that the hypervisor needs for a VM of
    /// 1 GiB; and what it takes to create a VM and to destroy it.
    Scale(ScaleOptions),

    /// Boot Linux to its shell, on the hypervisor and without
    Boot(BootOptions),

    /// Keep the disk of a Linux guest busy, and the network between two, on the
    /// hypervisor and without
    ///
    /// Reads and writes in a row and at random, past the guest's page cache, with few
    /// and with many requests under way; sends packets to and fro, and a stream. Without
    /// the hypervisor a socket joins two QEMUs. Throughput is by the guest's clock, on an
    /// emulated machine: compare it only with that beside it.
    Io(IoOptions),
}

/// Options of `cargo xtask bench exits`.
#[derive(Debug, Args)]
#[command(after_long_help = EXITS_EXIT_STATUS)]
pub(crate) struct ExitsOptions {
    /// Fail if an operation costs more than its limit in benches/limits.toml
    #[arg(long, conflicts_with = "cpu")]
    pub(crate) check: bool,

    /// Do the same, and lower the limits of operations that cost less
    #[arg(long, conflicts_with = "cpu")]
    pub(crate) lower: bool,

    /// Write the figures to this file as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Write the figures to this file as a bar chart in SVG
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,

    /// The machine's CPU, as QEMU names it [default: max]
    #[arg(long, value_name = "MODEL")]
    pub(crate) cpu: Option<String>,
}

/// Options of `cargo xtask bench scale`.
#[derive(Debug, Args)]
#[command(after_long_help = SCALE_EXIT_STATUS)]
pub(crate) struct ScaleOptions {
    /// Fail if something is above its aim
    #[arg(long)]
    pub(crate) check: bool,

    /// Write the figures to this file as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// Options of `cargo xtask bench io`.
#[derive(Debug, Args)]
#[command(after_long_help = IO_EXIT_STATUS)]
pub(crate) struct IoOptions {
    /// Write the figures to this file as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

const IO_EXIT_STATUS: &str = "\
Exit status:
  0  measured; an aim that is missed is told, no failure
  1  something could not be measured
  2  the command line is wrong

The consoles are logged to target/run/bench-io.log, the latest run only.";

const SCALE_EXIT_STATUS: &str = "\
Exit status:
  0  measured, and with --check nothing is above its aim
  1  something is, or something could not be measured
  2  the command line is wrong";

const EXITS_EXIT_STATUS: &str = "\
Columns of the table:
  bare      the same guest on a machine without EL2
  here      the same guest on the hypervisor
  required  what this project demands, and stretch what it hopes for; both are in
            benches/limits.toml, with the limits that --check looks at

Exit status:
  0  measured, and with --check nothing is above its limit
  1  something is, or something could not be measured
  2  the command line is wrong";

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

    #[test]
    fn limits_are_those_of_one_cpu_model() {
        let parse = |flags: &str| {
            let line = format!("x bench exits {flags}");
            <Cli as clap::Parser>::try_parse_from(line.split_whitespace()).is_ok()
        };
        assert!(parse("--check --json a.json --svg a.svg"));
        assert!(parse("--cpu cortex-a53"));
        assert!(!parse("--cpu cortex-a53 --check"));
        assert!(!parse("--cpu cortex-a53 --lower"));
    }
}

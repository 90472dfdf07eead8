//! The command line of `cargo xtask bench`.

use std::path::PathBuf;

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
}

/// Options of `cargo xtask bench exits`.
#[derive(Debug, Args)]
#[command(after_long_help = EXITS_EXIT_STATUS)]
pub(crate) struct ExitsOptions {
    /// Fail if an operation costs more than its limit in benches/limits.toml
    #[arg(long, conflicts_with = "cpu")]
    pub(crate) check: bool,

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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::cli::Cli;

    #[test]
    fn limits_are_those_of_one_cpu_model() {
        let parse = |flags: &str| {
            let line = format!("x bench exits {flags}");
            Cli::try_parse_from(line.split_whitespace()).is_ok()
        };
        assert!(parse("--check --json a.json --svg a.svg"));
        assert!(parse("--cpu cortex-a53"));
        assert!(!parse("--cpu cortex-a53 --check"));
    }
}

//! Options of `cargo xtask top`.

use clap::Args;

/// Options of `cargo xtask top`.
#[derive(Clone, Debug, Args)]
pub(crate) struct TopOptions {
    /// Print the exits since the machine was started, and end
    #[arg(long)]
    pub(crate) once: bool,

    /// How often the rates are renewed
    #[arg(
        long,
        value_name = "MILLISECONDS",
        default_value_t = 1000,
        value_parser = clap::value_parser!(u64).range(100..=60_000)
    )]
    pub(crate) interval: u64,
}

//! The command line.

mod bench;
mod devices;
mod top;

use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{ArgGroup, Args, CommandFactory, Parser, Subcommand};
use dtb_platform::{GicVersion, HostOptions};

pub(crate) use bench::{Bench, BootOptions, ExitsOptions, IoOptions, ScaleOptions};
pub(crate) use devices::{DiskFlag, NetFlag};
pub(crate) use top::TopOptions;

/// Builds, runs, tests and checks Armature.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    version,
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What `cargo xtask` can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a guest on the hypervisor in QEMU
    Qemu(Box<QemuOptions>),
    /// Show how often the vCPUs of a machine that `qemu` runs leave their guests
    Top(TopOptions),
    /// Check formats, lints, documentation and the repository's own rules
    Check(CheckOptions),
    /// Run the host tests, some of them in Miri as well, and the tests in QEMU
    Test(TestOptions),
    /// Measure what the hypervisor costs
    #[command(subcommand)]
    Bench(Bench),
}

/// Options of `cargo xtask qemu`.
#[derive(Clone, Debug, Args)]
#[command(
    after_long_help = QEMU_EXIT_STATUS,
    group(ArgGroup::new("guest").required(true).args([
        "linux_smp", "linux", "multi_vm", "vms", "kernel", "bios",
    ])),
)]
pub(crate) struct QemuOptions {
    /// Boot Debian's arm64 kernel to a busybox shell, each virtual CPU on a
    /// physical one of its own
    ///
    /// Kernel and busybox are fetched as Debian packages on the first run and
    /// kept in `target/guest`; remove that directory to fetch newer ones.
    #[arg(long)]
    pub(crate) linux_smp: bool,

    /// Boot the same Linux, its virtual CPUs taking turns on one physical CPU
    #[arg(long, conflicts_with = "bare")]
    pub(crate) linux: bool,

    /// Boot two such Linux guests that take turns on one physical CPU
    #[arg(long, conflicts_with_all = ["bare", "exec"])]
    pub(crate) multi_vm: bool,

    /// Run the virtual machines that this TOML file describes
    ///
    /// docs/vm-configuration.md lists the keys; examples are in examples/vms.
    /// --pcpus, --cpu, --gic and --slice win over the file.
    #[arg(
        long,
        value_name = "FILE.toml",
        conflicts_with_all = [
            "bare", "exec", "initrd", "append", "vcpus", "mem", "its", "disk", "net",
        ]
    )]
    pub(crate) vms: Option<PathBuf>,

    /// Boot this kernel: an arm64 Image, an ELF64 file or a raw binary
    #[arg(long, value_name = "FILE")]
    pub(crate) kernel: Option<PathBuf>,

    /// Run this firmware from address 0
    #[arg(long, value_name = "FILE")]
    pub(crate) bios: Option<PathBuf>,

    /// Give the guest this initial RAM disk
    #[arg(long, value_name = "FILE", conflicts_with = "bios")]
    pub(crate) initrd: Option<PathBuf>,

    /// Add this to the guest's kernel command line
    #[arg(
        long,
        value_name = "STRING",
        conflicts_with = "bios",
        allow_hyphen_values = true
    )]
    pub(crate) append: Option<String>,

    /// Number of virtual CPUs of each guest [default: 4, with --multi-vm 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) vcpus: Option<u32>,

    /// Number of physical CPUs of the machine [default: 1 with --linux and
    /// --multi-vm, else as many as virtual ones]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) pcpus: Option<u32>,

    /// How long a virtual CPU runs while others of its priority wait [default: 10]
    #[arg(
        long,
        value_name = "MILLISECONDS",
        value_parser = clap::value_parser!(u32).range(slices()),
        conflicts_with = "bare"
    )]
    pub(crate) slice: Option<u32>,

    /// Memory of each guest [default: 512]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(8..=65536))]
    pub(crate) mem: Option<u64>,

    /// The machine's CPU, as QEMU names it [default: max]
    #[arg(long, value_name = "MODEL")]
    pub(crate) cpu: Option<String>,

    /// The version of the interrupt controller, the machine's and so each
    /// guest's [default: 3]
    ///
    /// A GICv2 serves at most 8 CPUs, virtual or physical.
    #[arg(long, value_name = "VERSION", value_parser = gic_version())]
    pub(crate) gic: Option<GicVersion>,

    /// Give each guest's GICv3 an interrupt translation service (ITS)
    #[arg(long)]
    pub(crate) its: bool,

    /// Give a guest a disk: a file, or an image that is made if it is missing and
    /// kept in `target/disks`, of a size such as 64M or 2G; may be repeated
    ///
    /// With `ro` the guest can only read it. With `vm=N` the disk is that of the
    /// guest with this number, counted from 0, else of the first one.
    #[arg(
        long,
        value_name = "FILE|new:SIZE[,ro][,vm=N]",
        value_parser = devices::disk
    )]
    pub(crate) disk: Vec<DiskFlag>,

    /// Give each guest a network card, which reaches so far [default: none]
    #[arg(long, value_name = "REACH")]
    pub(crate) net: Option<NetFlag>,

    /// Pass one more argument to QEMU; may be repeated
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    pub(crate) qemu_arg: Vec<String>,

    /// Stop the machine after so many seconds and fail
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) timeout: Option<u64>,

    /// Wait for a debugger before the first instruction
    #[arg(long)]
    pub(crate) gdb: bool,

    /// Tell in the end how many instructions were the hypervisor's, and which
    /// FUNCTIONS of it executed most of them
    ///
    /// The count is exact; it repeats with -icount, see docs/debugging.md. With
    /// --bare the number of all instructions is told.
    #[arg(
        long,
        value_name = "FUNCTIONS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "0"
    )]
    pub(crate) count_instructions: Option<usize>,

    /// Trace the run, and write it to this file for Perfetto or chrome://tracing
    ///
    /// Every exit of a vCPU with its reason and duration, every interrupt that is
    /// injected, every turn of a vCPU on a CPU; see docs/telemetry.md.
    #[arg(long, value_name = "FILE.json", conflicts_with = "bare")]
    pub(crate) trace: Option<PathBuf>,

    /// Run this shell command in the guest and exit with its status
    ///
    /// Standard output carries what the command prints and nothing else; the
    /// kernel's messages go to the console log.
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["bios", "initrd"], allow_hyphen_values = true)]
    pub(crate) exec: Option<String>,

    /// With --exec: show the whole console on standard error
    #[arg(long)]
    pub(crate) verbose: bool,

    /// Boot the same guest directly on QEMU, without the hypervisor
    ///
    /// The machine has no EL2 then. This is the yardstick for comparisons.
    #[arg(long)]
    pub(crate) bare: bool,
}

fn gic_version() -> impl TypedValueParser<Value = GicVersion> {
    PossibleValuesParser::new(["2", "3"]).try_map(|version| {
        let number = version.parse().ok();
        let version = number.and_then(GicVersion::from_number);
        version.ok_or("there is no such version")
    })
}

impl Cli {
    /// Reads a command line, and says what is wrong with it, also where that is
    /// only what several options say together.
    pub(crate) fn read<T: Into<OsString> + Clone>(
        words: impl IntoIterator<Item = T>,
    ) -> Result<Self, clap::Error> {
        let cli = Self::try_parse_from(words)?;
        if let Command::Qemu(options) = &cli.command
            && let Some(contradiction) = options.contradiction()
        {
            return Err(Self::command().error(ErrorKind::ArgumentConflict, contradiction));
        }
        Ok(cli)
    }
}

impl QemuOptions {
    /// Says which of the options do not go together in a way that their parser
    /// cannot know.
    fn contradiction(&self) -> Option<String> {
        if self.bare && self.net == Some(NetFlag::Switch) {
            return Some(
                "--net switch needs the hypervisor's switch: with --bare there is only --net user"
                    .to_owned(),
            );
        }
        let gic = self.gic.unwrap_or_default();
        if self.its && gic == GicVersion::V2 {
            return Some("--its needs a GICv3: it cannot be used with --gic 2".to_owned());
        }
        let counts = [("--vcpus", self.vcpus), ("--pcpus", self.pcpus)];
        counts.into_iter().find_map(|(flag, count)| {
            let count = count.filter(|count| *count > gic.max_cpus())?;
            let most = gic.max_cpus();
            Some(format!(
                "a {gic} serves at most {most} CPUs: {flag} {count} cannot be used with --gic 2"
            ))
        })
    }
}

/// The slices that there may be, in milliseconds.
fn slices() -> RangeInclusive<i64> {
    let (first, last) = HostOptions::SLICES_MS.into_inner();
    first.into()..=last.into()
}

const QEMU_EXIT_STATUS: &str = "\
Exit status:
  0    all guests powered off, or the user left with Ctrl-A x
  1    hypervisor panic, VM fault, or nothing could be started
  2    the command line is wrong
  124  --timeout ran out
  With --exec: the command's own status; 125 instead of 1.

The console is logged to target/run/console.log.";

/// Options of `cargo xtask check`.
#[derive(Debug, Args)]
pub(crate) struct CheckOptions {
    /// Only check the repository's own rules: dependencies and text
    #[arg(long)]
    pub(crate) rules: bool,
}

/// Options of `cargo xtask test`.
#[derive(Debug, Args)]
pub(crate) struct TestOptions {
    /// Only run the host tests
    #[arg(long, conflicts_with_all = ["qemu", "filter"])]
    pub(crate) host: bool,

    /// Only run the host tests that Miri runs: of threads and of raw memory
    ///
    /// Needs a nightly toolchain; the component is added to it if it is missing.
    /// Without one these tests are skipped.
    #[arg(long, conflicts_with_all = ["host", "qemu", "filter"])]
    pub(crate) miri: bool,

    /// Only run the tests in QEMU
    #[arg(long)]
    pub(crate) qemu: bool,

    /// Only run the tests in QEMU whose name contains NAME
    #[arg(long, value_name = "NAME")]
    pub(crate) filter: Option<String>,

    /// List the tests in QEMU and run nothing
    #[arg(long)]
    pub(crate) list: bool,

    /// Run the guests directly on QEMU, without the hypervisor
    #[arg(long)]
    pub(crate) bare: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_guest_must_be_chosen_and_only_one() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' '));
        assert!(parse("xtask qemu").is_err());
        assert!(parse("xtask qemu --linux-smp --kernel k").is_err());
        assert!(parse("xtask qemu --bios b --exec true").is_err());
        assert!(parse("xtask qemu --linux-smp --linux").is_err());
        assert!(parse("xtask qemu --multi-vm --vms f").is_err());
        assert!(parse("xtask qemu --linux-smp --exec true --vcpus 8").is_ok());
        assert!(parse("xtask qemu --linux --exec true --pcpus 2").is_ok());
        assert!(parse("xtask qemu --multi-vm --vcpus 2 --mem 256 --append quiet").is_ok());
        assert!(parse("xtask qemu --vms f --pcpus 2 --cpu cortex-a53 --gdb").is_ok());
        assert!(parse("xtask qemu --vms f --slice 1000").is_ok());
        assert!(parse("xtask qemu --linux --slice 0").is_err());
        assert!(parse("xtask qemu --linux --slice 1001").is_err());
        assert!(parse("xtask qemu --linux-smp --bare --slice 5").is_err());
    }

    #[test]
    fn what_a_file_describes_is_not_described_by_flags_as_well() {
        for flag in [
            "exec true",
            "initrd i",
            "append x",
            "vcpus 2",
            "mem 64",
            "bare",
            "its",
            "disk f",
            "net user",
        ] {
            let line = format!("xtask qemu --vms f --{flag}");
            let error = Cli::try_parse_from(line.split(' '))
                .unwrap_err()
                .to_string();
            let (name, _) = flag.split_once(' ').unwrap_or((flag, ""));
            assert!(
                error.contains("cannot be used with") && error.contains(&format!("--{name}")),
                "{error}"
            );
        }
    }

    #[test]
    fn a_gicv2_has_no_its_and_at_most_8_cpus() {
        let read = |flags: &str| {
            let line = format!("xtask qemu --bios b {flags}");
            match Cli::read(line.split(' '))?.command {
                Command::Qemu(options) => Ok::<_, clap::Error>((options.gic, options.its)),
                other => panic!("not for QEMU: {other:?}"),
            }
        };
        assert_eq!(read("--bare").unwrap(), (None, false));
        assert_eq!(
            read("--gic 3 --its --vcpus 9").unwrap(),
            (Some(GicVersion::V3), true)
        );
        assert_eq!(
            read("--gic 2 --vcpus 8").unwrap(),
            (Some(GicVersion::V2), false)
        );
        let cpus = "a GICv2 serves at most 8 CPUs:";
        for (flags, message) in [
            ("--gic 4", "invalid value '4' for '--gic <VERSION>'".into()),
            (
                "--gic 2 --its",
                "--its needs a GICv3: it cannot be used with --gic 2".into(),
            ),
            (
                "--gic 2 --vcpus 9",
                format!("{cpus} --vcpus 9 cannot be used with --gic 2"),
            ),
            (
                "--gic 2 --pcpus 256 --bare",
                format!("{cpus} --pcpus 256 cannot be used with --gic 2"),
            ),
        ] {
            let error = read(flags).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{flags}");
            assert!(error.to_string().contains(&message), "{error}");
        }
    }

    #[test]
    fn only_the_hypervisor_has_a_switch() {
        let read = |line: &str| Cli::read(line.split(' '));
        assert!(read("xtask qemu --bios b --net switch").is_ok());
        assert!(read("xtask qemu --bios b --bare --net user").is_ok());
        let error = read("xtask qemu --bios b --bare --net switch").unwrap_err();
        assert!(
            error.to_string().contains("there is only --net user"),
            "{error}"
        );
        assert!(read("xtask qemu --bios b --net out").is_err());
    }

    #[test]
    fn counting_may_name_functions() {
        let counted = |flags: &str| {
            let line = format!("xtask qemu --bios b {flags}");
            match Cli::try_parse_from(line.split(' ')) {
                Ok(Cli {
                    command: Command::Qemu(options),
                }) => Some(options.count_instructions),
                _ => None,
            }
        };
        assert_eq!(counted("--gdb"), Some(None));
        assert_eq!(counted("--count-instructions"), Some(Some(0)));
        assert_eq!(counted("--count-instructions=20"), Some(Some(20)));
        assert_eq!(counted("--count-instructions --bare"), Some(Some(0)));
        assert_eq!(counted("--count-instructions=many"), None);
    }

    #[test]
    fn tests_of_one_kind_are_chosen_alone() {
        let parse = |flags: &str| Cli::try_parse_from(format!("xtask test {flags}").split(' '));
        assert!(parse("--miri").is_ok());
        for other in ["--host", "--qemu", "--filter f"] {
            assert!(parse(&format!("--miri {other}")).is_err(), "{other}");
        }
    }

    #[test]
    fn arguments_for_qemu_may_start_with_a_hyphen() {
        let cli = Cli::try_parse_from(["x", "qemu", "--bios", "b", "--qemu-arg", "-icount"]);
        let Ok(Cli {
            command: Command::Qemu(options),
        }) = cli
        else {
            panic!("not parsed: {cli:?}");
        };
        assert_eq!(options.qemu_arg, ["-icount"]);
    }
}

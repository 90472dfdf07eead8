//! A Linux guest that keeps its disk busy.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};

use anyhow::{Context, Result};

use super::{Figures, TIMEOUT};
use crate::guest::Guests;
use crate::guest::initramfs::{self, Purpose};
use crate::run::Prepared;
use crate::run::dialogue::Dialogue;
use crate::run::disks::{DiskSpec, Image};
use crate::run::session::Session;
use crate::run::spec::{GuestLinux, MachineSpec, Mode};
use crate::telemetry::top;
use crate::workspace::Workspace;

/// The program that keeps the disk busy: its package and its name.
const PROGRAM: &str = "disk-load";

/// The size of the disk, all of which is used.
const DISK_BYTES: u64 = 128 << 20;

/// What the guest says before each work.
const READY: &str = "io: ready";

/// What is done with the disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work {
    pub(super) writes: bool,
    pub(super) is_random: bool,
    pub(super) bytes: u64,
    /// How many requests are under way.
    pub(super) depth: u32,
    pub(super) requests: u64,
    /// The most exits for each request that are aimed for.
    pub(super) exits_aim: Option<f64>,
}

/// Everything that is measured. The first one fills the disk.
pub(super) const WORKS: [Work; 6] = [
    in_a_row(true),
    in_a_row(false),
    at_random(true, 1, 2.0),
    at_random(false, 1, 2.0),
    at_random(true, 32, 0.3),
    at_random(false, 32, 0.3),
];

const fn in_a_row(writes: bool) -> Work {
    Work {
        writes,
        is_random: false,
        bytes: 128 << 10,
        depth: 8,
        requests: DISK_BYTES / (128 << 10),
        exits_aim: None,
    }
}

const fn at_random(writes: bool, depth: u32, exits_aim: f64) -> Work {
    Work {
        writes,
        is_random: true,
        bytes: 4096,
        depth,
        requests: 4096,
        exits_aim: Some(exits_aim),
    }
}

impl Work {
    /// Returns the command for it, with this many requests.
    fn command(&self, requests: u64) -> String {
        let Self { bytes, depth, .. } = self;
        let (direction, order) = self.words();
        format!("{PROGRAM} /dev/vda {direction} {order} {bytes} {depth} {requests}")
    }

    fn words(&self) -> (&'static str, &'static str) {
        let direction = if self.writes { "write" } else { "read" };
        let order = if self.is_random {
            "random"
        } else {
            "sequential"
        };
        (direction, order)
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (direction, order) = self.words();
        let (kib, depth) = (self.bytes / 1024, self.depth);
        write!(f, "{order} {direction}, {kib} KiB, depth {depth}")
    }
}

/// Prepares and runs the guest.
pub(super) struct Bench<'a> {
    workspace: &'a Workspace,
    pub(super) guests: Guests,
    program: Vec<u8>,
}

impl<'a> Bench<'a> {
    /// Builds and fetches what is run.
    pub(super) fn new(workspace: &'a Workspace) -> Result<Self> {
        let file = workspace.build_for_target(PROGRAM, &[])?.join(PROGRAM);
        let program = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        Ok(Self {
            workspace,
            guests: Guests::new(workspace),
            program: initramfs::program(PROGRAM, &program)?,
        })
    }

    /// Runs the guest once, and returns the figures of each work.
    pub(super) fn measure(&self, mode: Mode) -> Result<Vec<Figures>> {
        let runs = self.workspace.target().join("run");
        fs::create_dir_all(&runs)?;
        let image = runs.join("bench-io.img");
        File::create(&image)?.set_len(DISK_BYTES)?;
        let machine = self.machine(mode, Image::File(image.clone()))?;
        let prepared = Prepared::new(self.workspace, &machine, "bench-io.log")?;
        let mut guest = Dialogue::new(Session::start(prepared, Some(TIMEOUT))?);
        guest.expect(READY)?;
        let idle = works_on(&mut guest, mode)?.exits;
        let figures = WORKS.iter().map(|_| {
            let mut figures = works_on(&mut guest, mode)?;
            for (reason, count) in &mut figures.exits {
                *count = count.saturating_sub(idle.get(reason).copied().unwrap_or(0));
            }
            Ok(figures)
        });
        let figures = figures.collect::<Result<Vec<_>>>()?;
        guest.send("\n");
        guest.power_off()?;
        fs::remove_file(&image)?;
        Ok(figures)
    }

    /// Returns a machine whose guest does one work after the other, each when it is
    /// told to, and before them the first one without any request.
    fn machine(&self, mode: Mode, image: Image) -> Result<MachineSpec> {
        let nothing = WORKS.first().map(|work| work.command(0));
        let works = WORKS.iter().map(|work| work.command(work.requests));
        let steps = nothing.into_iter().chain(works);
        let wait = format!("echo '{READY}'; read -r line < /dev/ttyAMA0");
        let commands: Vec<_> = steps.map(|step| format!("{wait}; {step}")).collect();
        let command = format!("{}; {wait}", commands.join("; "));
        let mut vm = GuestLinux {
            kernel: self.guests.linux()?,
            purpose: Purpose::Run { command },
        }
        .vm(&self.guests)?;
        vm.vcpus = 1;
        vm.disks.push(DiskSpec::whole(image));
        vm.add_drivers(&self.guests)?;
        vm.unpack(&self.program);
        let mut machine = MachineSpec::new(vm);
        machine.mode = mode;
        Ok(machine)
    }
}

/// Lets the guest, which is ready, do its next work until it is ready again.
fn works_on(guest: &mut Dialogue, mode: Mode) -> Result<Figures> {
    let exits = |guest: &Dialogue| match mode {
        Mode::Bare => Ok(BTreeMap::new()),
        Mode::Hypervisor => top::exits(guest.directory()),
    };
    let before = exits(guest)?;
    guest.send("\n");
    guest.expect(&format!("{PROGRAM}: "))?;
    let nanoseconds = guest.expect(" ns")?;
    let nanoseconds = nanoseconds
        .parse()
        .with_context(|| format!("the guest says: {nanoseconds}"))?;
    guest.expect(READY)?;
    let mut exits = exits(guest)?;
    for (reason, count) in &mut exits {
        *count -= before.get(reason).copied().unwrap_or(0).min(*count);
    }
    Ok(Figures { nanoseconds, exits })
}

//! The small bare-metal guests, each of which checks its machine and says so.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use super::gic;
use super::suite::{Context, Run, Test, Verdict};
use crate::bench;
use crate::run::spec::{Boot, VmSpec};
use crate::workspace::GUESTS;

/// The vCPUs that each of them gets.
const VCPUS: u32 = 4;

/// What differs for some of them: name and minutes.
const PATIENCE: [(&str, u64); 2] = [("hostile", 6), ("psci", 4)];

/// Which of them also run with fewer CPUs than vCPUs: name and CPUs.
const CROWDED: [(&str, u32); 3] = [("interrupts", 2), ("psci", 1), ("registers", 1)];

pub(super) fn tests(context: &Context<'_>) -> Vec<Test> {
    let Some(package) = context.workspace.package(GUESTS) else {
        return Vec::new();
    };
    let alone = package
        .binaries()
        // What these print is looked at elsewhere: see `gic` and `bench`.
        .filter(|name| ![gic::GUEST, bench::GUEST].contains(name))
        .map(|name| test(name, format!("guest_{name}"), VCPUS));
    let crowded = CROWDED
        .iter()
        .filter(|_| !context.is_bare())
        .map(|(name, pcpus)| {
            let title = format!("guest_{name}_with_{VCPUS}_vcpus_on_{pcpus}");
            test(name, title, *pcpus)
        });
    alone.chain(crowded).collect()
}

/// Makes a test of one guest on a machine with this many CPUs.
fn test(name: &str, title: String, pcpus: u32) -> Test {
    let guest = name.to_owned();
    let test = Test::new(title, move |run| passes(run, &guest, pcpus));
    match PATIENCE.iter().find(|(patient, _)| *patient == name) {
        Some((_, minutes)) => test.within_minutes(*minutes),
        None => test,
    }
}

/// Describes a small virtual machine of two vCPUs that boots a guest.
pub(super) fn small(run: &Run<'_>, name: &str, guest: &str, bootargs: &str) -> Result<VmSpec> {
    let mut vm = VmSpec::new(Boot::Kernel(program(run, guest)?));
    name.clone_into(&mut vm.name);
    (vm.vcpus, vm.memory_mib) = (2, 16);
    vm.append(bootargs);
    Ok(vm)
}

/// Builds a guest.
pub(super) fn program(run: &Run<'_>, name: &str) -> Result<PathBuf> {
    run.context.workspace.build_guest(name)
}

/// Runs the guest until it powers off; what it has printed is its verdict.
fn passes(run: &Run<'_>, name: &str, pcpus: u32) -> Result<Verdict> {
    let vm = VmSpec::new(Boot::Kernel(program(run, name)?));
    let guest = run.talk(vm, |machine| machine.pcpus = pcpus)?;
    check_verdict(name, &guest.power_off()?)?;
    Ok(Verdict::Passed)
}

/// Finds the guest's verdict in what was printed: it must be that all is well.
pub(super) fn check_verdict(name: &str, printed: &str) -> Result<()> {
    let failure = format!("guest {name}: FAILED");
    let failed = printed.lines().find(|line| line.contains(&failure));
    ensure!(failed.is_none(), "{}", failed.unwrap_or_default());
    let success = format!("guest {name}: ok");
    ensure!(
        printed.lines().any(|line| line.trim_end() == success),
        "powered off without a verdict; the console:\n{printed}"
    );
    Ok(())
}

//! The small bare-metal guests, each of which checks its machine and says so.

use anyhow::{Result, ensure};

use super::suite::{Context, Run, Test, Verdict};
use crate::run::spec::{Boot, VmSpec};

/// The package whose programs they are.
const PACKAGE: &str = "test-guests";

/// What differs for some of them: name and minutes.
const PATIENCE: [(&str, u64); 2] = [("hostile", 6), ("psci", 4)];

pub(super) fn tests(context: &Context<'_>) -> Vec<Test> {
    let Some(package) = context.workspace.package(PACKAGE) else {
        return Vec::new();
    };
    package
        .binaries()
        .map(|name| {
            let guest = name.to_owned();
            let test = Test::new(format!("guest_{name}"), move |run| passes(run, &guest));
            match PATIENCE.iter().find(|(patient, _)| *patient == name) {
                Some((_, minutes)) => test.within_minutes(*minutes),
                None => test,
            }
        })
        .collect()
}

/// Runs the guest until it powers off; what it has printed is its verdict.
fn passes(run: &Run<'_>, name: &str) -> Result<Verdict> {
    let program = run
        .context
        .workspace
        .build_for_target(PACKAGE, &["--bin", name])?
        .join(name);
    let guest = run.talk(VmSpec::new(Boot::Kernel(program)), |_| {})?;
    let printed = guest.power_off()?;
    let failure = format!("guest {name}: FAILED");
    let failed = printed.lines().find(|line| line.contains(&failure));
    ensure!(failed.is_none(), "{}", failed.unwrap_or_default());
    let success = format!("guest {name}: ok");
    ensure!(
        printed.lines().any(|line| line.trim_end() == success),
        "powered off without a verdict; the console:\n{printed}"
    );
    Ok(Verdict::Passed)
}

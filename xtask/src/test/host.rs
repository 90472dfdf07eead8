//! The tests that run on the host: cargo's own.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context, Result};

use super::Tally;
use crate::workspace::Workspace;

/// Runs the unit, integration and documentation tests of every package and
/// counts them from what they report.
pub(super) fn run(workspace: &Workspace) -> Result<Tally> {
    let mut child = workspace
        .cargo()
        .args(["test", "--workspace", "--no-fail-fast"])
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    let mut tally = Tally::default();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            let line = line.context("cannot read what the tests say")?;
            println!("{line}");
            tally.add(counted(&line).unwrap_or_default());
        }
    }
    let status = child.wait()?;
    if !status.success() && tally.failed == 0 {
        // What does not even build has no tests that could fail.
        println!("the host tests failed: {status}");
        tally.failed = 1;
    }
    Ok(tally)
}

/// Reads `test result: ok. 3 passed; 0 failed; …`.
fn counted(line: &str) -> Option<Tally> {
    let mut parts = line
        .strip_prefix("test result: ")?
        .split_once(". ")?
        .1
        .split("; ");
    let mut count = |what: &str| parts.next()?.strip_suffix(what)?.trim().parse().ok();
    Some(Tally {
        passed: count("passed")?,
        failed: count("failed")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_counted_and_other_lines_are_not() {
        let line =
            "test result: FAILED. 31 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out";
        assert_eq!(
            counted(line),
            Some(Tally {
                passed: 31,
                failed: 2
            })
        );
        assert_eq!(counted("test a_test ... ok"), None);
        assert_eq!(counted("test result: ok."), None);
    }
}

//! What operations cost, counted twice: both times the same, and nothing more
//! than its limit.

use anyhow::{Result, ensure};

use super::suite::{Run, Test};
use crate::bench::{Exits, Limits};

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::on_hypervisor("operations_cost_what_their_limits_allow", within_limits)
            .within_minutes(6),
    ]
}

fn within_limits(run: &Run<'_>) -> Result<()> {
    let workspace = run.context.workspace;
    let first = Exits::measure(workspace, None)?;
    let second = Exits::measure(workspace, None)?;
    ensure!(
        first == second,
        "two runs count differently: {first:?} and {second:?}"
    );
    Limits::read(workspace)?.check(&first.here)?;
    Ok(())
}

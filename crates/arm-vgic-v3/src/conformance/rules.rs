//! The rules, one function each, in files by subject.

mod active;
mod distributor;
mod groups;
mod lifecycle;
mod messages;
mod moves;
mod overflow;
mod priority;
mod redistributor;
mod routing;
mod sgi;
mod state;
mod widths;

use super::Rule;

/// Lists the functions of a file as rules, by clause. They return a
/// [`Verdict`](super::board::Verdict), or an [`Outcome`](super::Outcome) if there are
/// GICs to which they do not apply.
macro_rules! list {
    ($($clause:literal => [$($rule:ident),+ $(,)?]),+ $(,)?) => {
        &[$($($crate::conformance::Rule {
            name: stringify!($rule),
            clause: $clause,
            run: |make| $rule(make).map(Into::into),
        }),+),+]
    };
}
use list;

/// Returns all rules.
pub fn rules() -> impl Iterator<Item = Rule> {
    [
        distributor::RULES,
        redistributor::RULES,
        state::RULES,
        widths::RULES,
        lifecycle::RULES,
        active::RULES,
        priority::RULES,
        groups::RULES,
        routing::RULES,
        sgi::RULES,
        messages::RULES,
        overflow::RULES,
        moves::RULES,
    ]
    .into_iter()
    .flatten()
    .copied()
}

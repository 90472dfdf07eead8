//! Exercises the GIC and tells everything that is visible of it, line by line:
//! the transcripts of two GICs that follow the specification are equal.
//!
//! What depends on time is never printed, and what the specification leaves open
//! neither: see `masks`.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod interface;
#[cfg(target_os = "none")]
mod masks;
#[cfg(target_os = "none")]
mod partner;
#[cfg(target_os = "none")]
mod snapshot;
#[cfg(target_os = "none")]
mod taken;
#[cfg(target_os = "none")]
mod transcript;
#[cfg(target_os = "none")]
mod walk;

test_guests::guest!("gic", run);

#[cfg(target_os = "none")]
fn run() {
    use test_guests::check;
    use test_guests::runtime::{gic, machine};
    use walk::Plan;

    check!(machine::cpu_count() >= snapshot::CPUS, "too few CPUs");
    transcript::line!("== reset");
    snapshot::print_reset();
    transcript::print();
    gic::init_cpu();
    partner::start();
    let plain = Plan {
        name: "Group 1",
        seed: 1,
        steps: 400,
        both_groups: false,
        two_steps: false,
        sets_active: false,
        shapes_priorities: false,
        closes_groups: false,
    };
    let walks = [
        plain,
        Plan {
            name: "Group 1, two steps",
            seed: 2,
            two_steps: true,
            ..plain
        },
        Plan {
            name: "both groups",
            seed: 3,
            both_groups: true,
            ..plain
        },
        Plan {
            name: "both groups, two steps, priorities",
            seed: 4,
            both_groups: true,
            two_steps: true,
            shapes_priorities: true,
            ..plain
        },
        Plan {
            name: "Group 1, enables, priorities",
            seed: 5,
            closes_groups: true,
            shapes_priorities: true,
            ..plain
        },
        Plan {
            name: "active states",
            seed: 6,
            sets_active: true,
            ..plain
        },
        Plan {
            name: "active states, two steps, both groups, priorities",
            seed: 7,
            both_groups: true,
            two_steps: true,
            shapes_priorities: true,
            sets_active: true,
            ..plain
        },
    ];
    for plan in walks {
        walk::run(plan);
        transcript::print();
    }
    partner::leave();
}

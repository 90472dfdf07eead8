//! The table of rules names tests, and every test of a rule is in it.

const TABLE: &str = include_str!("../../ITS-RULES.md");
const HERE: [&str; 4] = [
    include_str!("registers.rs"),
    include_str!("commands.rs"),
    include_str!("tables.rs"),
    include_str!("whole.rs"),
];

/// What the table marks ¹.
const CORE: &str = include_str!("../../../arm-vgic-core/src/lpi/tests.rs");

/// Returns the names of the tests in a file.
fn tests_in(file: &str) -> impl Iterator<Item = &str> {
    file.split("#[test]\nfn ")
        .skip(1)
        .filter_map(|rest| rest.split('(').next())
}

/// Returns the names in the table, and whether they are of another crate.
fn names() -> impl Iterator<Item = (&'static str, bool)> {
    TABLE
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split_once("| `"))
        .filter_map(|(_, rest)| rest.split_once('`'))
        .map(|(name, rest)| (name, rest.contains('¹')))
}

#[test]
fn the_table_of_rules_is_complete_and_true() {
    let mut named: Vec<_> = names()
        .filter(|(_, other)| !other)
        .map(|one| one.0)
        .collect();
    let mut known: Vec<_> = HERE.into_iter().flat_map(tests_in).collect();
    named.sort_unstable();
    known.sort_unstable();
    // Of whole machines, the last one is about resets and has no clause.
    known.retain(|name| *name != "a_reset_of_both_forgets_everything");
    assert_eq!(named, known);
    let of_core: Vec<_> = names().filter(|(_, other)| *other).collect();
    assert!(of_core.len() > 10);
    for (name, _) in of_core {
        assert!(tests_in(CORE).any(|test| test == name), "{name}");
    }
}

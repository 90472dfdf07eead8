//! Every example prints what its header says.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The block of the header that holds the output begins and ends so.
const BEGIN: &str = "//! ```text";
const END: &str = "//! ```";

/// Makes a test for each example, and the list of them all.
macro_rules! examples {
    ($($name:ident)*) => {
        const ALL: &[&str] = &[$(stringify!($name)),*];

        mod prints_what_its_header_says {
            $(
                #[test]
                fn $name() {
                    super::check(stringify!($name), env!(concat!("CARGO_BIN_EXE_", stringify!($name))));
                }
            )*
        }
    };
}

examples! {
    a_uart_for_your_vm
    build_stage2
    cards_on_a_switch
    decode_an_exit
    drive_a_vcpu
    inject_an_interrupt
    read_a_device_tree
}

fn sources() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bin")
}

/// Returns the lines between the fences of the header, without their `//! `.
fn expected(source: &str) -> Vec<&str> {
    let header = source.lines().take_while(|line| line.starts_with("//!"));
    let block = header.skip_while(|line| *line != BEGIN).skip(1);
    block
        .take_while(|line| *line != END)
        .map(|line| line.trim_start_matches("//!").trim_start())
        .collect()
}

fn check(name: &str, program: &str) {
    let source = fs::read_to_string(sources().join(format!("{name}.rs"))).expect("it was built");
    assert!(
        source.lines().count() < 120,
        "{name} is too long for one idea"
    );
    let expected = expected(&source);
    assert!(!expected.is_empty(), "{name} does not say what it prints");
    let output = Command::new(program).output().expect("it can be started");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} failed: {errors}");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert_eq!(printed.lines().collect::<Vec<_>>(), expected, "{name}");
}

#[test]
fn every_example_is_tested() {
    let files: BTreeSet<String> = fs::read_dir(sources())
        .expect("there are examples")
        .filter_map(|entry| entry.ok()?.path().file_stem()?.to_str().map(String::from))
        .collect();
    let tested: BTreeSet<String> = ALL.iter().copied().map(String::from).collect();
    assert_eq!(files, tested);
}

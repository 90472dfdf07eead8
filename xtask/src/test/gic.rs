//! The GIC exerciser: what it tells of QEMU's own GIC and what it tells of the
//! hypervisor's are the same, line by line.

use std::fs;

use anyhow::{Context as _, Result, bail, ensure};
use dtb_platform::GicVersion;

use super::images;
use super::suite::{Run, Test, Verdict};
use crate::run::spec::{Boot, Mode, VmSpec};

/// The guest, which prints a transcript.
pub(super) const GUEST: &str = "gic";

/// What each line of a transcript begins with, and those that begin a section.
const MARK: &str = "| ";
const SECTION: &str = "== ";

/// What a transcript is of.
#[derive(Clone, Copy)]
struct Flavour {
    /// The test's name, and that of its files.
    test: &'static str,
    file: &'static str,
    gic: GicVersion,
    its: bool,
    bootargs: &'static str,
}

const FLOOD: Flavour = Flavour {
    test: "sixty_four_spis_come_once_each_by_priority",
    file: "flood",
    gic: GicVersion::V3,
    its: false,
    bootargs: "flood",
};

const FLAVOURS: [Flavour; 5] = [
    FLOOD,
    Flavour {
        test: "sixty_four_spis_come_once_each_by_priority_v2",
        file: "flood-v2",
        gic: GicVersion::V2,
        ..FLOOD
    },
    Flavour {
        test: "gic_transcripts_are_equal_v3",
        file: "v3",
        bootargs: "",
        ..FLOOD
    },
    Flavour {
        test: "gic_transcripts_are_equal_its",
        file: "its",
        its: true,
        bootargs: "its",
        ..FLOOD
    },
    Flavour {
        test: "gic_transcripts_are_equal_v2",
        file: "v2",
        gic: GicVersion::V2,
        bootargs: "",
        ..FLOOD
    },
];

pub(super) fn tests() -> Vec<Test> {
    let test = |flavour: Flavour| {
        Test::new(flavour.test, move |run| are_equal(run, flavour)).within_minutes(6)
    };
    FLAVOURS.map(test).into()
}

/// Runs the guest on QEMU alone, then in the hypervisor, and compares.
fn are_equal(run: &Run<'_>, flavour: Flavour) -> Result<Verdict> {
    if run.context.is_bare() {
        return Ok(Verdict::Skipped("it runs both ways itself".into()));
    }
    let expected = transcript(run, flavour, Mode::Bare)?;
    let actual = transcript(run, flavour, Mode::Hypervisor)?;
    compare(&expected, &actual)?;
    Ok(Verdict::Passed)
}

/// Runs the guest and returns its transcript, which stays in a file as well.
fn transcript(run: &Run<'_>, flavour: Flavour, mode: Mode) -> Result<Vec<String>> {
    let mut vm = VmSpec::new(Boot::Kernel(images::program(run, GUEST)?));
    (vm.vcpus, vm.memory_mib, vm.its) = (2, 64, flavour.its);
    vm.append(flavour.bootargs);
    let guest = run.talk(vm, |machine| {
        (machine.mode, machine.gic) = (mode, flavour.gic);
    })?;
    let printed = guest.power_off()?;
    let name = match mode {
        Mode::Bare => "bare",
        Mode::Hypervisor => "hypervisor",
    };
    let lines: Vec<String> = printed
        .lines()
        .filter_map(|line| line.trim_end().strip_prefix(MARK))
        .map(str::to_owned)
        .collect();
    let file = format!("gic-{}-{name}.txt", flavour.file);
    let file = run.directory()?.join(file);
    fs::write(&file, lines.join("\n") + "\n")
        .with_context(|| format!("cannot write {}", file.display()))?;
    images::check_verdict(GUEST, &printed).with_context(|| format!("on the {name} machine"))?;
    ensure!(!lines.is_empty(), "no transcript on the {name} machine");
    Ok(lines)
}

/// Compares two transcripts; the first difference is the error.
fn compare(expected: &[String], actual: &[String]) -> Result<()> {
    let mut section = "";
    for number in 0..expected.len().max(actual.len()) {
        let [left, right] = [expected, actual].map(|lines| lines.get(number));
        if let Some(name) = left.and_then(|line| line.strip_prefix(SECTION)) {
            section = name;
        }
        if left != right {
            let [left, right] = [left, right].map(|line| line.map_or("(ends)", String::as_str));
            bail!(
                "the transcripts differ in section {section:?}, line {}:\n\
                 QEMU's GIC: {left}\nhypervisor: {right}",
                number + 1
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn the_first_difference_is_told_with_its_section() {
        let expected = lines("== one\na\n== two\nb\nc");
        assert!(compare(&expected, &expected).is_ok());
        let error = compare(&expected, &lines("== one\na\n== two\nb\nd")).unwrap_err();
        let error = error.to_string();
        for part in ["\"two\", line 5", "GIC: c", "hypervisor: d"] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_transcript_that_ends_early_differs() {
        let expected = lines("== one\na\nb");
        let error = compare(&expected, &expected[..2]).unwrap_err();
        assert!(error.to_string().contains("hypervisor: (ends)"));
        assert!(compare(&expected[..2], &expected).is_err());
    }
}

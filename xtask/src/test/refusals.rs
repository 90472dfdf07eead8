//! Virtual machines that the hypervisor refuses: one message for each, and the
//! others run.
//!
//! `xtask` would refuse most of them itself, so each is described correctly and
//! its node is spoiled on the way to the hypervisor.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use dtb_platform::RawNode;

use super::suite::{Run, Test, Verdict};
use crate::run::session::Outcome;
use crate::run::spec::{Boot, MachineSpec, Mode, VmSpec};

/// How many CPUs the machine has.
const PCPUS: u32 = 2;

/// Memory of each virtual machine, enough for its device tree.
const MEMORY_MIB: u64 = 16;

/// From one file in memory to the next: none of these is larger.
const FILE_DISTANCE: u64 = 2 << 20;

/// Who runs all the same: the first and the last.
const GOOD: [&str; 2] = ["early", "late"];

/// What these two say.
const VERDICT: &str = " runs";

/// A virtual machine that is refused.
struct Bad {
    name: &'static str,
    spoil: fn(&mut RawNode),
    /// What is said of it, after its node.
    message: &'static str,
}

const BAD: [Bad; 12] = [
    // The first lies right behind the good one whose kernel it overlaps.
    Bad {
        name: "overlap",
        spoil: |node| move_kernel(node, |start, size| (start - FILE_DISTANCE, size + 4)),
        message: ": its modules must not overlap a part of those of /chosen/early",
    },
    Bad {
        name: "crowd",
        spoil: |node| node.set_words("cpus", &[257]),
        message: ": `cpus` is invalid: it must be one word, from 1 to 256",
    },
    Bad {
        name: "empty",
        spoil: |node| node.children.clear(),
        message: ": it must have exactly one module to start, compatible with \
                  `multiboot,kernel` or `armature,firmware`",
    },
    Bad {
        name: "typo",
        spoil: |node| node.set_words("armature,wieght", &[50]),
        message: ": `armature,wieght` is not known: it must be `armature,name`, \
                  `armature,affinity`, `armature,cpu-set`, `armature,weight`, \
                  `armature,priority`, or `armature,its`",
    },
    Bad {
        name: "elsewhere",
        spoil: |node| node.set_words("armature,affinity", &[PCPUS]),
        message: ": `armature,affinity` names CPU 2: it must name CPUs below 2, which is how \
                  many there are",
    },
    Bad {
        name: "undecided",
        spoil: |node| {
            node.set_words("armature,affinity", &[0]);
            node.set_words("armature,cpu-set", &[0, 1]);
        },
        message: ": `armature,cpu-set` is invalid: it must be absent beside `armature,affinity`",
    },
    Bad {
        name: "heavy",
        spoil: |node| node.set_words("armature,weight", &[10_001]),
        message: ": `armature,weight` is invalid: it must be one word, from 1 to 10000",
    },
    Bad {
        name: "high",
        spoil: |node| node.set_words("armature,priority", &[8]),
        message: ": `armature,priority` is invalid: it must be one word, from 0 to 7",
    },
    Bad {
        name: "nowhere",
        spoil: |node| move_kernel(node, |_, _| (0x1000_0000, 0x1000)),
        message: ": its module at 0x10000000 to 0x10000fff must lie within one range of the \
                  machine's memory",
    },
    Bad {
        name: "namesake",
        spoil: |node| node.set_text("armature,name", "early"),
        message: ": the name `early` must not be that of another VM",
    },
    Bad {
        name: "riddle",
        spoil: |node| {
            let mut module = RawNode::new("secret");
            module.set_text("compatible", "multiboot,riddle");
            node.children.push(module);
        },
        message: "/secret: `compatible` is `multiboot,riddle`: it must contain exactly one of \
                  `multiboot,kernel`, `multiboot,ramdisk`, `armature,firmware`, `armature,disk` and \
                  `armature,net`",
    },
    // In KiB.
    Bad {
        name: "vast",
        spoil: |node| node.set_words("memory", &[64 << 20]),
        message: ": `memory` is 67108864 KiB: it must be at most 524288 KiB, which is all that \
                  the machine has",
    },
];

pub(super) fn tests() -> Vec<Test> {
    vec![Test::new(
        "bad_vms_are_refused_one_by_one_and_the_others_run",
        |run| match run.context.mode {
            Mode::Bare => Ok(Verdict::Skipped(
                "only the hypervisor refuses VMs".to_owned(),
            )),
            Mode::Hypervisor => refused(run).map(|()| Verdict::Passed),
        },
    )]
}

/// Runs good ones around the bad ones. As something was wrong, the run is a
/// failure in the end.
fn refused(run: &Run<'_>) -> Result<()> {
    let [early, late] = GOOD;
    let directory = run.directory()?;
    let mut vms = vec![machine(&directory, early)?];
    for bad in &BAD {
        let mut vm = machine(&directory, bad.name)?;
        vm.spoil = Some(bad.spoil);
        vms.push(vm);
    }
    vms.push(machine(&directory, late)?);
    let mut guest = run.talk_on(&MachineSpec::of(PCPUS, vms))?;

    const REFUSED: &str = "VM refused: ";
    for bad in &BAD {
        guest.expect(REFUSED)?;
        let line = guest.expect("\n")?;
        let expected = format!("/chosen/{}{}", bad.name, bad.message);
        ensure!(
            line.trim_end() == expected,
            "the message is: {line}\nit should be: {expected}"
        );
    }
    // They run at the same time, in any order.
    let mut running = Vec::new();
    for _ in GOOD {
        let before = guest.expect(VERDICT)?;
        ensure!(!before.contains(REFUSED), "one too many:\n{before}");
        let name = GOOD.iter().find(|name| before.ends_with(**name));
        running.push(*name.with_context(|| format!("who is running? {before}"))?);
    }
    running.sort_unstable();
    if running != GOOD {
        bail!("not both of the good ones run, but {running:?}");
    }
    let outcome = guest.outcome()?;
    ensure!(
        outcome == Outcome::HypervisorFailed,
        "the outcome is: {outcome}"
    );
    Ok(())
}

/// Describes a virtual machine that says that it runs, and powers itself off.
fn machine(directory: &Path, name: &str) -> Result<VmSpec> {
    let file = directory.join(format!("runs-{name}.bin"));
    let words = program(&format!("{name}{VERDICT}\n"));
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    fs::write(&file, bytes)?;
    let mut vm = VmSpec::new(Boot::Kernel(file));
    vm.name = name.to_owned();
    vm.vcpus = 1;
    vm.memory_mib = MEMORY_MIB;
    Ok(vm)
}

/// Returns a program that writes a text to the PL011 of its machine and calls
/// SYSTEM_OFF of PSCI (Arm DEN 0022).
fn program(text: &str) -> Vec<u32> {
    let mut words = vec![
        0xd2a1_2001, // movz x1, #0x900, lsl #16: the UART
        0x5280_6022, // movz w2, #0x301: enable it for both directions
        0xb900_3022, // str w2, [x1, #0x30]: UARTCR
    ];
    for byte in text.bytes() {
        words.push(0x5280_0000 | u32::from(byte) << 5); // movz w0, #byte
        words.push(0x3900_0020); // strb w0, [x1]: UARTDR
    }
    words.extend([
        0x5280_0100, // movz w0, #8
        0x72b0_8000, // movk w0, #0x8400, lsl #16: SYSTEM_OFF
        0xd400_0002, // hvc #0
        0x1400_0000, // b .
    ]);
    words
}

/// Gives the kernel another place: address and size in bytes.
fn move_kernel(node: &mut RawNode, place: impl Fn(u64, u64) -> (u64, u64)) {
    for module in &mut node.children {
        let reg = module.property("reg").unwrap_or_default();
        let ([start, size], []) = reg.as_chunks() else {
            continue;
        };
        let (start, size) = place(u64::from_be_bytes(*start), u64::from_be_bytes(*size));
        let reg = [start, size].map(u64::to_be_bytes);
        module.set("reg", reg.as_flattened());
    }
}

//! Linux as a guest.

use anyhow::{Result, bail, ensure};
use dtb_platform::GicVersion;

use super::suite::{Run, Test, Verdict};
use crate::run::console::PROMPT;
use crate::toolchain;

/// The models on which the hypervisor must run, beside the default one.
const CPUS: [&str; 5] = [
    "cortex-a53",
    "cortex-a57",
    "cortex-a72",
    "cortex-a76",
    "neoverse-n1",
];

/// What a healthy kernel never logs.
const COMPLAINTS: [&str; 12] = [
    "rcu_sched",
    "rcu_preempt",
    "stall",
    "starved",
    "lockup",
    "hung task",
    "lost interrupt",
    "nobody cared",
    "BUG:",
    "WARNING:",
    "Oops",
    "failed to come online",
];

/// What Linux logs about an interrupt translation service that serves it.
const ITS_REPORTS: [&str; 3] = [
    "ITS [mem 0x08080000-0x0809ffff]",
    " Devices @",
    "using LPI property table",
];

/// Separates a command's own output from the kernel's log.
pub(super) const LOG_FOLLOWS: &str = "--- dmesg ---";

pub(super) fn tests() -> Vec<Test> {
    let mut tests = vec![
        Test::new("linux_smp_boots_to_a_shell", boots_to_a_shell),
        Test::new("reboot_reboots_the_guest", |run| {
            reboots(run, GicVersion::V3)
        }),
        Test::new("exec_returns_output_and_status", returns_output_and_status),
        Test::new("exec_output_is_exact", output_is_exact),
        hotplug_test("cpu_hotplug_works_50_times", GicVersion::V3),
        Test::new("all_cpus_compute_right_at_once", compute).within_minutes(6),
    ];
    tests.push(Test::new("linux_runs_on_gicv2", runs_on_gicv2));
    tests.push(Test::new("reboot_reboots_the_guest_on_gicv2", |run| {
        reboots(run, GicVersion::V2)
    }));
    tests.push(hotplug_test(
        "cpu_hotplug_works_50_times_on_gicv2",
        GicVersion::V2,
    ));
    tests.push(Test::new("linux_reports_its", reports_its));
    for cpu in CPUS {
        let name = format!("linux_runs_on_{}", cpu.replace('-', "_"));
        tests.push(Test::new(name, move |run| runs_on(run, cpu)));
    }
    for vcpus in [1, 2, 8] {
        let name = format!("linux_runs_on_{vcpus}_vcpus");
        tests.push(Test::new(name, move |run| runs_on_vcpus(run, vcpus)));
    }
    tests
}

fn boots_to_a_shell(run: &Run<'_>) -> Result<Verdict> {
    let mut guest = run.talk_to_shell(|_| {})?;
    guest.expect(PROMPT)?;
    guest.send("nproc\n");
    guest.expect("\n4\r\n")?;
    guest.expect(PROMPT)?;
    // The echo of what is typed does not contain the answer.
    guest.send("echo typed-$((6 * 7)) | tr a-z A-Z\n");
    guest.expect("TYPED-42")?;
    guest.expect(PROMPT)?;
    // Ctrl-C must reach the foreground job through the terminal; the job
    // itself tells when it is there.
    guest.send("sh -c 'echo job-$((6 * 7)); exec sleep 100000'\n");
    guest.expect("\njob-42\r\n")?;
    guest.send("\x03");
    guest.expect("^C")?;
    guest.expect(PROMPT)?;
    guest.send("poweroff\n");
    guest.power_off()?;
    Ok(Verdict::Passed)
}

fn reboots(run: &Run<'_>, gic: GicVersion) -> Result<Verdict> {
    let mut guest = run.talk_to_shell(|machine| machine.gic = gic)?;
    guest.expect(PROMPT)?;
    guest.send("touch /before; reboot\n");
    guest.expect("Booting Linux on physical CPU")?;
    guest.expect(PROMPT)?;
    // Memory is new as well: the file is gone, and all CPUs are back.
    guest.send("ls /before; nproc\n");
    guest.expect("No such file")?;
    guest.expect("\n4\r\n")?;
    guest.expect(PROMPT)?;
    guest.send("poweroff\n");
    guest.power_off()?;
    Ok(Verdict::Passed)
}

fn returns_output_and_status(run: &Run<'_>) -> Result<Verdict> {
    let command = "nproc; grep -c processor /proc/cpuinfo; cat /proc/interrupts; exit 7";
    let (output, status) = run.exec(command, |_| {})?;
    ensure!(status == 7, "the status is {status}, not 7");
    ensure!(output.starts_with("4\n4\n"), "not four CPUs:\n{output}");
    let timer = output.lines().find(|line| line.contains("arch_timer"));
    let ticks = per_cpu(timer.unwrap_or_default());
    ensure!(
        ticks.len() == 4 && ticks.iter().all(|count| *count > 0),
        "not every CPU has timer interrupts:\n{output}"
    );
    Ok(Verdict::Passed)
}

fn output_is_exact(run: &Run<'_>) -> Result<Verdict> {
    let command = "printf 'a\\nb\\r\\nc\\tno end'; printf %5000s x >&2";
    let output = run.output(command, |_| {})?;
    let expected = format!("a\nb\r\nc\tno end{}x", " ".repeat(4999));
    ensure!(output == expected, "the output is {output:?}");
    Ok(Verdict::Passed)
}

fn hotplug_test(name: &str, gic: GicVersion) -> Test {
    Test::new(name, move |run| hotplug(run, gic)).within_minutes(6)
}

fn hotplug(run: &Run<'_>, gic: GicVersion) -> Result<Verdict> {
    let command = format!(
        "cpu=/sys/devices/system/cpu/cpu3/online
         for i in $(seq 50); do
             echo 0 > $cpu || exit 1
             [ \"$(nproc)\" = 3 ] || exit 2
             echo 1 > $cpu || exit 3
             [ \"$(nproc)\" = 4 ] || exit 4
         done
         echo done; echo '{LOG_FOLLOWS}'; dmesg"
    );
    let output = run.output(&command, |machine| machine.gic = gic)?;
    ensure!(healthy(&output)? == "done\n", "not done:\n{output}");
    Ok(Verdict::Passed)
}

/// Every CPU hashes the same random data at once, several times, while each
/// also makes and hashes random data of its own.
fn compute(run: &Run<'_>) -> Result<Verdict> {
    let command = format!(
        "dd if=/dev/urandom of=/tmp/data bs=1M count=8 2> /dev/null
         right=$(md5sum < /tmp/data)
         for cpu in $(seq 0 $(($(nproc) - 1))); do
             (
                 bad=0
                 for round in $(seq 6); do
                     [ \"$(taskset -c $cpu md5sum < /tmp/data)\" = \"$right\" ] || bad=1
                     sum=$(dd if=/dev/urandom bs=64k count=32 2> /dev/null \
                         | tee /tmp/own$cpu | taskset -c $cpu md5sum)
                     [ \"$(md5sum < /tmp/own$cpu)\" = \"$sum\" ] || bad=1
                 done
                 echo \"cpu $cpu bad $bad\" > /tmp/verdict$cpu
             ) &
         done
         wait
         cat /tmp/verdict*; echo '{LOG_FOLLOWS}'; dmesg"
    );
    let output = run.output(&command, |_| {})?;
    let verdicts = healthy(&output)?;
    let right: String = (0..4).map(|cpu| format!("cpu {cpu} bad 0\n")).collect();
    ensure!(verdicts == right, "wrong sums:\n{verdicts}");
    Ok(Verdict::Passed)
}

fn runs_on(run: &Run<'_>, cpu: &'static str) -> Result<Verdict> {
    if !toolchain::qemu_has_cpu(cpu) {
        return Ok(Verdict::Skipped(format!("this QEMU has no {cpu}")));
    }
    let command = format!("nproc; echo '{LOG_FOLLOWS}'; dmesg");
    let output = run.output(&command, |machine| machine.cpu = cpu.to_owned())?;
    ensure!(healthy(&output)? == "4\n", "not four CPUs:\n{output}");
    Ok(Verdict::Passed)
}

fn runs_on_vcpus(run: &Run<'_>, vcpus: u32) -> Result<Verdict> {
    let command = format!("nproc; echo '{LOG_FOLLOWS}'; dmesg");
    let output = run.output(&command, |machine| {
        machine.pcpus = vcpus;
        machine.vms.iter_mut().for_each(|vm| vm.vcpus = vcpus);
    })?;
    ensure!(
        healthy(&output)? == format!("{vcpus}\n"),
        "not {vcpus} CPUs:\n{output}"
    );
    Ok(Verdict::Passed)
}

fn runs_on_gicv2(run: &Run<'_>) -> Result<Verdict> {
    let command = format!(
        "nproc; grep arch_timer /proc/interrupts
         for cpu in $(seq 0 $(($(nproc) - 1))); do taskset -c $cpu sleep 0.1; done
         grep arch_timer /proc/interrupts; echo '{LOG_FOLLOWS}'; dmesg"
    );
    let output = run.output(&command, |machine| machine.gic = GicVersion::V2)?;
    let printed = healthy(&output)?;
    let [cpus, before, after] = printed.lines().collect::<Vec<_>>()[..] else {
        bail!("these are not three lines:\n{printed}");
    };
    // Linux calls a GICv3 by that name.
    ensure!(after.contains("GIC-0"), "this is no GICv2: {after}");
    let ticked = per_cpu(after)
        .into_iter()
        .zip(per_cpu(before))
        .filter(|(after, before)| after > before)
        .count();
    ensure!(
        cpus == "4" && ticked == 4,
        "not the timers of all four CPUs advance:\n{printed}"
    );
    Ok(Verdict::Passed)
}

fn reports_its(run: &Run<'_>) -> Result<Verdict> {
    let command = format!("echo '{LOG_FOLLOWS}'; dmesg");
    let output = run.output(&command, |machine| {
        machine.vms.iter_mut().for_each(|vm| vm.its = true);
    })?;
    healthy(&output)?;
    for report in ITS_REPORTS {
        ensure!(output.contains(report), "no {report:?} in:\n{output}");
    }
    let complaint = output.lines().find(|line| {
        let its = line.contains("ITS") || line.contains("LPI");
        its && ["fail", "error", "unable", "timeout", "unsupported"]
            .iter()
            .any(|word| line.to_lowercase().contains(word))
    });
    ensure!(complaint.is_none(), "the kernel complains: {complaint:?}");
    Ok(Verdict::Passed)
}

/// Returns the counts in a line of `/proc/interrupts`.
pub(super) fn per_cpu(line: &str) -> Vec<u64> {
    line.split_whitespace()
        .skip(1)
        .map_while(|word| word.parse().ok())
        .collect()
}

/// Returns what stands before the kernel's log, which must be without
/// complaints.
pub(super) fn healthy(output: &str) -> Result<&str> {
    let (before, log) = output.split_once(LOG_FOLLOWS).unwrap_or((output, ""));
    ensure!(!log.trim().is_empty(), "no kernel log follows:\n{output}");
    let complaint = log
        .lines()
        .find(|line| COMPLAINTS.iter().any(|complaint| line.contains(complaint)));
    ensure!(
        complaint.is_none(),
        "the kernel complains: {}",
        complaint.unwrap_or_default()
    );
    Ok(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_of_the_kernel_are_found_after_the_output_only() {
        let log = "[    0.0] rcu: Hierarchical RCU implementation.\n";
        assert_eq!(
            healthy(&format!("BUG: 1\n{LOG_FOLLOWS}\n{log}")).unwrap(),
            "BUG: 1\n"
        );
        let stall = "[   21.0] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:\n";
        assert!(healthy(&format!("4\n{LOG_FOLLOWS}\n{log}{stall}")).is_err());
        assert!(healthy("4\n").is_err(), "a missing log is no healthy one");
    }
}

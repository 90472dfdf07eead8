//! The hypervisor's own commands, typed on the console.
//!
//! A command is executed by the main loop of a CPU while it has no guest loaded
//! and holds no lock.

use vm_contract::VmId;

use crate::console::Console;
use crate::machine::Hypervisor;
use crate::vm::Vm;

/// What the monitor can do, for its user.
const HELP: [&str; 6] = [
    "help           this list",
    "vms            the VMs and what they are doing",
    "vcpus          the vCPUs, where they live and what runs",
    "restart N      starts VM N anew, also if it is off",
    "stop N         turns VM N off",
    "log LEVEL      logs up to error, warn, info, debug or trace, or off",
];

/// A command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    Nothing,
    Help,
    Vms,
    Vcpus,
    Restart(u16),
    Stop(u16),
    Log(log::LevelFilter),
}

/// Why a line is no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum ParseError<'a> {
    #[error("{0}: no such command; try help")]
    Unknown(&'a str),
    #[error("{0} wants the number of a VM")]
    NoVm(&'a str),
    #[error("log wants one of off, error, warn, info, debug, trace")]
    NoLevel,
    #[error("{0}: too much on this line")]
    TooMuch(&'a str),
}

impl Command {
    fn parse(line: &str) -> Result<Self, ParseError<'_>> {
        let mut words = line.split_ascii_whitespace();
        let Some(name) = words.next() else {
            return Ok(Self::Nothing);
        };
        let mut vm = || {
            let number = words.next().and_then(|word| word.parse().ok());
            number.ok_or(ParseError::NoVm(name))
        };
        let command = match name {
            "help" | "?" => Self::Help,
            "vms" => Self::Vms,
            "vcpus" => Self::Vcpus,
            "restart" => Self::Restart(vm()?),
            "stop" => Self::Stop(vm()?),
            "log" => {
                let level = words.next().and_then(|word| word.parse().ok());
                Self::Log(level.ok_or(ParseError::NoLevel)?)
            }
            _ => return Err(ParseError::Unknown(name)),
        };
        match words.next() {
            Some(word) => Err(ParseError::TooMuch(word)),
            None => Ok(command),
        }
    }
}

/// Executes what was entered on the console, if anything was, and does what else
/// the console wants of a main loop.
#[cold]
pub fn attend(hypervisor: &Hypervisor) {
    let console = hypervisor.console();
    let Some(line) = console.attend() else {
        return;
    };
    match Command::parse(line.as_str()) {
        Ok(command) => execute(hypervisor, command),
        Err(error) => console.print(format_args!("{error}")),
    }
    console.answered();
}

fn execute(hypervisor: &Hypervisor, command: Command) {
    let console = hypervisor.console();
    match command {
        Command::Nothing => {}
        Command::Help => {
            for line in HELP {
                console.print(format_args!("{line}"));
            }
        }
        Command::Vms => {
            console.print(format_args!("VM  state      vCPUs on    memory  name"));
            for vm in hypervisor.vms() {
                describe(console, vm);
            }
        }
        Command::Vcpus => vcpus(hypervisor),
        Command::Restart(number) => {
            with_vm(hypervisor, number, |vm| match hypervisor.restart(vm) {
                Ok(()) => console.print(format_args!("VM {number} starts anew")),
                Err(error) => console.print(format_args!("VM {number}: {error}")),
            })
        }
        Command::Stop(number) => with_vm(hypervisor, number, |vm| {
            if hypervisor.stop(vm) {
                console.print(format_args!("VM {number} stops"));
            } else {
                console.print(format_args!("VM {number} does not run"));
            }
        }),
        Command::Log(level) => {
            log::set_max_level(level);
            console.print(format_args!("log level: {level}"));
        }
    }
}

fn with_vm(hypervisor: &Hypervisor, number: u16, work: impl FnOnce(&Vm)) {
    let id = VmId::new(number);
    match hypervisor.vms().iter().find(|vm| vm.id() == id) {
        Some(vm) => work(vm),
        None => no_vm(hypervisor.console(), number),
    }
}

fn no_vm(console: &Console, number: u16) {
    console.print(format_args!("there is no VM {number}; try vms"));
}

/// Prints what a VM is and does. All is looked up before the console is locked.
fn describe(console: &Console, vm: &Vm) {
    let (id, name, state) = (vm.id(), vm.name(), vm.state());
    let vcpus = vm.affinities().count();
    let on = vm.affinities().filter(|(vcpu, _)| vm.is_on(*vcpu)).count();
    let segments = vm.ram().segments().iter();
    let bytes: usize = segments.map(|segment| segment.frames.size_bytes).sum();
    let mib = bytes >> 20;
    console.print(format_args!(
        "{id:<3} {state:<10} {on:>3} of {vcpus:<3} {mib:>5} MiB  {name}"
    ));
}

fn vcpus(hypervisor: &Hypervisor) {
    let console = hypervisor.console();
    console.print(format_args!("VM  vCPU  CPU  state"));
    for vm in hypervisor.vms() {
        for (vcpu, _) in vm.affinities() {
            let Some(mailbox) = vm.mailbox(vcpu) else {
                continue;
            };
            let runs = hypervisor
                .running()
                .any(|(_, running)| running == Some((vm.id(), vcpu)));
            let state = match (runs, vm.is_on(vcpu)) {
                (true, _) => "runs",
                (false, true) => "on",
                (false, false) => "off",
            };
            console.print(format_args!(
                "{:<3} {:<5} {:<4} {state}",
                vm.id(),
                vcpu,
                mailbox.home()
            ));
        }
    }
}

#[cfg(test)]
mod tests;

//! The hypervisor's own commands, typed on the console.
//!
//! A command is executed by the main loop of the CPU that serves the console,
//! while it has no guest loaded and holds no lock.

mod command;
mod devices;
mod exits;
mod tables;

use arm_vcpu::AxVCpuHal;
use vm_contract::VmId;

use crate::console::Wish;
use crate::machine::{Hypervisor, VmError};
use command::{Command, HELP};

/// Does what the user wants of the console, if that is anything, and what else
/// the console wants of a main loop.
#[cold]
pub fn attend<H: AxVCpuHal>(hypervisor: &Hypervisor<H>) {
    let console = hypervisor.console();
    match console.attend() {
        Wish::Nothing => {}
        Wish::List => tables::vms(hypervisor),
        Wish::Command(line) => {
            match Command::parse(line.as_str()) {
                Ok(command) => execute(hypervisor, command),
                Err(error) => console.print(format_args!("{error}")),
            }
            console.answered();
        }
    }
}

fn execute<H: AxVCpuHal>(hypervisor: &Hypervisor<H>, command: Command) {
    let console = hypervisor.console();
    let tell = |vm: u16, result: Result<(), VmError>, done: &str| match result {
        Ok(()) => console.print(format_args!("VM {vm} {done}")),
        Err(error) => console.print(format_args!("VM {vm}: {error}")),
    };
    match command {
        Command::Nothing => {}
        Command::Help => {
            for line in HELP {
                console.print(format_args!("{line}"));
            }
        }
        Command::Vms => tables::vms(hypervisor),
        Command::Vcpus => tables::vcpus(hypervisor),
        Command::Stats => tables::stats(hypervisor),
        Command::Exits(vm) => {
            if let Err(error) = exits::print(hypervisor, VmId::new(vm)) {
                console.print(format_args!("VM {vm}: {error}"));
            }
        }
        Command::Mem => tables::mem(hypervisor),
        Command::Disks => devices::disks(hypervisor),
        Command::Net => devices::net(hypervisor),
        Command::Irq(vm) => {
            if let Err(error) = tables::irq(hypervisor, VmId::new(vm)) {
                console.print(format_args!("VM {vm}: {error}"));
            }
        }
        Command::Pause(vm) => tell(vm, hypervisor.pause(VmId::new(vm)), "is paused"),
        Command::Resume(vm) => tell(vm, hypervisor.resume(VmId::new(vm)), "goes on"),
        Command::Restart(vm) => tell(vm, hypervisor.restart(VmId::new(vm)), "starts anew"),
        Command::Stop(vm) => tell(vm, hypervisor.stop(VmId::new(vm)), "stops"),
        Command::Trace(on) => match hypervisor.telemetry().set_tracing(on) {
            Ok(()) => console.print(format_args!("tracing: {}", if on { "on" } else { "off" })),
            Err(error) => console.print(format_args!("tracing cannot be switched on: {error}")),
        },
        Command::Log(level) => {
            log::set_max_level(level);
            console.print(format_args!("log level: {level}"));
        }
    }
}

#[cfg(test)]
mod tests;

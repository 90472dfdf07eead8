//! What the monitor knows of the devices that VMs share.

use arm_vcpu::AxVCpuHal;
use vswitch::Statistics;

use crate::console::Console;
use crate::machine::Hypervisor;
use crate::storage::SECTOR_BYTES;

/// Prints the machine's disks and their partitions.
pub(super) fn disks<H: AxVCpuHal>(hypervisor: &Hypervisor<H>) {
    let console = hypervisor.console();
    console.print(format_args!(
        "disk  access      first sector       sectors  part"
    ));
    for (number, disk) in hypervisor.builder().devices.disks().enumerate() {
        let facts = disk.facts();
        let access = if facts.is_read_only { "read" } else { "write" };
        let row = |first: u64, sectors: u64, part: core::fmt::Arguments<'_>| {
            console.print(format_args!(
                "{number:<5} {access:<6} {first:>17} {sectors:>13}  {part}"
            ));
        };
        let bytes = u128::from(facts.capacity_sectors) * SECTOR_BYTES as u128;
        let whole = facts.capacity_sectors;
        row(0, whole, format_args!("whole, {} MiB", bytes >> 20));
        for found in disk.partitions() {
            let part = format_args!("partition {}", found.number);
            row(found.first_sector, found.sectors, part);
        }
    }
}

/// Prints what went through each port of the switch.
pub(super) fn net<H: AxVCpuHal>(hypervisor: &Hypervisor<H>) {
    let console = hypervisor.console();
    console.print(format_args!(
        "VM  card        sent        bytes    received        bytes  dropped"
    ));
    let Some(network) = hypervisor.builder().devices.network() else {
        return;
    };
    for (vm, card, port) in network.statistics() {
        print_port(console, format_args!("{vm:<3} {card:<4}"), &port);
    }
    if let Some(port) = network.uplink_statistics() {
        print_port(console, format_args!("uplink  "), &port);
    }
}

/// Prints what was counted at a port, with the reasons for which it lost frames.
fn print_port(console: &Console, name: core::fmt::Arguments<'_>, port: &Statistics) {
    let dropped: u64 = port.drops().map(|(_, count)| count).sum();
    let Statistics {
        rx_frames,
        rx_bytes,
        tx_frames,
        tx_bytes,
        ..
    } = port;
    console.print(format_args!(
        "{name} {rx_frames:>11} {rx_bytes:>12} {tx_frames:>11} {tx_bytes:>12} {dropped:>8}"
    ));
    for (reason, count) in port.drops().filter(|(_, count)| *count > 0) {
        console.print(format_args!("  {count:>8} dropped: {reason}"));
    }
}

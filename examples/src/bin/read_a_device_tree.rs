//! Writes the device tree of a guest's machine, and reads a machine out of a
//! device tree: here out of the same one, for a guest's machine is a machine.
//!
//! Expected output:
//!
//! ```text
//! 4 CPUs: 0x0 0x1 0x2 0x3
//! RAM: PA:0x40000000 to PA:0x60000000
//! GICv3: distributor at PA:0x8000000, redistributors at PA:0x80a0000
//! PL011 at PA:0x9000000, INTID 33
//! virtual timer: INTID 27
//! PSCI by hvc
//! command line: console=ttyAMA0
//! without a CPU: a guest must have at least one vCPU
//! ```

use std::error::Error;

use dtb_platform::{Gic, GuestGic, GuestTree, Platform, layout};
use vm_contract::GuestPhysAddrRange;

const VCPUS: u16 = 4;
const RAM_BYTES: usize = 512 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let affinities: Vec<u64> = (0..VCPUS).map(layout::affinity).collect();
    let ram = [GuestPhysAddrRange::from_start_size(
        layout::RAM.start,
        RAM_BYTES,
    )];
    let gic = GuestGic::V3 {
        distributor: layout::GIC_DISTRIBUTOR,
        redistributors: &layout::redistributor_regions(VCPUS),
        its: None,
    };
    let blob = GuestTree {
        bootargs: Some("console=ttyAMA0"),
        ..GuestTree::virt(&affinities, &ram, gic)
    }
    .to_blob()?;

    let machine = Platform::from_fdt(&blob)?;
    print!("{} CPUs:", machine.cpus.len());
    for cpu in &machine.cpus {
        print!(" {:#x}", cpu.mpidr);
    }
    println!();
    for range in &machine.memory {
        println!("RAM: {:?} to {:?}", range.start, range.end);
    }
    if let Gic::V3 {
        distributor,
        redistributors,
        ..
    } = &machine.gic
    {
        let first = redistributors.first().ok_or("no redistributors")?;
        println!(
            "GICv3: distributor at {:?}, redistributors at {:?}",
            distributor.start, first.start
        );
    }
    if let Some(uart) = &machine.uart {
        let interrupt = uart.interrupt.ok_or("the console has an interrupt")?;
        println!("PL011 at {:?}, INTID {}", uart.range.start, interrupt.id);
    }
    println!("virtual timer: INTID {}", machine.timer.virt);
    if let Some(psci) = machine.psci {
        println!("PSCI by {}", psci.conduit.method());
    }
    println!(
        "command line: {}",
        machine.bootargs.as_deref().unwrap_or("none")
    );

    // What cannot be a machine is refused, with the reason.
    if let Err(error) = GuestTree::virt(&[], &ram, gic).to_blob() {
        println!("without a CPU: {error}");
    }
    Ok(())
}

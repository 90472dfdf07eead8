//! Brings a device's interrupt to a guest: from the wire to a list register,
//! through acknowledge and EOI, and back.
//!
//! `FakeIch` is a virtual CPU interface in software: it keeps the list
//! registers and plays the guest's side of them. On the machine it is
//! `El2Ich`, and the guest is a guest.
//!
//! Expected output:
//!
//! ```text
//! the wire rises: kicks 1 vCPU, deliverable: true
//! flush: list register 0 holds INTID 33, pending
//! the guest acknowledges Some(33)
//! the wire falls, the guest ends the interrupt
//! fold: pending 0x0, active 0x0
//! nothing more is signalled: true
//! ```

use std::error::Error;

use arm_vgic_v3::{FakeIch, Frame, Group, Kicks, Vgic, VgicConfig, prepare};
use vm_contract::{IntId, VcpuId, Width};

/// The vCPU, and its affinity as MPIDR_EL1 shows it.
const VCPU: VcpuId = VcpuId::new(0);
const AFFINITY: u64 = 0;
/// How many list registers the CPU has (ICH_VTR_EL2): 4 on many.
const LIST_REGISTERS: usize = 4;

// GICD registers (Arm IHI 0069, "The GIC Distributor register map"). Of those
// with a bit for each INTID, word 1 is for INTIDs 32 to 63.
const GICD_CTLR: u64 = 0x0000;
const GICD_IGROUPR1: u64 = 0x0084;
const GICD_ISENABLER1: u64 = 0x0104;
const GICD_ISPENDR1: u64 = 0x0204;
const GICD_ISACTIVER1: u64 = 0x0304;
const CTLR_ENABLE_GROUP_1: u64 = 1 << 1;

fn main() -> Result<(), Box<dyn Error>> {
    // The PL011 of the `virt` machine: SPI 1, which is INTID 33.
    let uart = IntId::spi(1).ok_or("SPI 1 exists")?;
    let bit = 1 << (uart.raw() % 32);
    let mut vgic = Vgic::new(&VgicConfig {
        affinities: &[AFFINITY],
        spi_count: 32,
    })?;
    let mut cpu = FakeIch::new(LIST_REGISTERS);
    // Firmware, or the hypervisor in its place, wakes the redistributor of a CPU that
    // it turns on.
    assert_eq!(vgic.set_awake(VCPU, true), Kicks::NONE);

    // What the guest's driver does: groups on, the interrupt in Group 1, enabled.
    let distributor = Frame::Distributor;
    for (offset, value) in [
        (GICD_CTLR, CTLR_ENABLE_GROUP_1),
        (GICD_IGROUPR1, bit),
        (GICD_ISENABLER1, bit),
    ] {
        let kicks = vgic.write(VCPU, distributor, offset, Width::Word, value)?;
        assert_eq!(kicks, Kicks::NONE, "nothing is pending yet");
    }
    // Once for each CPU.
    prepare(&mut cpu);
    vgic.load(VCPU, &mut cpu);
    cpu.open();
    // The vGIC learns at the next fold what the guest did to its CPU interface.
    let _ = vgic.fold(VCPU, &cpu);

    let kicks = vgic.set_spi_level(uart, true);
    println!(
        "the wire rises: kicks {} vCPU, deliverable: {}",
        kicks.iter().count(),
        vgic.deliverable(VCPU)
    );

    vgic.flush(VCPU, &mut cpu);
    let held = cpu.list_registers().first().ok_or("there are four")?;
    let state = if held.is_pending() {
        "pending"
    } else {
        "not pending"
    };
    println!(
        "flush: list register 0 holds INTID {}, {state}",
        held.intid()
    );

    let acknowledged = cpu.acknowledge(Group::One);
    println!("the guest acknowledges {acknowledged:?}");

    // The handler reads the device, which lowers its wire, and ends the
    // interrupt: no exit is needed for that.
    let _ = vgic.set_spi_level(uart, false);
    cpu.end(Group::One, uart.raw());
    println!("the wire falls, the guest ends the interrupt");

    let folded = vgic.fold(VCPU, &cpu);
    assert!(folded.kicks.is_empty());
    let pending = vgic.read(VCPU, distributor, GICD_ISPENDR1, Width::Word)?;
    let active = vgic.read(VCPU, distributor, GICD_ISACTIVER1, Width::Word)?;
    println!("fold: pending {pending:#x}, active {active:#x}");
    vgic.flush(VCPU, &mut cpu);
    println!("nothing more is signalled: {}", cpu.signalled().is_none());
    Ok(())
}

//! Guests on a machine with a GICv2.

use arm_vcpu::{SystemRegister, fakes};
use dtb_platform::Placement;
use s2_mmu::Attributes;
use smccc::psci::PSCI_CPU_ON_64;
use vm_contract::{GuestPhysAddr, HostPhysAddr, VmId};

use super::{DATA_ABORT, ENTRY, VECTORS, assert_abort, assert_undefined, run_to_the_end};
use crate::sched::place;
use crate::testing::{self, Inside, Plan, Rig};
use crate::vm::BuildError;
use crate::vm::vgic::{HostGic, VgicError};

const GICD: u64 = 0x0800_0000;
const GICD_TYPER: u64 = GICD + 4;
const GICD_ISACTIVER0: u64 = GICD + 0x300;
const GICD_SGIR: u64 = GICD + 0xf00;
const GICC: u64 = 0x0801_0000;
const GICC_DIR: u64 = GICC + 0x1000;
/// Where a GICv3 has redistributors.
const GICR: u64 = 0x080a_0000;

const HALF: u8 = 1;
const WORD: u8 = 2;
const DWORD: u8 = 3;

/// Where the machine has GICV: as on those whose frames are 64 KiB apart, and whose
/// pages show the first 4 KiB sixteen times.
const GICV: usize = 0x0804_f000;

/// A machine with one VM whose vCPUs live on these CPUs.
fn guests(homes: &[u32]) -> Rig {
    Rig::from_plan(&Plan {
        homes: &[homes],
        gic: HostGic::V2 {
            cpu_interface: HostPhysAddr::from(GICV),
        },
        ..Plan::default()
    })
}

/// What a driver does first: lets the distributor forward Group 0, opens the CPU
/// interface.
fn open(inside: &mut Inside<'_>) -> arm_vcpu::RawExit {
    inside.open_interrupts();
    inside.store(GICD, WORD, 1)
}

/// Returns the INTID and the sender of what the list registers hold.
fn listed(inside: &Inside<'_>) -> Option<(u32, u8)> {
    let mut entries = inside.ich.list_registers().iter();
    let entry = entries.find(|entry| !entry.is_inactive())?;
    Some((entry.intid(), entry.source()))
}

#[test]
fn an_sgi_by_the_distributor_reaches_another_vcpu_and_names_its_sender() {
    let mut rig = guests(&[0, 1]);
    rig.script(0, 0)
        .leave(open)
        .call(PSCI_CPU_ON_64, [1, ENTRY, 0]);
    rig.script(0, 1).look(|inside| inside.open_interrupts());
    rig.settle();
    let kicks = rig.cpu(1).wires().kicks;
    // To CPU 1, and to all others.
    rig.script(0, 0)
        .leave(|inside| inside.store(GICD_SGIR, WORD, 1 << 17 | 3));
    rig.script(0, 1)
        .look(|inside| {
            assert_eq!(listed(inside), Some((3, 0)));
            assert_eq!(inside.handle_interrupt(), Some(3));
            assert_eq!(inside.handle_interrupt(), None);
        })
        .leave(|inside| inside.store(GICD_SGIR, WORD, 1 << 24 | 6));
    rig.settle();
    assert_eq!(rig.cpu(1).wires().kicks, kicks + 1);
    assert!(rig.script(0, 1).is_done());
    rig.script(0, 0).look(|inside| {
        assert_eq!(listed(inside), Some((6, 1)));
        assert_eq!(inside.handle_interrupt(), Some(6));
    });
    rig.settle();
    assert!(rig.script(0, 0).is_done());
    run_to_the_end(&mut rig);
}

#[test]
fn a_word_to_gicc_dir_deactivates() {
    let mut rig = guests(&[0]);
    rig.script(0, 0)
        .leave(open)
        .leave(|inside| {
            inside.ich.set_eoi_mode(true);
            inside.store(GICD_SGIR, WORD, 1 << 16 | 7)
        })
        .look(|inside| assert_eq!(inside.handle_interrupt(), Some(7)))
        // Neither reaches the register.
        .leave(|inside| inside.store(GICC_DIR, HALF, 7))
        .leave(|inside| inside.store(GICC_DIR, DWORD, 7))
        .leave(|inside| inside.store(GICC_DIR + 4, WORD, 7))
        .exit(fakes::load(GICD_ISACTIVER0, WORD, 4))
        .look(|inside| assert_eq!(inside.frame.gpr(4), 1 << 7))
        .leave(|inside| inside.store(GICC_DIR, WORD, 7))
        .exit(fakes::load(GICD_ISACTIVER0, WORD, 4))
        .look(|inside| assert_eq!(inside.frame.gpr(4), 0));
    rig.settle();
    assert!(rig.script(0, 0).is_done());
    run_to_the_end(&mut rig);
}

#[test]
fn the_frames_of_a_gicv2_and_of_no_other_answer() {
    let mut rig = guests(&[0, 1]);
    rig.script(0, 0)
        .exit(fakes::load(GICD_TYPER, WORD, 4))
        .leave(|inside| {
            inside.frame.set_gpr(5, 1);
            fakes::load(GICC_DIR, WORD, 5)
        })
        .leave(|inside| {
            inside.frame.set_gpr(6, 1);
            fakes::load(GICD + 0x1000, WORD, 6)
        })
        .look(|inside| {
            assert_eq!(inside.frame.gpr(4), 8 | 1 << 5, "288 INTIDs, 2 CPUs");
            assert_eq!(inside.frame.gpr(5), 0, "GICC_DIR is write-only");
            assert_eq!(inside.frame.gpr(6), 0, "behind the distributor");
            inside.registers.vbar_el1 = VECTORS;
        })
        .exit(fakes::load(GICR, WORD, 4))
        .look(|inside| assert_abort(inside, DATA_ABORT, GICR, ENTRY + 12));
    rig.settle();
    assert!(rig.script(0, 0).is_done());
    run_to_the_end(&mut rig);
}

#[test]
fn one_page_of_gicv_is_mapped_where_the_guest_expects_gicc() {
    let rig = guests(&[0]);
    let vm = rig.vm(0);
    let at = |address: u64| {
        let address = usize::try_from(address).expect("a host with 64 bits");
        vm.space().translate(GuestPhysAddr::from(address))
    };
    let first = at(GICC + 0xffc).expect("it is mapped");
    assert_eq!(first.pa, HostPhysAddr::from(GICV + 0xffc));
    assert_eq!(first.attributes, Attributes::DEVICE);
    assert!(at(GICC_DIR).is_none(), "the page with GICC_DIR traps");
    assert!(at(GICD).is_none());
}

#[test]
fn system_registers_of_a_gic_are_undefined() {
    let mut rig = guests(&[0]);
    for register in [
        SystemRegister::ICC_SGI1R_EL1,
        SystemRegister::ICC_DIR_EL1,
        SystemRegister::ICC_SRE_EL1,
    ] {
        rig.script(0, 0)
            .leave(move |inside| {
                inside.registers.vbar_el1 = VECTORS;
                inside.frame.elr = ENTRY;
                inside.write_register(register, 1)
            })
            .look(|inside| assert_undefined(inside));
    }
    rig.settle();
    assert!(rig.script(0, 0).is_done());
    run_to_the_end(&mut rig);
}

#[test]
fn a_gicv2_serves_no_ninth_vcpu() {
    let builder = testing::builder_on_gicv2(HostPhysAddr::from(GICV));
    let build = |cpus: u32| {
        let config = testing::config(cpus, Placement::Pinned(alloc::vec![0; cpus as usize]));
        let sets = place(&[&config], 4);
        builder.build(VmId::new(0), &config, &sets[0]).err()
    };
    assert!(build(8).is_none());
    let refusal = build(9).expect("it is refused");
    assert!(
        matches!(
            refusal,
            BuildError::Vgic(VgicError::V2(arm_vgic_v2::VgicError::TooManyVcpus(9)))
        ),
        "{refusal}"
    );
}

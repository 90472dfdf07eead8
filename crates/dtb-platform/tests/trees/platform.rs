//! What machines are found to be.

use dtb_platform::{
    Conduit, CpuStatus, EnableMethod, Fault, Gic, Interrupt, Platform, PlatformError, Psci,
    PsciVersion, Timer, Trigger, Uart, UartKind, layout,
};
use vm_contract::{HostPhysAddr, HostPhysAddrRange, IntId};

use crate::machines::{TestNode, board, node, qemu_virt};

pub(crate) fn range(start: usize, size: usize) -> HostPhysAddrRange {
    HostPhysAddrRange::from_start_size(HostPhysAddr::from(start), size)
}

fn id(raw: u32) -> IntId {
    IntId::new(raw).expect("a valid number")
}

fn read(tree: &TestNode) -> Platform {
    Platform::from_fdt(&tree.blob()).expect("a good tree")
}

/// Reads a tree that has one property wrong, and returns where.
fn refused(tree: &TestNode) -> (String, &'static str, Fault) {
    match Platform::from_fdt(&tree.blob()) {
        Err(PlatformError::Property(error)) => (error.node, error.property, error.fault),
        other => panic!("{other:?}"),
    }
}

#[test]
fn qemu_virt_is_read_as_it_is() {
    let platform = read(&qemu_virt());
    assert_eq!(platform.memory, [range(0x4000_0000, 0x4000_0000)]);
    assert_eq!(platform.reserved, []);
    assert_eq!(
        platform
            .cpus
            .iter()
            .map(|cpu| cpu.mpidr)
            .collect::<Vec<_>>(),
        [0, 1, 2, 3]
    );
    for cpu in &platform.cpus {
        assert_eq!(cpu.enable_method, EnableMethod::Psci);
        assert_eq!(cpu.compatible.as_deref(), Some("arm,cortex-a57"));
        assert_eq!(cpu.status, CpuStatus::Enabled);
    }
    let gic = Gic::V3 {
        distributor: range(0x0800_0000, 0x1_0000),
        redistributors: vec![range(0x080a_0000, 0xf6_0000)],
        stride: None,
        its: vec![range(0x0808_0000, 0x2_0000)],
        maintenance: Some(id(25)),
    };
    assert_eq!(platform.gic, gic);
    let uart = Uart {
        kind: UartKind::Pl011,
        range: range(0x0900_0000, 0x1000),
        interrupt: Some(Interrupt {
            id: id(33),
            trigger: Trigger::Level,
        }),
        clock_hz: Some(24_000_000),
    };
    assert_eq!(platform.uart, Some(uart));
    assert_eq!(platform.timer, layout::TIMER);
    assert_eq!(
        platform.psci,
        Some(Psci {
            conduit: Conduit::Smc,
            version: PsciVersion::V1_0
        })
    );
    assert_eq!(platform.virtio_mmio.len(), 32);
    for (slot, device) in (0..).zip(&platform.virtio_mmio) {
        assert_eq!(
            device.range.start.as_usize(),
            0x0a00_0000 + 0x200 * slot as usize
        );
        assert_eq!(
            device.interrupt,
            Interrupt {
                id: id(48 + slot),
                trigger: Trigger::Edge
            }
        );
        assert!(device.dma_coherent);
    }
    assert_eq!(platform.rtc, Some(range(0x0901_0000, 0x1000)));
    assert_eq!((platform.initrd, platform.bootargs), (None, None));
}

#[test]
fn buses_translate_and_cell_counts_are_those_of_the_parent() {
    let platform = read(&board());
    let gic = Gic::V2 {
        distributor: range(0x3e04_1000, 0x1000),
        cpu: range(0x3e04_2000, 0x2000),
        hyp: Some(range(0x3e04_4000, 0x2000)),
        vcpu: Some(range(0x3e04_6000, 0x2000)),
        maintenance: Some(id(25)),
    };
    assert_eq!(platform.gic, gic);
    // 0x2000 on the inner bus is 0x20_2000 on the outer one.
    let uart = platform.uart.expect("the console");
    assert_eq!(uart.range, range(0xfc20_2000, 0x200));
    assert_eq!(
        uart.interrupt,
        Some(Interrupt {
            id: id(38),
            trigger: Trigger::Level
        })
    );
    assert_eq!(uart.clock_hz, None);
}

#[test]
fn all_memory_nodes_count_and_touching_ranges_are_joined() {
    let platform = read(&board());
    assert_eq!(
        platform.memory,
        [range(0, 0x3b50_0000), range(0x8000_0000, 0x1000_0000)]
    );
}

#[test]
fn both_kinds_of_reservation_count() {
    let blob = board().blob_reserving(&[(0x3000, 0x1000), (0x0, 0x1000), (0x1000, 0x10)]);
    let platform = Platform::from_fdt(&blob).expect("a good tree");
    assert_eq!(
        platform.reserved,
        [
            range(0, 0x1010),
            range(0x3000, 0x1000),
            range(0x100_0000, 0x8000),
            range(0x200_0000, 0x1000)
        ]
    );
}

#[test]
fn cpus_keep_aff3_their_status_and_what_starts_them() {
    let platform = read(&board());
    let found: Vec<_> = platform
        .cpus
        .iter()
        .map(|cpu| (cpu.mpidr, cpu.status, cpu.enable_method))
        .collect();
    let spin_table = |address: usize| EnableMethod::SpinTable {
        release_address: HostPhysAddr::from(address),
    };
    assert_eq!(
        found,
        [
            (0, CpuStatus::Enabled, spin_table(0xd8)),
            (0x100, CpuStatus::Disabled, spin_table(0xe0)),
            (0x1_0000_0001, CpuStatus::Failed, spin_table(0xe8)),
        ]
    );
    assert_eq!(platform.psci, None);
}

#[test]
fn named_timer_interrupts_are_found_in_any_order() {
    let timer = Timer {
        secure_phys: None,
        phys: id(30),
        virt: id(27),
        hyp: id(26),
        hyp_virt: None,
    };
    assert_eq!(read(&board()).timer, timer);
}

#[test]
fn chosen_holds_initrd_and_command_line() {
    let platform = read(&board());
    assert_eq!(platform.initrd, Some(range(0x0800_0000, 0x12_3456)));
    assert_eq!(platform.bootargs.as_deref(), Some("quiet"));
    // Half a ramdisk is none.
    assert_eq!(
        read(&board().without("/chosen", "linux,initrd-end")).initrd,
        None
    );
    let backwards = board().edit("/chosen", |n| n.words("linux,initrd-end", &[1]));
    assert_eq!(refused(&backwards).1, "linux,initrd-end");
}

#[test]
fn the_console_may_be_an_alias_a_path_or_left_to_choice() {
    let at = |path: &str| {
        let tree = board().edit("/chosen", |chosen| chosen.text("stdout-path", path));
        read(&tree).uart.map(|uart| uart.range.start.as_usize())
    };
    let disabled_one = Some(0xfc20_1000);
    let enabled_one = Some(0xfc20_2000);
    assert_eq!(at("serial1"), enabled_one);
    assert_eq!(
        at("/soc/bus@200000/serial@1000:9600"),
        disabled_one,
        "asked for by name"
    );
    assert_eq!(
        at("/soc/bus/serial@2000"),
        enabled_one,
        "without a unit address"
    );
    assert_eq!(
        at("serial7"),
        enabled_one,
        "nowhere: the first that is enabled"
    );
    assert_eq!(at("/soc/interrupt-controller@7e041000"), None, "no PL011");
    let tree = board().without_child("chosen");
    assert_eq!(
        read(&tree).uart.map(|u| u.range.start.as_usize()),
        enabled_one
    );
}

#[test]
fn a_gic_may_have_several_regions_a_stride_and_longer_specifiers() {
    let tree = qemu_virt()
        .edit("/intc@8000000", |gic| {
            gic.words("#redistributor-regions", &[2])
                .words("redistributor-stride", &[0, 0x4_0000])
                .words("#interrupt-cells", &[4])
                .words("interrupts", &[1, 9, 4, 0])
                .words(
                    "reg",
                    &[
                        0,
                        0x0800_0000,
                        0,
                        0x1_0000,
                        0,
                        0x080a_0000,
                        0,
                        0xf6_0000,
                        0x40,
                        0,
                        0,
                        0x400_0000,
                        0,
                        0x0700_0000,
                        0,
                        0x2000,
                    ],
                )
        })
        .edit("/timer", |timer| {
            timer.words(
                "interrupts",
                &[
                    1, 13, 4, 0, 1, 14, 4, 0, 1, 11, 4, 0, 1, 10, 4, 0, 1, 12, 4, 0,
                ],
            )
        });
    let tree = tree
        .without("/pl011@9000000", "interrupts")
        .without("/pl031@9010000", "interrupts");
    let tree = (0..32).fold(tree, |tree, slot| {
        tree.without(
            &format!("/virtio_mmio@{:x}", 0x0a00_0000 + 0x200 * slot),
            "interrupts",
        )
    });
    let platform = read(&tree);
    let Gic::V3 {
        redistributors,
        stride,
        maintenance,
        ..
    } = platform.gic
    else {
        panic!("{:?}", platform.gic)
    };
    let high = range(0x40_0000_0000, 0x400_0000);
    assert_eq!(redistributors, [range(0x080a_0000, 0xf6_0000), high]);
    assert_eq!((stride, maintenance), (Some(0x4_0000), Some(id(25))));
    assert_eq!(platform.timer.hyp_virt, Some(id(28)));
    assert_eq!(platform.uart.and_then(|uart| uart.interrupt), None);
    assert_eq!(
        platform.virtio_mmio,
        [],
        "without interrupts they are of no use"
    );
}

#[test]
fn extended_interrupts_name_their_controller() {
    let tree = qemu_virt().edit("/pl011@9000000", |uart| {
        uart.words("interrupts-extended", &[0x8005, 0, 40, 1])
    });
    let interrupt = Interrupt {
        id: id(72),
        trigger: Trigger::Edge,
    };
    assert_eq!(
        read(&tree).uart.and_then(|uart| uart.interrupt),
        Some(interrupt)
    );
    // One that is raised elsewhere is none at the GIC.
    let elsewhere = tree.edit("/pl011@9000000", |uart| {
        uart.words("interrupts-extended", &[0x8000, 3])
    });
    assert_eq!(read(&elsewhere).uart.and_then(|uart| uart.interrupt), None);
}

#[test]
fn interrupt_parents_in_a_circle_lead_nowhere() {
    let tree = qemu_virt()
        .edit("/apb-pclk", |clock| {
            clock.words("interrupt-parent", &[0x8000])
        })
        .edit("/pl011@9000000", |uart| {
            uart.words("interrupt-parent", &[0x8000])
        });
    assert_eq!(read(&tree).uart.and_then(|uart| uart.interrupt), None);
}

#[test]
fn what_a_machine_cannot_lack_is_reported() {
    let lacking = |tree: TestNode| match Platform::from_fdt(&tree.blob()) {
        Err(PlatformError::Missing(what)) => what,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        lacking(qemu_virt().without_child("memory@40000000")),
        "memory"
    );
    assert!(lacking(qemu_virt().without_child("cpus")).contains("CPU"));
    assert!(lacking(qemu_virt().without_child("timer")).contains("timer"));
    assert!(lacking(qemu_virt().without_child("intc@8000000")).contains("interrupt controller"));
    let disabled = qemu_virt().edit("/memory@40000000", |n| n.text("status", "disabled"));
    assert_eq!(lacking(disabled), "memory");
    let bus_off = board().edit("/soc", |soc| soc.text("status", "disabled"));
    assert!(
        lacking(bus_off).contains("interrupt controller"),
        "nothing on it can be used"
    );
    let no_cpu = (0..4).fold(qemu_virt(), |tree, index| {
        tree.edit(&format!("/cpus/cpu@{index}"), |cpu| {
            cpu.text("status", "fail")
        })
    });
    assert!(lacking(no_cpu).contains("CPU"));
}

#[test]
fn a_wrong_property_is_named_with_its_node() {
    use Fault::{Invalid, Missing};
    let edit = |path: &str, property: &str, words: &[u32]| {
        refused(&qemu_virt().edit(path, |node| node.words(property, words)))
    };
    let gic = || "/intc@8000000".to_string();
    assert_eq!(
        edit("/intc@8000000", "reg", &[0, 1, 0]),
        (gic(), "reg", Invalid)
    );
    assert_eq!(
        edit("/intc@8000000", "reg", &[0, 1, 0, 1]),
        (gic(), "reg", Invalid)
    );
    assert_eq!(
        edit("/intc@8000000", "#redistributor-regions", &[0]),
        (gic(), "#redistributor-regions", Invalid)
    );
    assert_eq!(
        edit("/intc@8000000", "#redistributor-regions", &[u32::MAX]),
        (gic(), "reg", Invalid)
    );
    assert_eq!(
        edit("/intc@8000000", "redistributor-stride", &[0, 0x1000]),
        (gic(), "redistributor-stride", Invalid)
    );
    assert_eq!(
        edit("/memory@40000000", "reg", &[u32::MAX, 0, 1, 0]),
        ("/memory@40000000".into(), "reg", Invalid),
        "leaves the address space"
    );
    assert_eq!(
        edit("/cpus/cpu@1", "reg", &[0]),
        ("/cpus/cpu@1".into(), "reg", Invalid)
    );
    assert_eq!(
        edit("/cpus/cpu@1", "reg", &[0x8000_0001]),
        ("/cpus/cpu@1".into(), "reg", Invalid)
    );
    assert_eq!(
        edit("/cpus", "#address-cells", &[3]),
        ("/cpus/cpu@0".into(), "reg", Invalid)
    );
    assert_eq!(
        edit("/timer", "interrupts", &[1, 13, 4]),
        ("/timer".into(), "interrupts", Invalid)
    );
    assert_eq!(
        edit("/timer", "interrupts", &[1, 16, 4]),
        ("/timer".into(), "interrupts", Invalid)
    );
    assert_eq!(
        edit("/timer", "interrupts", &[2, 0, 4]),
        ("/timer".into(), "interrupts", Invalid)
    );
    assert_eq!(
        edit("/timer", "interrupts", &[1, 13]),
        ("/timer".into(), "interrupts", Invalid)
    );
    assert_eq!(
        edit("/psci", "method", &[1]),
        ("/psci".into(), "method", Invalid)
    );
    assert_eq!(
        refused(&qemu_virt().without("/psci", "method")),
        ("/psci".into(), "method", Missing)
    );
    assert_eq!(
        refused(&qemu_virt().without("/memory@40000000", "reg")),
        ("/memory@40000000".into(), "reg", Missing)
    );
}

#[test]
fn errors_read_as_sentences() {
    let tree = qemu_virt().edit("/psci", |psci| psci.text("method", "svc"));
    let error = Platform::from_fdt(&tree.blob()).expect_err("no such conduit");
    assert_eq!(
        error.to_string(),
        "/psci: `method` is invalid: it must be `hvc` or `smc`"
    );
    let tree = qemu_virt().without_child("timer");
    let error = Platform::from_fdt(&tree.blob()).expect_err("no timer");
    assert_eq!(
        error.to_string(),
        "the device tree has no enabled timer compatible with `arm,armv8-timer`"
    );
}

#[test]
fn an_address_that_no_bus_passes_on_is_refused() {
    let outside = board().edit("/soc/bus@200000", |n| {
        n.words("ranges", &[0, 0x20_0000, 0x2100])
    });
    assert_eq!(refused(&outside).0, "/soc/bus@200000/serial@2000");
    let closed = board().without("/soc", "ranges");
    assert_eq!(refused(&closed).0, "/soc/interrupt-controller@7e041000");
    let partial = board().edit("/soc", |soc| {
        soc.words("ranges", &[0x7e00_0000, 0x3e00_0000])
    });
    assert_eq!(refused(&partial).0, "/soc/interrupt-controller@7e041000");
}

#[test]
fn older_psci_bindings_are_told_apart() {
    let version = |compatible: &str| {
        read(&qemu_virt().edit("/psci", |psci| psci.text("compatible", compatible)))
            .psci
            .map(|psci| psci.version)
    };
    assert_eq!(version("arm,psci-0.2\0arm,psci"), Some(PsciVersion::V0_2));
    assert_eq!(version("arm,psci"), Some(PsciVersion::V0_1));
    assert_eq!(version("vendor,power"), None);
}

#[test]
fn a_node_of_another_kind_does_not_disturb() {
    let tree = qemu_virt().child(
        node("pcie@10000000").words("#address-cells", &[3]).child(
            node("bridge")
                .words("#address-cells", &[3])
                .words("reg", &[0, 0, 0, 0, 0]),
        ),
    );
    assert_eq!(read(&tree), read(&qemu_virt()));
}

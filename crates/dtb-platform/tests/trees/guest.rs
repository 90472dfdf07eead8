//! Guest trees, read back as machines.

use dtb_platform::{
    Conduit, Gic, GuestGic, GuestTree, Interrupt, Platform, TreeError, Trigger, layout,
};
use fdt::Fdt;
use proptest::prelude::*;
use vm_contract::{GuestPhysAddr, GuestPhysAddrRange, HostPhysAddrRange, IntId};

use crate::platform::range as host;

fn range(start: usize, size: usize) -> GuestPhysAddrRange {
    GuestPhysAddrRange::from_start_size(GuestPhysAddr::from(start), size)
}

fn as_host(range: GuestPhysAddrRange) -> HostPhysAddrRange {
    host(range.start.as_usize(), range.size())
}

fn gic_v3(redistributors: &[GuestPhysAddrRange]) -> GuestGic<'_> {
    GuestGic::V3 {
        distributor: layout::GIC_DISTRIBUTOR,
        redistributors,
        its: Some(layout::GIC_ITS),
    }
}

const RAM: usize = 0x4000_0000;

#[test]
fn a_guest_machine_is_a_valid_platform() {
    let affinities: Vec<u64> = (0..20).map(layout::affinity).collect();
    let memory = [range(RAM, 0x2000_0000), range(0x1_0000_0000, 0x1000)];
    let redistributors = layout::redistributor_regions(20);
    let devices: Vec<_> = (0..4).filter_map(layout::virtio_mmio).collect();
    let blob = GuestTree {
        bootargs: Some("console=ttyAMA0 quiet"),
        initrd: Some(range(0x4800_0000, 0x12_3456)),
        virtio_mmio: &devices,
        rng_seed: Some([0x5a; 32]),
        kaslr_seed: Some(0x0123_4567_89ab_cdef),
        ..GuestTree::virt(&affinities, &memory, gic_v3(&redistributors))
    }
    .to_blob()
    .expect("a good description");

    let platform = Platform::from_fdt(&blob).expect("a good tree");
    assert_eq!(platform.memory, memory.map(as_host));
    assert_eq!(
        platform
            .cpus
            .iter()
            .map(|cpu| cpu.mpidr)
            .collect::<Vec<_>>(),
        affinities
    );
    let gic = Gic::V3 {
        distributor: host(0x0800_0000, 0x1_0000),
        redistributors: vec![host(0x080a_0000, 20 * 0x2_0000)],
        stride: None,
        its: vec![host(0x0808_0000, 0x2_0000)],
        maintenance: None,
    };
    assert_eq!(platform.gic, gic);
    let uart = platform.uart.expect("a console");
    assert_eq!(uart.range, as_host(layout::UART.range));
    assert_eq!(uart.clock_hz, Some(24_000_000));
    assert_eq!(platform.rtc, Some(as_host(layout::RTC.range)));
    assert_eq!(platform.timer, layout::TIMER);
    assert_eq!(platform.psci.map(|psci| psci.conduit), Some(Conduit::Hvc));
    assert_eq!(platform.initrd, Some(host(0x4800_0000, 0x12_3456)));
    assert_eq!(platform.bootargs.as_deref(), Some("console=ttyAMA0 quiet"));
    assert_eq!(platform.virtio_mmio.len(), 4);
    for (found, given) in platform.virtio_mmio.iter().zip(&devices) {
        assert_eq!(found.range, as_host(given.range));
        let interrupt = Interrupt {
            id: given.interrupt,
            trigger: Trigger::Level,
        };
        assert_eq!(found.interrupt, interrupt);
    }
}

#[test]
fn another_reader_finds_what_linux_looks_for() {
    let redistributors = layout::redistributor_regions(2);
    let devices: Vec<_> = (0..1).filter_map(layout::virtio_mmio).collect();
    let memory = [range(RAM, 0x1000_0000)];
    let blob = GuestTree {
        initrd: Some(range(RAM, 0x1000)),
        virtio_mmio: &devices,
        rng_seed: Some([0x5a; 32]),
        kaslr_seed: Some(7),
        ..GuestTree::virt(&[0, 1], &memory, gic_v3(&redistributors))
    }
    .to_blob()
    .expect("a good description");
    let fdt = Fdt::new(&blob).expect("a good blob");
    let value = |path: &str, property: &str| {
        let node = fdt.find_node(path).expect(path);
        node.property(property)
            .unwrap_or_else(|| panic!("{path} {property}"))
            .value
    };
    let words = |path: &str, property: &str| -> Vec<u32> {
        let (words, []) = value(path, property).as_chunks() else {
            panic!("{path} {property}")
        };
        words.iter().copied().map(u32::from_be_bytes).collect()
    };

    assert_eq!(value("/", "compatible"), b"linux,dummy-virt\0");
    assert_eq!(words("/", "#address-cells"), [2]);
    let gic = words("/intc@8000000", "phandle");
    assert_eq!(words("/", "interrupt-parent"), gic);
    assert_eq!(words("/intc@8000000", "#redistributor-regions"), [1]);
    assert_eq!(value("/intc@8000000", "interrupt-controller"), b"");
    assert_eq!(words("/intc@8000000/its@8080000", "#msi-cells"), [1]);

    assert_eq!(value("/chosen", "stdout-path"), b"/pl011@9000000\0");
    assert_eq!(value("/chosen", "rng-seed"), [0x5a; 32]);
    assert_eq!(words("/chosen", "kaslr-seed"), [0, 7]);
    assert_eq!(words("/chosen", "linux,initrd-end"), [0, 0x4000_1000]);
    assert_eq!(value("/aliases", "serial0"), b"/pl011@9000000\0");

    assert_eq!(words("/cpus", "#address-cells"), [1]);
    assert_eq!(words("/cpus/cpu@1", "reg"), [1]);
    assert_eq!(value("/cpus/cpu@1", "enable-method"), b"psci\0");
    assert_eq!(
        value("/psci", "compatible"),
        b"arm,psci-1.0\0arm,psci-0.2\0"
    );
    assert_eq!(value("/psci", "method"), b"hvc\0");
    assert_eq!(
        words("/timer", "interrupts"),
        [1, 13, 4, 1, 14, 4, 1, 11, 4, 1, 10, 4]
    );
    assert_eq!(value("/timer", "always-on"), b"");

    assert_eq!(
        value("/pl011@9000000", "compatible"),
        b"arm,pl011\0arm,primecell\0"
    );
    assert_eq!(
        value("/pl011@9000000", "clock-names"),
        b"uartclk\0apb_pclk\0"
    );
    assert_eq!(words("/pl011@9000000", "interrupts"), [0, 1, 4]);
    let clock = words("/apb-pclk", "phandle");
    assert_eq!(
        words("/pl011@9000000", "clocks"),
        [clock.clone(), clock.clone()].concat()
    );
    assert_eq!(words("/pl031@9010000", "clocks"), clock);
    assert_eq!(words("/pl031@9010000", "interrupts"), [0, 2, 4]);
    assert_eq!(
        words("/virtio_mmio@a000000", "reg"),
        [0, 0x0a00_0000, 0, 0x200]
    );
    assert_eq!(words("/virtio_mmio@a000000", "interrupts"), [0, 16, 4]);
    assert_eq!(value("/virtio_mmio@a000000", "dma-coherent"), b"");
}

#[test]
fn a_machine_without_devices_has_no_nodes_for_them() {
    let redistributors = layout::redistributor_regions(1);
    let blob = GuestTree {
        uart: None,
        rtc: None,
        psci: Conduit::Smc,
        ..GuestTree::virt(&[0], &[range(RAM, 0x1000)], gic_v3(&redistributors))
    }
    .to_blob()
    .expect("a good description");
    let platform = Platform::from_fdt(&blob).expect("a good tree");
    assert_eq!((platform.uart, platform.rtc), (None, None));
    assert_eq!(platform.psci.map(|psci| psci.conduit), Some(Conduit::Smc));
    let fdt = Fdt::new(&blob).expect("a good blob");
    assert!(fdt.find_node("/apb-pclk").is_none());
    assert!(
        fdt.find_node("/chosen")
            .is_some_and(|n| n.property("stdout-path").is_none())
    );
}

#[test]
fn a_gicv2_machine_names_the_cpus_of_private_interrupts() {
    let gic = GuestGic::V2 {
        distributor: layout::GIC_DISTRIBUTOR,
        cpu: layout::GIC_CPU_INTERFACE,
    };
    for (vcpus, flags) in [(1, 0x104), (4, 0xf04), (8, 0xff04)] {
        let affinities: Vec<u64> = (0..vcpus).map(layout::affinity).collect();
        let blob = GuestTree::virt(&affinities, &[range(RAM, 0x1000)], gic).to_blob();
        let blob = blob.expect("a good description");
        let platform = Platform::from_fdt(&blob).expect("a good tree");
        let Gic::V2 {
            cpu,
            hyp: None,
            vcpu: None,
            maintenance: None,
            ..
        } = platform.gic
        else {
            panic!("{:?}", platform.gic)
        };
        assert_eq!(cpu, as_host(layout::GIC_CPU_INTERFACE));
        let fdt = Fdt::new(&blob).expect("a good blob");
        let interrupts = fdt
            .find_node("/timer")
            .and_then(|node| node.property("interrupts"));
        let first = interrupts.expect("interrupts").value;
        assert_eq!(first[8..12], u32::to_be_bytes(flags));
    }
}

#[test]
fn affinities_with_aff3_take_two_cells() {
    let affinities = [0, 0x1_0000_0000, 0xff_00ff_ffff];
    let redistributors = layout::redistributor_regions(3);
    let tree = GuestTree::virt(&affinities, &[range(RAM, 0x1000)], gic_v3(&redistributors))
        .to_blob()
        .expect("a good description");
    let platform = Platform::from_fdt(&tree).expect("a good tree");
    assert_eq!(
        platform
            .cpus
            .iter()
            .map(|cpu| cpu.mpidr)
            .collect::<Vec<_>>(),
        affinities
    );
}

#[test]
fn timers_without_a_secure_one_are_named() {
    let redistributors = layout::redistributor_regions(1);
    let mut tree = GuestTree::virt(&[0], &[], gic_v3(&redistributors));
    let memory = [range(RAM, 0x1000)];
    tree.memory = &memory;
    tree.timer.secure_phys = None;
    tree.timer.hyp_virt = IntId::ppi(12);
    let blob = tree.to_blob().expect("a good description");
    assert_eq!(
        Platform::from_fdt(&blob).map(|platform| platform.timer),
        Ok(tree.timer)
    );
}

#[test]
fn descriptions_that_no_machine_fits_are_refused() {
    let redistributors = layout::redistributor_regions(1);
    let memory = [range(RAM, 0x1000)];
    let good = GuestTree::virt(&[0], &memory, gic_v3(&redistributors));
    assert!(good.to_blob().is_ok());

    let no_vcpu = GuestTree {
        vcpu_affinities: &[],
        ..good.clone()
    };
    assert_eq!(no_vcpu.to_blob(), Err(TreeError::NoVcpu));
    let twins = GuestTree {
        vcpu_affinities: &[1, 0, 1],
        ..good.clone()
    };
    assert_eq!(twins.to_blob(), Err(TreeError::Affinity(1)));
    let bits = GuestTree {
        vcpu_affinities: &[0x8000_0000],
        ..good.clone()
    };
    assert_eq!(bits.to_blob(), Err(TreeError::Affinity(0x8000_0000)));

    let overlap = [range(RAM + 0x800, 0x1000), range(RAM, 0x1000)];
    for memory in [&[][..], &[range(RAM, 0)], &overlap] {
        let tree = GuestTree {
            memory,
            ..good.clone()
        };
        assert_eq!(tree.to_blob(), Err(TreeError::Memory));
    }
    let tree = GuestTree {
        initrd: Some(range(RAM, 0x1001)),
        ..good.clone()
    };
    assert_eq!(tree.to_blob(), Err(TreeError::Initrd));
    let tree = GuestTree {
        gic: gic_v3(&[]),
        ..good.clone()
    };
    assert_eq!(tree.to_blob(), Err(TreeError::NoRedistributor));
    let tree = GuestTree {
        bootargs: Some("a\0b"),
        ..good.clone()
    };
    assert!(matches!(tree.to_blob(), Err(TreeError::Format(_))));

    let ppi = IntId::ppi(3).expect("a PPI");
    let mut tree = good.clone();
    tree.uart = tree.uart.map(|uart| dtb_platform::GuestDevice {
        interrupt: ppi,
        ..uart
    });
    assert_eq!(tree.to_blob(), Err(TreeError::Interrupt(ppi)));
    let mut tree = good;
    tree.timer.virt = layout::UART.interrupt;
    assert_eq!(
        tree.to_blob(),
        Err(TreeError::Interrupt(layout::UART.interrupt))
    );
}

proptest! {
    #[test]
    fn every_standard_machine_reads_back(
        vcpus in 1..=layout::MAX_VCPUS,
        pages in 1usize..=0x3fc_0000,
        slots in 0..=layout::VIRTIO_MMIO_SLOTS,
        bootargs in proptest::option::of("[ -~]{0,80}"),
    ) {
        let affinities: Vec<u64> = (0..vcpus).map(layout::affinity).collect();
        let redistributors = layout::redistributor_regions(vcpus);
        let devices: Vec<_> = (0..slots).filter_map(layout::virtio_mmio).collect();
        let memory = [range(RAM, pages * 0x1000)];
        let blob = GuestTree {
            bootargs: bootargs.as_deref(),
            virtio_mmio: &devices,
            ..GuestTree::virt(&affinities, &memory, gic_v3(&redistributors))
        }
        .to_blob()
        .expect("a good description");
        let platform = Platform::from_fdt(&blob).expect("a good tree");
        prop_assert_eq!(platform.memory, memory.map(as_host));
        prop_assert_eq!(platform.cpus.len(), affinities.len());
        prop_assert_eq!(platform.virtio_mmio.len(), slots);
        prop_assert_eq!(platform.bootargs, bootargs);
        let Gic::V3 { redistributors: found, .. } = platform.gic else {
            return Err(TestCaseError::fail("another GIC"));
        };
        prop_assert_eq!(found, redistributors.into_iter().map(as_host).collect::<Vec<_>>());
    }
}

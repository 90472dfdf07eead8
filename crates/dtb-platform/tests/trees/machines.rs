//! The machines whose trees the tests read, and the means to change them.

use vm_fdt::{FdtReserveEntry, FdtWriter};

/// A node that can be changed before it is written.
#[derive(Clone)]
pub(crate) struct TestNode {
    name: String,
    properties: Vec<(String, Vec<u8>)>,
    children: Vec<TestNode>,
}

pub(crate) fn node(name: &str) -> TestNode {
    TestNode {
        name: name.into(),
        properties: Vec::new(),
        children: Vec::new(),
    }
}

impl TestNode {
    pub(crate) fn bytes(mut self, name: &str, value: &[u8]) -> Self {
        self.remove(name);
        self.properties.push((name.into(), value.to_vec()));
        self
    }

    pub(crate) fn words(self, name: &str, words: &[u32]) -> Self {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        self.bytes(name, &bytes)
    }

    pub(crate) fn text(self, name: &str, text: &str) -> Self {
        self.bytes(name, format!("{text}\0").as_bytes())
    }

    pub(crate) fn flag(self, name: &str) -> Self {
        self.bytes(name, &[])
    }

    pub(crate) fn child(mut self, child: TestNode) -> Self {
        self.children.push(child);
        self
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.properties.retain(|(own, _)| own != name);
    }

    /// Changes the node at `path` below this one.
    pub(crate) fn edit(mut self, path: &str, change: impl FnOnce(TestNode) -> TestNode) -> Self {
        let mut node = &mut self;
        for part in path.split('/').filter(|part| !part.is_empty()) {
            let children = &mut node.children;
            node = children
                .iter_mut()
                .find(|child| child.name == part)
                .expect(path);
        }
        *node = change(node.clone());
        self
    }

    /// Changes this node and every one below it.
    pub(crate) fn map_all(mut self, change: &impl Fn(TestNode) -> TestNode) -> Self {
        self.children = self
            .children
            .into_iter()
            .map(|child| child.map_all(change))
            .collect();
        change(self)
    }

    /// Adds a property in front of all others.
    pub(crate) fn first(mut self, name: &str, value: &[u8]) -> Self {
        self.properties.insert(0, (name.into(), value.to_vec()));
        self
    }

    /// Returns the values of all properties, of this node and below.
    pub(crate) fn values_mut(&mut self) -> Vec<&mut Vec<u8>> {
        let below = self.children.iter_mut().flat_map(TestNode::values_mut);
        self.properties
            .iter_mut()
            .map(|(_, value)| value)
            .chain(below)
            .collect()
    }

    /// Removes one property of the node at `path`.
    pub(crate) fn without(self, path: &str, property: &str) -> Self {
        self.edit(path, |mut node| {
            node.remove(property);
            node
        })
    }

    /// Removes the node at `path`, which is right below this one.
    pub(crate) fn without_child(mut self, name: &str) -> Self {
        self.children.retain(|child| child.name != name);
        self
    }

    pub(crate) fn blob(&self) -> Vec<u8> {
        self.blob_reserving(&[])
    }

    pub(crate) fn blob_reserving(&self, reserved: &[(u64, u64)]) -> Vec<u8> {
        let reserved: Vec<_> = reserved
            .iter()
            .map(|&(start, size)| FdtReserveEntry::new(start, size).expect("in range"))
            .collect();
        let mut fdt = FdtWriter::new_with_mem_reserv(&reserved).expect("no overlap");
        self.write(&mut fdt);
        fdt.finish().expect("complete")
    }

    fn write(&self, fdt: &mut FdtWriter) {
        let node = fdt.begin_node(&self.name).expect("a valid name");
        for (name, value) in &self.properties {
            fdt.property(name, value).expect("a valid property");
        }
        for child in &self.children {
            child.write(fdt);
        }
        fdt.end_node(node).expect("in order");
    }
}

/// QEMU's `virt` with GICv3 and EL2, without what is not read.
pub(crate) fn qemu_virt() -> TestNode {
    let mut cpus = node("cpus")
        .words("#address-cells", &[1])
        .words("#size-cells", &[0]);
    for index in 0..4 {
        cpus = cpus.child(
            node(&format!("cpu@{index}"))
                .text("device_type", "cpu")
                .text("compatible", "arm,cortex-a57")
                .text("enable-method", "psci")
                .words("reg", &[index]),
        );
    }
    let mut root = node("")
        .words("interrupt-parent", &[0x8005])
        .text("model", "linux,dummy-virt")
        .text("compatible", "linux,dummy-virt")
        .words("#size-cells", &[2])
        .words("#address-cells", &[2])
        .child(
            node("psci")
                .text("method", "smc")
                .text("compatible", "arm,psci-1.0\0arm,psci-0.2\0arm,psci"),
        )
        .child(
            node("memory@40000000")
                .words("reg", &[0, 0x4000_0000, 0, 0x4000_0000])
                .text("device_type", "memory"),
        )
        .child(cpus);
    // The highest comes first, so that sorting can be seen.
    for slot in (0..32).rev() {
        let start = 0x0a00_0000 + 0x200 * slot;
        root = root.child(
            node(&format!("virtio_mmio@{start:x}"))
                .flag("dma-coherent")
                .words("interrupts", &[0, 16 + slot, 1])
                .words("reg", &[0, start, 0, 0x200])
                .text("compatible", "virtio,mmio"),
        );
    }
    root.child(
        node("pl031@9010000")
            .words("interrupts", &[0, 2, 4])
            .words("reg", &[0, 0x0901_0000, 0, 0x1000])
            .text("compatible", "arm,pl031\0arm,primecell"),
    )
    .child(
        node("pl011@9000000")
            .text("clock-names", "uartclk\0apb_pclk")
            .words("clocks", &[0x8000, 0x8000])
            .words("interrupts", &[0, 1, 4])
            .words("reg", &[0, 0x0900_0000, 0, 0x1000])
            .text("compatible", "arm,pl011\0arm,primecell"),
    )
    .child(
        node("intc@8000000")
            .words("phandle", &[0x8005])
            .words("interrupts", &[1, 9, 4])
            .words(
                "reg",
                &[0, 0x0800_0000, 0, 0x1_0000, 0, 0x080a_0000, 0, 0xf6_0000],
            )
            .words("#redistributor-regions", &[1])
            .text("compatible", "arm,gic-v3")
            .flag("ranges")
            .words("#size-cells", &[2])
            .words("#address-cells", &[2])
            .flag("interrupt-controller")
            .words("#interrupt-cells", &[3])
            .child(
                node("its@8080000")
                    .words("phandle", &[0x8006])
                    .words("reg", &[0, 0x0808_0000, 0, 0x2_0000])
                    .text("compatible", "arm,gic-v3-its"),
            ),
    )
    .child(
        node("timer")
            .words("interrupts", &[1, 13, 4, 1, 14, 4, 1, 11, 4, 1, 10, 4])
            .flag("always-on")
            .text("compatible", "arm,armv8-timer\0arm,armv7-timer"),
    )
    .child(
        node("apb-pclk")
            .words("phandle", &[0x8000])
            .words("clock-frequency", &[24_000_000])
            .words("#clock-cells", &[0])
            .text("compatible", "fixed-clock"),
    )
    .child(node("chosen").text("stdout-path", "/pl011@9000000"))
}

/// A small board: addresses of one cell, devices behind two buses that move
/// them, GICv2, spin tables, and memory in several nodes.
pub(crate) fn board() -> TestNode {
    let cpu = |name: &str, reg: [u32; 2], release: u32| {
        node(name)
            .text("device_type", "cpu")
            .text("compatible", "arm,cortex-a53\0arm,armv8")
            .words("reg", &reg)
            .words("cpu-release-addr", &[0, release])
    };
    let cpus = node("cpus")
        .words("#address-cells", &[2])
        .words("#size-cells", &[0])
        .text("enable-method", "spin-table")
        .child(node("cpu-map"))
        .child(cpu("cpu@0", [0, 0], 0xd8))
        .child(cpu("cpu@100", [0, 0x100], 0xe0).text("status", "disabled"))
        .child(cpu("cpu@100000001", [1, 1], 0xe8).text("status", "fail-thermal"));

    let memory = |start: u32, banks: &[u32]| {
        node(&format!("memory@{start:x}"))
            .text("device_type", "memory")
            .words("reg", banks)
    };
    let uart = |unit: u32, spi: u32| {
        node(&format!("serial@{unit:x}"))
            .text("compatible", "arm,pl011\0arm,primecell")
            .words("reg", &[unit, 0x200])
            .words("interrupts", &[0, spi, 4])
    };
    let low_speed = node("bus@200000")
        .text("compatible", "simple-bus")
        .words("#address-cells", &[1])
        .words("#size-cells", &[1])
        .words("ranges", &[0, 0x20_0000, 0x10_0000])
        .child(uart(0x1000, 5).text("status", "disabled"))
        .child(uart(0x2000, 6));
    let soc = node("soc")
        .text("compatible", "simple-bus")
        .words("#address-cells", &[1])
        .words("#size-cells", &[1])
        .words(
            "ranges",
            &[
                0x7e00_0000,
                0x3e00_0000,
                0x180_0000,
                0,
                0xfc00_0000,
                0x40_0000,
            ],
        )
        .words("interrupt-parent", &[7])
        .child(
            node("interrupt-controller@7e041000")
                .text("compatible", "arm,gic-400")
                .flag("interrupt-controller")
                .words("#interrupt-cells", &[3])
                .words("phandle", &[7])
                .words("interrupts", &[1, 9, 0xf04])
                .words(
                    "reg",
                    &[
                        0x7e04_1000,
                        0x1000,
                        0x7e04_2000,
                        0x2000,
                        0x7e04_4000,
                        0x2000,
                        0x7e04_6000,
                        0x2000,
                    ],
                ),
        )
        .child(low_speed);

    node("")
        .words("#address-cells", &[1])
        .words("#size-cells", &[1])
        .words("interrupt-parent", &[7])
        .child(node("aliases").text("serial1", "/soc/bus@200000/serial@2000"))
        .child(
            node("chosen")
                .text("stdout-path", "serial1:115200n8")
                .text("bootargs", "quiet")
                .words("linux,initrd-start", &[0x0800_0000])
                .words("linux,initrd-end", &[0, 0x0812_3456]),
        )
        .child(memory(
            0x8000_0000,
            &[0x8000_0000, 0x1000_0000, 0xa000_0000, 0],
        ))
        .child(memory(0, &[0, 0x3b40_0000]))
        .child(memory(0x3b40_0000, &[0x3b40_0000, 0x10_0000]))
        .child(memory(0xe000_0000, &[0xe000_0000, 0x1000]).text("status", "disabled"))
        .child(
            node("reserved-memory")
                .words("#address-cells", &[1])
                .words("#size-cells", &[1])
                .flag("ranges")
                .child(node("pool").words("size", &[0x40_0000]))
                .child(
                    node("secure@1000000")
                        .words("reg", &[0x100_0000, 0x8000])
                        .flag("no-map"),
                )
                .child(node("video@2000000").words("reg", &[0x200_0000, 0x1000])),
        )
        .child(cpus)
        .child(
            node("timer")
                .text("compatible", "arm,armv8-timer")
                .text("interrupt-names", "hyp-phys\0virt\0phys")
                .words("interrupts", &[1, 10, 0xf08, 1, 11, 0xf08, 1, 14, 0xf08]),
        )
        .child(soc)
}

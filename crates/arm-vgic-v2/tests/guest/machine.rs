//! A VM in miniature: a vGIC, a CPU for each vCPU, and a hypervisor that serves
//! kicks and maintenance interrupts at once.

use arm_vgic_v2::{FakeGich, Folded, IchRegs, Kicks, Vgic, VgicConfig, VirtualInterface};
use vm_contract::{IntId, VcpuId, Width};

pub(crate) const CTLR: u64 = 0x000;
pub(crate) const IGROUPR: u64 = 0x080;
pub(crate) const ISENABLER: u64 = 0x100;
pub(crate) const ICENABLER: u64 = 0x180;
pub(crate) const ISPENDR: u64 = 0x200;
pub(crate) const ICPENDR: u64 = 0x280;
pub(crate) const ISACTIVER: u64 = 0x300;
pub(crate) const ICACTIVER: u64 = 0x380;
pub(crate) const IPRIORITYR: u64 = 0x400;
pub(crate) const ITARGETSR: u64 = 0x800;
pub(crate) const ICFGR: u64 = 0xC00;
/// GICC_DIR, in the page that traps.
pub(crate) const DIR: u64 = 0x1000;
pub(crate) const SGIR: u64 = 0xF00;
pub(crate) const CPENDSGIR: u64 = 0xF10;
pub(crate) const SPENDSGIR: u64 = 0xF20;

pub(crate) struct Machine {
    pub(crate) vgic: Vgic,
    cpus: Vec<VirtualInterface<FakeGich>>,
    /// Physical interrupts deactivated by order since last asked.
    deactivated: Vec<u32>,
}

/// Returns the interrupt with this number.
pub(crate) fn id(intid: u32) -> IntId {
    IntId::new(intid).expect("a valid INTID")
}

pub(crate) fn vcpu(index: usize) -> VcpuId {
    VcpuId::new(index as u16)
}

impl Machine {
    /// Returns a machine at reset, with 64 SPIs, whose CPU interfaces are open and
    /// have `lr_count` list registers.
    pub(crate) fn new(vcpu_count: usize, lr_count: usize) -> Self {
        let config = VgicConfig {
            vcpu_count,
            spi_count: 64,
        };
        let mut vgic = Vgic::new(&config).expect("a good shape");
        let cpu = VirtualInterface::new(FakeGich::new(lr_count));
        let mut cpus = vec![cpu; vcpu_count];
        for (index, cpu) in cpus.iter_mut().enumerate() {
            vgic.load(vcpu(index), cpu);
            cpu.gich_mut().open();
        }
        Self {
            vgic,
            cpus,
            deactivated: Vec::new(),
        }
    }

    /// Returns a machine in which everything is enabled, of priority 0xA0, and SPIs
    /// go to vCPU 0.
    pub(crate) fn ready(vcpu_count: usize, lr_count: usize) -> Self {
        let mut machine = Self::new(vcpu_count, lr_count);
        machine.write(0, CTLR, Width::Word, 0b11);
        for index in 0..vcpu_count {
            machine.write(index, ISENABLER, Width::Word, u32::MAX);
            (0..8).for_each(|n| machine.write(index, IPRIORITYR + 4 * n, Width::Word, 0xA0A0_A0A0));
        }
        for word in 1..3 {
            machine.write(0, ISENABLER + 4 * word, Width::Word, u32::MAX);
            for n in 8 * word..8 * word + 8 {
                machine.write(0, IPRIORITYR + 4 * n, Width::Word, 0xA0A0_A0A0);
                machine.write(0, ITARGETSR + 4 * n, Width::Word, 0x0101_0101);
            }
        }
        machine
    }

    pub(crate) fn gicv(&mut self, index: usize) -> &mut FakeGich {
        self.cpus[index].gich_mut()
    }

    pub(crate) fn vcpu_count(&self) -> usize {
        self.cpus.len()
    }

    pub(crate) fn write(&mut self, index: usize, offset: u64, width: Width, value: u32) {
        let done = self.try_write(index, offset, width, value.into());
        assert!(done, "{offset:#x} takes {width:?}");
    }

    /// Writes a register as the hypervisor lets vCPU `index` do it. Tells whether
    /// the access was a good one.
    pub(crate) fn try_write(
        &mut self,
        index: usize,
        offset: u64,
        width: Width,
        value: u64,
    ) -> bool {
        let folds = Vgic::needs_fold(offset);
        if folds {
            self.fold(index);
        }
        let written = self.vgic.write(vcpu(index), offset, width, value);
        if folds {
            self.vgic.flush(vcpu(index), &mut self.cpus[index]);
        }
        written.map(|kicks| self.serve(kicks)).is_ok()
    }

    pub(crate) fn read(&mut self, index: usize, offset: u64, width: Width) -> u32 {
        self.try_read(index, offset, width).expect("a good access") as u32
    }

    /// Reads a register as vCPU `index`, after all list registers were folded.
    pub(crate) fn try_read(&mut self, index: usize, offset: u64, width: Width) -> Option<u64> {
        if !Vgic::needs_fold(offset) {
            return self.vgic.read(vcpu(index), offset, width).ok();
        }
        (0..self.vcpu_count()).for_each(|index| self.fold(index));
        let read = self.vgic.read(vcpu(index), offset, width).ok();
        for index in 0..self.vcpu_count() {
            self.vgic.flush(vcpu(index), &mut self.cpus[index]);
        }
        read
    }

    fn fold(&mut self, index: usize) {
        let folded = self.vgic.fold(vcpu(index), &self.cpus[index]);
        self.take_note(folded);
    }

    fn take_note(&mut self, folded: Folded) {
        self.deactivated.extend(folded.deactivate().map(IntId::raw));
        self.serve(folded.kicks);
    }

    pub(crate) fn serve(&mut self, kicks: Kicks) {
        for vcpu in kicks {
            let folded = self.vgic.refresh(vcpu, &mut self.cpus[vcpu.index()]);
            self.take_note(folded);
            self.maintain(vcpu.index());
        }
    }

    /// Serves maintenance interrupts, which must then be gone.
    pub(crate) fn maintain(&mut self, index: usize) {
        for _ in 0..4 {
            if !self.cpus[index].gich().maintenance() {
                return;
            }
            let folded = self.vgic.refresh(vcpu(index), &mut self.cpus[index]);
            self.take_note(folded);
        }
        panic!("maintenance never ends: {:?}", self.cpus[index]);
    }

    /// Reads GICC_IAR.
    pub(crate) fn acknowledge(&mut self, index: usize) -> u32 {
        let iar = self.gicv(index).acknowledge();
        self.maintain(index);
        iar
    }

    /// Writes GICC_EOIR.
    pub(crate) fn end(&mut self, index: usize, iar: u32) {
        self.gicv(index).end(iar);
        self.maintain(index);
    }

    /// Writes GICC_DIR, which traps.
    pub(crate) fn deactivate(&mut self, index: usize, iar: u32) {
        self.fold(index);
        let (asker, iar) = (vcpu(index), u64::from(iar));
        let folded = self.vgic.write_cpu_interface(asker, DIR, Width::Word, iar);
        self.vgic.flush(vcpu(index), &mut self.cpus[index]);
        self.take_note(folded);
        self.maintain(index);
    }

    pub(crate) fn line(&mut self, spi: u32, asserted: bool) {
        let kicks = self.vgic.set_spi_level(id(spi), asserted);
        self.serve(kicks);
    }

    pub(crate) fn ppi_line(&mut self, index: usize, ppi: u32, asserted: bool) {
        let kicks = self.vgic.set_ppi_level(vcpu(index), id(ppi), asserted);
        self.serve(kicks);
    }

    /// A physical interrupt with the same number was acknowledged.
    pub(crate) fn fire(&mut self, index: usize, ppi: u32) {
        let kicks = self.vgic.raise_linked(vcpu(index), id(ppi), id(ppi));
        self.serve(kicks);
    }

    /// Returns the physical interrupts deactivated since last asked.
    pub(crate) fn take_deactivated(&mut self) -> Vec<u32> {
        let mut all = core::mem::take(&mut self.deactivated);
        for cpu in &mut self.cpus {
            all.extend(cpu.gich_mut().take_deactivated());
        }
        all
    }

    /// Moves a vCPU to another CPU with `lr_count` list registers. Returns what
    /// `deliverable` said in between.
    pub(crate) fn move_to_cpu_with(&mut self, index: usize, lr_count: usize) -> bool {
        let old = &mut self.cpus[index];
        let folded = self.vgic.save(vcpu(index), old);
        assert!(!old.gich().is_signalled(), "the interface is off");
        let deliverable = self.vgic.deliverable(vcpu(index));
        self.deactivated.extend(old.gich_mut().take_deactivated());
        self.cpus[index] = VirtualInterface::new(FakeGich::new(lr_count));
        self.vgic.load(vcpu(index), &mut self.cpus[index]);
        self.take_note(folded);
        deliverable
    }

    /// Checks what holds whenever guests run.
    pub(crate) fn check_list_registers(&self) {
        let mut spis = Vec::new();
        for cpu in &self.cpus {
            let entries = (0..cpu.lr_count()).map(|n| cpu.read_lr(n));
            let held: Vec<_> = entries.filter(|lr| !lr.is_inactive()).collect();
            let mut intids: Vec<u32> = held.iter().map(|lr| lr.intid()).collect();
            spis.extend(intids.iter().copied().filter(|&intid| intid >= 32));
            intids.sort_unstable();
            assert!(
                intids.windows(2).all(|two| two[0] != two[1]),
                "one INTID twice: {cpu:?}"
            );
            assert!(!cpu.gich().maintenance(), "maintenance was served");
        }
        spis.sort_unstable();
        assert!(
            spis.windows(2).all(|two| two[0] != two[1]),
            "one SPI on two CPUs: {spis:?}"
        );
    }
}

impl Machine {
    /// Resets the vGIC, and each vCPU with a CPU of its own.
    pub(crate) fn reset(&mut self) {
        for index in 0..self.vcpu_count() {
            let folded = self.vgic.save(vcpu(index), &mut self.cpus[index]);
            self.deactivated.extend(folded.deactivate().map(IntId::raw));
        }
        self.vgic.reset();
        for (index, cpu) in self.cpus.iter_mut().enumerate() {
            self.vgic.load(vcpu(index), cpu);
        }
    }
}

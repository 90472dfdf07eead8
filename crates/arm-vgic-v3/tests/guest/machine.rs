//! A VM in miniature: a vGIC, a CPU for each vCPU, and a hypervisor that
//! serves kicks and maintenance interrupts at once.

use arm_vgic_v3::{FakeIch, Folded, Frame, Group, Kicks, SgiRegister, Vgic, VgicConfig};
use vm_contract::{IntId, VcpuId, Width};

pub(crate) const BOOT: VcpuId = VcpuId::new(0);
pub(crate) const SECOND: VcpuId = VcpuId::new(1);

/// Offsets of registers with a bit per interrupt, in GICD and in SGI_base.
pub(crate) const IGROUPR: u64 = 0x080;
pub(crate) const ISENABLER: u64 = 0x100;
pub(crate) const ICENABLER: u64 = 0x180;
pub(crate) const ISPENDR: u64 = 0x200;
pub(crate) const ICPENDR: u64 = 0x280;
pub(crate) const ISACTIVER: u64 = 0x300;
pub(crate) const ICACTIVER: u64 = 0x380;
pub(crate) const IPRIORITYR: u64 = 0x400;
pub(crate) const IROUTER: u64 = 0x6000;

pub(crate) struct Machine {
    pub(crate) vgic: Vgic,
    pub(crate) cpus: Vec<FakeIch>,
    /// Physical interrupts deactivated, by list registers or by order, since
    /// last asked.
    deactivated: Vec<u32>,
}

/// Returns the interrupt with this number.
pub(crate) fn id(intid: u32) -> IntId {
    IntId::new(intid).expect("a valid INTID")
}

impl Machine {
    /// Returns a machine with everything at reset but the CPU interfaces.
    pub(crate) fn with_cpus(vcpus: u64, ich: &FakeIch) -> Self {
        let affinities: Vec<u64> = (0..vcpus).collect();
        let config = VgicConfig {
            affinities: &affinities,
            spi_count: 64,
        };
        let mut vgic = Vgic::new(&config).expect("the configuration is valid");
        let mut cpus = vec![ich.clone(); affinities.len()];
        for (vcpu, ich) in (0..).map(VcpuId::new).zip(&mut cpus) {
            let _ = vgic.set_awake(vcpu, true);
            vgic.load(vcpu, ich);
            ich.open();
        }
        Self {
            vgic,
            cpus,
            deactivated: Vec::new(),
        }
    }

    /// Returns a machine in which all interrupts are enabled, in Group 1 and of
    /// priority 0xA0; each CPU has `lr_count` list registers.
    pub(crate) fn ready(vcpus: u64, lr_count: usize) -> Self {
        let mut machine = Self::with_cpus(vcpus, &FakeIch::new(lr_count));
        machine.enable_all();
        machine
    }

    pub(crate) fn enable_all(&mut self) {
        self.gicd(0, 0b11);
        for vcpu in 0..self.cpus.len() {
            self.gicr(vcpu, IGROUPR, u32::MAX);
            self.gicr(vcpu, ISENABLER, u32::MAX);
            (0..8).for_each(|n| self.gicr(vcpu, IPRIORITYR + 4 * n, 0xA0A0_A0A0));
        }
        for word in 1..3 {
            self.gicd(IGROUPR + 4 * word, u32::MAX);
            self.gicd(ISENABLER + 4 * word, u32::MAX);
            (0..8).for_each(|n| self.gicd(IPRIORITYR + 32 * word + 4 * n, 0xA0A0_A0A0));
        }
    }

    /// Folds and flushes a vCPU, and those that get something by that.
    pub(crate) fn refresh(&mut self, vcpu: VcpuId) {
        let ich = &mut self.cpus[vcpu.index()];
        let folded = self.vgic.fold(vcpu, ich);
        self.vgic.flush(vcpu, ich);
        self.take_note(folded);
    }

    /// Does as much of that as a kick or a maintenance interrupt asks for.
    fn touch_up(&mut self, vcpu: VcpuId) {
        let ich = &mut self.cpus[vcpu.index()];
        let folded = self.vgic.refresh(vcpu, ich);
        self.take_note(folded);
    }

    fn take_note(&mut self, folded: Folded) {
        self.deactivated.extend(folded.deactivate().map(IntId::raw));
        self.serve(folded.kicks);
    }

    pub(crate) fn serve(&mut self, kicks: Kicks) {
        kicks.iter().for_each(|vcpu| self.touch_up(vcpu));
    }

    /// Serves maintenance interrupts, which must then be gone.
    pub(crate) fn maintain(&mut self, vcpu: VcpuId) {
        if self.cpus[vcpu.index()].maintenance() {
            self.touch_up(vcpu);
            assert!(
                !self.cpus[vcpu.index()].maintenance(),
                "maintenance interrupts storm"
            );
        }
    }

    /// Writes as the boot vCPU.
    pub(crate) fn write(&mut self, frame: Frame, offset: u64, width: Width, value: u64) {
        if Vgic::needs_fold(frame, offset) {
            self.refresh(BOOT);
            let ich = &mut self.cpus[BOOT.index()];
            let folded = self.vgic.fold(BOOT, ich);
            assert!(folded.kicks.is_empty() && folded.deactivate().count() == 0);
        }
        let mut kicks = self
            .vgic
            .write(BOOT, frame, offset, width, value)
            .expect("a good access");
        if Vgic::needs_fold(frame, offset) {
            kicks.extend(self.vgic.look_again(BOOT, frame, offset));
            self.vgic.flush(BOOT, &mut self.cpus[BOOT.index()]);
            kicks.remove(BOOT);
        }
        self.serve(kicks);
    }

    pub(crate) fn gicd(&mut self, offset: u64, value: u32) {
        self.write(Frame::Distributor, offset, Width::Word, value.into());
    }

    /// Writes to the SGI_base frame of a vCPU.
    pub(crate) fn gicr(&mut self, vcpu: usize, offset: u64, value: u32) {
        let offset = vcpu as u64 * 0x2_0000 + 0x1_0000 + offset;
        self.write(Frame::Redistributors, offset, Width::Word, value.into());
    }

    /// Writes a bit register for one interrupt of `vcpu`, or a shared one.
    pub(crate) fn set_bit(&mut self, vcpu: usize, register: u64, intid: u32) {
        let bit = 1 << (intid % 32);
        match intid / 32 {
            0 => self.gicr(vcpu, register, bit),
            word => self.gicd(register + 4 * u64::from(word), bit),
        }
    }

    pub(crate) fn set_priority(&mut self, vcpu: usize, intid: u32, priority: u8) {
        let offset = IPRIORITYR + u64::from(intid);
        let (frame, offset) = match intid / 32 {
            0 => (
                Frame::Redistributors,
                vcpu as u64 * 0x2_0000 + 0x1_0000 + offset,
            ),
            _ => (Frame::Distributor, offset),
        };
        self.write(frame, offset, Width::Byte, priority.into());
    }

    pub(crate) fn route(&mut self, intid: u32, route: u64) {
        let offset = IROUTER + 8 * u64::from(intid);
        self.write(Frame::Distributor, offset, Width::Dword, route);
    }

    /// Reads a bit register for one interrupt, once the other vCPUs have said what
    /// they have in hand.
    pub(crate) fn bit(&mut self, vcpu: usize, register: u64, intid: u32) -> bool {
        let (frame, offset) = match intid / 32 {
            0 => (
                Frame::Redistributors,
                vcpu as u64 * 0x2_0000 + 0x1_0000 + register,
            ),
            word => (Frame::Distributor, register + 4 * u64::from(word)),
        };
        self.refresh(BOOT);
        let kicks = self.vgic.look_again(BOOT, frame, offset);
        self.serve(kicks);
        self.refresh(BOOT);
        let value = self
            .vgic
            .read(BOOT, frame, offset, Width::Word)
            .expect("a good access");
        value >> (intid % 32) & 1 != 0
    }

    pub(crate) fn line(&mut self, spi: u32, asserted: bool) {
        let kicks = self.vgic.set_spi_level(id(spi), asserted);
        self.serve(kicks);
    }

    pub(crate) fn sgi(&mut self, sender: VcpuId, value: u64) {
        let kicks = self.vgic.send_sgi(sender, SgiRegister::Sgi1, value);
        self.serve(kicks);
    }

    /// Makes an interrupt pending on the hypervisor's own account.
    pub(crate) fn inject(&mut self, vcpu: usize, intid: u32) {
        let vcpu = VcpuId::new(vcpu as u16);
        let kicks = self.vgic.set_pending(vcpu, id(intid));
        self.serve(kicks);
    }

    /// A physical interrupt with the same number was acknowledged.
    pub(crate) fn fire(&mut self, vcpu: VcpuId, ppi: u32) {
        let kicks = self.vgic.raise_linked(vcpu, id(ppi), id(ppi));
        self.serve(kicks);
    }

    /// Acknowledges what is signalled as Group 1.
    pub(crate) fn ack(&mut self, vcpu: VcpuId) -> Option<u32> {
        self.ack_group(vcpu, Group::One)
    }

    pub(crate) fn ack_group(&mut self, vcpu: VcpuId, group: Group) -> Option<u32> {
        let intid = self.cpus[vcpu.index()].acknowledge(group);
        self.maintain(vcpu);
        intid
    }

    pub(crate) fn end(&mut self, vcpu: VcpuId, intid: u32) {
        self.end_group(vcpu, Group::One, intid);
    }

    pub(crate) fn end_group(&mut self, vcpu: VcpuId, group: Group, intid: u32) {
        self.cpus[vcpu.index()].end(group, intid);
        self.maintain(vcpu);
    }

    /// Returns the physical interrupts deactivated since last asked.
    pub(crate) fn take_deactivated(&mut self) -> Vec<u32> {
        let mut all = core::mem::take(&mut self.deactivated);
        for ich in &mut self.cpus {
            all.extend(ich.take_deactivated().into_iter().map(u32::from));
        }
        all
    }

    /// Unbinds and binds a vCPU. Returns what `deliverable` said in between.
    pub(crate) fn rebind(&mut self, vcpu: VcpuId) -> bool {
        let ich = &mut self.cpus[vcpu.index()];
        let folded = self.vgic.save(vcpu, ich);
        let deliverable = self.vgic.deliverable(vcpu);
        assert_eq!(ich.signalled(), None, "the interface is off");
        self.vgic.load(vcpu, ich);
        self.deactivated.extend(folded.deactivate().map(IntId::raw));
        self.serve(folded.kicks);
        deliverable
    }
}

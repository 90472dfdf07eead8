//! What a guest sees of its interrupts, through a fake CPU interface.

use arm_vgic_v3::{FakeIch, Frame, Group, IchRegs, Kicks, SgiRegister, Vgic, VgicConfig};
use vm_contract::{IntId, VcpuId, Width};

const BOOT: VcpuId = VcpuId::new(0);
const SECOND: VcpuId = VcpuId::new(1);

/// A VM whose vCPUs are all loaded, each in a CPU of its own, and whose
/// hypervisor serves kicks and maintenance interrupts at once.
struct Machine {
    vgic: Vgic,
    cpus: Vec<FakeIch>,
    /// Physical interrupts that the hypervisor was told to deactivate.
    deactivated: Vec<u32>,
}

impl Machine {
    fn new(vcpus: u64, lr_count: usize) -> Self {
        let affinities: Vec<u64> = (0..vcpus).collect();
        let config = VgicConfig {
            affinities: &affinities,
            spi_count: 64,
        };
        let mut vgic = Vgic::new(&config).expect("the configuration is valid");
        let mut cpus = vec![FakeIch::new(lr_count); affinities.len()];
        for (vcpu, ich) in (0..).map(VcpuId::new).zip(&mut cpus) {
            vgic.load(vcpu, ich);
            ich.open();
        }
        let mut machine = Self {
            vgic,
            cpus,
            deactivated: Vec::new(),
        };
        machine.gicd(0, 0b11);
        machine
    }

    /// Returns a machine in which all interrupts are enabled, in Group 1 and of
    /// priority 0xA0.
    fn ready(vcpus: u64, lr_count: usize) -> Self {
        let mut machine = Self::new(vcpus, lr_count);
        for vcpu in 0..vcpus {
            machine.gicr(vcpu, 0x080, u32::MAX);
            machine.gicr(vcpu, 0x100, u32::MAX);
            (0..8).for_each(|n| machine.gicr(vcpu, 0x400 + 4 * n, 0xA0A0_A0A0));
        }
        for word in 1..3 {
            machine.gicd(0x080 + 4 * word, u32::MAX);
            machine.gicd(0x100 + 4 * word, u32::MAX);
            (0..8).for_each(|n| machine.gicd(0x400 + 32 * word + 4 * n, 0xA0A0_A0A0));
        }
        machine
    }

    fn refresh(&mut self, vcpu: VcpuId) {
        let mut again = vec![vcpu];
        while let Some(vcpu) = again.pop() {
            let ich = &mut self.cpus[vcpu.index()];
            let folded = self.vgic.fold(vcpu, ich);
            self.deactivated.extend(folded.deactivate().map(IntId::raw));
            self.vgic.flush(vcpu, ich);
            again.extend(folded.kicks.iter());
        }
    }

    fn serve(&mut self, kicks: Kicks) {
        kicks.iter().for_each(|vcpu| self.refresh(vcpu));
    }

    fn write(&mut self, frame: Frame, offset: u64, width: Width, value: u64) {
        if Vgic::needs_fold(frame, offset) {
            self.refresh(BOOT);
        }
        let kicks = self
            .vgic
            .write(BOOT, frame, offset, width, value)
            .expect("a good access");
        self.serve(kicks);
    }

    fn gicd(&mut self, offset: u64, value: u32) {
        self.write(Frame::Distributor, offset, Width::Word, value.into());
    }

    fn gicr(&mut self, vcpu: u64, sgi_offset: u64, value: u32) {
        let offset = vcpu * 0x2_0000 + 0x1_0000 + sgi_offset;
        self.write(Frame::Redistributors, offset, Width::Word, value.into());
    }

    fn read_gicd(&mut self, offset: u64) -> u64 {
        self.refresh(BOOT);
        self.vgic
            .read(BOOT, Frame::Distributor, offset, Width::Word)
            .expect("a good access")
    }

    fn line(&mut self, spi: u32, asserted: bool) {
        let kicks = self.vgic.set_spi_level(spi_id(spi), asserted);
        self.serve(kicks);
    }

    fn ack(&mut self, vcpu: VcpuId) -> Option<u32> {
        let intid = self.cpus[vcpu.index()].acknowledge(Group::One);
        self.maintain(vcpu);
        intid
    }

    fn end(&mut self, vcpu: VcpuId, intid: u32) {
        self.cpus[vcpu.index()].end(Group::One, intid);
        self.maintain(vcpu);
    }

    fn maintain(&mut self, vcpu: VcpuId) {
        if self.cpus[vcpu.index()].maintenance() {
            self.refresh(vcpu);
            assert!(
                !self.cpus[vcpu.index()].maintenance(),
                "maintenance interrupts storm"
            );
        }
    }
}

fn spi_id(intid: u32) -> IntId {
    IntId::new(intid).expect("an SPI")
}

#[test]
fn level_spi_is_delivered_until_its_wire_falls() {
    let mut machine = Machine::ready(1, 4);
    machine.line(33, true);
    assert_eq!(machine.ack(BOOT), Some(33));
    assert_eq!(machine.ack(BOOT), None, "active");
    machine.end(BOOT, 33);
    assert_eq!(machine.ack(BOOT), Some(33), "the wire is still high");
    machine.line(33, false);
    machine.end(BOOT, 33);
    assert_eq!(machine.ack(BOOT), None);
}

#[test]
fn wire_that_falls_retracts_the_pending_interrupt() {
    let mut machine = Machine::ready(1, 4);
    machine.line(33, true);
    assert_eq!(machine.cpus[0].signalled(), Some(Group::One));
    machine.line(33, false);
    assert_eq!(machine.cpus[0].signalled(), None);
}

#[test]
fn sgi_sent_to_oneself_is_merged_and_delivered_once() {
    let mut machine = Machine::ready(2, 4);
    for _ in 0..3 {
        let kicks = machine
            .vgic
            .send_sgi(SECOND, SgiRegister::Sgi1, 7 << 24 | 0b10);
        assert_eq!(kicks.iter().collect::<Vec<_>>(), [SECOND]);
        machine.serve(kicks);
    }
    assert_eq!(machine.ack(SECOND), Some(7));
    machine.end(SECOND, 7);
    assert_eq!(machine.ack(SECOND), None);
}

//! A whole VM: an ITS, a vGIC and its CPUs.

use arm_vgic_v3::its::{Its, ItsContext, LpiPort, STEPS_PER_ACCESS};
use arm_vgic_v3::{FakeIch, Frame, Group, Kicks, Vgic, VgicConfig};
use vm_contract::{AccessError, GuestMemory, GuestPhysAddr, VcpuId, Width};

use crate::machine::{
    BASER0, BASER1, CBASER, COLLECTIONS, CTLR, CWRITER, DEVICES, EVENTS, PENDING, PROPERTIES,
    QUEUE, Ram, VALID, mapc, mapd, mapti,
};

pub(crate) const LPIS: u32 = 256;
pub(crate) const GICD_CTLR: u64 = 0x0000;
pub(crate) const GICD_TYPER: u64 = 0x0004;
pub(crate) const GICR_CTLR: u64 = 0x0000;
pub(crate) const GICR_TYPER: u64 = 0x0008;
pub(crate) const GICR_WAKER: u64 = 0x0014;
pub(crate) const GICR_PROPBASER: u64 = 0x0070;
pub(crate) const GICR_PENDBASER: u64 = 0x0078;
pub(crate) const PTZ: u64 = 1 << 62;
pub(crate) const ENABLE_LPIS: u64 = 1 << 0;
pub(crate) const CES: u64 = 1 << 1;
pub(crate) const RWP: u64 = 1 << 3;
/// Shareable write-back memory, in PROPBASER and PENDBASER.
pub(crate) const ATTRIBUTES: u64 = 0b111 << 7 | 0b01 << 10;
/// Enabled, of priority 0xA0.
pub(crate) const ENABLED: u8 = 0xA1;

/// A VM of two vCPUs whose hypervisor serves everything at once.
pub(crate) struct Whole {
    pub(crate) vgic: Vgic,
    pub(crate) its: Its,
    pub(crate) memory: Ram,
    pub(crate) cpus: Vec<FakeIch>,
    /// These vCPUs run elsewhere and take no notice of kicks.
    pub(crate) deaf: Kicks,
}

/// Returns where vCPU `n` has its pending table.
pub(crate) fn pending_table(n: u16) -> u64 {
    PENDING + u64::from(n) * 0x1_0000
}

impl Whole {
    pub(crate) fn with_lpis(count: u32) -> Self {
        let config = VgicConfig {
            affinities: &[0, 1],
            spi_count: 32,
        };
        let mut vgic = Vgic::new(&config).expect("a good shape");
        if count != 0 {
            vgic = vgic.with_lpis(count);
        }
        let mut cpus = vec![FakeIch::new(2).with_active_lpis(), FakeIch::new(2)];
        for (vcpu, ich) in (0..).map(VcpuId::new).zip(&mut cpus) {
            vgic.load(vcpu, ich);
            ich.open();
        }
        Self {
            vgic,
            its: Its::new(),
            memory: Ram::new(),
            cpus,
            deaf: Kicks::NONE,
        }
    }

    /// Returns a VM as a driver sets it up: all LPIs enabled by property, device
    /// 5 with 32 events, collection `n` for vCPU `n`, event `n` for LPI 8192 + n
    /// of collection `n` % 2.
    pub(crate) fn ready() -> Self {
        let mut whole = Self::with_lpis(LPIS);
        for lpi in 0..LPIS {
            whole.set_property(8192 + lpi, ENABLED);
        }
        whole.write_its(CBASER, VALID | QUEUE);
        whole.write_its(BASER0, VALID | DEVICES);
        whole.write_its(BASER1, VALID | COLLECTIONS);
        whole.its_register(CTLR, Width::Word, Some(1));
        whole.gicd(GICD_CTLR, 0b10);
        for vcpu in 0..2 {
            whole.gicr(vcpu, GICR_WAKER, Width::Word, 0);
            whole.gicr(vcpu, GICR_PROPBASER, Width::Dword, PROPERTIES | 13);
            let pendbaser = PTZ | pending_table(vcpu);
            whole.gicr(vcpu, GICR_PENDBASER, Width::Dword, pendbaser);
            whole.gicr(vcpu, GICR_CTLR, Width::Word, ENABLE_LPIS);
        }
        whole.submit(&[mapd(5, 4, EVENTS), mapc(0, 0), mapc(1, 1)]);
        let events: Vec<_> = (0..32)
            .map(|n| mapti(5, n, 8192 + n, (n % 2) as u16))
            .collect();
        whole.submit(&events);
        assert_eq!(whole.its.rejected(), 0);
        whole
    }

    pub(crate) fn set_property(&self, lpi: u32, byte: u8) {
        let address = PROPERTIES + u64::from(lpi - 8192);
        self.memory
            .write(GuestPhysAddr::from(address as usize), &[byte])
            .expect("an address in memory");
    }

    pub(crate) fn serve(&mut self, kicks: Kicks) {
        for vcpu in kicks {
            if !self.deaf.contains(vcpu) {
                let folded = self.vgic.refresh(vcpu, &mut self.cpus[vcpu.index()]);
                self.serve(folded.kicks);
            }
        }
    }

    /// Does something with the ITS and serves what comes of it.
    pub(crate) fn with_its<T>(
        &mut self,
        work: impl FnOnce(&mut Its, &mut ItsContext<'_>) -> T,
    ) -> T {
        let mut port = LpiPort::new(&mut self.vgic);
        let mut context = ItsContext {
            memory: &self.memory,
            redistributors: &mut port,
        };
        let result = work(&mut self.its, &mut context);
        let kicks = port.kicks();
        self.serve(kicks);
        result
    }

    /// Accesses the ITS. Reading gives what is there, writing zero.
    pub(crate) fn its_access(
        &mut self,
        offset: u64,
        width: Width,
        value: Option<u64>,
    ) -> Result<u64, AccessError> {
        self.with_its(|its, context| match value {
            None => its.read(context, offset, width),
            Some(value) => its.write(context, offset, width, value).map(|()| 0),
        })
    }

    fn its_register(&mut self, offset: u64, width: Width, value: Option<u64>) -> u64 {
        self.its_access(offset, width, value).expect("a register")
    }

    pub(crate) fn write_its(&mut self, offset: u64, value: u64) {
        self.its_register(offset, Width::Dword, Some(value));
    }

    pub(crate) fn submit(&mut self, commands: &[[u64; 4]]) {
        let mut at = self.its_register(CWRITER, Width::Dword, None);
        for command in commands {
            let words = command.map(u64::to_le_bytes);
            let address = GuestPhysAddr::from((QUEUE + at) as usize);
            self.memory
                .write(address, words.as_flattened())
                .expect("the queue is in memory");
            at = (at + 32) % 0x1000;
        }
        self.write_its(CWRITER, at);
        while self.its.has_work() {
            self.with_its(|its, context| its.run(context, 1));
        }
    }

    pub(crate) fn gicd(&mut self, offset: u64, value: u64) {
        let kicks = self
            .vgic
            .write(
                VcpuId::new(0),
                Frame::Distributor,
                offset,
                Width::Word,
                value,
            )
            .expect("a register");
        self.serve(kicks);
    }

    /// The guest writes a register in the frames of a vCPU.
    pub(crate) fn gicr(&mut self, vcpu: u16, offset: u64, width: Width, value: u64) {
        let written = self.gicr_access(vcpu, offset, width, Some(value));
        written.expect("a register");
    }

    /// Accesses the frames of a vCPU. Reading gives what is there, writing zero.
    pub(crate) fn gicr_access(
        &mut self,
        vcpu: u16,
        offset: u64,
        width: Width,
        value: Option<u64>,
    ) -> Result<u64, AccessError> {
        let (asker, frame) = (VcpuId::new(0), Frame::Redistributors);
        let offset = 0x2_0000 * u64::from(vcpu) + offset;
        let result = match value {
            None => self.vgic.read(asker, frame, offset, width),
            Some(value) => {
                let kicks = self.vgic.write(asker, frame, offset, width, value);
                kicks.map(|kicks| self.serve(kicks)).map(|()| 0)
            }
        };
        self.serve_tables();
        result
    }

    pub(crate) fn serve_tables(&mut self) {
        if self.vgic.has_table_request() {
            self.with_its(|its, context| its.run(context, STEPS_PER_ACCESS));
        }
    }

    /// Gives a vCPU tables for INTIDs of one bit more than this.
    pub(crate) fn describe(&mut self, vcpu: u16, id_bits: u64) {
        self.gicr(vcpu, GICR_CTLR, Width::Word, 0);
        self.gicr(vcpu, GICR_PROPBASER, Width::Dword, PROPERTIES | id_bits);
        self.gicr(vcpu, GICR_PENDBASER, Width::Dword, pending_table(vcpu));
        self.gicr(vcpu, GICR_CTLR, Width::Word, ENABLE_LPIS);
    }

    pub(crate) fn control(&mut self, vcpu: u16) -> u64 {
        self.gicr_access(vcpu, GICR_CTLR, Width::Word, None)
            .expect("a register")
    }

    pub(crate) fn signal(&mut self, event: u32) {
        let found = self.with_its(|its, context| its.signal(context, 5, event));
        assert!(found.is_some());
    }

    /// The guest takes an interrupt and ends it.
    pub(crate) fn take(&mut self, vcpu: usize) -> Option<u32> {
        let taken = self.cpus[vcpu].acknowledge(Group::One)?;
        self.maintain(vcpu);
        self.cpus[vcpu].end(Group::One, taken);
        self.maintain(vcpu);
        Some(taken)
    }

    /// All vCPUs take notice of kicks again, and of those that they have missed.
    pub(crate) fn listen(&mut self) {
        let missed = std::mem::replace(&mut self.deaf, Kicks::NONE);
        self.serve(missed);
    }

    pub(crate) fn maintain(&mut self, vcpu: usize) {
        let mut kicks = Kicks::NONE;
        kicks.insert(VcpuId::new(vcpu as u16));
        for _ in 0..4 {
            if self.cpus[vcpu].maintenance() {
                self.serve(kicks);
            }
        }
        assert!(!self.cpus[vcpu].maintenance());
    }

    pub(crate) fn take_all(&mut self, vcpu: usize) -> Vec<u32> {
        std::iter::from_fn(|| self.take(vcpu)).collect()
    }

    pub(crate) fn pending_word(&self, vcpu: u16) -> u32 {
        let mut bytes = [0; 4];
        let address = pending_table(vcpu) + 8192 / 8;
        self.memory
            .read(GuestPhysAddr::from(address as usize), &mut bytes)
            .expect("an address in memory");
        u32::from_le_bytes(bytes)
    }
}

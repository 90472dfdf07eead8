//! An ITS and a vGIC together: from a device's event to the guest's
//! acknowledgement.

use arm_vgic_v3::its::{Its, ItsContext, LpiPort, STEPS_PER_ACCESS};
use arm_vgic_v3::{FakeIch, Frame, Group, Kicks, Vgic, VgicConfig};
use vm_contract::{AccessError, GuestMemory, GuestPhysAddr, VcpuId, Width};

use crate::machine::{
    BASER0, BASER1, CBASER, COLLECTIONS, CTLR, CWRITER, DEVICES, EVENTS, PENDING, PROPERTIES,
    QUEUE, Ram, VALID, discard, inv, invall, mapc, mapd, mapti, movall, movi,
};

pub(crate) const LPIS: u32 = 256;
const GICD_CTLR: u64 = 0x0000;
const GICD_TYPER: u64 = 0x0004;
pub(crate) const GICR_CTLR: u64 = 0x0000;
const GICR_TYPER: u64 = 0x0008;
pub(crate) const GICR_WAKER: u64 = 0x0014;
const GICR_PROPBASER: u64 = 0x0070;
pub(crate) const GICR_PENDBASER: u64 = 0x0078;
const PTZ: u64 = 1 << 62;
pub(crate) const ENABLE_LPIS: u64 = 1 << 0;
const CES: u64 = 1 << 1;
const RWP: u64 = 1 << 3;
/// Shareable write-back memory, in PROPBASER and PENDBASER.
const ATTRIBUTES: u64 = 0b111 << 7 | 0b01 << 10;
/// Enabled, of priority 0xA0.
const ENABLED: u8 = 0xA1;

/// A VM of two vCPUs whose hypervisor serves everything at once.
pub(crate) struct Whole {
    pub(crate) vgic: Vgic,
    its: Its,
    memory: Ram,
    pub(crate) cpus: Vec<FakeIch>,
    /// These vCPUs run elsewhere and take no notice of kicks.
    deaf: Kicks,
}

/// Returns where vCPU `n` has its pending table.
pub(crate) fn pending_table(n: u16) -> u64 {
    PENDING + u64::from(n) * 0x1_0000
}

impl Whole {
    fn with_lpis(count: u32) -> Self {
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
        whole.its_access(CTLR, Width::Word, Some(1));
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
    fn with_its<T>(&mut self, work: impl FnOnce(&mut Its, &mut ItsContext<'_>) -> T) -> T {
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

    fn its_access(&mut self, offset: u64, width: Width, value: Option<u64>) -> u64 {
        self.with_its(|its, context| match value {
            None => its.read(context, offset, width),
            Some(value) => its.write(context, offset, width, value).map(|()| 0),
        })
        .expect("a register")
    }

    fn write_its(&mut self, offset: u64, value: u64) {
        self.its_access(offset, Width::Dword, Some(value));
    }

    pub(crate) fn submit(&mut self, commands: &[[u64; 4]]) {
        let mut at = self.its_access(CWRITER, Width::Dword, None);
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

    fn gicd(&mut self, offset: u64, value: u64) {
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
        let offset = 0x2_0000 * u64::from(vcpu) + offset;
        let asker = VcpuId::new(0);
        let kicks = self
            .vgic
            .write(asker, Frame::Redistributors, offset, width, value)
            .expect("a register");
        self.serve(kicks);
        self.serve_tables();
    }

    fn serve_tables(&mut self) {
        if self.vgic.has_table_request() {
            self.with_its(|its, context| its.run(context, STEPS_PER_ACCESS));
        }
    }

    fn gicr_read(&mut self, vcpu: u16, offset: u64, width: Width) -> Result<u64, AccessError> {
        let offset = 0x2_0000 * u64::from(vcpu) + offset;
        let asker = VcpuId::new(0);
        let value = self.vgic.read(asker, Frame::Redistributors, offset, width);
        self.serve_tables();
        value
    }

    /// Gives a vCPU tables for INTIDs of one bit more than this.
    fn describe(&mut self, vcpu: u16, id_bits: u64) {
        self.gicr(vcpu, GICR_CTLR, Width::Word, 0);
        self.gicr(vcpu, GICR_PROPBASER, Width::Dword, PROPERTIES | id_bits);
        self.gicr(vcpu, GICR_PENDBASER, Width::Dword, pending_table(vcpu));
        self.gicr(vcpu, GICR_CTLR, Width::Word, ENABLE_LPIS);
    }

    fn control(&mut self, vcpu: u16) -> u64 {
        self.gicr_read(vcpu, GICR_CTLR, Width::Word)
            .expect("a register")
    }

    pub(crate) fn signal(&mut self, event: u32) {
        let found = self.with_its(|its, context| its.signal(context, 5, event));
        assert!(found.is_some());
    }

    /// The guest takes an interrupt and ends it.
    fn take(&mut self, vcpu: usize) -> Option<u32> {
        let taken = self.cpus[vcpu].acknowledge(Group::One)?;
        self.maintain(vcpu);
        self.cpus[vcpu].end(Group::One, taken);
        self.maintain(vcpu);
        Some(taken)
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

    fn take_all(&mut self, vcpu: usize) -> Vec<u32> {
        std::iter::from_fn(|| self.take(vcpu)).collect()
    }

    fn pending_word(&self, vcpu: u16) -> u32 {
        let mut bytes = [0; 4];
        let address = pending_table(vcpu) + 8192 / 8;
        self.memory
            .read(GuestPhysAddr::from(address as usize), &mut bytes)
            .expect("an address in memory");
        u32::from_le_bytes(bytes)
    }
}

#[test]
fn a_device_signals_and_the_right_vcpu_takes_it_once() {
    let mut whole = Whole::ready();
    (0..32).for_each(|event| whole.signal(event));
    let expected = |odd| {
        (8192..8224)
            .filter(|lpi| lpi % 2 == odd)
            .collect::<Vec<_>>()
    };
    let mut taken = [whole.take_all(0), whole.take_all(1)];
    taken.iter_mut().for_each(|one| one.sort_unstable());
    assert_eq!(taken, [expected(0), expected(1)]);
    whole.signal(3);
    assert_eq!(whole.take_all(1), [8195], "and again");
}

#[test]
fn the_distributor_and_the_redistributors_say_how_many_lpis_there_are() {
    for (count, typer) in [
        (0, 9 << 19),
        (32, 1 << 17 | 13 << 19 | 4 << 11),
        (2048, 1 << 17 | 13 << 19 | 10 << 11),
        (8192, 1 << 17 | 13 << 19 | 12 << 11),
    ] {
        let mut whole = Whole::with_lpis(count);
        let asker = VcpuId::new(0);
        let read = whole
            .vgic
            .read(asker, Frame::Distributor, GICD_TYPER, Width::Word)
            .expect("a register");
        assert_eq!(read & (1 << 17 | 0x1F << 19 | 0x1F << 11), typer);
        let read = whole.gicr_read(1, GICR_TYPER, Width::Dword);
        assert_eq!(read.expect("a register") & 1, u64::from(count != 0));
    }
}

#[test]
fn without_lpis_their_registers_are_reserved() {
    let mut whole = Whole::with_lpis(0);
    whole.gicr(0, GICR_CTLR, Width::Word, ENABLE_LPIS);
    assert_eq!(whole.control(0), 0);
    for register in [GICR_PROPBASER, GICR_PENDBASER] {
        whole.gicr(0, register, Width::Dword, u64::MAX);
        for width in [Width::Byte, Width::Word, Width::Dword] {
            assert_eq!(whole.gicr_read(0, register, width), Ok(0));
        }
    }
}

#[test]
fn table_registers_have_fixed_attributes_and_do_not_change_while_lpis_are_enabled() {
    let mut whole = Whole::with_lpis(LPIS);
    for (register, writable) in [
        (GICR_PROPBASER, 0x000F_FFFF_FFFF_F01F),
        (GICR_PENDBASER, 0x000F_FFFF_FFFF_0000),
    ] {
        assert_eq!(whole.gicr_read(0, register, Width::Dword), Ok(ATTRIBUTES));
        whole.gicr(0, register, Width::Dword, u64::MAX);
        let all = ATTRIBUTES | writable;
        assert_eq!(whole.gicr_read(0, register, Width::Dword), Ok(all));
        whole.gicr(0, register + 4, Width::Word, 0);
        let lower = all & 0xFFFF_FFFF;
        assert_eq!(whole.gicr_read(0, register, Width::Dword), Ok(lower));
        assert_eq!(whole.gicr_read(0, register, Width::Word), Ok(lower));
        assert_eq!(whole.gicr_read(0, register + 4, Width::Word), Ok(0));
        let narrow = whole.gicr_read(0, register, Width::Half);
        assert_eq!(narrow, Err(AccessError::InvalidWidth));
    }
    whole.gicr(0, GICR_CTLR, Width::Word, ENABLE_LPIS);
    for register in [GICR_PROPBASER, GICR_PENDBASER] {
        let before = whole.gicr_read(0, register, Width::Dword);
        whole.gicr(0, register, Width::Dword, 0);
        assert_eq!(whole.gicr_read(0, register, Width::Dword), before);
    }
}

#[test]
fn enable_lpis_is_shown_at_once_and_pending_until_the_tables_are_read() {
    let mut whole = Whole::with_lpis(8192);
    assert_eq!(whole.control(0), CES);
    whole.gicr(0, GICR_CTLR, Width::Word, ENABLE_LPIS);
    assert_eq!(whole.control(0), CES | ENABLE_LPIS | RWP, "256 steps");
    whole.gicr(0, GICR_CTLR, Width::Word, 0);
    assert_eq!(whole.control(0) & ENABLE_LPIS, ENABLE_LPIS, "not now");
    while whole.control(0) & RWP != 0 {}
    assert_eq!(whole.control(0), CES | ENABLE_LPIS);
    assert!(!whole.vgic.has_table_request() && !whole.its.has_work());
    assert_eq!(whole.control(1), CES, "one's own only");
}

#[test]
fn what_the_pending_table_says_is_pending_when_lpis_are_enabled() {
    let mut whole = Whole::ready();
    whole.gicr(1, GICR_CTLR, Width::Word, 0);
    let address = GuestPhysAddr::from((pending_table(1) + 1024) as usize);
    let write = |whole: &Whole| whole.memory.write(address, &[0b1010]);
    write(&whole).expect("an address in memory");
    whole.gicr(1, GICR_PENDBASER, Width::Dword, PTZ | pending_table(1));
    whole.gicr(1, GICR_CTLR, Width::Word, ENABLE_LPIS);
    assert_eq!(whole.take_all(1), [], "PTZ says that it is zero");
    whole.gicr(1, GICR_CTLR, Width::Word, 0);
    write(&whole).expect("an address in memory");
    whole.gicr(1, GICR_PENDBASER, Width::Dword, pending_table(1));
    whole.gicr(1, GICR_CTLR, Width::Word, ENABLE_LPIS);
    assert_eq!(whole.take_all(1), [8193, 8195]);
    assert_eq!(whole.take_all(0), []);
}

#[test]
fn what_is_pending_when_lpis_are_disabled_goes_to_the_pending_table() {
    let mut whole = Whole::ready();
    for event in [1, 3, 5, 4] {
        whole.signal(event);
    }
    assert_eq!(whole.take(1), Some(8193));
    whole.gicr(1, GICR_CTLR, Width::Word, 0);
    assert_eq!(whole.control(1), CES);
    assert_eq!(whole.take_all(1), [], "nothing is forwarded");
    assert_eq!(whole.pending_word(1), 1 << 3 | 1 << 5);
    assert_eq!(whole.take_all(0), [8196], "the other one's come");
    // Back again by the table.
    whole.gicr(1, GICR_PENDBASER, Width::Dword, pending_table(1));
    whole.gicr(1, GICR_CTLR, Width::Word, ENABLE_LPIS);
    assert_eq!(whole.take_all(1), [8195, 8197]);
}

#[test]
fn a_table_that_was_zero_is_not_once_pending_states_were_written_to_it() {
    let mut whole = Whole::ready();
    whole.signal(3);
    // The guest said that it is zero, and writes GICR_PENDBASER no more.
    whole.gicr(1, GICR_CTLR, Width::Word, 0);
    whole.gicr(1, GICR_CTLR, Width::Word, ENABLE_LPIS);
    assert_eq!(whole.take_all(1), [8195]);
}

#[test]
fn the_pending_table_waits_for_a_vcpu_that_runs_elsewhere() {
    let mut whole = Whole::ready();
    whole.signal(1);
    whole.signal(3);
    whole.deaf.insert(VcpuId::new(1));
    whole.gicr(1, GICR_CTLR, Width::Word, 0);
    assert_eq!(whole.control(1), CES | RWP);
    // It takes one before it sees the kick.
    assert_eq!(whole.cpus[1].acknowledge(Group::One), Some(8193));
    assert_eq!(whole.control(1), CES | RWP);
    whole.deaf = Kicks::NONE;
    let mut kicks = Kicks::NONE;
    kicks.insert(VcpuId::new(1));
    whole.serve(kicks);
    while whole.control(1) & RWP != 0 {}
    assert_eq!(whole.pending_word(1), 1 << 3, "the other was taken");
}

#[test]
fn events_for_a_redistributor_without_lpis_are_lost() {
    let mut whole = Whole::ready();
    whole.gicr(1, GICR_CTLR, Width::Word, 0);
    whole.signal(1);
    whole.gicr(1, GICR_CTLR, Width::Word, ENABLE_LPIS);
    assert_eq!(whole.take_all(1), []);
}

#[test]
fn lpis_beyond_propbaser_do_not_become_pending() {
    let mut whole = Whole::ready();
    whole.describe(1, 12);
    whole.signal(1);
    whole.submit(&[invall(0)]);
    assert_eq!(whole.take_all(1), []);
}

#[test]
fn the_pending_table_ends_where_propbaser_says() {
    let mut whole = Whole::ready();
    whole.gicr(1, GICR_CTLR, Width::Word, 0);
    // With 13 bits no LPI is in the table: what follows is the guest's.
    let behind = GuestPhysAddr::from((pending_table(1) + 1024) as usize);
    let write = whole.memory.write(behind, &[0b1010; 32]);
    write.expect("an address in memory");
    whole.describe(1, 12);
    whole.submit(&[invall(0)]);
    assert_eq!(whole.take_all(1), [], "nothing is read there");
    whole.gicr(1, GICR_CTLR, Width::Word, 0);
    let mut bytes = [0; 32];
    let read = whole.memory.read(behind, &mut bytes);
    read.expect("an address in memory");
    assert_eq!(bytes, [0b1010; 32], "nor written");
}

#[test]
fn lpis_that_move_to_where_no_table_describes_them_are_lost() {
    let mut whole = Whole::ready();
    whole.describe(1, 12);
    whole.submit(&[invall(0)]);
    (0..8).step_by(2).for_each(|event| whole.signal(event));
    whole.submit(&[movi(5, 0, 1)]);
    whole.submit(&[movall(0, 1)]);
    whole.describe(1, 13);
    assert_eq!(whole.take_all(1), []);
    assert_eq!(whole.take_all(0), []);
}

#[test]
fn properties_count_after_inv_and_invall() {
    let mut whole = Whole::ready();
    whole.set_property(8194, 0x81);
    whole.set_property(8196, 0);
    whole.signal(0);
    whole.signal(2);
    whole.submit(&[inv(5, 2)]);
    assert_eq!(whole.take_all(0), [8194, 8192], "more urgent");
    whole.signal(4);
    assert_eq!(whole.take(0), Some(8196), "nobody has said so");
    whole.submit(&[invall(0)]);
    whole.signal(4);
    assert_eq!(whole.take(0), None, "disabled");
    whole.set_property(8196, ENABLED);
    whole.submit(&[inv(5, 4)]);
    assert_eq!(whole.take(0), Some(8196), "pending all the time");
}

#[test]
fn movi_movall_and_discard_find_what_is_pending_wherever_it_is() {
    let mut whole = Whole::ready();
    // More than there are list registers.
    for event in [0, 2, 4, 6] {
        whole.signal(event);
    }
    whole.submit(&[movi(5, 0, 1), movi(5, 6, 1)]);
    assert_eq!(whole.take_all(1), [8192, 8198]);
    whole.submit(&[discard(5, 2)]);
    whole.submit(&[movall(0, 1)]);
    assert_eq!(whole.take_all(0), []);
    assert_eq!(whole.take_all(1), [8196]);
}

#[test]
fn an_lpi_wakes_a_vcpu_that_waits() {
    let mut whole = Whole::ready();
    let vcpu = VcpuId::new(1);
    let _ = whole.vgic.save(vcpu, &mut whole.cpus[1]);
    assert!(!whole.vgic.deliverable(vcpu));
    whole.signal(1);
    assert!(whole.vgic.deliverable(vcpu));
    whole.vgic.load(vcpu, &mut whole.cpus[1]);
    assert_eq!(whole.take_all(1), [8193]);
}

#[test]
fn a_reset_of_both_forgets_everything() {
    let mut whole = Whole::ready();
    whole.signal(1);
    for n in 0..2 {
        let _ = whole
            .vgic
            .save(VcpuId::new(n), &mut whole.cpus[usize::from(n)]);
    }
    whole.gicr(0, GICR_CTLR, Width::Word, 0);
    whole.vgic.reset();
    whole.its.reset();
    for vcpu in 0..2 {
        assert_eq!(whole.control(vcpu), CES);
        let read = whole.gicr_read(vcpu, GICR_PROPBASER, Width::Dword);
        assert_eq!(read, Ok(ATTRIBUTES));
    }
    assert!(!whole.vgic.has_table_request() && !whole.its.has_work());
}

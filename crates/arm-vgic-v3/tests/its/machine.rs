//! An ITS with its surroundings: memory, and redistributors as plain sets.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use arm_vgic_v3::its::{Its, ItsContext, PropertyTable, Redistributors, TableRequest};
use vm_contract::{AccessError, GuestMemory, GuestPhysAddr, IntId, VcpuId, Width};

pub(crate) const CTLR: u64 = 0x0000;
pub(crate) const TYPER: u64 = 0x0008;
pub(crate) const CBASER: u64 = 0x0080;
pub(crate) const CWRITER: u64 = 0x0088;
pub(crate) const CREADR: u64 = 0x0090;
pub(crate) const BASER0: u64 = 0x0100;
pub(crate) const BASER1: u64 = 0x0108;

pub(crate) const VALID: u64 = 1 << 63;

/// Where the test keeps things in guest memory.
pub(crate) const RAM: u64 = 0x4000_0000;
pub(crate) const QUEUE: u64 = RAM;
pub(crate) const DEVICES: u64 = RAM + 0x1_0000;
pub(crate) const COLLECTIONS: u64 = RAM + 0x2_0000;
pub(crate) const EVENTS: u64 = RAM + 0x3_0000;
pub(crate) const PROPERTIES: u64 = RAM + 0x4_0000;
pub(crate) const PENDING: u64 = RAM + 0x5_0000;
pub(crate) const RAM_BYTES: usize = 0x7_0000;

/// How many vCPUs and LPIs the redistributors have.
pub(crate) const VCPUS: u16 = 4;
pub(crate) const LPIS: u32 = 256;
pub(crate) const FIRST_LPI: u32 = 8192;

/// Memory of a guest.
pub(crate) struct Ram(RefCell<Vec<u8>>);

impl Ram {
    pub(crate) fn new() -> Self {
        Self(RefCell::new(vec![0; RAM_BYTES]))
    }

    fn range(address: GuestPhysAddr, len: usize) -> Result<std::ops::Range<usize>, AccessError> {
        let start = usize::from(address).checked_sub(RAM as usize);
        let start = start.ok_or(AccessError::OutsideMemory)?;
        let end = start.checked_add(len).filter(|end| *end <= RAM_BYTES);
        Ok(start..end.ok_or(AccessError::OutsideMemory)?)
    }
}

impl GuestMemory for Ram {
    fn read(&self, address: GuestPhysAddr, buffer: &mut [u8]) -> Result<(), AccessError> {
        let range = Self::range(address, buffer.len())?;
        buffer.copy_from_slice(&self.0.borrow()[range]);
        Ok(())
    }

    fn write(&self, address: GuestPhysAddr, bytes: &[u8]) -> Result<(), AccessError> {
        let range = Self::range(address, bytes.len())?;
        self.0.borrow_mut()[range].copy_from_slice(bytes);
        Ok(())
    }
}

/// Redistributors without a GIC behind them.
pub(crate) struct Plain {
    pub(crate) lpi_count: u32,
    /// The property tables of those whose LPIs are enabled.
    pub(crate) tables: BTreeMap<u16, PropertyTable>,
    /// Which LPI is pending where.
    pub(crate) pending: BTreeSet<(u16, u32)>,
    /// The properties of LPIs as last taken over.
    pub(crate) properties: BTreeMap<u32, u8>,
    pub(crate) requests: VecDeque<TableRequest>,
    pub(crate) done: Vec<u16>,
}

impl Plain {
    fn new() -> Self {
        Self {
            lpi_count: LPIS,
            tables: BTreeMap::new(),
            pending: BTreeSet::new(),
            properties: BTreeMap::new(),
            requests: VecDeque::new(),
            done: Vec::new(),
        }
    }

    fn check(&self, lpi: IntId) -> u32 {
        let raw = lpi.raw();
        assert!(
            (FIRST_LPI..FIRST_LPI + self.lpi_count).contains(&raw),
            "{raw}"
        );
        raw
    }

    fn check_vcpu(vcpu: VcpuId) -> u16 {
        assert!(vcpu.raw() < VCPUS, "{vcpu}");
        vcpu.raw()
    }

    fn knows(&self, vcpu: VcpuId, lpi: IntId) -> bool {
        let table = self.tables.get(&Self::check_vcpu(vcpu));
        table.is_some_and(|table| table.covers(lpi))
    }

    fn word(&self, first: IntId, mask: u32) -> impl Iterator<Item = u32> + use<> {
        let raw = self.check(first);
        assert_eq!(raw % 32, 0);
        (0..32)
            .filter(move |bit| mask >> bit & 1 != 0)
            .map(move |bit| raw + bit)
    }
}

impl Redistributors for Plain {
    fn vcpu_count(&self) -> usize {
        VCPUS.into()
    }

    fn lpi_count(&self) -> u32 {
        self.lpi_count
    }

    fn property_table(&self, vcpu: VcpuId) -> Option<PropertyTable> {
        self.tables.get(&Self::check_vcpu(vcpu)).copied()
    }

    fn set_pending(&mut self, vcpu: VcpuId, lpi: IntId) {
        if self.knows(vcpu, lpi) {
            let lpi = self.check(lpi);
            self.pending.insert((vcpu.raw(), lpi));
        }
    }

    fn clear_pending(&mut self, vcpu: VcpuId, lpi: IntId) {
        let lpi = self.check(lpi);
        self.pending.remove(&(Self::check_vcpu(vcpu), lpi));
    }

    fn move_pending(&mut self, first: IntId, mask: u32, from: VcpuId, to: VcpuId) {
        for lpi in self.word(first, mask) {
            if self.pending.remove(&(Self::check_vcpu(from), lpi)) && self.knows(to, first) {
                self.pending.insert((to.raw(), lpi));
            }
        }
    }

    fn configure(&mut self, first: IntId, properties: &[u8]) {
        for (lpi, byte) in (self.check(first)..).zip(properties) {
            assert!(lpi < FIRST_LPI + self.lpi_count);
            self.properties.insert(lpi, *byte);
        }
    }

    fn table_request(&self) -> Option<TableRequest> {
        self.requests.front().copied()
    }

    fn load_pending(&mut self, vcpu: VcpuId, first: IntId, mask: u32) {
        let vcpu = Self::check_vcpu(vcpu);
        let lpis = self.word(first, mask);
        self.pending.extend(lpis.map(|lpi| (vcpu, lpi)));
    }

    fn unload_pending(&mut self, vcpu: VcpuId, first: IntId) -> u32 {
        let vcpu = Self::check_vcpu(vcpu);
        self.word(first, u32::MAX)
            .filter(|lpi| self.pending.remove(&(vcpu, *lpi)))
            .fold(0, |mask, lpi| mask | 1 << (lpi % 32))
    }

    fn request_done(&mut self, vcpu: VcpuId) {
        self.requests.pop_front();
        self.done.push(Self::check_vcpu(vcpu));
    }
}

pub(crate) struct Machine {
    pub(crate) its: Its,
    pub(crate) memory: Ram,
    pub(crate) redistributors: Plain,
}

impl Machine {
    /// Returns a machine at reset.
    pub(crate) fn new() -> Self {
        Self {
            its: Its::new(),
            memory: Ram::new(),
            redistributors: Plain::new(),
        }
    }

    /// Returns a machine with flat tables of 512 entries, a queue of one page,
    /// the ITS and the LPIs of all vCPUs enabled.
    pub(crate) fn ready() -> Self {
        let mut machine = Self::new();
        let table = PropertyTable::from_propbaser(PROPERTIES | 13);
        machine
            .redistributors
            .tables
            .extend((0..VCPUS).map(|vcpu| (vcpu, table)));
        machine.set(CBASER, VALID | QUEUE);
        machine.set(BASER0, VALID | DEVICES);
        machine.set(BASER1, VALID | COLLECTIONS);
        machine.set_word(CTLR, 1);
        machine
    }

    /// Returns one in which device 5 has 32 events, and collection `n` goes to
    /// vCPU `n`.
    pub(crate) fn mapped() -> Self {
        let mut machine = Self::ready();
        machine.submit(&[mapd(5, 4, EVENTS)]);
        let collections: Vec<_> = (0..VCPUS).map(|n| mapc(n, n.into())).collect();
        machine.submit(&collections);
        assert_eq!(machine.its.rejected(), 0);
        machine
    }

    pub(crate) fn access(
        &mut self,
        offset: u64,
        width: Width,
        value: Option<u64>,
    ) -> Result<u64, AccessError> {
        let mut context = ItsContext {
            memory: &self.memory,
            redistributors: &mut self.redistributors,
        };
        match value {
            None => self.its.read(&mut context, offset, width),
            Some(value) => self
                .its
                .write(&mut context, offset, width, value)
                .map(|()| 0),
        }
    }

    pub(crate) fn get(&mut self, offset: u64) -> u64 {
        self.access(offset, Width::Dword, None).expect("a register")
    }

    pub(crate) fn set(&mut self, offset: u64, value: u64) {
        self.access(offset, Width::Dword, Some(value))
            .expect("a register");
    }

    pub(crate) fn get_word(&mut self, offset: u64) -> u64 {
        self.access(offset, Width::Word, None).expect("a register")
    }

    pub(crate) fn set_word(&mut self, offset: u64, value: u64) {
        self.access(offset, Width::Word, Some(value))
            .expect("a register");
    }

    /// Puts commands into the queue without telling the ITS.
    pub(crate) fn queue(&mut self, commands: &[[u64; 4]]) -> u64 {
        let bytes = ((self.get(CBASER) & 0xFF) + 1) * 0x1000;
        let mut at = self.get(CWRITER);
        for command in commands {
            let address = GuestPhysAddr::from((QUEUE + at) as usize);
            let words = command.map(u64::to_le_bytes);
            self.memory
                .write(address, words.as_flattened())
                .expect("the queue is in memory");
            at = (at + 32) % bytes;
        }
        at
    }

    /// Has commands processed, all of them.
    pub(crate) fn submit(&mut self, commands: &[[u64; 4]]) {
        let at = self.queue(commands);
        self.set(CWRITER, at);
        while self.its.has_work() {
            self.run(1);
        }
        assert_eq!(self.get(CREADR), at);
    }

    pub(crate) fn run(&mut self, steps: u32) {
        let mut context = ItsContext {
            memory: &self.memory,
            redistributors: &mut self.redistributors,
        };
        self.its.run(&mut context, steps);
    }

    /// A device signals. Returns the vCPU and the LPI.
    pub(crate) fn signal(&mut self, device: u32, event: u32) -> Option<(u16, u32)> {
        let mut context = ItsContext {
            memory: &self.memory,
            redistributors: &mut self.redistributors,
        };
        let found = self.its.signal(&mut context, device, event)?;
        Some((found.vcpu.raw(), found.lpi.raw()))
    }

    pub(crate) fn read_memory(&self, address: u64) -> u64 {
        let mut bytes = [0; 8];
        self.memory
            .read(GuestPhysAddr::from(address as usize), &mut bytes)
            .expect("an address in memory");
        u64::from_le_bytes(bytes)
    }

    pub(crate) fn write_memory(&self, address: u64, value: u64) {
        self.memory
            .write(GuestPhysAddr::from(address as usize), &value.to_le_bytes())
            .expect("an address in memory");
    }

    /// Sets the property byte of an LPI in the table.
    pub(crate) fn set_property(&self, lpi: u32, byte: u8) {
        let address = PROPERTIES + u64::from(lpi - FIRST_LPI);
        self.memory
            .write(GuestPhysAddr::from(address as usize), &[byte])
            .expect("an address in memory");
    }

    /// Returns what is pending, by vCPU and LPI.
    pub(crate) fn pending(&self) -> Vec<(u16, u32)> {
        self.redistributors.pending.iter().copied().collect()
    }
}

fn event_of(device: u32, number: u64) -> u64 {
    u64::from(device) << 32 | number
}

pub(crate) fn mapd(device: u32, size: u64, events: u64) -> [u64; 4] {
    [event_of(device, 0x08), size, VALID | events, 0]
}

pub(crate) fn unmapd(device: u32) -> [u64; 4] {
    [event_of(device, 0x08), 0, 0, 0]
}

pub(crate) fn mapc(collection: u16, target: u64) -> [u64; 4] {
    [0x09, 0, VALID | target << 16 | u64::from(collection), 0]
}

pub(crate) fn unmapc(collection: u16) -> [u64; 4] {
    [0x09, 0, collection.into(), 0]
}

pub(crate) fn mapti(device: u32, event: u32, lpi: u32, collection: u16) -> [u64; 4] {
    let second = u64::from(lpi) << 32 | u64::from(event);
    [event_of(device, 0x0A), second, collection.into(), 0]
}

pub(crate) fn mapi(device: u32, event: u32, collection: u16) -> [u64; 4] {
    [event_of(device, 0x0B), event.into(), collection.into(), 0]
}

pub(crate) fn movi(device: u32, event: u32, collection: u16) -> [u64; 4] {
    [event_of(device, 0x01), event.into(), collection.into(), 0]
}

pub(crate) fn movall(from: u64, to: u64) -> [u64; 4] {
    [0x0E, 0, from << 16, to << 16]
}

pub(crate) fn discard(device: u32, event: u32) -> [u64; 4] {
    [event_of(device, 0x0F), event.into(), 0, 0]
}

pub(crate) fn int(device: u32, event: u32) -> [u64; 4] {
    [event_of(device, 0x03), event.into(), 0, 0]
}

pub(crate) fn clear(device: u32, event: u32) -> [u64; 4] {
    [event_of(device, 0x04), event.into(), 0, 0]
}

pub(crate) fn inv(device: u32, event: u32) -> [u64; 4] {
    [event_of(device, 0x0C), event.into(), 0, 0]
}

pub(crate) fn invall(collection: u16) -> [u64; 4] {
    [0x0D, 0, collection.into(), 0]
}

pub(crate) fn sync(target: u64) -> [u64; 4] {
    [0x05, 0, target << 16, 0]
}

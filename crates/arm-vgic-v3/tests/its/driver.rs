//! Drives an ITS by bytes: registers, commands, memory and devices, in any
//! order. What a fuzzer calls, and what the tests replay.

use arm_vgic_v3::Group;
use arm_vgic_v3::its::{Its, PendingTable, PropertyTable, STEPS_PER_ACCESS, TableRequest};
use vm_contract::{AccessError, GuestMemory, GuestPhysAddr, VcpuId, Width};

use crate::machine::{
    CBASER, CTLR, CWRITER, FIRST_LPI, Machine, PROPERTIES, RAM, RAM_BYTES, Ram, VALID, VCPUS,
};
use crate::vm::{GICR_CTLR, GICR_PENDBASER, GICR_PROPBASER, LPIS, Whole};

/// What is driven: an ITS with something around it.
pub(crate) trait Target: Sized {
    /// Returns it with its tables set up, or at reset.
    fn new(ready: bool) -> Self;
    fn its(&self) -> &Its;
    fn memory(&self) -> &Ram;
    /// Accesses a register of the ITS.
    fn access(&mut self, offset: u64, width: Width, value: Option<u64>)
    -> Result<u64, AccessError>;
    /// A device signals.
    fn event(&mut self, device: u32, event: u32);
    /// The guest, or its CPU, does something with a redistributor.
    fn use_redistributor(&mut self, bytes: &mut Bytes<'_>);
    /// Lets the ITS do so many steps.
    fn work(&mut self, steps: u32);
    /// Tells whether the ITS will do something without being asked.
    fn is_busy(&self) -> bool;
    /// Checks what must hold, whatever the guest does.
    fn check(&self) {}
}

impl Target for Machine {
    fn new(ready: bool) -> Self {
        if ready { Self::mapped() } else { Self::new() }
    }

    fn its(&self) -> &Its {
        &self.its
    }

    fn memory(&self) -> &Ram {
        &self.memory
    }

    fn access(
        &mut self,
        offset: u64,
        width: Width,
        value: Option<u64>,
    ) -> Result<u64, AccessError> {
        self.access(offset, width, value)
    }

    fn event(&mut self, device: u32, event: u32) {
        let _ = self.signal(device, event);
    }

    fn use_redistributor(&mut self, bytes: &mut Bytes<'_>) {
        let vcpu = u16::from(bytes.byte()) % VCPUS;
        let properties = PropertyTable::from_propbaser(PROPERTIES | 13);
        let pending = PendingTable::from_pendbaser(bytes.address(), properties);
        let request = if self.redistributors.tables.remove(&vcpu).is_some() {
            TableRequest::Store {
                vcpu: VcpuId::new(vcpu),
                pending,
            }
        } else {
            self.redistributors.tables.insert(vcpu, properties);
            TableRequest::Load {
                vcpu: VcpuId::new(vcpu),
                properties,
                pending: Some(pending),
            }
        };
        self.redistributors.requests.push_back(request);
        self.run(STEPS_PER_ACCESS);
    }

    fn work(&mut self, steps: u32) {
        self.run(steps);
    }

    fn is_busy(&self) -> bool {
        self.its.has_work()
    }
}

impl Target for Whole {
    fn new(ready: bool) -> Self {
        if ready {
            Self::ready()
        } else {
            Self::with_lpis(LPIS)
        }
    }

    fn its(&self) -> &Its {
        &self.its
    }

    fn memory(&self) -> &Ram {
        &self.memory
    }

    fn access(
        &mut self,
        offset: u64,
        width: Width,
        value: Option<u64>,
    ) -> Result<u64, AccessError> {
        self.its_access(offset, width, value)
    }

    fn event(&mut self, device: u32, event: u32) {
        let _ = self.with_its(|its, context| its.signal(context, device, event));
    }

    fn use_redistributor(&mut self, bytes: &mut Bytes<'_>) {
        let who = bytes.byte();
        let vcpu = u16::from(who) % 2;
        match who >> 1 & 7 {
            // Any register of the RD_base frame, or one of those that there are.
            0 => {
                let offset = u64::from(bytes.half());
                let width = Width::from_log2(bytes.byte().into());
                let _ = self.gicr_access(vcpu, offset, width, Some(bytes.word()));
            }
            1 => {
                let offset = u64::from(bytes.byte()) % 0x22 * 4;
                let width = Width::from_log2(2 + u32::from(bytes.byte() & 1));
                let _ = self.gicr_access(vcpu, offset, width, Some(bytes.word()));
            }
            2 => {
                let offset = u64::from(bytes.half());
                let width = Width::from_log2(bytes.byte().into());
                if let Ok(value) = self.gicr_access(vcpu, offset, width, None) {
                    assert_eq!(width.truncate(value), value);
                }
            }
            3 => {
                let enable = u64::from(bytes.byte() & 1);
                self.gicr(vcpu, GICR_CTLR, Width::Word, enable);
            }
            4 => {
                let id_bits = u64::from(bytes.byte() & 0x1F);
                let table = bytes.address();
                self.gicr(vcpu, GICR_PROPBASER, Width::Dword, table & !0xFFF | id_bits);
            }
            5 => {
                let table = bytes.address() & !(1 << 62) | u64::from(bytes.byte() & 1) << 62;
                self.gicr(vcpu, GICR_PENDBASER, Width::Dword, table);
            }
            6 if self.deaf.contains(VcpuId::new(vcpu)) => {
                let cpu = &mut self.cpus[usize::from(vcpu)];
                if let Some(taken) = cpu.acknowledge(Group::One) {
                    cpu.end(Group::One, taken);
                }
            }
            6 => {
                let _ = self.take(vcpu.into());
            }
            // Its CPU takes no notice of kicks for a while, or does again.
            _ => {
                let vcpu = VcpuId::new(vcpu);
                if self.deaf.contains(vcpu) {
                    self.listen();
                } else {
                    self.deaf.insert(vcpu);
                }
            }
        }
    }

    fn work(&mut self, steps: u32) {
        self.listen();
        self.with_its(|its, context| its.run(context, steps));
    }

    fn is_busy(&self) -> bool {
        self.its.has_work() || self.vgic.has_table_request()
    }

    fn check(&self) {
        let mut held = Vec::new();
        for cpu in &self.cpus {
            let lrs = cpu.list_registers().iter().filter(|lr| !lr.is_inactive());
            held.extend(lrs.map(|lr| lr.intid()));
        }
        held.retain(|&intid| intid >= FIRST_LPI);
        held.sort_unstable();
        let count = held.len();
        held.dedup();
        assert_eq!(held.len(), count, "an LPI is in two list registers");
        assert!(held.iter().all(|&lpi| lpi < FIRST_LPI + LPIS));
    }
}

/// Reads numbers off a slice; zero after its end.
pub(crate) struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut taken = [0; N];
        let count = N.min(self.0.len());
        let (now, rest) = self.0.split_at(count);
        taken[..count].copy_from_slice(now);
        self.0 = rest;
        taken
    }

    fn byte(&mut self) -> u8 {
        self.take::<1>()[0]
    }

    fn half(&mut self) -> u16 {
        u16::from_le_bytes(self.take())
    }

    fn word(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }

    /// Returns a number that is small more often than not.
    fn small(&mut self) -> u64 {
        match self.byte() {
            byte @ 0..0xF0 => u64::from(byte) % 40,
            _ => self.word(),
        }
    }

    /// Returns an address that lies in memory more often than not.
    fn address(&mut self) -> u64 {
        match self.byte() {
            byte @ 0..0xF8 => RAM + u64::from(byte) % 8 * 0x1_0000 + u64::from(self.byte()) * 8,
            _ => self.word(),
        }
    }
}

/// Drives an ITS, whose tables are set up already if the first byte is odd, by
/// the rest of `data`. Panics if the ITS does something that it must not: acts
/// on LPIs or vCPUs that do not exist, does more than its share, or never ends.
pub(crate) fn drive<T: Target>(data: &[u8]) -> T {
    let mut bytes = Bytes(data);
    let mut target = T::new(bytes.byte() & 1 != 0);
    while !bytes.0.is_empty() {
        match bytes.byte() % 10 {
            0 => {
                let offset = u64::from(bytes.half()) % 0x148;
                let width = Width::from_log2(bytes.byte().into());
                let value = bytes.word();
                let _ = target.access(offset, width, Some(value));
            }
            1 => {
                let offset = u64::from(bytes.half()) << 1;
                let width = Width::from_log2(bytes.byte().into());
                if let Ok(value) = target.access(offset, width, None) {
                    assert_eq!(width.truncate(value), value);
                }
            }
            2 => set(&mut target, CTLR, Width::Word, u64::from(bytes.byte() & 1)),
            3 => {
                // A table or the queue, somewhere.
                let register = match bytes.byte() % 3 {
                    0 => CBASER,
                    n => 0xF8 + 8 * u64::from(n),
                };
                let value = VALID | bytes.address() | u64::from(bytes.byte()) << 56 & 1 << 62;
                let value = value | u64::from(bytes.byte()) & 3;
                set(&mut target, register, Width::Dword, value);
            }
            4..7 => {
                // A command that may well be right.
                let command = [
                    u64::from(bytes.byte() % 18) | bytes.small() << 32,
                    bytes.small() | 8192u64.wrapping_add(bytes.small()) << 32,
                    bytes.small() & 0xFFFF
                        | (bytes.small() & 0x7_FFFF_FFFF) << 16
                        | bytes.address()
                        | u64::from(bytes.byte()) << 56 & VALID,
                    bytes.small() << 16,
                ];
                let queue = get(&mut target, CBASER) & 0x000F_FFFF_FFFF_F000;
                let at = get(&mut target, CWRITER);
                let address = usize::try_from(queue + at).expect("64 bits");
                let words = command.map(u64::to_le_bytes);
                let _ = target
                    .memory()
                    .write(GuestPhysAddr::from(address), words.as_flattened());
                set(&mut target, CWRITER, Width::Dword, (at + 32) % 0x1000);
            }
            7 => {
                // The guest scribbles over its tables.
                let address = (bytes.address() & !7) as usize;
                let value = bytes.word().to_le_bytes();
                let _ = target.memory().write(GuestPhysAddr::from(address), &value);
            }
            8 => {
                let (device, event) = (bytes.small() as u32, bytes.small() as u32);
                target.event(device, event);
            }
            _ => target.use_redistributor(&mut bytes),
        }
        target.check();
    }
    // A queue has at most 32,768 commands, and none takes longer than to go
    // through all LPIs.
    let mut patience = 32_768 * 16;
    target.work(0);
    while target.is_busy() {
        target.work(1);
        patience -= 1;
        assert!(patience > 0, "the ITS never ends");
    }
    assert!(usize::try_from(target.its().rejected()).is_ok_and(|count| count < RAM_BYTES));
    target.check();
    target
}

fn get(target: &mut impl Target, offset: u64) -> u64 {
    let read = target.access(offset, Width::Dword, None);
    read.expect("a register")
}

fn set(target: &mut impl Target, offset: u64, width: Width, value: u64) {
    let written = target.access(offset, width, Some(value));
    written.expect("a register");
}

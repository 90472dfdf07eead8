//! Drives an ITS by bytes: registers, commands, memory and devices, in any
//! order. What a fuzzer calls, and what the tests replay.

use vm_contract::{GuestMemory, GuestPhysAddr, Width};

use crate::machine::{CBASER, CTLR, CWRITER, Machine, PROPERTIES, RAM, RAM_BYTES, VALID, VCPUS};
use arm_vgic_v3::its::{PendingTable, PropertyTable, STEPS_PER_ACCESS, TableRequest};
use vm_contract::VcpuId;

/// Reads numbers off a slice; zero after its end.
struct Bytes<'a>(&'a [u8]);

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
pub(crate) fn drive(data: &[u8]) -> Machine {
    let mut bytes = Bytes(data);
    let mut machine = if bytes.byte() & 1 == 0 {
        Machine::new()
    } else {
        Machine::mapped()
    };
    while !bytes.0.is_empty() {
        match bytes.byte() % 10 {
            0 => {
                let offset = u64::from(bytes.half()) % 0x148;
                let width = Width::from_log2(bytes.byte().into());
                let value = bytes.word();
                let _ = machine.access(offset, width, Some(value));
            }
            1 => {
                let offset = u64::from(bytes.half()) << 1;
                let width = Width::from_log2(bytes.byte().into());
                if let Ok(value) = machine.access(offset, width, None) {
                    assert_eq!(width.truncate(value), value);
                }
            }
            2 => machine.set_word(CTLR, u64::from(bytes.byte() & 1)),
            3 => {
                // A table or the queue, somewhere.
                let register = match bytes.byte() % 3 {
                    0 => CBASER,
                    n => 0xF8 + 8 * u64::from(n),
                };
                let value = VALID | bytes.address() | u64::from(bytes.byte()) << 56 & 1 << 62;
                let value = value | u64::from(bytes.byte()) & 3;
                machine.set(register, value);
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
                let queue = machine.get(CBASER) & 0x000F_FFFF_FFFF_F000;
                let at = machine.get(CWRITER);
                let address = usize::try_from(queue + at).expect("64 bits");
                let words = command.map(u64::to_le_bytes);
                let _ = machine
                    .memory
                    .write(GuestPhysAddr::from(address), words.as_flattened());
                machine.set(CWRITER, (at + 32) % 0x1000);
            }
            7 => {
                // The guest scribbles over its tables.
                let address = (bytes.address() & !7) as usize;
                let value = bytes.word().to_le_bytes();
                let _ = machine.memory.write(GuestPhysAddr::from(address), &value);
            }
            8 => {
                let (device, event) = (bytes.small() as u32, bytes.small() as u32);
                let _ = machine.signal(device, event);
            }
            _ => {
                let vcpu = u16::from(bytes.byte()) % VCPUS;
                let properties = PropertyTable::from_propbaser(PROPERTIES | 13);
                let pending = PendingTable::from_pendbaser(bytes.address(), properties);
                let request = if machine.redistributors.tables.remove(&vcpu).is_some() {
                    TableRequest::Store {
                        vcpu: VcpuId::new(vcpu),
                        pending,
                    }
                } else {
                    machine.redistributors.tables.insert(vcpu, properties);
                    TableRequest::Load {
                        vcpu: VcpuId::new(vcpu),
                        properties,
                        pending: Some(pending),
                    }
                };
                machine.redistributors.requests.push_back(request);
                machine.run(STEPS_PER_ACCESS);
            }
        }
    }
    // A queue has at most 32,768 commands, and none takes longer than to go
    // through all LPIs.
    let mut patience = 32_768 * 16;
    while machine.its.has_work() {
        machine.run(1);
        patience -= 1;
        assert!(patience > 0, "the ITS never ends");
    }
    assert!(usize::try_from(machine.its.rejected()).is_ok_and(|count| count < RAM_BYTES));
    machine
}

//! What a running hypervisor says about itself: where everything is.

use anyhow::{Result, ensure};

use super::memory::Memory;

/// What the header begins with.
const MAGIC: u64 = u64::from_le_bytes(*b"armatele");
/// The layout that is understood here.
const VERSION: u64 = 1;
/// Words of the header.
const HEADER_WORDS: usize = 12;
/// The last two of them: where the rings are, and how many.
const RINGS: u64 = 8 * 10;
/// More than there are of anything. Guards against a machine that is broken.
const MOST: u64 = 1 << 16;

/// The machine, as the hypervisor describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    header: u64,
    pub(crate) ticks_per_second: u64,
    /// The names of reasons, by number.
    pub(crate) reasons: Vec<String>,
    /// The names of VMs, by number.
    pub(crate) vms: Vec<String>,
    pub(super) vcpus: Vec<Vcpu>,
    pub(super) buckets: u64,
}

/// A vCPU, and where its counters are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Vcpu {
    pub(super) vm: u16,
    pub(super) vcpu: u16,
    pub(super) counters: u64,
}

impl Machine {
    /// Looks for the header, whose address is at `anchor` once there is one.
    pub(super) fn find(memory: &mut impl Memory, anchor: u64) -> Result<Option<Self>> {
        let [header] = memory.array(anchor)?;
        if header == 0 {
            return Ok(None);
        }
        let [
            magic,
            version,
            ticks_per_second,
            reasons,
            reason_bytes,
            vms,
            vm_count,
            vcpus,
            vcpu_count,
            buckets,
            _,
            _,
        ] = memory.array::<HEADER_WORDS>(header)?;
        ensure!(magic == MAGIC, "there is no description at {header:#x}");
        ensure!(
            version == VERSION,
            "the hypervisor describes itself in version {version}, not {VERSION}: \
             it was built from other sources"
        );
        for count in [reason_bytes, vm_count, vcpu_count, buckets] {
            ensure!(count < MOST, "the description at {header:#x} is broken");
        }
        let reasons = text(memory, reasons, reason_bytes)?;
        let tables = memory.words(vms, usize::try_from(vm_count)? * 2)?;
        let (tables, _) = tables.as_chunks();
        let vms = tables
            .iter()
            .map(|[address, bytes]| text(memory, *address, *bytes));
        let vms = vms.collect::<Result<_>>()?;
        let entries = memory.words(vcpus, usize::try_from(vcpu_count)? * 2)?;
        let (entries, _) = entries.as_chunks();
        let vcpu = |[numbers, counters]: &[u64; 2]| {
            Ok(Vcpu {
                vm: u16::try_from(numbers & u64::from(u32::MAX))?,
                vcpu: u16::try_from(numbers >> 32)?,
                counters: *counters,
            })
        };
        Ok(Some(Self {
            header,
            ticks_per_second,
            reasons: reasons.lines().map(str::to_owned).collect(),
            vms,
            vcpus: entries.iter().map(vcpu).collect::<Result<_>>()?,
            buckets,
        }))
    }

    /// Returns where the rings are; there are none before tracing is switched on.
    pub(super) fn rings(&self, memory: &mut impl Memory) -> Result<Vec<u64>> {
        let [address, count] = memory.array(self.header + RINGS)?;
        if address == 0 {
            return Ok(Vec::new());
        }
        ensure!(count < MOST, "the description of the rings is broken");
        memory.words(address, usize::try_from(count)?)
    }
}

fn text(memory: &mut impl Memory, address: u64, bytes: u64) -> Result<String> {
    ensure!(bytes < MOST, "the name at {address:#x} is broken");
    let bytes = memory.read(address, usize::try_from(bytes)?)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
pub(super) mod fakes {
    use super::super::memory::fakes::FakeMemory;
    use super::*;

    /// A machine with two VMs and three vCPUs, and the counters of each, two for each
    /// of two reasons. Returns where its anchor is as well.
    pub(crate) fn memory() -> (FakeMemory, u64) {
        let mut memory = FakeMemory::default();
        let anchor = memory.add(&[0]);
        let reasons = "other\nhvc\n";
        let reasons_at = memory.add_text(reasons);
        let names = ["one", "two"].map(|name| [memory.add_text(name), name.len() as u64]);
        let vms = memory.add(names.as_flattened());
        let counters = [[1, 2, 0, 0], [0; 4], [0, 0, 0, 7]].map(|cells| memory.add(&cells));
        let [first, second, third] = counters;
        let vcpus = memory.add(&[0, first, 1 << 32, second, 1, third]);
        let header = memory.add(&[
            MAGIC,
            VERSION,
            1000,
            reasons_at,
            reasons.len() as u64,
            vms,
            2,
            vcpus,
            3,
            2,
            0,
            0,
        ]);
        memory.set(anchor, header);
        (memory, anchor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_found_once_it_describes_itself() {
        let (mut memory, anchor) = fakes::memory();
        let machine = Machine::find(&mut memory, anchor).unwrap().unwrap();
        assert_eq!(machine.reasons, ["other", "hvc"]);
        assert_eq!(machine.vms, ["one", "two"]);
        let numbers: Vec<_> = machine.vcpus.iter().map(|v| (v.vm, v.vcpu)).collect();
        assert_eq!(numbers, [(0, 0), (0, 1), (1, 0)]);
        assert_eq!(machine.rings(&mut memory).unwrap(), [0; 0]);
        memory.set(machine.header + 8, 2);
        let error = Machine::find(&mut memory, anchor).unwrap_err();
        assert!(error.to_string().contains("other sources"), "{error}");
        memory.set(machine.header, 0);
        assert!(Machine::find(&mut memory, anchor).is_err());
        memory.set(anchor, 0);
        assert_eq!(Machine::find(&mut memory, anchor).unwrap(), None);
    }
}

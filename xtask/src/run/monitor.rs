//! The hypervisor's monitor, and the keys of its console.

use anyhow::{Result, ensure};

use super::dialogue::Dialogue;

/// Ctrl-], which begins a key of the console.
const ESCAPE: &str = "\x1d";
const PROMPT: &str = "armature> ";

/// Gives the monitor the focus.
pub(crate) fn enter(guest: &mut Dialogue) -> Result<()> {
    guest.send(&format!("{ESCAPE}m"));
    guest.expect(PROMPT)?;
    Ok(())
}

/// Gives a virtual machine the focus.
pub(crate) fn leave_to(guest: &mut Dialogue, vm: u32) -> Result<()> {
    guest.send(&format!("{ESCAPE}{vm}"));
    guest.expect(&format!("console: VM {vm}"))?;
    Ok(())
}

/// Types a command to the monitor, which has the focus, and returns what `parse`
/// finds in its answer.
pub(crate) fn ask<T>(
    guest: &mut Dialogue,
    command: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<T> {
    guest.send(&format!("{command}\r"));
    let mut answer = String::new();
    // Lines of guests may come in between, and then the prompt comes again.
    loop {
        answer.push_str(&guest.expect(PROMPT)?);
        if let Some(found) = parse(&answer) {
            return Ok(found);
        }
        ensure!(
            !answer.contains("no such command"),
            "the monitor says:\n{answer}"
        );
    }
}

/// Turns a virtual machine off, whatever it is doing, and waits until it is off.
pub(crate) fn stop(guest: &mut Dialogue, vm: u32) -> Result<()> {
    guest.send(&format!("stop {vm}\r"));
    guest.expect(&format!("VM {vm} is off"))?;
    Ok(())
}

/// What the monitor tells about memory.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) frames_free: u64,
    pub(crate) heap_used: u64,
}

impl Memory {
    pub(crate) fn ask(guest: &mut Dialogue) -> Result<Self> {
        ask(guest, "mem", Self::parse)
    }

    fn parse(answer: &str) -> Option<Self> {
        Some(Self {
            frames_free: between(answer, "frames free: ", " of ")?,
            heap_used: between(answer, "heap used: ", " bytes")?,
        })
    }
}

/// What the monitor tells about the memory of one virtual machine, in frames.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct VmMemory {
    pub(crate) frames: u64,
    /// Those of its page tables, and how many there may be at most.
    pub(crate) tables: u64,
    pub(crate) most_tables: u64,
}

impl VmMemory {
    pub(crate) fn ask(guest: &mut Dialogue, vm: u32) -> Result<Self> {
        ask(guest, "mem", |answer| Self::parse(answer, vm))
    }

    fn parse(answer: &str, vm: u32) -> Option<Self> {
        let (_, line) = answer.split_once(&format!("VM {vm}: "))?;
        let (frames, tables) = line.split_once(" frames of memory, ")?;
        let (tables, most) = tables.split_once(" of at most ")?;
        Some(Self {
            frames: frames.parse().ok()?,
            tables: tables.parse().ok()?,
            most_tables: most.split_once(' ')?.0.parse().ok()?,
        })
    }
}

/// The time that vCPUs have had, in milliseconds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) uptime: u64,
    pub(crate) vcpus: Vec<VcpuTime>,
}

/// The time that one vCPU has had, in milliseconds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct VcpuTime {
    pub(crate) vm: u32,
    pub(crate) vcpu: u32,
    pub(crate) ran: u64,
    pub(crate) stolen: u64,
}

impl Times {
    pub(crate) fn ask(guest: &mut Dialogue) -> Result<Self> {
        ask(guest, "stats", Self::parse)
    }

    fn parse(answer: &str) -> Option<Self> {
        Some(Self {
            uptime: between(answer, "uptime: ", " ms")?,
            vcpus: answer.lines().filter_map(VcpuTime::parse).collect(),
        })
    }
}

impl VcpuTime {
    /// Reads VM, vCPU, CPU, time run, time stolen, turns, moves and exits.
    fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [vm, vcpu, _, ran, stolen, _, _, _] = words.as_slice() else {
            return None;
        };
        Some(Self {
            vm: vm.parse().ok()?,
            vcpu: vcpu.parse().ok()?,
            ran: ran.parse().ok()?,
            stolen: stolen.parse().ok()?,
        })
    }
}

fn between(answer: &str, before: &str, after: &str) -> Option<u64> {
    let (_, rest) = answer.split_once(before)?;
    rest.split_once(after)?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_about_memory_is_read() {
        let answer = "mem\r\nframes free: 120 of 300\r\nphoenix| heap used\r\n\
                      heap used: 4096 bytes\r\n";
        let memory = Memory {
            frames_free: 120,
            heap_used: 4096,
        };
        assert_eq!(Memory::parse(answer), Some(memory));
        assert_eq!(Memory::parse("mem: no such command; try help\r\n"), None);
    }

    #[test]
    fn what_is_said_about_the_memory_of_a_vm_is_read() {
        let answer = "heap used: 4096 bytes\r\n\
                      VM 0: 4096 frames of memory, 6 of at most 20 frames of tables\r\n\
                      VM 1: 262144 frames of memory, 7 of at most 521 frames of tables\r\n";
        let memory = VmMemory {
            frames: 262_144,
            tables: 7,
            most_tables: 521,
        };
        assert_eq!(VmMemory::parse(answer, 1), Some(memory));
        assert_eq!(VmMemory::parse(answer, 2), None);
    }

    #[test]
    fn what_is_said_about_time_is_read() {
        let answer = "stats\r\nVM  vCPU  CPU     run ms   stolen ms      turns  moves      exits\r\n\
                      0   1     0          345         267        426      0       7000\r\n\
                      CPU  ready or running  runs\r\n\
                      0                   0  nobody\r\nuptime: 5810 ms\r\n";
        let time = VcpuTime {
            vm: 0,
            vcpu: 1,
            ran: 345,
            stolen: 267,
        };
        let times = Times {
            uptime: 5810,
            vcpus: vec![time],
        };
        assert_eq!(Times::parse(answer), Some(times));
    }
}

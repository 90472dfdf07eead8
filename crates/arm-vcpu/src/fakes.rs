//! A guest that is a list of closures, and a CPU to run it on: what a host test
//! puts in the place of `El2`.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use vm_contract::{GuestPhysAddr, VcpuId, VmId};

use crate::{
    Aarch64VCpu, AxArchVCpu, AxPerCpuHal, AxVCpuHal, CpuFeatures, CreateConfig, DebugRegisters,
    El2Register, GuestSystemRegisters, IdRegisters, LiveRegister, RawExit, SetupConfig, Syndrome,
    TrapFrame,
};

type Step = Box<dyn FnMut(&mut TrapFrame, &mut GuestSystemRegisters) -> RawExit + Send>;

/// Plays a guest: each entry runs the next closure of a script, which may
/// look at and change the registers as a guest would and says how it leaves.
///
/// It is also a CPU with registers of its own, filled by `load` and taken away
/// by `save`, so a vCPU that forgets either is found out.
#[derive(Default)]
pub struct ScriptedGuest {
    features: CpuFeatures,
    script: VecDeque<Step>,
    cpu: Option<Box<GuestSystemRegisters>>,
}

impl ScriptedGuest {
    /// Creates a guest with an empty script, on a CPU without optional features.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives the CPU `features`.
    #[must_use]
    pub fn with_features(mut self, features: CpuFeatures) -> Self {
        self.features = features;
        self
    }

    /// Appends a step to the script.
    #[must_use]
    pub fn then(
        mut self,
        step: impl FnMut(&mut TrapFrame, &mut GuestSystemRegisters) -> RawExit + Send + 'static,
    ) -> Self {
        self.script.push_back(Box::new(step));
        self
    }

    /// Appends a step that does nothing but leave by `exit`.
    #[must_use]
    pub fn then_exit(self, exit: RawExit) -> Self {
        let mut exit = Some(exit);
        self.then(move |_, _| exit.take().unwrap_or(RawExit::Irq))
    }

    /// Returns vCPU 0 of VM 0, bound, with this guest at `entry` in it, which
    /// is shown `ids`.
    ///
    /// # Panics
    /// Never: the vCPU is used in the right order.
    #[must_use]
    #[expect(clippy::expect_used, reason = "the calls are in order")]
    pub fn into_vcpu(self, entry: GuestPhysAddr, ids: IdRegisters) -> Aarch64VCpu<Self> {
        let create = CreateConfig {
            hal: self,
            mpidr: 0,
            midr: 0,
        };
        let setup = SetupConfig {
            hw_vmid: 1,
            vtcr: 0,
            cntvoff: 0,
            trap_wfi: true,
            id_registers: ids,
            x0: 0,
        };
        let mut vcpu = Aarch64VCpu::new(VmId::new(0), VcpuId::new(0), create).expect("new");
        vcpu.set_entry(entry).expect("not bound");
        vcpu.setup(setup).expect("not bound");
        vcpu.bind().expect("set up");
        vcpu
    }

    /// Returns how many steps are left.
    #[must_use]
    pub fn steps_left(&self) -> usize {
        self.script.len()
    }

    #[expect(clippy::expect_used, reason = "a fake exists to find such mistakes")]
    fn cpu(&self) -> &GuestSystemRegisters {
        self.cpu.as_deref().expect("no vCPU is bound to the CPU")
    }

    #[expect(clippy::expect_used, reason = "a fake exists to find such mistakes")]
    fn cpu_mut(&mut self) -> &mut GuestSystemRegisters {
        self.cpu
            .as_deref_mut()
            .expect("no vCPU is bound to the CPU")
    }
}

impl AxVCpuHal for ScriptedGuest {
    fn features(&self) -> CpuFeatures {
        self.features
    }

    fn load(&mut self, registers: &GuestSystemRegisters) {
        match &mut self.cpu {
            Some(cpu) => cpu.as_mut().clone_from(registers),
            None => self.cpu = Some(Box::new(registers.clone())),
        }
    }

    #[expect(clippy::expect_used, reason = "a fake exists to find such mistakes")]
    fn save(&mut self, registers: &mut GuestSystemRegisters) {
        *registers = *self.cpu.take().expect("no vCPU is bound to the CPU");
    }

    #[expect(clippy::expect_used, reason = "a fake exists to find such mistakes")]
    fn enter(&mut self, frame: &mut TrapFrame) -> RawExit {
        let mut step = self.script.pop_front().expect("the script has ended");
        step(frame, self.cpu_mut())
    }

    fn read(&self, register: LiveRegister) -> u64 {
        self.cpu().get(register)
    }

    fn write(&mut self, register: LiveRegister, value: u64) {
        self.cpu_mut().set(register, value);
    }

    fn load_debug(&mut self, debug: &DebugRegisters) {
        self.cpu_mut().debug.clone_from(debug);
    }
}

/// Plays the EL2 controls of one CPU: remembers what was written, in order,
/// and reads every register as a value of its own until then.
#[derive(Debug, Default)]
pub struct FakeControls {
    /// The optional features of the CPU.
    pub features: CpuFeatures,
    /// Every write, oldest first.
    pub writes: Vec<(El2Register, u64)>,
}

impl FakeControls {
    /// Returns what `register` reads as before anything is written to it.
    #[must_use]
    pub const fn initial(register: El2Register) -> u64 {
        0xA5A5_0000 + register as u64
    }
}

impl AxPerCpuHal for FakeControls {
    fn features(&self) -> CpuFeatures {
        self.features
    }

    fn event_counters(&self) -> u64 {
        6
    }

    fn read_control(&self, register: El2Register) -> u64 {
        self.writes
            .iter()
            .rev()
            .find(|(written, _)| *written == register)
            .map_or(Self::initial(register), |(_, value)| *value)
    }

    fn write_control(&mut self, register: El2Register, value: u64) {
        self.writes.push((register, value));
    }

    fn synchronize(&mut self) {}
}

/// Returns the exit of `HVC #immediate`. The hardware leaves the PC past it.
#[must_use]
pub const fn hypercall(immediate: u16) -> RawExit {
    synchronous(0x16, immediate as u64, 0, 0)
}

/// Returns the exit of `SMC #immediate`, trapped, the PC on it.
#[must_use]
pub const fn secure_monitor_call(immediate: u16) -> RawExit {
    synchronous(0x17, immediate as u64, 0, 0)
}

/// Returns the exit of a trapped WFI.
#[must_use]
pub const fn wait_for_interrupt() -> RawExit {
    synchronous(0x01, 0, 0, 0)
}

/// Returns the exit of a load from guest physical address `ipa` (by the same
/// virtual address) of `1 << size_log2` bytes into register `rt`.
#[must_use]
pub const fn load(ipa: u64, size_log2: u8, rt: u8) -> RawExit {
    data_abort(ipa, size_log2, rt, false)
}

/// Returns the exit of a store to guest physical address `ipa` (by the same
/// virtual address) of `1 << size_log2` bytes from register `rt`.
#[must_use]
pub const fn store(ipa: u64, size_log2: u8, rt: u8) -> RawExit {
    data_abort(ipa, size_log2, rt, true)
}

/// Returns the exit of a load or store that the syndrome does not describe
/// (ISV = 0), as those of pairs and with write-back are.
#[must_use]
pub const fn undescribed_access(ipa: u64, is_write: bool) -> RawExit {
    synchronous(
        0x24,
        (is_write as u64) << 6 | TRANSLATION_FAULT_LEVEL_3,
        ipa,
        ipa,
    )
}

/// Returns the exit of `MRS Xrt, register` when `is_read`, else of
/// `MSR register, Xrt`.
#[must_use]
pub const fn system_register(register: crate::SystemRegister, rt: u8, is_read: bool) -> RawExit {
    let iss = (register.op0() as u64) << 20
        | (register.op2() as u64) << 17
        | (register.op1() as u64) << 14
        | (register.crn() as u64) << 10
        | (rt as u64 & 0x1F) << 5
        | (register.crm() as u64) << 1
        | is_read as u64;
    synchronous(0x18, iss, 0, 0)
}

/// A translation fault at level 3, as DFSC says it.
const TRANSLATION_FAULT_LEVEL_3: u64 = 0b00_0111;

const fn data_abort(ipa: u64, size_log2: u8, rt: u8, is_write: bool) -> RawExit {
    let size = size_log2 as u64 & 0b11;
    let iss = 1 << 24
        | size << 22
        | (rt as u64 & 0x1F) << 16
        // SF: a 64-bit access names an X register, the others a W register.
        | ((size == 3) as u64) << 15
        | (is_write as u64) << 6
        | TRANSLATION_FAULT_LEVEL_3;
    synchronous(0x24, iss, ipa, ipa)
}

const fn synchronous(class: u64, iss: u64, far: u64, ipa: u64) -> RawExit {
    RawExit::Synchronous(Syndrome {
        // IL: a 32-bit instruction.
        esr: class << 26 | 1 << 25 | iss,
        far,
        hpfar: ipa >> 12 << 4,
    })
}

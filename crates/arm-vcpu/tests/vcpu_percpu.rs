//! Enabling and disabling a CPU for virtualisation.

use std::cell::RefCell;
use std::rc::Rc;

use arm_vcpu::fakes::FakeControls;
use arm_vcpu::{Aarch64PerCpu, AxPerCpuHal, CpuFeatures, El2Register, VcpuError};

const TABLE: usize = 0x4020_0800;

/// Shares one fake CPU between a test and what it tests.
#[derive(Clone, Default)]
struct Shared(Rc<RefCell<FakeControls>>);

impl AxPerCpuHal for Shared {
    fn features(&self) -> CpuFeatures {
        self.0.borrow().features
    }
    fn event_counters(&self) -> u64 {
        self.0.borrow().event_counters()
    }
    fn read_control(&self, register: El2Register) -> u64 {
        self.0.borrow().read_control(register)
    }
    fn write_control(&mut self, register: El2Register, value: u64) {
        self.0.borrow_mut().write_control(register, value);
    }
    fn synchronize(&mut self) {}
}

fn cpu_with(features: CpuFeatures) -> Shared {
    let cpu = Shared::default();
    cpu.0.borrow_mut().features = features;
    cpu
}

#[test]
fn enabling_installs_the_vectors_and_the_controls() {
    let cpu = cpu_with(CpuFeatures::GIC_SYSTEM_REGISTERS | CpuFeatures::PMU);
    let mut per_cpu = Aarch64PerCpu::new(cpu.clone(), TABLE);
    per_cpu.hardware_enable().unwrap();
    assert!(per_cpu.is_enabled());
    assert_eq!(cpu.read_control(El2Register::Vbar), TABLE as u64);
    assert_eq!(cpu.read_control(El2Register::IccSre), 7);
    assert_eq!(cpu.read_control(El2Register::IccSreEl1), 7);
    assert_eq!(cpu.read_control(El2Register::Cptr), 0x33FF);
    assert_eq!(cpu.read_control(El2Register::Cnthctl), 1);
    assert_eq!(cpu.read_control(El2Register::Hstr), 0);
    assert_eq!(cpu.read_control(El2Register::Mdcr), 0xE60 | 6);
    let hcr = cpu.read_control(El2Register::Hcr);
    assert_eq!(hcr & (1 << 34 | 1), 0, "E2H and VM are clear");
}

#[test]
fn disabling_restores_every_register_including_the_previous_vectors() {
    let cpu = cpu_with(CpuFeatures::all());
    let mut per_cpu = Aarch64PerCpu::new(cpu.clone(), TABLE);
    per_cpu.hardware_enable().unwrap();
    let written: Vec<El2Register> = cpu
        .0
        .borrow()
        .writes
        .iter()
        .map(|(register, _)| *register)
        .collect();
    assert_eq!(written.len(), 23);
    per_cpu.hardware_disable().unwrap();
    assert!(!per_cpu.is_enabled());
    for register in written {
        assert_eq!(
            cpu.read_control(register),
            FakeControls::initial(register),
            "{register:?}"
        );
    }
}

#[test]
fn guests_get_gic_registers_only_while_el2_has_them() {
    let cpu = cpu_with(CpuFeatures::GIC_SYSTEM_REGISTERS);
    let mut per_cpu = Aarch64PerCpu::new(cpu.clone(), TABLE);
    per_cpu.hardware_enable().unwrap();
    per_cpu.hardware_disable().unwrap();
    let is_sre = |register| matches!(register, El2Register::IccSre | El2Register::IccSreEl1);
    let written: Vec<El2Register> = cpu
        .0
        .borrow()
        .writes
        .iter()
        .map(|(register, _)| *register)
        .filter(|register| is_sre(*register))
        .collect();
    let (el1, el2) = (El2Register::IccSreEl1, El2Register::IccSre);
    assert_eq!(written, [el2, el1, el1, el2]);
}

#[test]
fn registers_of_absent_features_are_never_touched() {
    let cpu = cpu_with(CpuFeatures::empty());
    let mut per_cpu = Aarch64PerCpu::new(cpu.clone(), TABLE);
    per_cpu.hardware_enable().unwrap();
    per_cpu.hardware_disable().unwrap();
    let always = [
        El2Register::Vbar,
        El2Register::Hcr,
        El2Register::Cptr,
        El2Register::Mdcr,
        El2Register::Cnthctl,
        El2Register::Hstr,
        El2Register::TcrEl1,
        El2Register::SctlrEl1,
    ];
    assert!(
        cpu.0
            .borrow()
            .writes
            .iter()
            .all(|(register, _)| always.contains(register))
    );
}

#[test]
fn enabling_twice_or_disabling_first_is_refused() {
    let cpu = cpu_with(CpuFeatures::empty());
    let mut per_cpu = Aarch64PerCpu::new(cpu.clone(), TABLE);
    assert_eq!(per_cpu.hardware_disable(), Err(VcpuError::NotEnabled));
    per_cpu.hardware_enable().unwrap();
    assert_eq!(per_cpu.hardware_enable(), Err(VcpuError::AlreadyEnabled));
    per_cpu.hardware_disable().unwrap();
    per_cpu.hardware_enable().unwrap();
}

#[test]
fn a_misaligned_vector_table_is_refused_before_anything_is_written() {
    let cpu = cpu_with(CpuFeatures::empty());
    let mut per_cpu = Aarch64PerCpu::new(cpu.clone(), TABLE + 0x400);
    assert_eq!(per_cpu.hardware_enable(), Err(VcpuError::MisalignedVectors));
    assert!(cpu.0.borrow().writes.is_empty());
}

//! The start of the CPUs that firmware keeps off until asked.
#![expect(unsafe_code, reason = "hands a CPU its registers and stacks")]

use alloc::boxed::Box;
use core::mem::offset_of;
use core::sync::atomic::{AtomicBool, Ordering};

use aarch64_cpu::registers::{CNTFRQ_EL0, Readable};
use hypervisor::cpu::PcpuId;
use hypervisor::lock::relax;
use smccc::psci;
use static_assertions::const_assert_eq;

use super::{El2Hypervisor, Machinery, layout::Stacks, run_cpu};
use crate::board::firmware::Firmware;
use crate::board::tables::TableRegisters;
use crate::board::{cache, el2_cpu};

/// What a CPU finds at the address in its X0. `start.S` knows the offsets.
#[repr(C)]
struct SecondaryBoot {
    tables: TableRegisters,
    stack_top: usize,
    fault_stack_top: usize,
    id: PcpuId,
    machinery: &'static Machinery,
    hypervisor: &'static El2Hypervisor,
    is_up: AtomicBool,
}

const_assert_eq!(offset_of!(SecondaryBoot, tables), 0);
const_assert_eq!(offset_of!(TableRegisters, mair), 16);
const_assert_eq!(offset_of!(SecondaryBoot, stack_top), 32);
const_assert_eq!(offset_of!(SecondaryBoot, fault_stack_top), 40);

/// How long a CPU may take to come up before it is taken for dead.
const START_SECONDS: u64 = 10;

unsafe extern "C" {
    fn secondary_entry();
}

/// Turns CPU `id` on and waits until it is in its main loop.
pub(super) fn start(
    firmware: Firmware,
    id: PcpuId,
    mpidr: u64,
    stacks: Stacks,
    machinery: &'static Machinery,
    hypervisor: &'static El2Hypervisor,
) -> Result<(), psci::error::Error> {
    let boot: &'static SecondaryBoot = Box::leak(Box::new(SecondaryBoot {
        tables: machinery.tables,
        stack_top: stacks.top().into(),
        fault_stack_top: stacks.fault_top().into(),
        id,
        machinery,
        hypervisor,
        is_up: AtomicBool::new(false),
    }));
    let address = core::ptr::from_ref(boot).addr();
    // It is read first with the MMU off.
    cache::clean_to_coherency(address, address + size_of::<SecondaryBoot>());
    let entry = secondary_entry as *const () as usize;
    firmware.cpu_on(mpidr, entry as u64, address as u64)?;
    let give_up = el2_cpu::counter() + START_SECONDS * CNTFRQ_EL0.get();
    while !boot.is_up.load(Ordering::Acquire) {
        if el2_cpu::counter() > give_up {
            return Err(psci::error::Error::InternalFailure);
        }
        relax();
    }
    Ok(())
}

/// The first Rust code of a secondary CPU.
#[unsafe(no_mangle)]
extern "C" fn secondary_main(boot: &'static SecondaryBoot) -> ! {
    run_cpu(boot.machinery, boot.hypervisor, boot.id, || {
        boot.is_up.store(true, Ordering::Release);
    })
}

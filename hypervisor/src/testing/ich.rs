//! List registers that the hypervisor and the guest on the same CPU share.

use alloc::sync::Arc;
use std::sync::{Mutex, MutexGuard};

use arm_vgic_core::{FakeIch, IchRegs, ListRegister};

/// One CPU's virtual CPU interface: EL2's side is [`IchRegs`], the guest's is
/// what [`lock`](Self::lock) returns.
#[derive(Clone)]
pub(crate) struct SharedIch(Arc<Mutex<FakeIch>>);

impl SharedIch {
    pub(super) fn new(lr_count: usize) -> Self {
        Self(Arc::new(Mutex::new(FakeIch::new(lr_count))))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, FakeIch> {
        self.0.lock().expect("no test panics while it holds this")
    }
}

/// Passes each of EL2's accesses on.
macro_rules! pass_on {
    ($(read $read:ident($($n:ident: $index:ty)?) -> $value:ty;)* $(write $write:ident($($arg:ident: $arg_type:ty),+);)*) => {
        impl IchRegs for SharedIch {
            $(fn $read(&self $(, $n: $index)?) -> $value {
                self.lock().$read($($n)?)
            })*
            $(fn $write(&mut self, $($arg: $arg_type),+) {
                self.lock().$write($($arg),+);
            })*
        }
    };
}

pass_on! {
    read lr_count() -> usize;
    read priority_bits() -> u32;
    read preemption_bits() -> u32;
    read can_trap_dir() -> bool;
    read read_lr(n: usize) -> ListRegister;
    read read_vmcr() -> u64;
    read read_hcr() -> u64;
    read read_ap0r(n: usize) -> u64;
    read read_ap1r(n: usize) -> u64;
    write write_lr(n: usize, value: ListRegister);
    write write_vmcr(value: u64);
    write write_hcr(value: u64);
    write write_ap0r(n: usize, value: u64);
    write write_ap1r(n: usize, value: u64);
}

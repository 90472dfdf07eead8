//! The entry, where Linux leaves the arguments on the stack.

#![expect(unsafe_code, reason = "the first instruction has no caller")]

use core::arch::global_asm;
use core::ffi::{CStr, c_char};

use crate::{linux, storm};

global_asm!(
    r#"
    .global _start
_start:
    mov     x0, sp
    bl      {main}
    "#,
    main = sym main,
);

/// Takes the stack of a new process: the number of its arguments, then each.
extern "C" fn main(stack: *const usize) -> ! {
    // SAFETY: Linux puts the arguments there, and never changes them.
    let count = unsafe { *stack };
    let number = |index: usize| -> Option<u64> {
        if index >= count {
            return None;
        }
        // SAFETY: there are `count` pointers above the count.
        let place = unsafe { stack.add(1 + index).cast::<*const c_char>() };
        // SAFETY: it is one of them.
        let argument = unsafe { *place };
        // SAFETY: each names a string that ends with a zero byte.
        let argument = unsafe { CStr::from_ptr(argument) };
        argument.to_str().ok()?.parse().ok()
    };
    let cpus = number(2).and_then(|cpus| usize::try_from(cpus).ok());
    let (Some(seconds), Some(cpus)) = (number(1), cpus) else {
        linux::exit(2);
    };
    linux::exit(storm::run(seconds, cpus))
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    linux::exit(101)
}

//! A plugin for QEMU's emulator that counts, one by one, the instructions of a
//! program that runs in the machine without an operating system below it: the
//! hypervisor. `cargo xtask qemu --count-instructions` builds and uses it.
//!
//! ```text
//! -plugin libinstruction_counter.so,counters=FILE,cpus=N,start=ADDRESS,bytes=N[,end=ADDRESS]
//! ```
//!
//! **What is the program's.** A virtual address does not tell: guests use the
//! same ones, and a plugin for QEMU 7.2 cannot ask for the exception level. The
//! *memory* that holds an instruction does tell: no guest can execute from the
//! hypervisor's own image, because no stage-2 table maps it. QEMU says where
//! each instruction lies in its own memory, and the machine's RAM is one piece
//! there. So the first instruction ever translated at the virtual address
//! `start`, which is the program's entry, before it has turned on any MMU or
//! let anything else run, gives away where the image lies ([`Image`]). Whatever
//! lies in those `bytes` from then on is the program's, on any CPU, by any
//! translation; nothing else is. With `bytes=0` there is no such program, and
//! all instructions are counted as others.
//!
//! **What is counted.** Each execution of each instruction of the program, in a
//! counter of its own, so that a reader of the symbols finds out where they
//! were spent. All other instructions are counted by blocks, which is much
//! quicker: one that a trap leaves early counts whole. Counters are atomic:
//! the sums are right with a thread for each CPU as well.
//!
//! **Until when.** To the end of the run, or to the first time that anything is
//! executed at the virtual address `end`: a program in a guest, at an address
//! that nobody else uses, can so mark the end of what is of interest. How a
//! machine is turned off depends on when QEMU gets to it.
//!
//! **Where it is told.** The counters *are* the file, which is mapped: it can
//! be read during the run and after any end of QEMU. It holds 64-bit numbers in
//! the host's byte order ([`Counters`]): for each of `cpus` CPUs the
//! instructions that were not the program's, the program's, and how many of the
//! program's came before the first other one that followed its entry; then for
//! each word of the image how often it was executed.

mod counters;
mod options;
// Its functions are QEMU's: a test program could not be linked with them.
#[cfg(not(test))]
mod qemu;

pub use counters::{Counters, Image, PER_CPU};
pub use options::{Options, OptionsError};

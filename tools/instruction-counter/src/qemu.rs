//! The plugin as QEMU sees it.
//!
//! The interface is that of QEMU's documentation ("QEMU TCG Plugins"). It has a
//! version: QEMU 6.0 to 8.2 load plugins of version 1 or older, QEMU 9.0 to at
//! least 10.0 of version 2 or newer. What is used here is the same in both, so
//! only the number has to follow the QEMU that loads the plugin; that is why
//! instructions are counted by calls and not by the quicker inline operations,
//! which differ.

#![expect(unsafe_code, reason = "QEMU is a C program, and memory is mapped")]

use std::error::Error;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::fs::OpenOptions;
use std::os::fd::AsRawFd;
use std::ptr;
use std::slice;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Once, OnceLock};

use crate::{Counters, Image, Options, PER_CPU};

/// A block of instructions while QEMU translates it.
#[repr(C)]
struct Block {
    opaque: [u8; 0],
}

/// An instruction of a block.
#[repr(C)]
struct Instruction {
    opaque: [u8; 0],
}

/// How QEMU names a plugin.
type PluginId = u64;

/// Called when something is executed, with the CPU's number and the value that
/// was registered with it.
type Executed = extern "C" fn(c_uint, *mut c_void);

/// The call does not look at the CPU's registers.
const NO_REGISTERS: c_int = 0;

unsafe extern "C" {
    fn qemu_plugin_register_vcpu_tb_trans_cb(
        id: PluginId,
        callback: extern "C" fn(PluginId, *mut Block),
    );
    fn qemu_plugin_tb_n_insns(block: *const Block) -> usize;
    fn qemu_plugin_tb_get_insn(block: *const Block, index: usize) -> *mut Instruction;
    fn qemu_plugin_insn_vaddr(instruction: *const Instruction) -> u64;
    fn qemu_plugin_insn_haddr(instruction: *const Instruction) -> *mut c_void;
    fn qemu_plugin_register_vcpu_tb_exec_cb(
        block: *mut Block,
        callback: Executed,
        flags: c_int,
        value: *mut c_void,
    );
    fn qemu_plugin_register_vcpu_insn_exec_cb(
        instruction: *mut Instruction,
        callback: Executed,
        flags: c_int,
        value: *mut c_void,
    );
}

/// The version of the interface, which QEMU reads before anything else. An
/// atomic has the layout of its number.
#[unsafe(no_mangle)]
pub(crate) static qemu_plugin_version: AtomicI32 = AtomicI32::new(1);

/// Runs when the plugin is loaded.
#[used]
#[unsafe(link_section = ".init_array")]
static CHOOSE_VERSION: extern "C" fn() = choose_version;

/// A function that came with version 2.
const SINCE_VERSION_2: &CStr = c"qemu_plugin_scoreboard_new";

/// What the plugin works on, from its installation on.
static PROBE: OnceLock<Probe> = OnceLock::new();

struct Probe {
    image: Image,
    counters: Counters<'static>,
    /// Done when the program first lets others run.
    started: Once,
    /// Where the counting ends, and whether it has.
    end: Option<u64>,
    ended: AtomicBool,
}

impl Probe {
    /// Returns the counters, as long as something is counted.
    fn counters(&self) -> Option<&Counters<'static>> {
        (!self.ended.load(Ordering::Relaxed)).then_some(&self.counters)
    }
}

extern "C" fn choose_version() {
    // SAFETY: dlsym(3) may be called at any time with a C string; what it
    // returns is only compared with null.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, SINCE_VERSION_2.as_ptr()) };
    if !found.is_null() {
        qemu_plugin_version.store(2, Ordering::Relaxed);
    }
}

/// Starts the plugin; QEMU calls it once. Returns zero if it counts from now
/// on.
///
/// # Safety
///
/// `words` are `count` C strings.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn qemu_plugin_install(
    id: PluginId,
    _info: *const c_void,
    count: c_int,
    words: *const *const c_char,
) -> c_int {
    let words = (0..usize::try_from(count).unwrap_or(0)).map(|index| {
        // SAFETY: QEMU hands over this many pointers.
        let word = unsafe { words.add(index) };
        // SAFETY: It is one of them.
        let word = unsafe { *word };
        // SAFETY: Each points to a C string that outlives this call.
        let word = unsafe { CStr::from_ptr(word) };
        word.to_string_lossy().into_owned()
    });
    let probe = match probe(words) {
        Ok(probe) => probe,
        Err(error) => {
            eprintln!("instruction-counter: {error}");
            return -1;
        }
    };
    if PROBE.set(probe).is_err() {
        eprintln!("instruction-counter: loaded twice");
        return -1;
    }
    // SAFETY: QEMU gave this name to the plugin, and the function has the type
    // that QEMU calls.
    unsafe { qemu_plugin_register_vcpu_tb_trans_cb(id, translated) };
    0
}

/// Reads the options and maps the counters.
fn probe(words: impl Iterator<Item = String>) -> Result<Probe, Box<dyn Error>> {
    let options = Options::parse(words)?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&options.counters)
        .map_err(|error| format!("{}: {error}", options.counters.display()))?;
    let bytes = usize::try_from(file.metadata()?.len())?;
    let image = Image::new(options.start, options.bytes);
    let length = bytes / size_of::<AtomicU64>();
    let per_cpu = options.cpus.saturating_mul(PER_CPU);
    if length < per_cpu.saturating_add(image.len()) {
        return Err("the file of the counters is too short".into());
    }
    // SAFETY: A new mapping is made wherever there is room.
    let memory = unsafe {
        libc::mmap(
            ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        )
    };
    if memory == libc::MAP_FAILED {
        return Err(std::io::Error::last_os_error().into());
    }
    // SAFETY: The mapping starts on a page, has this length and stays for ever;
    // others may look at it, but only this plugin changes it, by atomics alone.
    let memory = unsafe { slice::from_raw_parts(memory.cast::<AtomicU64>(), length) };
    let counters = Counters::new(memory, options.cpus).ok_or("more CPUs than counters")?;
    Ok(Probe {
        image,
        counters,
        started: Once::new(),
        end: options.end,
        ended: AtomicBool::new(false),
    })
}

/// Has the instructions of a block counted from now on whenever they are
/// executed.
extern "C" fn translated(_id: PluginId, block: *mut Block) {
    let Some(probe) = PROBE.get() else {
        return;
    };
    // SAFETY: QEMU's block is valid during this call.
    let length = unsafe { qemu_plugin_tb_n_insns(block) };
    let mut others = 0;
    for index in 0..length {
        // SAFETY: The block has an instruction with this index.
        let instruction = unsafe { qemu_plugin_tb_get_insn(block, index) };
        // SAFETY: An instruction is valid as long as its block.
        let address = unsafe { qemu_plugin_insn_vaddr(instruction) };
        // What is translated is executed next; a block begins where one jumps to.
        if index == 0 && probe.end == Some(address) {
            probe.ended.store(true, Ordering::Relaxed);
        }
        // SAFETY: As above; what is returned is compared and never read.
        let place = unsafe { qemu_plugin_insn_haddr(instruction) };
        match probe.image.index(address, place.addr()) {
            // SAFETY: As above, and `count` has the type that QEMU calls.
            Some(index) => unsafe {
                qemu_plugin_register_vcpu_insn_exec_cb(
                    instruction,
                    count,
                    NO_REGISTERS,
                    ptr::without_provenance_mut(index),
                );
            },
            None => others += 1,
        }
    }
    if others > 0 {
        if probe.image.is_found() {
            probe.started.call_once(|| probe.counters.note_start());
        }
        // SAFETY: As above.
        unsafe {
            qemu_plugin_register_vcpu_tb_exec_cb(
                block,
                count_others,
                NO_REGISTERS,
                ptr::without_provenance_mut(others),
            );
        }
    }
}

extern "C" fn count(cpu: c_uint, index: *mut c_void) {
    let counters = PROBE.get().and_then(Probe::counters);
    if let (Some(counters), Ok(cpu)) = (counters, usize::try_from(cpu)) {
        counters.count(cpu, index.addr());
    }
}

extern "C" fn count_others(cpu: c_uint, others: *mut c_void) {
    let counters = PROBE.get().and_then(Probe::counters);
    if let (Some(counters), Ok(cpu)) = (counters, usize::try_from(cpu)) {
        counters.count_others(cpu, others.addr() as u64);
    }
}

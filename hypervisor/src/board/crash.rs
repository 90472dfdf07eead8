//! The last words of a hypervisor that cannot go on: one report, then the
//! machine is reset, which whoever started it sees as a failure.
//!
//! Nothing here takes a lock or allocates: what is broken may hold one.
#![expect(unsafe_code, reason = "reports from a machine in an unknown state")]

use core::arch::asm;
use core::fmt::{self, Write};
use core::panic::PanicInfo;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use aarch64_cpu::registers::{MPIDR_EL1, Readable};
use arm_pl011_uart::{PL011Registers, Uart, UniqueMmioPointer};
use hypervisor::sched::Cpus;
use spin::Once;

use super::firmware::Firmware;
use crate::boot;

/// What a report needs, left here while all was well.
#[derive(Clone, Copy)]
pub(crate) struct Witness {
    /// Where the UART's registers are.
    pub(crate) uart_base: usize,
    /// How the machine is reset.
    pub(crate) firmware: Option<Firmware>,
}

static WITNESS: Once<Witness> = Once::new();
static MACHINE: Once<&'static Cpus> = Once::new();
/// The affinity of the CPU that reports, or [`NOBODY`].
static REPORTER: AtomicU64 = AtomicU64::new(NOBODY);
const NOBODY: u64 = u64::MAX;

/// Prepares for reports.
pub(crate) fn prepare(witness: Witness) {
    WITNESS.call_once(|| witness);
}

/// Lets later reports say what each CPU was doing.
pub(crate) fn prepare_machine(cpus: &'static Cpus) {
    MACHINE.call_once(|| cpus);
}

/// Ends a boot that cannot succeed because of what the machine was given: says
/// why and resets the machine.
pub(crate) fn give_up(problem: &str) -> ! {
    log::error!("this machine cannot be started: {problem}");
    if let Some(firmware) = WITNESS.get().and_then(|witness| witness.firmware) {
        firmware.system_reset();
    }
    boot::park()
}

/// The registers at an exception from EL2; `fault.S` fills it in.
#[repr(C)]
pub(crate) struct FaultFrame {
    /// X0–X30.
    gpr: [u64; 31],
    sp: u64,
    elr: u64,
    spsr: u64,
    esr: u64,
    far: u64,
    slot: u64,
    _reserved: u64,
}

static_assertions::const_assert_eq!(core::mem::offset_of!(FaultFrame, sp), 248);
static_assertions::const_assert_eq!(core::mem::offset_of!(FaultFrame, elr), 256);
static_assertions::const_assert_eq!(core::mem::offset_of!(FaultFrame, esr), 272);
static_assertions::const_assert_eq!(core::mem::offset_of!(FaultFrame, slot), 288);

/// Reports an exception that EL2 took from itself.
#[unsafe(no_mangle)]
extern "C" fn el2_fault_main(frame: &FaultFrame) -> ! {
    let kind = ["synchronous exception", "IRQ", "FIQ", "SError"]
        .get((frame.slot & 3) as usize)
        .copied()
        .unwrap_or_default();
    let guard = if usize::try_from(frame.far).is_ok_and(boot::is_guard_page) {
        " (a stack overflow)"
    } else {
        ""
    };
    report(
        format_args!(
            "{kind} at EL2{guard}: ESR_EL2 {:#x}, FAR_EL2 {:#x}, SPSR_EL2 {:#x}",
            frame.esr, frame.far, frame.spsr
        ),
        Some(frame),
        frame.elr,
        frame.gpr.get(29).copied().unwrap_or_default(),
    )
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let frame_pointer: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, x29", out(reg) frame_pointer, options(nomem, nostack)) };
    report(format_args!("{info}"), None, 0, frame_pointer)
}

fn report(what: fmt::Arguments<'_>, frame: Option<&FaultFrame>, pc: u64, frame_pointer: u64) -> ! {
    let own = MPIDR_EL1.get() & 0xff_00ff_ffff;
    let witness = WITNESS.get().copied();
    let before = REPORTER.compare_exchange(NOBODY, own, Ordering::AcqRel, Ordering::Acquire);
    if before.is_err_and(|reporter| reporter != own) {
        // Another CPU reports; one report is enough.
        boot::park();
    }
    // If this CPU has failed in its own report, the machine is still reset.
    if before.is_ok()
        && let Some(witness) = witness
    {
        let mut line = Wire(witness.uart_base);
        // The wire never fails.
        let _ = print(&mut line, what, frame, pc, frame_pointer);
    }
    if let Some(firmware) = witness.and_then(|witness| witness.firmware) {
        firmware.system_reset();
    }
    boot::park()
}

fn print(
    line: &mut Wire,
    what: fmt::Arguments<'_>,
    frame: Option<&FaultFrame>,
    pc: u64,
    frame_pointer: u64,
) -> fmt::Result {
    writeln!(
        line,
        "\n[armature] PANIC on CPU {:#x}: {what}",
        MPIDR_EL1.get() & 0xff_00ff_ffff
    )?;
    if let Some(frame) = frame {
        for (n, value) in frame.gpr.iter().enumerate() {
            let end = if n % 4 == 3 { "\n" } else { "  " };
            write!(line, "x{n:<2} {value:016x}{end}")?;
        }
        writeln!(line, "sp  {:016x}", frame.sp)?;
    }
    let base = usize::from(boot::image().start) as u64;
    writeln!(line, "backtrace (addresses within the image):")?;
    if pc != 0 {
        writeln!(line, "  {:#x}", pc.wrapping_sub(base))?;
    }
    for address in Backtrace(frame_pointer).take(32) {
        writeln!(line, "  {:#x}", address.wrapping_sub(base))?;
    }
    if let Some(cpus) = MACHINE.get() {
        for (cpu, vcpu) in cpus.running() {
            match vcpu {
                Some((vm, vcpu)) => writeln!(line, "CPU {cpu}: VM {vm} vCPU {vcpu}")?,
                None => writeln!(line, "CPU {cpu}: no vCPU")?,
            }
        }
    }
    Ok(())
}

/// Return addresses, from the chain of frame records (AAPCS64).
struct Backtrace(u64);

impl Iterator for Backtrace {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let record = usize::try_from(self.0).ok()?;
        if record == 0 || !record.is_multiple_of(16) || !boot::is_mapped_memory(record) {
            return None;
        }
        let record = core::ptr::with_exposed_provenance::<[u64; 2]>(record);
        // SAFETY: the address is aligned and mapped as memory.
        let [next, address] = unsafe { record.read() };
        // The chain leads upwards; anything else is no chain.
        self.0 = if next > self.0 { next } else { 0 };
        (address != 0).then_some(address)
    }
}

/// The UART, written to directly.
struct Wire(usize);

impl Write for Wire {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let registers = core::ptr::with_exposed_provenance_mut::<PL011Registers>(self.0);
        let Some(registers) = NonNull::new(registers) else {
            return Ok(());
        };
        // SAFETY: the UART that the platform named. Others may be using it; their
        // output and this may mix, which matters no more.
        let mut uart = Uart::new(unsafe { UniqueMmioPointer::new(registers) });
        for byte in text.bytes() {
            if byte == b'\n' {
                send(&mut uart, b'\r');
            }
            send(&mut uart, byte);
        }
        Ok(())
    }
}

fn send(uart: &mut Uart<'_>, byte: u8) {
    while uart.is_tx_fifo_full() {
        core::hint::spin_loop();
    }
    uart.write_word(byte);
}

//! The machine's UART, shared by the log, the VMs and the monitor.
//!
//! The serial line of every VM ends here. One of them, or the monitor, has the
//! focus: it is typed to, and what it prints appears at once. What the others
//! print appears line by line with a tag. With one VM all bytes pass unchanged,
//! but for Ctrl-], which begins a key of the console itself.

mod editor;
mod escape;
mod input;
mod mux;
mod port;
mod uart;

use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

use primecell_devices::SerialBackend;
use spin::Once;
use vm_contract::{VcpuId, VmId};

pub use editor::TypedLine;
pub use uart::HostUart;

use crate::cpu::{Machine, PcpuId};
use crate::lock::{RankedLock, rank};
use crate::sched::Cpus;
use crate::vm::Vm;
use mux::{Mux, Writer};
use port::Port;

/// The CPU that takes the UART's interrupt, and whose main loop does what the
/// console wants of one.
pub const SERVED_BY: PcpuId = PcpuId::new(0);

/// What the console's own keys do.
const KEYS: &str = "[armature] console: Ctrl-] and then n: next VM, 0-9: that VM, \
                    l: list of VMs, m: monitor, ?: this line, Ctrl-]: itself";

/// How many bytes are received before guests go on.
const INPUT_PER_SERVICE: usize = 128;

/// How long a line that a VM does not continue is kept whole, in milliseconds.
const PATIENCE_MS: u64 = 100;

/// What the user wants of the main loop.
#[derive(Clone, Copy, Debug)]
pub enum Wish {
    /// Nothing.
    Nothing,
    /// The list of VMs.
    List,
    /// To have a command executed.
    Command(TypedLine),
}

/// The UART, and who has it.
pub struct Console {
    mux: RankedLock<Mux, { rank::CONSOLE }>,
    /// The main loop of [`SERVED_BY`] has something to do here. A hint.
    attention: AtomicBool,
    connected: Once<Connected>,
}

/// The other ends of the serial lines.
struct Connected {
    machine: &'static dyn Machine,
    cpus: Arc<Cpus>,
    lines: Vec<SerialLine>,
}

struct SerialLine {
    /// The VM, while it exists.
    vm: RankedLock<Weak<Vm>, { rank::SERIAL_LINE }>,
    /// Something was typed for which the guest's UART had no room. Set under the
    /// lock of that UART.
    input_waits: AtomicBool,
}

impl SerialLine {
    fn vm(&self) -> Option<Arc<Vm>> {
        self.vm.lock().upgrade()
    }
}

impl Console {
    /// Takes over a UART.
    #[must_use]
    pub fn new(uart: Box<dyn HostUart>) -> Self {
        Self {
            mux: RankedLock::new(Mux::new(uart)),
            attention: AtomicBool::new(false),
            connected: Once::new(),
        }
    }

    /// Makes a serial line for each VM, in the order of their numbers. The first
    /// one gets the focus.
    pub fn connect<'a>(
        &self,
        names: impl Iterator<Item = &'a str>,
        machine: &'static dyn Machine,
        cpus: Arc<Cpus>,
    ) {
        self.connected.call_once(|| {
            let ports: Vec<_> = names.map(Port::new).collect();
            let lines = ports.iter().map(|_| SerialLine {
                vm: RankedLock::new(Weak::new()),
                input_waits: AtomicBool::new(false),
            });
            let lines = lines.collect();
            let patience = machine.ticks_per_second() * PATIENCE_MS / 1000;
            self.mux.lock().connect(ports, patience);
            Connected {
                machine,
                cpus,
                lines,
            }
        });
    }

    /// Connects the serial line of a VM that exists from now on.
    pub fn attach(&self, vm: &Arc<Vm>) {
        if let Some(line) = self.lines().get(usize::from(vm.id().raw())) {
            *line.vm.lock() = Arc::downgrade(vm);
            line.input_waits.store(false, Ordering::Relaxed);
        }
    }

    /// Begins to receive, and tells about the keys.
    pub fn listen(&self) {
        self.print(format_args!("{KEYS}"));
        self.mux.lock().uart.listen_receive(true);
    }

    fn lines(&self) -> &[SerialLine] {
        self.connected
            .get()
            .map_or(&[], |connected| &connected.lines)
    }

    fn now(&self) -> u64 {
        self.connected
            .get()
            .map_or(0, |connected| connected.machine.now_ticks())
    }

    /// Answers the UART's interrupt. `current` is the vCPU on whose behalf this
    /// CPU acts.
    pub fn service(&self, current: Option<(VmId, VcpuId)>) {
        let now = self.now();
        let focus = {
            let mut mux = self.mux.lock();
            mux.resume();
            mux.focus
        };
        let on_behalf = |vm: &Vm| current.and_then(|(id, vcpu)| (id == vm.id()).then_some(vcpu));
        if let Writer::Vm(n) = focus
            && let Some(vm) = self.lines().get(n).and_then(SerialLine::vm)
        {
            vm.send_serial(on_behalf(&vm));
        }
        self.mux.lock().show_lines(now);
        for _ in 0..INPUT_PER_SERVICE {
            if !self.mux.lock().input(now) {
                break;
            }
        }
        for (n, line) in self.lines().iter().enumerate() {
            let Some(vm) = line.vm() else {
                continue;
            };
            if focus != Writer::Vm(n) {
                vm.send_serial(on_behalf(&vm));
            }
            if self.mux.lock().has_input(n) {
                vm.receive_serial(on_behalf(&vm));
            }
        }
        let mut mux = self.mux.lock();
        mux.sate();
        self.note_attention(&mux);
    }

    /// Records whether there is something to do; `true` if that is new.
    fn note_attention(&self, mux: &Mux) -> bool {
        let wanted = mux.entered || mux.wants_list || mux.has_lines();
        let was_wanted = self.attention.swap(wanted, Ordering::Relaxed);
        wanted && !was_wanted
    }

    /// Tells whether [`attend`](Self::attend) has something to do.
    #[inline]
    #[must_use]
    pub fn wants_attention(&self) -> bool {
        self.attention.load(Ordering::Relaxed)
    }

    /// Returns when to [`attend`](Self::attend) at the latest, in counter ticks.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        if !self.wants_attention() {
            return None;
        }
        let patience = self.mux.lock().patience();
        Some(self.now() + patience)
    }

    /// Shows lines that had to wait, and returns what the user wants. A command
    /// is to be [`answered`](Self::answered).
    #[must_use]
    pub fn attend(&self) -> Wish {
        let now = self.now();
        let mut mux = self.mux.lock();
        mux.show_lines(now);
        let wish = if core::mem::take(&mut mux.wants_list) {
            Wish::List
        } else {
            mux.take_entered().map_or(Wish::Nothing, Wish::Command)
        };
        self.note_attention(&mux);
        wish
    }

    /// Lets the monitor be typed to again. What was typed meanwhile is in the
    /// UART, whose interrupt is still asserted.
    pub fn answered(&self) {
        self.mux.lock().answered();
    }

    /// Writes a line of the hypervisor's log, beginning on a new line. Waits
    /// for the UART to take all of it.
    pub fn log(&self, arguments: fmt::Arguments<'_>) {
        self.print(format_args!("[armature] {arguments}"));
    }

    /// Writes a line, beginning on a new line. Waits for the UART to take all of
    /// it.
    pub fn print(&self, arguments: fmt::Arguments<'_>) {
        self.mux.lock().write_line(arguments);
    }

    /// Takes what there is room for of a VM's output. Asks for the UART's
    /// interrupt if that was not all.
    pub fn transmit(&self, vm: VmId, bytes: &[u8]) -> usize {
        // Without others nobody asks how long ago something was printed.
        let several = self.lines().len() > 1;
        let now = if several { self.now() } else { 0 };
        let mut mux = self.mux.lock();
        let taken = mux.transmit(usize::from(vm.raw()), bytes, now);
        let is_new = several && self.note_attention(&mux);
        drop(mux);
        if is_new && let Some(connected) = self.connected.get() {
            connected.cpus.call(SERVED_BY);
        }
        taken
    }

    /// Takes one byte that was typed to a VM.
    pub fn take_input(&self, vm: VmId) -> Option<u8> {
        self.mux.lock().take_input(usize::from(vm.raw()))
    }

    /// Records whether the VM's UART has no room for what was typed.
    pub(crate) fn set_input_waits(&self, vm: VmId, waits: bool) {
        if let Some(line) = self.lines().get(usize::from(vm.raw())) {
            line.input_waits.store(waits, Ordering::Relaxed);
        }
    }

    /// Tells whether something was typed for which the VM's UART had no room.
    #[inline]
    pub(crate) fn input_waits(&self, vm: VmId) -> bool {
        self.lines()
            .get(usize::from(vm.raw()))
            .is_some_and(|line| line.input_waits.load(Ordering::Relaxed))
    }

    /// Records that a VM begins a life: what it printed in the one before is
    /// complete.
    pub fn begin(&self, vm: VmId) {
        let now = self.now();
        self.mux.lock().end(usize::from(vm.raw()), true, now);
    }

    /// Records that a VM is off. Waits for the UART to take what is left in the
    /// VM's own.
    pub fn end(&self, vm: &Vm) {
        let number = usize::from(vm.id().raw());
        while vm.send_serial(None) {
            self.mux.lock().make_room(number);
        }
        self.close(vm.id());
        // Even a weak reference would keep the VM's place in the heap.
        if let Some(line) = self.lines().get(number) {
            *line.vm.lock() = Weak::new();
        }
    }

    fn close(&self, vm: VmId) {
        let now = self.now();
        self.mux.lock().end(usize::from(vm.raw()), false, now);
    }

    /// Sends what still waits when all VMs are off. Waits for the UART to take
    /// all of it.
    pub fn finish(&self) {
        for vm in self.lines().iter().filter_map(SerialLine::vm) {
            while vm.send_serial(None) {
                self.mux.lock().finish();
            }
        }
        self.mux.lock().finish();
    }
}

/// The end of a VM's serial line that is connected to the console.
pub struct GuestSerial {
    console: Arc<Console>,
    vm: VmId,
}

impl GuestSerial {
    /// Returns the end of the serial line of `vm`.
    #[must_use]
    pub const fn new(console: Arc<Console>, vm: VmId) -> Self {
        Self { console, vm }
    }
}

impl SerialBackend for GuestSerial {
    fn transmit(&mut self, bytes: &[u8]) -> usize {
        self.console.transmit(self.vm, bytes)
    }
}

#[cfg(test)]
mod tests;

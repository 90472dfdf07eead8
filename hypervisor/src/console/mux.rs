//! Who has the terminal: what goes to the UART, and in which order.
//!
//! One writer has the focus. If it is a VM, its bytes go straight to the UART.
//! The others' output waits in their [`Port`] until a line is complete and goes
//! out as a whole, with the VM's name before it, when the line on the terminal
//! is complete as well, or nobody has continued it for a while.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::{self, Write};

use super::editor::TypedLine;
use super::escape::Escape;
use super::port::{OUTPUT_BYTES, Port};
use super::uart::HostUart;

/// What has been composed and waits for the UART: at least one line of a VM
/// with all that may come with it.
const QUEUE_BYTES: usize = 2 * OUTPUT_BYTES;
/// The most that comes with a line: an end for the line before, the tag, the
/// line's own end, and the monitor's line once more.
const AROUND_LINE_BYTES: usize = 256;
const _: () = assert!(QUEUE_BYTES >= OUTPUT_BYTES + AROUND_LINE_BYTES);

/// What the monitor begins its lines with.
const PROMPT: &str = "armature> ";

/// Who writes to the terminal and is typed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writer {
    /// A VM, by its number.
    Vm(usize),
    Monitor,
}

/// The UART and all that is on its way to and from it.
pub(super) struct Mux {
    pub(super) uart: Box<dyn HostUart>,
    /// Composed output. The UART gets nothing else before it is empty.
    queue: VecDeque<u8>,
    pub(super) ports: Vec<Port>,
    pub(super) focus: Writer,
    /// Who began the line that the cursor is in.
    open: Option<Writer>,
    /// When that line was last continued.
    continued: u64,
    /// How long a line that nobody continues stays whole, in counter ticks.
    patience: u64,
    /// Somebody waits for room in the UART.
    starved: bool,
    /// The VM that has the focus does: its turn comes before the others'.
    focus_waits: bool,
    /// Nothing is received: the one that has the focus does not read.
    pub(super) held: bool,
    pub(super) escape: Escape,
    pub(super) typed: TypedLine,
    /// `typed` is complete.
    pub(super) entered: bool,
    /// The list of VMs is wanted.
    pub(super) wants_list: bool,
    /// What was entered has not been answered.
    pub(super) answering: bool,
}

impl Mux {
    pub(super) fn new(uart: Box<dyn HostUart>) -> Self {
        Self {
            uart,
            queue: VecDeque::with_capacity(QUEUE_BYTES),
            ports: Vec::new(),
            focus: Writer::Vm(0),
            open: None,
            continued: 0,
            patience: 0,
            starved: false,
            focus_waits: false,
            held: false,
            escape: Escape::default(),
            typed: TypedLine::default(),
            entered: false,
            wants_list: false,
            answering: false,
        }
    }

    /// Adds all VMs.
    pub(super) fn connect(&mut self, ports: Vec<Port>, patience: u64) {
        self.ports = ports;
        self.patience = patience;
    }

    /// Takes what fits of a VM's output.
    pub(super) fn transmit(&mut self, vm: usize, bytes: &[u8], now: u64) -> usize {
        if self.focus == Writer::Vm(vm) || self.ports.len() <= vm {
            let taken = self.pass(vm, bytes, now);
            if self.open.is_none() {
                self.show_lines(now);
            }
            taken
        } else {
            self.keep(vm, bytes, now)
        }
    }

    /// Sends what fits of the output of the VM that has the focus.
    fn pass(&mut self, vm: usize, bytes: &[u8], now: u64) -> usize {
        let writer = Writer::Vm(vm);
        if self.open.is_some_and(|open| open != writer) {
            self.end_line();
        }
        let sent = if self.drain() {
            self.uart.transmit(bytes)
        } else {
            0
        };
        if let Some(last) = bytes.get(..sent).and_then(<[u8]>::last) {
            self.open = (*last != b'\n').then_some(writer);
            self.continued = now;
        }
        self.focus_waits = sent < bytes.len();
        if self.focus_waits {
            self.starve();
        }
        sent
    }

    /// Keeps what fits of a VM's output until its line is complete.
    fn keep(&mut self, vm: usize, bytes: &[u8], now: u64) -> usize {
        let mut taken = 0;
        for byte in bytes {
            if !self.has_room(vm) {
                // Rather a line cut short than a VM that waits for another.
                self.show_line(vm);
                if !self.has_room(vm) {
                    self.starve();
                    break;
                }
            }
            if let Some(port) = self.ports.get_mut(vm) {
                port.print(*byte);
            }
            taken += 1;
        }
        self.show_lines(now);
        taken
    }

    fn has_room(&self, vm: usize) -> bool {
        self.ports.get(vm).is_none_or(Port::has_output_room)
    }

    /// Shows the complete lines of all VMs, unless that would tear the one on the
    /// terminal.
    pub(super) fn show_lines(&mut self, now: u64) {
        for vm in 0..self.ports.len() {
            while self.ports.get(vm).is_some_and(Port::has_line)
                && self.may_interrupt(now)
                && self.show_line(vm)
            {}
        }
    }

    /// Tells whether lines wait that only a pause lets through.
    pub(super) fn has_lines(&self) -> bool {
        self.ports.iter().any(Port::has_line)
    }

    pub(super) const fn patience(&self) -> u64 {
        self.patience
    }

    fn may_interrupt(&self, now: u64) -> bool {
        match self.open {
            // The monitor's line is shown again.
            None | Some(Writer::Monitor) => true,
            Some(Writer::Vm(_)) => now.wrapping_sub(self.continued) >= self.patience,
        }
    }

    /// Composes one line of a VM, or all it has; `false` if there is no room.
    fn show_line(&mut self, vm: usize) -> bool {
        self.drain();
        let Some(len) = self.ports.get(vm).map(Port::line_len) else {
            return false;
        };
        if self.focus_waits || self.queue.len() + len + AROUND_LINE_BYTES > QUEUE_BYTES {
            self.starve();
            return false;
        }
        let interrupted = self.open;
        self.end_line();
        if let Some(port) = self.ports.get_mut(vm) {
            self.queue.extend(port.name().bytes());
            self.queue.extend(b"| ");
            self.queue.extend(port.take_line());
            self.queue.extend(b"\r\n");
        }
        if interrupted == Some(Writer::Monitor) {
            self.compose_prompt();
        }
        if !self.drain() {
            self.starve();
        }
        true
    }

    /// Ends the line on the terminal, if it is not complete.
    fn end_line(&mut self) {
        if self.open.take().is_some() {
            self.queue.extend(b"\r\n");
        }
    }

    fn compose_prompt(&mut self) {
        self.queue.extend(PROMPT.bytes());
        self.queue.extend(self.typed.as_str().bytes());
        self.open = Some(Writer::Monitor);
    }

    /// Sends what is composed; tells whether that was all.
    pub(super) fn drain(&mut self) -> bool {
        while !self.queue.is_empty() {
            let sent = self.uart.transmit(self.queue.as_slices().0);
            if sent == 0 {
                return false;
            }
            self.queue.drain(..sent);
        }
        true
    }

    /// Asks for an interrupt when there is room again.
    fn starve(&mut self) {
        if !self.starved {
            self.starved = true;
            self.uart.listen_transmit(true);
        }
    }

    /// Sends what is composed. Whoever waits has to try again now.
    pub(super) fn resume(&mut self) {
        self.starved = false;
        self.focus_waits = false;
        if !self.drain() {
            self.starved = true;
        }
    }

    /// Stops asking for it, if nobody waits any more.
    pub(super) fn sate(&mut self) {
        if !self.starved {
            self.uart.listen_transmit(false);
        }
    }

    /// Sends `bytes`. Waits until the UART has taken all.
    pub(super) fn send_all(&mut self, mut bytes: &[u8]) {
        while !self.drain() {}
        while !bytes.is_empty() {
            let sent = self.uart.transmit(bytes);
            bytes = bytes.get(sent..).unwrap_or_default();
        }
    }

    /// Writes a line of the hypervisor's own, on a line of its own. Waits until
    /// the UART has taken all.
    pub(super) fn write_line(&mut self, text: fmt::Arguments<'_>) {
        let interrupted = self.open;
        self.end_line();
        // The sink never fails.
        let _ = write!(LineWriter(self), "{text}");
        self.send_all(b"\r\n");
        if interrupted == Some(Writer::Monitor) {
            self.prompt();
        }
    }

    /// Shows the monitor's prompt and what has been typed after it.
    pub(super) fn prompt(&mut self) {
        self.end_line();
        self.compose_prompt();
        self.send_all(b"");
    }

    /// Ends the monitor's line, for its answer.
    pub(super) fn end_typed_line(&mut self) {
        self.end_line();
        self.send_all(b"");
    }

    /// Gives the focus to another. What a VM has kept of its last line appears
    /// with it, as it came.
    pub(super) fn set_focus(&mut self, focus: Writer, now: u64) {
        self.end_line();
        self.focus = focus;
        self.focus_waits = false;
        match focus {
            Writer::Monitor => {
                self.write_line(format_args!("[armature] console: monitor; try help"));
                self.prompt();
            }
            Writer::Vm(vm) => {
                let Some(port) = self.ports.get(vm) else {
                    return;
                };
                let name = Arc::clone(port.name());
                self.write_line(format_args!("[armature] console: VM {vm} ({name})"));
                if let Some(port) = self.ports.get_mut(vm) {
                    self.queue.extend(port.take_output());
                }
                if let Some(last) = self.queue.back() {
                    self.open = (*last != b'\n').then_some(focus);
                    self.continued = now;
                }
                if !self.drain() {
                    self.starve();
                }
            }
        }
    }

    /// Completes the last line of a VM that has come to its end; nobody reads
    /// what is typed to it until it is `open` again.
    pub(super) fn end(&mut self, vm: usize, open: bool, now: u64) {
        if let Some(port) = self.ports.get_mut(vm) {
            port.set_open(open);
            port.complete_line();
        }
        self.show_lines(now);
        if !open {
            self.release();
        }
    }

    /// Waits until a VM can print some more.
    pub(super) fn make_room(&mut self, vm: usize) {
        self.focus_waits = false;
        self.send_all(b"");
        if self.focus != Writer::Vm(vm) {
            self.show_line(vm);
        }
    }

    /// Sends everything that waits, complete or not. Waits until the UART has
    /// taken all.
    pub(super) fn finish(&mut self) {
        self.focus_waits = false;
        for vm in 0..self.ports.len() {
            while self.ports.get(vm).is_some_and(Port::has_output) {
                self.send_all(b"");
                self.show_line(vm);
            }
        }
        self.send_all(b"");
    }
}

/// Sends text, with line feeds as a terminal wants them.
struct LineWriter<'a>(&'a mut Mux);

impl Write for LineWriter<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for (n, line) in text.split('\n').enumerate() {
            if n > 0 {
                self.0.send_all(b"\r\n");
            }
            self.0.send_all(line.as_bytes());
        }
        Ok(())
    }
}

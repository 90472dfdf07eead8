//! The PL011 UART (Arm DDI 0183), revision r1p5 with FIFOs of 32 characters.
//!
//! Where an emulated UART cannot or should not be one of silicon:
//!
//! - There is no line rate. What is written leaves at once, as far as the
//!   backend takes it; the divisors are kept and mean nothing.
//! - A receive timeout has always just elapsed: the receive-timeout interrupt
//!   is raised as long as a character waits, and UARTICR cannot clear it
//!   before. So no input is left lying, whatever trigger level is set.
//! - The transmit interrupt rises whenever characters leave the FIFO and it is
//!   then at or below its trigger level, even if it never was above.
//! - Early consoles write without enabling anything: UARTDR transmits whatever
//!   UARTCR says, and the receiver is on until the guest first writes UARTCR.
//! - The far end is always ready: CTS, DSR and DCD are asserted.

mod fifo;
mod regs;

use vm_contract::{
    AccessError, BaseDeviceOps, DeviceContext, DeviceKind, GuestPhysAddr, GuestPhysAddrRange,
    IrqLine, Width,
};

use crate::output::Output;
use crate::primecell;
use fifo::Fifo;
use regs::{Control, Flags, Interrupts, LineControl, Register, trigger_level};

/// Where the bytes go that a guest transmits.
pub trait SerialBackend: Send {
    /// Takes as many of `bytes` as there is room for, from the first on, and
    /// returns how many. Must not wait. The UART keeps the rest and offers it
    /// again at the guest's next access and at [`Pl011::pump`].
    fn transmit(&mut self, bytes: &[u8]) -> usize;
}

/// The UART does not take a received byte now; offer it again later, after the
/// guest has read or enabled the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the byte was not taken"]
pub struct Full;

impl core::fmt::Display for Full {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the receiver is full or disabled")
    }
}

impl core::error::Error for Full {}

/// A PL011 UART in front of a [`SerialBackend`].
#[derive(Debug)]
pub struct Pl011<S: SerialBackend> {
    base: GuestPhysAddr,
    backend: S,
    output: Output,
    state: State,
}

/// Everything that a reset brings back.
#[derive(Debug)]
struct State {
    transmitter: Fifo,
    receiver: Fifo,
    /// The overrun error in UARTRSR.
    overrun: bool,
    /// The overrun error in UARTDR, until a character finds room again.
    overrun_in_data: bool,
    line_control: LineControl,
    control: Control,
    /// Whether the guest has written UARTCR.
    configured: bool,
    /// The latched interrupts; receive timeout is not among them.
    latched: Interrupts,
    mask: Interrupts,
    fifo_levels: u8,
    irda_divisor: u8,
    integer_divisor: u16,
    fractional_divisor: u8,
    dma_control: u8,
}

impl Default for State {
    fn default() -> Self {
        Self {
            transmitter: Fifo::default(),
            receiver: Fifo::default(),
            overrun: false,
            overrun_in_data: false,
            line_control: LineControl::empty(),
            control: Control::TXE | Control::RXE,
            configured: false,
            latched: Interrupts::empty(),
            mask: Interrupts::empty(),
            fifo_levels: 0b010_010,
            irda_divisor: 0,
            integer_divisor: 0,
            fractional_divisor: 0,
            dma_control: 0,
        }
    }
}

impl<S: SerialBackend> Pl011<S> {
    /// Makes a UART whose registers lie at `base`.
    #[must_use]
    pub fn new(base: GuestPhysAddr, backend: S) -> Self {
        Self {
            base,
            backend,
            output: Output::default(),
            state: State::default(),
        }
    }

    /// Returns the backend.
    #[must_use]
    pub const fn backend(&self) -> &S {
        &self.backend
    }

    /// Returns the backend for a change.
    pub const fn backend_mut(&mut self) -> &mut S {
        &mut self.backend
    }

    /// Takes one byte from the far end of the line.
    ///
    /// # Errors
    /// [`Full`] if the FIFO has no room, if the guest has turned the receiver
    /// off or looped the line back. The caller keeps the byte: nothing is lost.
    pub fn receive(&mut self, line: &dyn IrqLine, byte: u8) -> Result<(), Full> {
        if !self.can_receive() {
            return Err(Full);
        }
        self.state.push_received(byte);
        self.update(line);
        Ok(())
    }

    /// Tells whether [`receive`](Self::receive) would take a byte.
    #[must_use]
    pub fn can_receive(&self) -> bool {
        let state = &self.state;
        let enabled = !state.configured || state.control.contains(Control::UARTEN | Control::RXE);
        enabled && !state.control.contains(Control::LBE) && !state.receiver_full()
    }

    /// Tells whether bytes wait for the backend.
    #[must_use]
    pub fn has_output(&self) -> bool {
        !self.state.transmitter.is_empty()
    }

    /// Offers waiting bytes to the backend again; call it when the backend has
    /// room.
    pub fn pump(&mut self, line: &dyn IrqLine) {
        self.drain();
        self.update(line);
    }

    /// Tells whether nothing waits for the backend, and the interrupt's wire is as it
    /// should be.
    #[inline]
    fn is_settled(&self) -> bool {
        self.state.transmitter.is_empty() && self.output.is_driven()
    }

    /// Moves bytes from the FIFO to the backend, as far as it takes them.
    #[inline]
    fn drain(&mut self) {
        if !self.state.transmitter.is_empty() {
            self.offer();
        }
    }

    /// Offers the backend what waits.
    #[inline(never)]
    fn offer(&mut self) {
        while !self.state.transmitter.is_empty() {
            let bytes = self.state.transmitter.contiguous();
            let taken = self.backend.transmit(bytes).min(bytes.len());
            if taken == 0 {
                return;
            }
            self.state.transmitter.discard(taken);
            self.state.note_transmitted();
        }
    }

    /// Transmits one byte that the guest wrote.
    fn transmit(&mut self, byte: u8) {
        if self.state.control.contains(Control::LBE) {
            self.state.push_received(byte);
            self.state.note_transmitted();
            return;
        }
        self.drain();
        if self.state.transmitter.is_empty() && self.backend.transmit(&[byte]) != 0 {
            self.state.note_transmitted();
        } else if !self.state.transmitter_full() {
            // A guest that writes into a full FIFO loses the byte.
            self.state.push_waiting(byte);
        }
    }

    fn update(&mut self, line: &dyn IrqLine) {
        self.output
            .drive(line, !self.state.masked_interrupts().is_empty());
    }
}

impl State {
    const fn depth(&self) -> usize {
        if self.line_control.contains(LineControl::FEN) {
            Fifo::DEPTH
        } else {
            1
        }
    }

    fn transmitter_full(&self) -> bool {
        self.transmitter.len() >= self.depth()
    }

    fn receiver_full(&self) -> bool {
        self.receiver.len() >= self.depth()
    }

    /// Returns the number of waiting characters at which UARTRXINTR rises.
    const fn receive_trigger(&self) -> usize {
        if self.line_control.contains(LineControl::FEN) {
            trigger_level(self.fifo_levels >> 3)
        } else {
            1
        }
    }

    /// Returns the number of waiting characters up to which UARTTXINTR rises.
    const fn transmit_trigger(&self) -> usize {
        if self.line_control.contains(LineControl::FEN) {
            trigger_level(self.fifo_levels)
        } else {
            0
        }
    }

    fn push_received(&mut self, byte: u8) {
        if self.receiver_full() {
            self.overrun = true;
            self.overrun_in_data = true;
            self.latched |= Interrupts::OE;
            return;
        }
        self.overrun_in_data = false;
        self.receiver.push(byte);
        if self.receiver.len() >= self.receive_trigger() {
            self.latched |= Interrupts::RX;
        }
    }

    fn pop_received(&mut self) -> u16 {
        let overrun = u16::from(self.overrun_in_data) << 11;
        let byte = self.receiver.pop().unwrap_or_default();
        if self.receiver.len() < self.receive_trigger() {
            self.latched -= Interrupts::RX;
        }
        overrun | u16::from(byte)
    }

    fn push_waiting(&mut self, byte: u8) {
        self.transmitter.push(byte);
        if self.transmitter.len() > self.transmit_trigger() {
            self.latched -= Interrupts::TX;
        }
    }

    fn note_transmitted(&mut self) {
        if self.transmitter.len() <= self.transmit_trigger() {
            self.latched |= Interrupts::TX;
        }
    }

    fn raw_interrupts(&self) -> Interrupts {
        let mut raw = self.latched;
        raw.set(Interrupts::RT, !self.receiver.is_empty());
        raw
    }

    fn masked_interrupts(&self) -> Interrupts {
        self.raw_interrupts() & self.mask
    }

    /// Returns the modem inputs; looped back, they are the modem outputs.
    fn modem_inputs(&self) -> Flags {
        if !self.control.contains(Control::LBE) {
            return Flags::CTS | Flags::DSR | Flags::DCD;
        }
        let mut inputs = Flags::empty();
        inputs.set(Flags::CTS, self.control.contains(Control::RTS));
        inputs.set(Flags::DSR, self.control.contains(Control::DTR));
        inputs.set(Flags::DCD, self.control.contains(Control::OUT1));
        inputs.set(Flags::RI, self.control.contains(Control::OUT2));
        inputs
    }

    #[inline(always)]
    fn flags(&self) -> Flags {
        let is_idle = self.transmitter.is_empty() && self.receiver.is_empty();
        if is_idle && !self.control.contains(Control::LBE) {
            // As it nearly always is.
            return Flags::CTS | Flags::DSR | Flags::DCD | Flags::TXFE | Flags::RXFE;
        }
        let mut flags = self.modem_inputs();
        let sending = !self.transmitter.is_empty();
        flags.set(Flags::BUSY, sending);
        flags.set(Flags::TXFE, !sending);
        flags.set(Flags::TXFF, self.transmitter_full());
        flags.set(Flags::RXFE, self.receiver.is_empty());
        flags.set(Flags::RXFF, self.receiver_full());
        flags
    }

    fn write_control(&mut self, control: Control) {
        let before = self.modem_inputs();
        self.control = control;
        self.configured = true;
        let changed = before ^ self.modem_inputs();
        for (input, interrupt) in [
            (Flags::RI, Interrupts::RI),
            (Flags::CTS, Interrupts::CTS),
            (Flags::DCD, Interrupts::DCD),
            (Flags::DSR, Interrupts::DSR),
        ] {
            if changed.contains(input) {
                self.latched |= interrupt;
            }
        }
    }

    fn read(&mut self, register: Register) -> u16 {
        match register {
            Register::Dr => self.pop_received(),
            Register::Rsr => u16::from(self.overrun) << 3,
            Register::Fr => self.flags().bits(),
            Register::Ilpr => self.irda_divisor.into(),
            Register::Ibrd => self.integer_divisor,
            Register::Fbrd => self.fractional_divisor.into(),
            Register::LcrH => self.line_control.bits().into(),
            Register::Cr => self.control.bits(),
            Register::Ifls => self.fifo_levels.into(),
            Register::Imsc => self.mask.bits(),
            Register::Ris => self.raw_interrupts().bits(),
            Register::Mis => self.masked_interrupts().bits(),
            Register::Icr => 0,
            Register::Dmacr => self.dma_control.into(),
        }
    }

    /// Writes any register but UARTDR.
    fn write(&mut self, register: Register, value: u16) {
        let [low, _] = value.to_le_bytes();
        match register {
            // The write clears the errors, whatever the value.
            Register::Rsr => self.overrun = false,
            Register::Ilpr => self.irda_divisor = low,
            Register::Ibrd => self.integer_divisor = value,
            Register::Fbrd => self.fractional_divisor = low & 0x3F,
            Register::LcrH => self.line_control = LineControl::from_bits_truncate(low),
            Register::Cr => self.write_control(Control::from_bits_truncate(value)),
            Register::Ifls => self.fifo_levels = low & 0x3F,
            Register::Imsc => self.mask = Interrupts::from_bits_truncate(value),
            Register::Icr => self.latched -= Interrupts::from_bits_truncate(value),
            Register::Dmacr => self.dma_control = low & 0b111,
            Register::Dr | Register::Fr | Register::Ris | Register::Mis => {}
        }
    }
}

impl<S: SerialBackend> BaseDeviceOps for Pl011<S> {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Serial
    }

    fn address_range(&self) -> GuestPhysAddrRange {
        primecell::window(self.base)
    }

    fn read(
        &mut self,
        context: &DeviceContext<'_>,
        offset: u64,
        width: Width,
    ) -> Result<u64, AccessError> {
        if offset == regs::FR && self.is_settled() && width != Width::Dword {
            // What drivers ask before each character, and nothing comes of it.
            return Ok(width.truncate(self.state.flags().bits().into()));
        }
        primecell::check_access(offset, width)?;
        let Some(register) = Register::at(offset) else {
            return Ok(primecell::identification(regs::PERIPH_ID, offset).into());
        };
        // A guest that waits for room in the FIFO makes room by asking.
        self.drain();
        let value = self.state.read(register);
        self.update(context.line);
        Ok(width.truncate(value.into()))
    }

    fn write(
        &mut self,
        context: &DeviceContext<'_>,
        offset: u64,
        width: Width,
        value: u64,
    ) -> Result<(), AccessError> {
        primecell::check_access(offset, width)?;
        let [low, high, ..] = width.truncate(value).to_le_bytes();
        match Register::at(offset) {
            Some(Register::Dr) => self.transmit(low),
            Some(register) => self.state.write(register, u16::from_le_bytes([low, high])),
            None => return Ok(()),
        }
        self.update(context.line);
        Ok(())
    }

    /// Returns to the power-on state. Bytes that the backend has not taken are
    /// offered to it once more and then dropped.
    fn reset(&mut self) {
        self.drain();
        self.state = State::default();
        self.output = Output::default();
    }
}

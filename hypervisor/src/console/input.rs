//! What is typed: for the VM or the monitor that has the focus, or for the
//! console itself.

use super::editor::{Echo, TypedLine};
use super::escape::Key;
use super::mux::{Mux, Writer};
use super::port::Port;

impl Mux {
    /// Takes one byte off the UART; `false` if there is none, or none may be
    /// taken now.
    pub(super) fn input(&mut self, now: u64) -> bool {
        match self.focus {
            Writer::Vm(vm) => {
                let Some(port) = self.ports.get(vm) else {
                    return false;
                };
                if !port.has_input_room() {
                    // Bytes wait in the UART and beyond, none is lost.
                    self.held = true;
                    self.uart.listen_receive(false);
                    return false;
                }
            }
            Writer::Monitor if self.answering => return false,
            Writer::Monitor => {}
        }
        let Some(byte) = self.uart.receive() else {
            return false;
        };
        match self.escape.feed(byte) {
            Key::Begun => {}
            Key::Typed(byte) => self.type_in(byte),
            Key::Next => {
                let next = match self.focus {
                    Writer::Vm(vm) if vm + 1 < self.ports.len() => vm + 1,
                    _ => 0,
                };
                self.set_focus(Writer::Vm(next), now);
            }
            Key::Vm(vm) if usize::from(vm) < self.ports.len() => {
                self.set_focus(Writer::Vm(vm.into()), now);
            }
            Key::Vm(vm) => {
                self.write_line(format_args!("[armature] console: there is no VM {vm}"));
            }
            Key::List => self.wants_list = true,
            Key::Monitor => self.set_focus(Writer::Monitor, now),
            Key::Help => self.write_line(format_args!("{}", super::KEYS)),
        }
        true
    }

    fn type_in(&mut self, byte: u8) {
        if let Writer::Vm(vm) = self.focus {
            if let Some(port) = self.ports.get_mut(vm) {
                port.type_in(byte);
            }
            return;
        }
        match self.typed.key(byte) {
            Echo::Nothing => {}
            Echo::Byte(byte) => self.send_all(&[byte]),
            Echo::Erase => self.send_all(b"\x08 \x08"),
            Echo::Enter => {
                self.end_typed_line();
                self.entered = true;
                self.answering = true;
            }
        }
    }

    /// Takes what was typed to a VM, byte by byte.
    pub(super) fn take_input(&mut self, vm: usize) -> Option<u8> {
        let byte = self.ports.get_mut(vm)?.take_input();
        if byte.is_some() {
            self.release();
        }
        byte
    }

    /// Receives again, if that was on hold.
    pub(super) fn release(&mut self) {
        if core::mem::take(&mut self.held) {
            self.uart.listen_receive(true);
        }
    }

    /// Tells whether something was typed that a VM has not read.
    pub(super) fn has_input(&self, vm: usize) -> bool {
        self.ports.get(vm).is_some_and(Port::has_input)
    }

    /// Takes what was entered, once. Nothing more is typed to the monitor until
    /// it is answered.
    pub(super) fn take_entered(&mut self) -> Option<TypedLine> {
        core::mem::take(&mut self.entered).then(|| core::mem::take(&mut self.typed))
    }

    /// Goes on after the answer.
    pub(super) fn answered(&mut self) {
        self.answering = false;
        if self.focus == Writer::Monitor {
            self.prompt();
        }
    }
}

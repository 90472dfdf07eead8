//! A console between a guest that does anything and somebody who types.

use super::{Finding, guest};
use crate::Console;
use crate::fakes::FakeTerminal;

/// Plays a driver of a console, and the terminal.
///
/// # Errors
/// What broke.
pub fn console(input: &[u8]) -> Result<(), Finding> {
    let device = Console::new(80, 25, FakeTerminal::default());
    guest::play::<_, 2>(device, input, |rig, bytes| {
        let terminal = rig.mmio.device_mut().backend_mut();
        terminal.shown.clear();
        terminal.room = bytes.byte().into();
        let typed = core::iter::repeat_n(b'x', bytes.byte().into());
        terminal.typed.extend(typed);
        if bytes.byte() & 1 != 0 {
            rig.poll();
        }
        Ok(())
    })
}

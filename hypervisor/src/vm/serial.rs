//! The VM's serial line and its clock: where the outside world comes in.

use vm_contract::{IntId, VcpuId};

use super::{Line, Vm};

impl Vm {
    /// Sends what waits in the VM's UART; tells whether some of it still does.
    pub fn send_serial(&self, current: Option<VcpuId>) -> bool {
        let line = Line::new(self, self.serial_intid, current);
        let mut serial = self.serial.lock();
        serial.pump(&line);
        serial.has_output()
    }

    /// Gives the VM's UART what was typed, as long as there is room.
    pub fn receive_serial(&self, current: Option<VcpuId>) {
        let line = Line::new(self, self.serial_intid, current);
        let mut serial = self.serial.lock();
        self.console.set_input_waits(self.id, false);
        while serial.can_receive() {
            let Some(byte) = self.console.take_input(self.id) else {
                return;
            };
            // There is room.
            let _ = serial.receive(&line, byte);
        }
        self.console.set_input_waits(self.id, true);
    }

    /// Follows up on a guest's access to the device that drives `intid`: bytes for which
    /// there was no room may fit now.
    #[inline(always)]
    pub fn after_device_access(&self, intid: IntId) {
        if intid == self.serial_intid && self.console.input_waits(self.id) {
            self.receive_serial(None);
        }
    }

    /// Returns the time of an alarm, in counter ticks, that a write to the device that
    /// drives `intid` may have set.
    #[must_use]
    pub fn alarm_after_write(&self, intid: IntId) -> Option<u64> {
        if intid != self.rtc_intid {
            return None;
        }
        let deadline = self.rtc.lock().deadline()?;
        Some(self.clock.ticks_at(deadline))
    }

    /// Lets the real-time clock raise its alarm if that is due, and returns when
    /// to look again.
    #[must_use]
    pub fn poll_rtc(&self, current: Option<VcpuId>) -> Option<u64> {
        let line = Line::new(self, self.rtc_intid, current);
        let mut rtc = self.rtc.lock();
        rtc.poll(&line);
        let deadline = rtc.deadline()?;
        Some(self.clock.ticks_at(deadline))
    }
}

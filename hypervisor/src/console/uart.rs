//! The machine's UART, as far as the console needs it.

/// What the hypervisor needs of a UART's driver.
pub trait HostUart: Send {
    /// Sends as many of `bytes` as fit at once; returns how many those were.
    fn transmit(&mut self, bytes: &[u8]) -> usize;

    /// Takes one received byte.
    fn receive(&mut self) -> Option<u8>;

    /// Asks for an interrupt while there is something to receive.
    fn listen_receive(&mut self, on: bool);

    /// Asks for an interrupt when there is room to transmit.
    fn listen_transmit(&mut self, on: bool);
}

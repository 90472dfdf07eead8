//! What one instruction costs that ends in the hypervisor, or might.

use core::cell::Cell;

use test_guests::check_eq;
use test_guests::runtime::smccc::{self, Conduit};
use test_guests::runtime::virtio::{self, QueueMemory};
use test_guests::runtime::{console, gic, machine};

use super::operation;
use super::samples::measure;

/// A function that nobody defines: of the vendor's own hypervisor services.
const UNKNOWN: u32 = 0xC600_7FFF;

/// The data register of the clock (PL031).
const CLOCK: u64 = 0x0901_0000;

/// An interrupt that nothing raises.
const SPI: u32 = 40;

/// Pages of RAM, and where those begin that nobody has touched: the image, its
/// stacks and the device tree lie below or are stepped over.
const PAGE: u64 = 4096;
const FAR: u64 = 64 << 20;

/// The queue that is kicked. Its size is a power of two.
static QUEUE: QueueMemory = QueueMemory::new();
const QUEUE_SIZE: u32 = 16;

/// Measures all of them.
pub(crate) fn measure_all() {
    hypercalls();
    measure("id-register", operation::id_register);
    let (enable, bit) = gic::bit_register(gic::ISENABLER, SPI);
    let (disable, _) = gic::bit_register(gic::ICENABLER, SPI);
    measure("gicd-read", || operation::load(enable));
    let mut register = [enable, disable].into_iter().cycle();
    measure("gicd-write", || {
        operation::store(register.next().unwrap_or(enable), bit)
    });
    measure("device-read", || operation::load(CLOCK));
    measure("pl011-flags", || operation::load(console::UARTFR));
    virtio_kick();
    let page = Cell::new(machine::ram_start() + FAR);
    measure("first-touch", || {
        let (start, end) = machine::tree_range();
        let mut address = page.get();
        if address < end && address + PAGE > start {
            address = end.next_multiple_of(PAGE);
        }
        page.set(address + PAGE);
        operation::store(address, 1)
    });
}

/// Calls by HVC, where that is the way.
fn hypercalls() {
    if smccc::conduit() != Conduit::Hvc(0) {
        return;
    }
    // Without a hypervisor, what is unknown may be undefined.
    if smccc::psci_by(Conduit::Hvc(0), UNKNOWN, [0; 3]) == Ok(smccc::NOT_SUPPORTED) {
        measure("hypercall", || {
            let (ticks, answer) = operation::hypercall(UNKNOWN.into());
            check_eq!(answer.cast_signed(), smccc::NOT_SUPPORTED, "the answer");
            ticks
        });
    }
    let version = smccc::psci(smccc::PSCI_VERSION, [0; 3]);
    measure("psci-version", || {
        let (ticks, answer) = operation::hypercall(smccc::PSCI_VERSION.into());
        check_eq!(answer.cast_signed(), version, "PSCI_VERSION");
        ticks
    });
}

/// A kick of a queue of which all has been used already.
fn virtio_kick() {
    let Some(device) = virtio::Device::find(virtio::ENTROPY) else {
        return;
    };
    device.begin();
    device.set_queue(0, &QUEUE.queue(QUEUE_SIZE));
    device.go();
    QUEUE.describe(0, QUEUE.buffers(), 16, virtio::WRITE, 0);
    QUEUE.offer(0, 0);
    device.notify(0);
    check_eq!(QUEUE.used(), 1, "requests that are done");
    measure("virtio-kick", || operation::store(device.notifier(), 0));
    check_eq!(device.status() & virtio::NEEDS_RESET, 0, "NEEDS_RESET");
}

//! The `log` crate's messages on the console.

use alloc::sync::Arc;

use hypervisor::console::Console;
use log::{LevelFilter, Log, Metadata, Record};
use spin::Once;

static LOGGER: Logger = Logger(Once::new());

struct Logger(Once<Arc<Console>>);

impl Log for Logger {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        if let Some(console) = self.0.get() {
            match record.level() {
                log::Level::Error | log::Level::Warn => {
                    console.log(format_args!("{}: {}", record.level(), record.args()));
                }
                _ => console.log(*record.args()),
            }
        }
    }

    fn flush(&self) {}
}

/// Sends messages up to `level` to `console` from now on.
pub(crate) fn init(console: &Arc<Console>, level: LevelFilter) {
    LOGGER.0.call_once(|| Arc::clone(console));
    if log::set_logger(&LOGGER).is_ok() {
        log::set_max_level(level);
    }
}

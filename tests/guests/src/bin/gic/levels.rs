//! Lines that devices drive: the UART's transmit interrupt, an SPI, and the
//! virtual timer of each CPU, a PPI.

use test_guests::check;
use test_guests::runtime::{console, gic, mmio, random::Random, timer};

use crate::interface::Interface;
use crate::partner::{self, Request};
use crate::place::{bit, set_bit, set_priority};
use crate::snapshot::{self, Snapshot};
use crate::transcript::{add, line};

/// Describes INTIDs 32 to 47, the UART's among them.
const ICFGR2: u64 = gic::ICFGR + 8;
const UART: u32 = console::INTID;
const TIMER: u32 = timer::VIRTUAL_INTID;

/// A source of interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Uart,
    Timer(usize),
}

impl Source {
    const ALL: [Self; 3] = [Self::Uart, Self::Timer(0), Self::Timer(1)];

    fn intid(self) -> u32 {
        match self {
            Self::Uart => UART,
            Self::Timer(_) => TIMER,
        }
    }

    /// Returns the CPU that takes it.
    fn cpu(self) -> usize {
        match self {
            Self::Uart => 0,
            Self::Timer(cpu) => cpu,
        }
    }

    fn may_end_high<I: Interface>(self) -> bool {
        I::ENDS_HIGH_TIMERS || self == Self::Uart
    }

    fn write<I: Interface>(self, array: u64) {
        set_bit::<I>(array, self.cpu(), self.intid());
    }

    fn is_pending<I: Interface>(self) -> bool {
        bit::<I>(gic::ISPENDR, self.cpu(), self.intid())
    }

    /// Waits until a line that went high is seen: the time that a timer takes
    /// for that is its own.
    fn wait_until_pending<I: Interface>(self) {
        let seen = timer::wait_until(|| self.is_pending::<I>());
        check!(seen, "{self:?} does not become pending");
    }

    /// Drives the line.
    fn drive(self, high: bool) {
        match self {
            Self::Uart => {
                let mask = if high { console::TX_INTERRUPT } else { 0 };
                mmio::write32(console::UARTIMSC, mask);
            }
            Self::Timer(0) => partner::drive_timer(high),
            Self::Timer(_) => {
                partner::ask(Request::Timer(high));
            }
        }
    }
}

/// Prepares the GIC and the UART, whose transmitter has nothing to do.
fn prepare<I: Interface>() -> Snapshot<I> {
    snapshot::start_over::<I>();
    console::drain();
    let idle = || mmio::read32(console::UARTRIS) & console::TX_INTERRUPT != 0;
    check!(timer::wait_until(idle), "the transmitter is never done");
    for source in Source::ALL {
        let priority = if source == Source::Uart { 0x40 } else { 0x80 };
        set_priority::<I>(source.cpu(), source.intid(), priority);
        source.write::<I>(gic::ISENABLER);
    }
    mmio::write32(gic::GICD + gic::CTLR, I::ENABLE);
    Snapshot::take()
}

/// Each source by itself: high, taken, ended while it is still high, low.
pub(crate) fn one_by_one<I: Interface>() {
    line!("== levels");
    let mut now = prepare::<I>();
    for source in Source::ALL {
        let cpu = source.cpu();
        let mut step = |what: &str, action: &dyn Fn() -> u64| {
            let value = action();
            add!("{source:?} {what} {value}");
            now.advance();
        };
        let raise = || {
            source.drive(true);
            source.wait_until_pending::<I>();
            0
        };
        let lower = || {
            source.drive(false);
            0
        };
        let take = || I::IAR.read(cpu);
        let end = || {
            I::EOIR.write(cpu, source.intid().into());
            0
        };
        step("high", &raise);
        step("low", &lower);
        step("nothing", &take);
        step("high", &raise);
        step("taken", &take);
        if source.may_end_high::<I>() {
            step("ended, high", &end);
            step("taken", &take);
        }
        step("low", &lower);
        step("ended, low", &end);
        step("nothing", &take);
    }
}

/// What the walk knows.
struct Walk<I> {
    random: Random,
    high: [bool; 3],
    /// The sources that each CPU has acknowledged and not ended.
    begun: [[Option<Source>; 3]; 2],
    uart_is_edge: bool,
    now: Snapshot<I>,
}

/// All of them in pseudo-random order, with the registers that matter to them.
pub(crate) fn at_random<I: Interface>() {
    line!("== levels at random");
    let now = prepare::<I>();
    let mut walk = Walk {
        random: Random::new(21),
        high: [false; 3],
        begun: [[None; 3]; 2],
        uart_is_edge: false,
        now,
    };
    for step in 0..500 {
        add!("{step}");
        walk.go();
        walk.now.advance();
    }
    for source in Source::ALL {
        source.drive(false);
    }
}

impl<I: Interface> Walk<I> {
    fn go(&mut self) {
        let index = self.random.index(3);
        let source = Source::ALL.get(index).copied().unwrap_or(Source::Uart);
        match self.random.below(16) {
            0..4 => self.drive(index, source),
            4..8 => self.acknowledge(source.cpu()),
            8..11 => self.end(source.cpu()),
            11 | 12 if source != Source::Uart && !I::writes_private(gic::ISPENDR) => add!(" -"),
            11 => self.write(source, "ISPENDR", gic::ISPENDR),
            12 => self.write(source, "ICPENDR", gic::ICPENDR),
            13 => self.write(source, "ICENABLER", gic::ICENABLER),
            14 => self.write(source, "ISENABLER", gic::ISENABLER),
            _ => self.configure(),
        }
    }

    fn is_active(&self, source: Source) -> bool {
        let mut begun = self.begun.iter().flatten();
        begun.any(|begun| *begun == Some(source))
    }

    fn drive(&mut self, index: usize, source: Source) {
        let Some(high) = self.high.get_mut(index) else {
            return;
        };
        *high = !*high;
        let high = *high;
        add!(" {source:?} {}", if high { "high" } else { "low" });
        source.drive(high);
        if high && matches!(source, Source::Timer(_)) && !self.is_active(source) {
            source.wait_until_pending::<I>();
        }
    }

    fn write(&self, source: Source, name: &str, array: u64) {
        add!(" {source:?} {name}");
        source.write::<I>(array);
    }

    fn acknowledge(&mut self, cpu: usize) {
        let intid = I::IAR.read(cpu);
        add!(" C{cpu}.{:?}:{intid}", I::IAR);
        let sources = [Source::Uart, Source::Timer(cpu)];
        let taken = sources.iter().find(|one| u64::from(one.intid()) == intid);
        if let Some(begun) = self.begun.get_mut(cpu)
            && let Some(free) = begun.iter_mut().find(|begun| begun.is_none())
        {
            *free = taken.copied();
        }
    }

    fn end(&mut self, cpu: usize) {
        let Some(begun) = self.begun.get_mut(cpu) else {
            return;
        };
        match begun.iter_mut().rev().find_map(Option::take) {
            Some(source) => {
                if !source.may_end_high::<I>() {
                    self.lower(source);
                }
                add!(" C{cpu}.{:?}={}", I::EOIR, source.intid());
                I::EOIR.write(cpu, source.intid().into());
                let high = Source::ALL
                    .iter()
                    .zip(self.high)
                    .any(|pair| pair == (&source, true));
                if high && matches!(source, Source::Timer(_)) {
                    source.wait_until_pending::<I>();
                }
            }
            None => add!(" -"),
        }
    }

    /// Lowers the line of a source.
    fn lower(&mut self, source: Source) {
        let lines = Source::ALL.iter().zip(&mut self.high);
        for (_, high) in lines.filter(|(one, _)| **one == source) {
            add!(" {source:?} low");
            *high = false;
        }
        source.drive(false);
    }

    /// Makes the UART's interrupt edge-triggered or level-sensitive while it is
    /// disabled; what is pending then is UNKNOWN, so it is cleared.
    fn configure(&mut self) {
        if self.is_active(Source::Uart) {
            return add!(" -");
        }
        self.uart_is_edge = !self.uart_is_edge;
        add!(" Uart edge {}", self.uart_is_edge);
        Source::Uart.write::<I>(gic::ICENABLER);
        let bit = 0b10 << (2 * (UART % 16));
        let value = mmio::read32(gic::GICD + ICFGR2) & !bit;
        let value = if self.uart_is_edge {
            value | bit
        } else {
            value
        };
        mmio::write32(gic::GICD + ICFGR2, value);
        Source::Uart.write::<I>(gic::ICPENDR);
    }
}

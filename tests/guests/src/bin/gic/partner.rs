//! CPU 1, which does what CPU 0 asks: so everything happens in one order.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use test_guests::runtime::{mmio, smp, timer, verdict};
use test_guests::{check, sysreg};

use crate::interface::{Interface, MOST_VISIBLE};
use crate::taken;

/// What CPU 1 can be asked to do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Request {
    /// Reads the register of its interface that has this number, and writes it.
    Read(usize),
    Write(usize, u64),
    /// Reads all registers of its interface whose reading changes nothing.
    ReadVisible,
    /// Loads from this many addresses.
    LoadList(usize),
    /// Raises the line of its virtual timer, or lowers it.
    Timer(bool),
    /// Takes interrupts by exceptions until this many have come.
    Take(u64),
    /// Prepares its part of the GIC.
    Init,
    /// Loads a word from this address, and stores one.
    Load(u64),
    Store(u64, u32),
    /// Stores a byte.
    StoreByte(u64, u8),
    Leave,
}

const READ: u64 = 0;
const WRITE: u64 = 1;
const TIMER: u64 = 2;
const TAKE: u64 = 3;
const INIT: u64 = 4;
const LOAD: u64 = 5;
const STORE: u64 = 6;
const STORE_BYTE: u64 = 7;
const READ_VISIBLE: u64 = 8;
const LOAD_LIST: u64 = 9;
const LEAVE: u64 = 10;

impl Request {
    fn encode(self) -> (u64, u64) {
        match self {
            Self::Read(register) => (READ | (register as u64) << 8, 0),
            Self::Write(register, value) => (WRITE | (register as u64) << 8, value),
            Self::Timer(high) => (TIMER, high.into()),
            Self::Take(count) => (TAKE, count),
            Self::Init => (INIT, 0),
            Self::Load(address) => (LOAD, address),
            Self::Store(address, value) => (STORE | u64::from(value) << 8, address),
            Self::StoreByte(address, value) => (STORE_BYTE | u64::from(value) << 8, address),
            Self::ReadVisible => (READ_VISIBLE, 0),
            Self::LoadList(count) => (LOAD_LIST, count as u64),
            Self::Leave => (LEAVE, 0),
        }
    }
}

/// Counts requests; odd while one is under way.
static TURN: AtomicU32 = AtomicU32::new(0);
static WORDS: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
static ANSWER: AtomicU64 = AtomicU64::new(0);
/// What a request or an answer of many words consists of.
static LIST: [AtomicU64; 64] = [const { AtomicU64::new(0) }; 64];

/// Turns CPU 1 on and prepares its part of the GIC.
pub(crate) fn start<I: Interface>() {
    smp::start(1, serve::<I>);
    ask(Request::Init);
}

/// Turns CPU 1 off.
pub(crate) fn leave() {
    post(Request::Leave);
    smp::join(1);
    TURN.store(0, Ordering::Release);
}

/// Lets CPU 1 do something and waits for the answer.
pub(crate) fn ask(request: Request) -> u64 {
    post(request);
    answer()
}

/// Reads all registers of the interface of CPU 1 whose reading changes nothing.
///
/// One request for all: where the host has few CPUs, each costs it a good while.
pub(crate) fn visible(values: &mut [u64; MOST_VISIBLE]) {
    ask(Request::ReadVisible);
    for (value, slot) in values.iter_mut().zip(&LIST) {
        *value = slot.load(Ordering::Relaxed);
    }
}

/// Lets CPU 1 load from at most 64 addresses, and returns what is there.
pub(crate) fn load_all(addresses: impl Iterator<Item = u64>) -> impl Iterator<Item = u64> {
    let mut count = 0;
    for (n, address) in addresses.enumerate() {
        let slot = LIST.get(n);
        check!(slot.is_some(), "CPU 1 is asked for too many words");
        if let Some(slot) = slot {
            slot.store(address, Ordering::Relaxed);
        }
        count += 1;
    }
    ask(Request::LoadList(count));
    LIST.iter().map(|slot| slot.load(Ordering::Relaxed))
}

/// Asks for something whose end [`answer`] waits for.
pub(crate) fn post(request: Request) {
    let (code, value) = request.encode();
    let [first, second] = &WORDS;
    first.store(code, Ordering::Relaxed);
    second.store(value, Ordering::Relaxed);
    TURN.fetch_add(1, Ordering::Release);
}

/// Waits for the answer to what was posted.
pub(crate) fn answer() -> u64 {
    let done = timer::wait_until(|| TURN.load(Ordering::Acquire).is_multiple_of(2));
    check!(done, "CPU 1 does not answer");
    ANSWER.load(Ordering::Relaxed)
}

fn serve<I: Interface>() {
    loop {
        while TURN.load(Ordering::Acquire).is_multiple_of(2) {
            core::hint::spin_loop();
        }
        let [code, value] = WORDS.each_ref().map(|word| word.load(Ordering::Relaxed));
        let register = I::numbered(code >> 8);
        let answer = match (code & 0xFF, register) {
            (READ, Some(register)) => register.read_here(),
            (WRITE, Some(register)) => {
                register.write_here(value);
                0
            }
            (READ_VISIBLE, _) => {
                for (slot, register) in LIST.iter().zip(I::VISIBLE) {
                    slot.store(register.read_here(), Ordering::Relaxed);
                }
                0
            }
            (LOAD_LIST, _) => {
                for slot in LIST.iter().take(usize::try_from(value).unwrap_or(0)) {
                    let word = mmio::read32(slot.load(Ordering::Relaxed));
                    slot.store(word.into(), Ordering::Relaxed);
                }
                0
            }
            (TIMER, _) => {
                drive_timer(value != 0);
                0
            }
            (TAKE, _) => {
                taken::take::<I>(value);
                0
            }
            (INIT, _) => {
                I::init_cpu();
                0
            }
            (LOAD, _) => mmio::read32(value).into(),
            (STORE, _) => {
                mmio::write32(value, (code >> 8 & 0xFFFF_FFFF) as u32);
                0
            }
            (STORE_BYTE, _) => {
                mmio::write8(value, (code >> 8 & 0xFF) as u8);
                0
            }
            (LEAVE, _) => return,
            _ => verdict::fail(format_args!("CPU 1 is asked {code:#x} {value:#x}")),
        };
        ANSWER.store(answer, Ordering::Relaxed);
        TURN.fetch_add(1, Ordering::Release);
    }
}

/// Raises the line of this CPU's virtual timer, or lowers it: the time that it
/// waits for has always passed.
pub(crate) fn drive_timer(high: bool) {
    sysreg!("cntv_cval_el0", 0);
    sysreg!("cntv_ctl_el0", if high { timer::ENABLE } else { 0 });
}

//! What an exit means: from the syndrome to a reason, in one pure step.

use vm_contract::GuestPhysAddr;

use crate::TrapFrame;
use crate::exception::Exception;
use crate::sysreg::SystemRegister;

mod access;
mod fault;
pub(crate) mod syndrome;

use access::DataAccess;
pub use access::{LoadTarget, MmioRead, MmioWrite, UndecodedAccess};
pub use fault::{CacheMaintenance, ExternalAbort, FaultKind, Stage2Fault};
use syndrome::class;
pub use syndrome::instruction_length;

/// Holds what the hardware said when the guest stopped, unread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RawExit {
    /// A synchronous exception from EL1 or EL0.
    Synchronous(Syndrome),
    /// A physical IRQ is waiting. ESR_EL2 is stale.
    Irq,
    /// A physical FIQ is waiting. ESR_EL2 is stale.
    Fiq,
    /// A physical SError interrupt was taken.
    SError {
        /// ESR_EL2.
        esr: u64,
    },
}

/// Holds the syndrome registers of a synchronous exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Syndrome {
    /// ESR_EL2.
    pub esr: u64,
    /// FAR_EL2. Meaningful for aborts only.
    pub far: u64,
    /// HPFAR_EL2. Meaningful for some stage-2 faults only.
    pub hpfar: u64,
}

impl Syndrome {
    /// HPFAR_EL2.FIPA, bits 47:4: bits 55:12 of the IPA, of which those the
    /// CPU does not implement are zero.
    const FIPA: u64 = 0x0000_FFFF_FFFF_FFF0;

    /// Returns ESR_EL2.EC, the exception class: 0 to 0x3F.
    #[inline]
    #[must_use]
    pub const fn class(&self) -> u64 {
        self.esr >> syndrome::EC_SHIFT & 0x3F
    }

    /// Returns the guest physical address in the 4 KiB page of HPFAR_EL2 and
    /// at the offset into it that `address` has. A virtual address has the
    /// offset of the physical one.
    #[inline]
    const fn fault_address(&self, address: u64) -> GuestPhysAddr {
        guest_address((self.hpfar & Self::FIPA) << 8 | address & 0xFFF)
    }
}

/// Converts an address of at most 56 bits.
#[inline]
pub(crate) const fn guest_address(address: u64) -> GuestPhysAddr {
    const { assert!(usize::BITS == 64, "guest addresses have up to 56 bits") };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "usize has 64 bits, as asserted above"
    )]
    GuestPhysAddr::from_usize(address as usize)
}

/// A trapped MRS. The guest is owed a value in a register and a step over the
/// instruction.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the guest is owed the register's value and a step of its PC"]
pub struct SystemRegisterRead {
    register: SystemRegister,
    target: u8,
}

impl SystemRegisterRead {
    /// Returns the register read.
    #[inline]
    #[must_use]
    pub const fn register(&self) -> SystemRegister {
        self.register
    }

    /// Returns the number of the general register that receives the value,
    /// 0 to 31; 31 is XZR.
    #[inline]
    #[must_use]
    pub const fn target(&self) -> usize {
        self.target as usize
    }
}

/// A trapped MSR or system instruction. The guest is owed a step over it.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the guest is owed a step of its PC"]
pub struct SystemRegisterWrite {
    register: SystemRegister,
    value: u64,
}

impl SystemRegisterWrite {
    /// Returns the register written, or the system instruction (op0 = 1).
    #[inline]
    #[must_use]
    pub const fn register(&self) -> SystemRegister {
        self.register
    }

    /// Returns the value written, or the operand of the system instruction.
    #[inline]
    #[must_use]
    pub const fn value(&self) -> u64 {
        self.value
    }
}

/// Says why a guest stopped, and what it is owed.
///
/// Of the instructions, only HVC has the PC behind it already. The PC still
/// points *at* a trapped SMC, WFI, WFE, MRS or MSR, and at whatever aborted.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
// The tag has a word of its own: what follows is moved by words, not by bytes.
#[repr(u64)]
#[must_use = "the guest waits for an answer"]
pub enum AxVCpuExitReason {
    /// An HVC from EL1. The PC points behind it.
    Hypercall {
        /// The instruction's immediate operand.
        immediate: u16,
    },
    /// An SMC from EL1. The PC points at it.
    SecureMonitorCall {
        /// The instruction's immediate operand.
        immediate: u16,
    },
    /// A load from where nothing is mapped.
    MmioRead(MmioRead),
    /// A store to where nothing is mapped.
    MmioWrite(MmioWrite),
    /// A load or store where nothing is mapped, which only the instruction
    /// itself describes.
    UndecodedAccess(UndecodedAccess),
    /// A trapped MRS.
    SystemRegisterRead(SystemRegisterRead),
    /// A trapped MSR or system instruction.
    SystemRegisterWrite(SystemRegisterWrite),
    /// Stage 2 refused something else than a data access to an unmapped
    /// address.
    Stage2Fault(Stage2Fault),
    /// A cache maintenance instruction where nothing is mapped.
    CacheMaintenance(CacheMaintenance),
    /// A synchronous external abort.
    ExternalAbort(ExternalAbort),
    /// WFI: the guest sleeps until an interrupt.
    WaitForInterrupt,
    /// WFE: the guest spins and yields. WFIT and WFET are reported as this
    /// too: they end at a time that need not be known, for all of these may
    /// end early.
    WaitForEvent,
    /// A physical IRQ is waiting to be acknowledged.
    ExternalInterrupt,
    /// A physical FIQ is waiting to be acknowledged.
    FastInterrupt,
    /// A physical SError interrupt was taken while the guest ran.
    SError {
        /// ESR_EL2.
        esr: u64,
    },
    /// What the guest tried does not exist for it: its EL1 takes this
    /// exception. [`decode`] only says so;
    /// [`inject`](crate::exception::inject) does it.
    Injected(Exception),
    /// EL2 itself faulted. No guest can cause this; the hypervisor is broken.
    HypervisorFault(Syndrome),
}

/// Reads what the hardware said. `frame` supplies the values that the guest
/// writes.
///
/// Total: every syndrome has a reason. What this crate does not know, the
/// guest does not have, and gets an exception for.
///
/// ```
/// use arm_vcpu::exit::{AxVCpuExitReason, RawExit, Syndrome, decode};
/// use arm_vcpu::TrapFrame;
///
/// // STRB W3, [X0], and X0 led to 0x0900_0000.
/// let exit = RawExit::Synchronous(Syndrome {
///     esr: 0x9303_0045,
///     far: 0xFFFF_8000_1000_0000,
///     hpfar: 0x9_0000,
/// });
/// let mut frame = TrapFrame::default();
/// frame.set_gpr(3, u64::from(b'A'));
/// let AxVCpuExitReason::MmioWrite(write) = decode(&exit, &frame) else {
///     unreachable!();
/// };
/// assert_eq!(usize::from(write.address()), 0x0900_0000);
/// assert_eq!((write.width().bytes(), write.value()), (1, 0x41));
/// ```
#[inline]
pub fn decode(exit: &RawExit, frame: &TrapFrame) -> AxVCpuExitReason {
    struct Whole<'a>(&'a TrapFrame);

    impl Taker for Whole<'_> {
        type Outcome = AxVCpuExitReason;

        #[inline(always)]
        fn gpr(&mut self, index: usize) -> u64 {
            self.0.gpr(index)
        }

        #[inline(always)]
        fn take(&mut self, reason: AxVCpuExitReason) -> AxVCpuExitReason {
            reason
        }
    }

    decode_for(&mut Whole(frame), exit)
}

/// Who wants to know what an exit means. Methods, and no closures, so that they can ask
/// to be inlined.
pub(crate) trait Taker {
    /// What becomes of it.
    type Outcome;

    /// Returns a general register of the guest.
    fn gpr(&mut self, index: usize) -> u64;

    /// Takes the reason.
    fn take(&mut self, reason: AxVCpuExitReason) -> Self::Outcome;
}

/// As [`decode`], and hands the reason to `taker`: inlined for each of the frequent
/// ones, so that these are told apart once only, and never put together in memory.
#[inline(always)]
pub(crate) fn decode_for<T: Taker>(taker: &mut T, exit: &RawExit) -> T::Outcome {
    let syndrome = match exit {
        RawExit::Synchronous(syndrome) => syndrome,
        RawExit::Irq => return taker.take(AxVCpuExitReason::ExternalInterrupt),
        _ => return taker.take(decode_asynchronous(exit)),
    };
    let esr = syndrome.esr;
    match syndrome.class() {
        class::HVC64 => taker.take(AxVCpuExitReason::Hypercall {
            immediate: immediate(esr),
        }),
        class::DATA_ABORT if is_usual(esr) || is_described(esr) => {
            let address = syndrome.fault_address(syndrome.far);
            match access::data_access(esr, syndrome.far, address, |n| taker.gpr(n)) {
                DataAccess::Read(read) => taker.take(AxVCpuExitReason::MmioRead(read)),
                DataAccess::Write(write) => taker.take(AxVCpuExitReason::MmioWrite(write)),
            }
        }
        class::SYSTEM_REGISTER => {
            // The ISS lies within the low 32 bits, Rt within five.
            let register = SystemRegister::from_iss((esr & 0xFFFF_FFFF) as u32);
            let rt = (esr >> 5 & 0x1F) as u8;
            if esr & 1 == 0 {
                let value = taker.gpr(rt.into());
                let write = SystemRegisterWrite { register, value };
                taker.take(AxVCpuExitReason::SystemRegisterWrite(write))
            } else {
                let read = SystemRegisterRead {
                    register,
                    target: rt,
                };
                taker.take(AxVCpuExitReason::SystemRegisterRead(read))
            }
        }
        class::WFX if esr & 0b11 == 0b00 => taker.take(AxVCpuExitReason::WaitForInterrupt),
        _ => taker.take(decode_rare(syndrome)),
    }
}

/// The low sixteen bits of the ISS.
#[inline(always)]
const fn immediate(esr: u64) -> u16 {
    (esr & 0xFFFF) as u16
}

/// Tells the same as [`is_described`] by a look at all the fields at once. Overlooks the
/// translation fault of level -1.
#[inline(always)]
const fn is_usual(esr: u64) -> bool {
    const LEVELS_0_TO_3: u64 = 0b00_0100;
    let fields = syndrome::ISV | syndrome::CM | syndrome::S1PTW | syndrome::FAULT_STATUS & !0b11;
    esr & fields == syndrome::ISV | LEVELS_0_TO_3
}

/// Tells whether a data abort is a load or store where nothing is mapped, of which the
/// syndrome says all.
#[inline(always)]
const fn is_described(esr: u64) -> bool {
    is_access(esr) && esr & syndrome::ISV != 0
}

/// Tells whether a data abort is a load or store where nothing is mapped.
#[inline(always)]
const fn is_access(esr: u64) -> bool {
    syndrome::is_translation_fault(esr & syndrome::FAULT_STATUS)
        && esr & (syndrome::CM | syndrome::S1PTW) == 0
}

#[cold]
#[inline(never)]
fn decode_asynchronous(exit: &RawExit) -> AxVCpuExitReason {
    match exit {
        RawExit::SError { esr } => AxVCpuExitReason::SError { esr: *esr },
        _ => AxVCpuExitReason::FastInterrupt,
    }
}

/// Reads the syndromes that are not frequent.
#[cold]
#[inline(never)]
fn decode_rare(syndrome: &Syndrome) -> AxVCpuExitReason {
    let esr = syndrome.esr;
    match syndrome.class() {
        class::DATA_ABORT if is_access(esr) => {
            AxVCpuExitReason::UndecodedAccess(UndecodedAccess::new(
                syndrome.fault_address(syndrome.far),
                syndrome.far,
                esr & syndrome::WNR != 0,
            ))
        }
        class::DATA_ABORT | class::INSTRUCTION_ABORT => decode_other_abort(*syndrome),
        class::WFX => AxVCpuExitReason::WaitForEvent,
        class::SMC64 => AxVCpuExitReason::SecureMonitorCall {
            immediate: immediate(esr),
        },
        class::SERROR => AxVCpuExitReason::SError { esr },
        class::ILLEGAL_STATE => AxVCpuExitReason::Injected(Exception::IllegalState),
        class::DATA_ABORT_SAME | class::INSTRUCTION_ABORT_SAME => {
            AxVCpuExitReason::HypervisorFault(*syndrome)
        }
        // FP, SVE, SME, debug, PAuth, LD64B, AArch32's coprocessor accesses
        // and calls, and whatever Arm has added since.
        _ => AxVCpuExitReason::Injected(Exception::Undefined),
    }
}

fn decode_other_abort(syndrome: Syndrome) -> AxVCpuExitReason {
    let esr = syndrome.esr;
    let status = esr & syndrome::FAULT_STATUS;
    if ExternalAbort::covers(status) {
        return AxVCpuExitReason::ExternalAbort(ExternalAbort::new(&syndrome));
    }
    let maintains_cache = syndrome.class() == class::DATA_ABORT
        && esr & (syndrome::CM | syndrome::S1PTW) == syndrome::CM;
    if maintains_cache && syndrome::is_translation_fault(status) {
        return AxVCpuExitReason::CacheMaintenance(CacheMaintenance {
            address: syndrome.fault_address(syndrome.far),
            virtual_address: syndrome.far,
            instruction_length: syndrome::instruction_bytes(esr),
        });
    }
    AxVCpuExitReason::Stage2Fault(Stage2Fault::new(&syndrome))
}

//! The values of the EL2 controls: which of the guest's actions are trapped,
//! and why. Pure functions of what the CPU has and what the guest is shown.

use aarch64_cpu::registers::{CNTHCTL_EL2, HCR_EL2, ICC_SRE_EL2, MDCR_EL2, SCTLR_EL1, TCR_EL1};

use crate::{CpuFeatures, IdRegisters, SystemRegister};

/// HCR_EL2.VSE: a virtual SError is pending. Cleared by the CPU when taken.
pub(crate) const HCR_VSE: u64 = HCR_EL2::VSE::SET.value;
/// HCR_EL2.TWI: a WFI that would wait is trapped.
pub(crate) const HCR_TWI: u64 = HCR_EL2::TWI::SET.value;

/// HCR_EL2 between guests: no stage 2, and every physical interrupt and SError
/// is EL2's. E2H is zero, so EL2 has a translation regime of its own.
pub(crate) const HCR_HOST: u64 = HCR_EL2::RW::SET.value
    | HCR_EL2::AMO::SET.value
    | HCR_EL2::IMO::SET.value
    | HCR_EL2::FMO::SET.value;

/// HCR_EL2 for every guest on every CPU.
const HCR_GUEST: u64 = HCR_HOST
    | HCR_EL2::VM::SET.value
    // Set/way invalidation also cleans, so it destroys no one's data.
    | HCR_EL2::SWIO::SET.value
    // A stage-1 walk through device memory faults instead of having effects.
    | HCR_EL2::PTW::SET.value
    // Maintenance and barriers that the guest means for one CPU reach every
    // CPU of the inner shareable domain, for a vCPU may since have moved.
    | HCR_EL2::FB::SET.value
    | HCR_EL2::BSU::InnerShareable.value
    | HCR_EL2::TSC::SET.value
    | HCR_EL2::TID3::SET.value
    | HCR_EL2::TACR::SET.value
    | HCR_EL2::TIDCP::SET.value;

/// Returns HCR_EL2 for a guest which is shown `ids` on a CPU with `features`.
/// WFI is not trapped; [`HCR_TWI`] adds that.
pub(crate) fn hcr(features: CpuFeatures, ids: &IdRegisters) -> u64 {
    let shown = shown(ids) & features;
    let optional = [
        (features, CpuFeatures::LOR, HCR_EL2::TLOR::SET.value),
        (
            features,
            CpuFeatures::RAS,
            HCR_EL2::TERR::SET.value | HCR_EL2::TEA::SET.value,
        ),
        (
            shown,
            CpuFeatures::PAUTH,
            HCR_EL2::API::SET.value | HCR_EL2::APK::SET.value,
        ),
        (shown, CpuFeatures::SCXTNUM, HCR_EL2::EnSCXT::SET.value),
    ];
    gather(HCR_GUEST, &optional)
}

/// HCRX_EL2.MSCEn: the memory copy and set instructions work at EL1 and EL0.
const HCRX_MSCEN: u64 = 1 << 11;

/// TCR_EL1.EPD0 and EPD1: a TLB miss of stage 1 faults instead of starting a
/// walk.
pub(crate) const TCR_NO_WALKS: u64 =
    TCR_EL1::EPD0::DisableTTBR0Walks.value | TCR_EL1::EPD1::DisableTTBR1Walks.value;

/// SCTLR_EL1.M: stage 1 is on.
pub(crate) const SCTLR_M: u64 = SCTLR_EL1::M::Enable.value;

/// Returns HCRX_EL2: every feature that it can enable is hidden from guests
/// and stays off, except the memory copy and set instructions when shown.
pub(crate) fn hcrx(features: CpuFeatures, ids: &IdRegisters) -> u64 {
    let isar2 = ids.read(SystemRegister::ID_AA64ISAR2_EL1).unwrap_or(0);
    let shows_mops = isar2 >> 16 & 0xF != 0;
    if features.contains(CpuFeatures::HCRX) && shows_mops {
        HCRX_MSCEN
    } else {
        0
    }
}

/// Returns CPTR_EL2. FP and SIMD are the guest's own; SVE, SME, trace and
/// activity monitors are trapped.
pub(crate) fn cptr(features: CpuFeatures) -> u64 {
    // RES1 where a feature is absent, the trap bit where it is present: TZ at
    // bit 8 (SVE) and TSM at bit 12 (SME). TFP, bit 10, is zero.
    const RES1_AND_TRAPS: u64 = 0x33FF;
    const TTA: u64 = 1 << 20;
    const TAM: u64 = 1 << 30;
    let optional = [
        (features, CpuFeatures::TRACE_REGISTERS, TTA),
        (features, CpuFeatures::AMU, TAM),
    ];
    gather(RES1_AND_TRAPS, &optional)
}

/// Returns MDCR_EL2: debug, performance monitors, profiling and trace are
/// trapped, and all `counters` event counters are left in EL1's range.
pub(crate) fn mdcr(features: CpuFeatures, counters: u64) -> u64 {
    let debug = MDCR_EL2::TDRA::SET.value | MDCR_EL2::TDOSA::SET.value | MDCR_EL2::TDA::SET.value;
    let optional = [
        (
            features,
            CpuFeatures::PMU,
            MDCR_EL2::TPM::SET.value | MDCR_EL2::TPMCR::SET.value | (counters & 0x1F),
        ),
        (features, CpuFeatures::SPE, MDCR_EL2::TPMS::SET.value),
        (
            features,
            CpuFeatures::TRACE_FILTER,
            MDCR_EL2::TTRF::SET.value,
        ),
    ];
    gather(debug, &optional)
}

/// CNTHCTL_EL2: guests read the physical counter; the physical timer traps.
pub(crate) const CNTHCTL: u64 = CNTHCTL_EL2::EL1PCTEN::SET.value;

/// ICC_SRE_EL2: system registers at EL2, no bypass. Enable is zero, so that
/// ICC_SRE_EL1 is trapped where it is not fixed anyhow.
pub(crate) const ICC_SRE: u64 =
    ICC_SRE_EL2::SRE::SET.value | ICC_SRE_EL2::DFB::SET.value | ICC_SRE_EL2::DIB::SET.value;

/// ICC_SRE_EL1, which no guest changes: system registers (SRE) and no bypass
/// (DFB, DIB). Were SRE zero, the guest would reach a GICv2 interface that
/// nobody provides.
pub(crate) const ICC_SRE_EL1: u64 = 0b111;

/// MPAM2_EL2.TRAPMPAM0EL1 and TRAPMPAM1EL1.
pub(crate) const MPAM2: u64 = 1 << 49 | 1 << 48;

/// VSESR_EL2.IDS: a virtual SError's syndrome is implementation defined, that
/// is, it claims nothing about what was lost.
pub(crate) const VSESR: u64 = 1 << 24;

/// Returns the features that a guest can find in `ids`.
pub(crate) fn shown(ids: &IdRegisters) -> CpuFeatures {
    CpuFeatures::detect(|register| ids.read(register).unwrap_or(0))
}

/// Tells whether a guest finds the GIC's system registers in `ids`.
pub(crate) fn shows_gic_registers(ids: &IdRegisters) -> bool {
    shown(ids).contains(CpuFeatures::GIC_SYSTEM_REGISTERS)
}

fn gather(base: u64, optional: &[(CpuFeatures, CpuFeatures, u64)]) -> u64 {
    optional
        .iter()
        .fold(base, |value, (present, wanted, bits)| {
            if present.contains(*wanted) {
                value | bits
            } else {
                value
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn el2_keeps_its_own_regime_and_the_default_cacheability_is_off() {
        const NEVER: u64 = HCR_EL2::E2H::SET.value
            | HCR_EL2::TGE::SET.value
            | HCR_EL2::DC::SET.value
            | HCR_EL2::TWE::SET.value
            | HCR_EL2::HCD::SET.value
            | HCR_EL2::ATA::SET.value;
        assert_eq!((HCR_GUEST | HCR_HOST) & NEVER, 0);
    }

    #[test]
    fn controls_of_absent_features_are_not_touched() {
        assert_eq!(cptr(CpuFeatures::empty()), 0x33FF);
        assert_eq!(mdcr(CpuFeatures::empty(), 6), 0xE00);
    }

    #[test]
    fn everything_not_virtualised_is_trapped_where_it_exists() {
        let all = CpuFeatures::all();
        assert_eq!(cptr(all), 0x33FF | 1 << 20 | 1 << 30);
        assert_eq!(
            mdcr(all, 6),
            0xE00 | 1 << 5 | 1 << 6 | 1 << 14 | 1 << 19 | 6
        );
    }

    #[test]
    fn every_event_counter_stays_in_the_range_of_el1() {
        assert_eq!(mdcr(CpuFeatures::PMU, 31) & 0x1F, 31);
        assert_eq!(mdcr(CpuFeatures::PMU, u64::MAX) & 0x100, 0, "TDE");
    }
}

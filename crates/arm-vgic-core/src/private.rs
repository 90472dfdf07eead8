//! What belongs to one vCPU: its SGIs and PPIs, and its CPU interface.

use alloc::boxed::Box;

use crate::bank::{Bank, Groups, Sent};
use crate::cpu_interface::CpuInterface;
use crate::list_register::ListRegister;
use crate::lpi::word_of;
use crate::sgi::Sources;
use crate::shared::Shared;

/// The interrupts and the CPU interface of one vCPU.
#[derive(Clone, Debug)]
pub(crate) struct Private {
    /// Interrupts are forwarded.
    pub(crate) awake: bool,
    /// LPIs can become pending.
    pub(crate) lpis_enabled: bool,
    pub(crate) bank: Bank,
    /// The physical interrupts behind linked PPIs.
    pub(crate) physical: [u16; 16],
    /// Who sent which SGI, where that matters.
    pub(crate) sources: Option<Box<Sources>>,
    pub(crate) interface: CpuInterface,
}

impl Private {
    /// The SGIs, which are always edge-triggered.
    pub(crate) const SGIS: u32 = 0xFFFF;

    /// Returns the state of a vCPU at reset.
    pub(crate) fn new() -> Self {
        Self {
            awake: true,
            lpis_enabled: false,
            bank: Bank::new(Self::SGIS),
            physical: [0; 16],
            sources: None,
            interface: CpuInterface::new(false),
        }
    }

    /// Makes SGIs remember who sent them, and the CPU interface that of a GICv2.
    pub(crate) fn follow_gicv2(&mut self) {
        self.sources = Some(Box::default());
        self.reset_interface();
    }

    /// Resets everything but the wires and the links to physical interrupts.
    pub(crate) fn reset(&mut self) {
        self.awake = true;
        self.lpis_enabled = false;
        self.bank.reset(Self::SGIS);
        if let Some(sources) = &mut self.sources {
            **sources = Sources::default();
        }
        self.interface.claims.clear();
        self.reset_interface();
    }

    /// Returns the CPU interface to its reset state. What is claimed stays so.
    pub(crate) fn reset_interface(&mut self) {
        let mut interface = CpuInterface::new(self.sources.is_some());
        core::mem::swap(&mut interface.claims, &mut self.interface.claims);
        self.interface = interface;
    }

    /// Returns the SGIs and PPIs that want a list register and have none.
    #[inline]
    pub(crate) fn wanting(&self, groups: Groups) -> u32 {
        self.bank
            .wanting(groups, if self.awake { u32::MAX } else { 0 })
    }

    /// Brings the vCPU's claims in line with its SGIs and PPIs. Tells whether
    /// there is a new one.
    pub(crate) fn settle(&mut self, groups: Groups) -> bool {
        let wanting = self.wanting(groups);
        let before = self.interface.claims.replace_private(wanting);
        wanting & !before != 0
    }

    /// Settles a change of SGIs or PPIs. Tells whether the vCPU must look again
    /// at what it put into its list registers.
    pub(crate) fn changed(&mut self, touched: u32, groups: Groups) -> bool {
        let waiting = touched & self.interface.claims.private() != 0;
        self.bank.mark_stale(touched) | waiting | self.settle(groups)
    }

    /// Sends the SGI `bit`. Tells whether the vCPU must take note.
    #[inline]
    pub(crate) fn send(&mut self, bit: u32, groups: Groups) -> bool {
        match self.bank.send(bit, groups) {
            Sent::Listed => true,
            // If it was claimed already, the vCPU has been told.
            Sent::Deliverable => self.awake && self.interface.claims.add_private(bit),
            Sent::Waiting => false,
        }
    }

    /// Fills a list register for the SGI or PPI `intid`.
    #[inline]
    pub(crate) fn hand_out(&mut self, intid: u32, groups: Groups) -> ListRegister {
        let physical = self.physical.get((intid % 16) as usize).copied();
        let physical = physical.unwrap_or_default();
        let one_source = self.sources.is_none() || intid >= 16;
        // Nor does the pending half of an active one come to a vCPU that sleeps.
        // One of a group that the guest has disabled would keep "no list register is
        // pending" from being true when it is left over.
        let group1 = self.bank.group >> intid & 1 != 0;
        let apart = !one_source || !self.awake || !self.interface.is_enabled(group1);
        let entry = self.bank.hand_out(intid, intid, physical, apart, groups);
        match &mut self.sources {
            Some(sources) if intid < 16 => sources.hand_out(entry, &mut self.bank),
            _ => entry,
        }
    }

    /// Returns the bank of the interrupt `intid` as this vCPU sees it.
    pub(crate) fn bank_of<'a>(&'a self, intid: u32, shared: &'a Shared) -> Option<&'a Bank> {
        match (word_of(intid) as usize).checked_sub(1) {
            None => Some(&self.bank),
            Some(index) => shared.get(index).map(|bank| &bank.bank),
        }
    }
}

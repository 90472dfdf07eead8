//! Which interrupts get a list register when there are more than enough.

use crate::cpu_interface::MAX_LRS;
use crate::private::Private;
use crate::regs::vmcr;
use crate::shared::Shared;

/// The interrupts to put into list registers.
pub(crate) struct Selection {
    intids: [u16; MAX_LRS],
    count: usize,
    /// A pending interrupt found no list register.
    pub(crate) pending_left: bool,
    /// An active interrupt found no list register.
    pub(crate) active_left: bool,
}

impl Selection {
    /// Returns the chosen INTIDs in list-register order.
    pub(crate) fn chosen(&self) -> impl Iterator<Item = u32> + use<'_> {
        self.intids
            .iter()
            .take(self.count)
            .map(|&intid| intid.into())
    }
}

/// An interrupt's place in the queue for list registers: lower goes first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    /// Nothing will happen to it soon: the guest has disabled the group of this
    /// pending interrupt, or has made this one active by register.
    idle: bool,
    priority: u8,
    /// At equal priority what is active goes first.
    pending: bool,
    intid: u16,
}

impl Key {
    /// Comes after every interrupt.
    const LAST: Self = Self {
        idle: true,
        priority: 0xFF,
        pending: true,
        intid: u16::MAX,
    };
}

/// Chooses the best `room` of the claims of `one`, which are more than that.
#[cold]
pub(crate) fn select(one: &Private, shared: &Shared, room: usize) -> Selection {
    let room = room.min(MAX_LRS);
    let vmcr = one.interface.vmcr;
    let mut best = [Key::LAST; MAX_LRS];
    let mut best_pending = Key::LAST;
    let (mut pending_count, mut active_count) = (0usize, 0usize);
    for intid in one.interface.claims.iter() {
        let Some(bank) = one.bank_of(intid, shared) else {
            continue;
        };
        let (priority, active, group1) = bank.rank(intid % 32);
        let enabled = if group1 { vmcr::VENG1 } else { vmcr::VENG0 };
        let idle = if active {
            !bank.is_acknowledged(intid % 32)
        } else {
            vmcr & enabled == 0
        };
        #[expect(
            clippy::cast_possible_truncation,
            reason = "there are no INTIDs from 65536"
        )]
        let mut key = Key {
            idle,
            priority,
            pending: !active,
            intid: intid as u16,
        };
        if active {
            active_count += 1;
        } else {
            pending_count += 1;
            best_pending = best_pending.min(key);
        }
        for slot in best.iter_mut().take(room) {
            if key < *slot {
                core::mem::swap(slot, &mut key);
            }
        }
    }
    if pending_count != 0
        && !best.iter().take(room).any(|key| key.pending)
        && let Some(last) = best.get_mut(room.saturating_sub(1))
    {
        // Refilling relies on a pending one among the chosen.
        *last = best_pending;
    }
    let pending_chosen = best.iter().take(room).filter(|key| key.pending).count();
    Selection {
        intids: best.map(|key| key.intid),
        count: room,
        pending_left: pending_count > pending_chosen,
        active_left: active_count > room - pending_chosen,
    }
}

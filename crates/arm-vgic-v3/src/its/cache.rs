//! Translations that have been looked up lately.

use vm_contract::{IntId, VcpuId};

use super::Translation;

/// A power of two. An entry has its place by device and event, so a device
/// with as many events in use as there are entries keeps all of them.
const ENTRIES: usize = 64;

/// What a [`Translation`] was looked up for.
#[derive(Clone, Copy, Debug)]
struct Entry {
    device: u32,
    event: u32,
    lpi: IntId,
    vcpu: VcpuId,
}

/// A cache of translations. Whoever changes a table drops what it said.
#[derive(Clone, Debug)]
pub(super) struct Cache([Option<Entry>; ENTRIES]);

impl Cache {
    /// A cache of nothing.
    pub(super) const EMPTY: Self = Self([None; ENTRIES]);

    fn place(device: u32, event: u32) -> usize {
        // Devices of a PCI function are a multiple of eight apart.
        (device.wrapping_mul(5) >> 3).wrapping_add(event) as usize % ENTRIES
    }

    /// Returns what is known about an event.
    pub(super) fn find(&self, device: u32, event: u32) -> Option<Translation> {
        let entry = self.0.get(Self::place(device, event)).copied().flatten()?;
        (entry.device == device && entry.event == event).then_some(Translation {
            lpi: entry.lpi,
            vcpu: entry.vcpu,
        })
    }

    /// Remembers what an event means.
    pub(super) fn keep(&mut self, device: u32, event: u32, found: Translation) {
        if let Some(slot) = self.0.get_mut(Self::place(device, event)) {
            *slot = Some(Entry {
                device,
                event,
                lpi: found.lpi,
                vcpu: found.vcpu,
            });
        }
    }

    /// Forgets an event.
    pub(super) fn drop_event(&mut self, device: u32, event: u32) {
        if self.find(device, event).is_some()
            && let Some(slot) = self.0.get_mut(Self::place(device, event))
        {
            *slot = None;
        }
    }

    /// Forgets all events of a device.
    pub(super) fn drop_device(&mut self, device: u32) {
        for slot in &mut self.0 {
            if slot.is_some_and(|entry| entry.device == device) {
                *slot = None;
            }
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::EMPTY;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translation(lpi: u32, vcpu: u16) -> Translation {
        Translation {
            lpi: IntId::new(lpi).expect("an LPI"),
            vcpu: VcpuId::new(vcpu),
        }
    }

    #[test]
    fn what_is_kept_is_found_until_it_is_dropped() {
        let mut cache = Cache::EMPTY;
        for (device, event) in [(8, 0), (8, 1), (16, 40)] {
            assert_eq!(cache.find(device, event), None);
            cache.keep(device, event, translation(8192 + device + event, 1));
        }
        assert_eq!(cache.find(8, 1), Some(translation(8201, 1)));
        cache.drop_event(8, 1);
        assert_eq!(cache.find(8, 1), None);
        assert_eq!(cache.find(8, 0), Some(translation(8200, 1)));
        cache.drop_device(8);
        assert_eq!(cache.find(8, 0), None);
        assert_eq!(cache.find(16, 40), Some(translation(8248, 1)));
        cache.clear();
        assert_eq!(cache.find(16, 40), None);
    }

    #[test]
    fn an_event_in_the_place_of_another_replaces_it_and_is_never_taken_for_it() {
        let mut cache = Cache::EMPTY;
        cache.keep(8, 0, translation(8192, 0));
        let other = 64;
        assert_eq!(cache.find(8, other), None);
        cache.drop_event(8, other);
        assert_eq!(cache.find(8, 0), Some(translation(8192, 0)));
        cache.keep(8, other, translation(8193, 0));
        assert_eq!(cache.find(8, 0), None);
    }
}

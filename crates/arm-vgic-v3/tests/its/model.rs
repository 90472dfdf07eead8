//! Random commands against a plain model: maps of devices, events and
//! collections, as the specification describes them.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use crate::machine::{
    EVENTS, FIRST_LPI, LPIS, Machine, VCPUS, clear, discard, int, inv, invall, mapc, mapd, mapi,
    mapti, movall, movi, sync, unmapc, unmapd,
};

/// Devices of the model have their events here, so that they never overlap.
const DEVICES_USED: u32 = 6;

#[derive(Clone, Copy, Debug)]
enum Step {
    MapDevice(u32, u64),
    UnmapDevice(u32),
    MapCollection(u16, u64),
    UnmapCollection(u16),
    MapEvent(u32, u32, u32, u16),
    MapInterrupt(u32, u32, u16),
    MoveEvent(u32, u32, u16),
    MoveAll(u64, u64),
    Discard(u32, u32),
    Interrupt(u32, u32),
    Clear(u32, u32),
    Invalidate(u32, u32),
    InvalidateAll(u16),
    Sync(u64),
    /// A device signals.
    Signal(u32, u32),
    /// The guest changes a byte of the property table.
    Property(u32, u8),
    /// The guest acknowledges an interrupt.
    Take(u16, u32),
}

#[derive(Default)]
struct Model {
    /// The number of event bits of each device.
    devices: BTreeMap<u32, u64>,
    events: BTreeMap<(u32, u32), (u32, u16)>,
    collections: BTreeMap<u16, u16>,
    pending: BTreeSet<(u16, u32)>,
    table: BTreeMap<u32, u8>,
    properties: BTreeMap<u32, u8>,
    rejected: u64,
}

impl Model {
    fn event(&self, device: u32, event: u32) -> Option<(u32, u16)> {
        self.devices.get(&device)?;
        self.events.get(&(device, event)).copied()
    }

    fn translate(&self, device: u32, event: u32) -> Option<(u16, u32)> {
        let (lpi, collection) = self.event(device, event)?;
        Some((*self.collections.get(&collection)?, lpi))
    }

    fn configure(&mut self, lpi: u32) {
        let byte = self.table.get(&lpi).copied().unwrap_or(0);
        self.properties.insert(lpi, byte);
    }

    /// Does a command. Returns `None` if it is wrong.
    fn command(&mut self, step: Step) -> Option<()> {
        let vcpu = |target: u64| (target < VCPUS.into()).then_some(target as u16);
        match step {
            Step::MapDevice(device, size) => {
                (size < 16).then_some(())?;
                self.devices.insert(device, size + 1);
                // The memory of its events is its own and says what it said.
            }
            Step::UnmapDevice(device) => drop(self.devices.remove(&device)),
            Step::MapCollection(collection, target) => {
                self.collections.insert(collection, vcpu(target)?);
            }
            Step::UnmapCollection(collection) => drop(self.collections.remove(&collection)),
            Step::MapEvent(device, event, lpi, collection) => {
                let bits = *self.devices.get(&device)?;
                let known = (FIRST_LPI..FIRST_LPI + LPIS).contains(&lpi);
                (event >> bits == 0 && known && collection < 512).then_some(())?;
                self.events.insert((device, event), (lpi, collection));
                if self.collections.contains_key(&collection) {
                    self.configure(lpi);
                }
            }
            Step::MapInterrupt(device, event, collection) => {
                return self.command(Step::MapEvent(device, event, event, collection));
            }
            Step::MoveEvent(device, event, collection) => {
                let from = self.visible(device, event)?;
                let to = *self.collections.get(&collection)?;
                self.events.insert((device, event), (from.1, collection));
                if self.pending.remove(&from) {
                    self.pending.insert((to, from.1));
                }
            }
            Step::MoveAll(from, to) => {
                let (from, to) = (vcpu(from)?, vcpu(to)?);
                let moved: Vec<_> = self.pending.iter().filter(|one| one.0 == from).collect();
                let moved: Vec<_> = moved.into_iter().copied().collect();
                for one in moved {
                    self.pending.remove(&one);
                    self.pending.insert((to, one.1));
                }
            }
            Step::Discard(device, event) => {
                let found = self.visible(device, event)?;
                self.events.remove(&(device, event));
                self.pending.remove(&found);
            }
            Step::Interrupt(device, event) => {
                let found = self.visible(device, event)?;
                self.pending.insert(found);
            }
            Step::Clear(device, event) => {
                let found = self.visible(device, event)?;
                self.pending.remove(&found);
            }
            Step::Invalidate(device, event) => {
                let found = self.visible(device, event)?;
                self.configure(found.1);
            }
            Step::InvalidateAll(collection) => {
                self.collections.get(&collection)?;
                (FIRST_LPI..FIRST_LPI + LPIS).for_each(|lpi| self.configure(lpi));
            }
            Step::Sync(target) => drop(vcpu(target)?),
            Step::Signal(..) | Step::Property(..) | Step::Take(..) => {}
        }
        Some(())
    }

    /// Returns what an event means, if its device has it.
    fn visible(&self, device: u32, event: u32) -> Option<(u16, u32)> {
        let bits = *self.devices.get(&device)?;
        (event >> bits == 0).then_some(())?;
        self.translate(device, event)
    }
}

/// Where the events of a device lie: room for 32 of eight bytes each.
fn events_of(device: u32) -> u64 {
    EVENTS + 0x100 * u64::from(device)
}

fn apply(machine: &mut Machine, model: &mut Model, step: Step) {
    let command = match step {
        Step::MapDevice(device, size) => mapd(device, size, events_of(device)),
        Step::UnmapDevice(device) => unmapd(device),
        Step::MapCollection(collection, target) => mapc(collection, target),
        Step::UnmapCollection(collection) => unmapc(collection),
        Step::MapEvent(device, event, lpi, collection) => mapti(device, event, lpi, collection),
        Step::MapInterrupt(device, event, collection) => mapi(device, event, collection),
        Step::MoveEvent(device, event, collection) => movi(device, event, collection),
        Step::MoveAll(from, to) => movall(from, to),
        Step::Discard(device, event) => discard(device, event),
        Step::Interrupt(device, event) => int(device, event),
        Step::Clear(device, event) => clear(device, event),
        Step::Invalidate(device, event) => inv(device, event),
        Step::InvalidateAll(collection) => invall(collection),
        Step::Sync(target) => sync(target),
        Step::Signal(device, event) => {
            let expected = model.visible(device, event);
            model.pending.extend(expected);
            assert_eq!(machine.signal(device, event), expected);
            return;
        }
        Step::Property(lpi, byte) => {
            machine.set_property(lpi, byte);
            model.table.insert(lpi, byte);
            return;
        }
        Step::Take(vcpu, lpi) => {
            let taken = machine.redistributors.pending.remove(&(vcpu, lpi));
            assert_eq!(taken, model.pending.remove(&(vcpu, lpi)));
            return;
        }
    };
    if model.command(step).is_none() {
        model.rejected += 1;
    }
    machine.submit(&[command]);
}

fn check(machine: &Machine, model: &Model) {
    assert_eq!(machine.redistributors.pending, model.pending);
    assert_eq!(machine.redistributors.properties, model.properties);
    assert_eq!(machine.its.rejected(), model.rejected);
}

fn steps() -> impl Strategy<Value = Step> {
    let device = || 0..DEVICES_USED;
    // Five bits are what the events' memory has room for.
    let event = || prop_oneof![9 => 0..32u32, 1 => 32..80u32];
    let collection = || prop_oneof![9 => 0..5u16, 1 => 500..520u16];
    let lpi = || prop_oneof![9 => FIRST_LPI..FIRST_LPI + 40, 1 => 8100..FIRST_LPI + LPIS + 20];
    let target = || prop_oneof![9 => 0..4u64, 1 => 4..9u64];
    prop_oneof![
        3 => (device(), prop_oneof![8 => 0..5u64, 1 => 16..32u64])
            .prop_map(|(d, s)| Step::MapDevice(d, s)),
        1 => device().prop_map(Step::UnmapDevice),
        3 => (0..5u16, target()).prop_map(|(c, t)| Step::MapCollection(c, t)),
        1 => (0..5u16).prop_map(Step::UnmapCollection),
        8 => (device(), event(), lpi(), collection())
            .prop_map(|(d, e, l, c)| Step::MapEvent(d, e, l, c)),
        1 => (device(), event(), collection()).prop_map(|(d, e, c)| Step::MapInterrupt(d, e, c)),
        3 => (device(), event(), collection()).prop_map(|(d, e, c)| Step::MoveEvent(d, e, c)),
        1 => (target(), target()).prop_map(|(f, t)| Step::MoveAll(f, t)),
        2 => (device(), event()).prop_map(|(d, e)| Step::Discard(d, e)),
        3 => (device(), event()).prop_map(|(d, e)| Step::Interrupt(d, e)),
        2 => (device(), event()).prop_map(|(d, e)| Step::Clear(d, e)),
        2 => (device(), event()).prop_map(|(d, e)| Step::Invalidate(d, e)),
        1 => collection().prop_map(Step::InvalidateAll),
        1 => target().prop_map(Step::Sync),
        10 => (device(), event()).prop_map(|(d, e)| Step::Signal(d, e)),
        3 => (FIRST_LPI..FIRST_LPI + LPIS, any::<u8>()).prop_map(|(l, b)| Step::Property(l, b)),
        2 => (0..VCPUS, FIRST_LPI..FIRST_LPI + 40).prop_map(|(v, l)| Step::Take(v, l)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_its_agrees_with_the_model(steps in prop::collection::vec(steps(), 1..200)) {
        let mut machine = Machine::ready();
        let mut model = Model::default();
        for step in steps {
            apply(&mut machine, &mut model, step);
            check(&machine, &model);
        }
    }
}

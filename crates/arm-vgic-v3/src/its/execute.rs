//! What each command does.

use vm_contract::{IntId, VcpuId};

use super::command::Command;
use super::entry::{CollectionEntry, DeviceEntry, ENTRY_BYTES, EventEntry, ID_BITS};
use super::table::{read_word, write_word};
use super::work::{Job, Sweep};
use super::{CommandError, Its, ItsContext, Translation};

impl Its {
    /// Does what a command says, or returns the work that it takes.
    pub(super) fn execute(
        &mut self,
        command: Command,
        context: &mut ItsContext<'_>,
    ) -> Result<Option<Job>, CommandError> {
        match command {
            Command::MapDevice {
                device,
                size,
                events,
            } => self.map_device(context, device, size, events)?,
            Command::MapCollection { collection, target } => {
                self.map_collection(context, collection, target)?;
            }
            Command::MapEvent {
                device,
                event,
                intid,
                collection,
            } => self.map_event(context, device, event, EventEntry { intid, collection })?,
            Command::MoveEvent {
                device,
                event,
                collection,
            } => self.move_event(context, device, event, collection)?,
            Command::Discard { device, event } => {
                let found = self.look_up(context, device, event)?;
                write_word(context.memory, self.event_slot(context, device, event)?, 0)?;
                self.cache.drop_event(device, event);
                context.redistributors.clear_pending(found.vcpu, found.lpi);
            }
            Command::Interrupt { device, event } => {
                let found = self.look_up(context, device, event)?;
                context.redistributors.set_pending(found.vcpu, found.lpi);
            }
            Command::Clear { device, event } => {
                let found = self.look_up(context, device, event)?;
                context.redistributors.clear_pending(found.vcpu, found.lpi);
            }
            Command::Invalidate { device, event } => {
                let found = self.look_up(context, device, event)?;
                configure(context, found);
            }
            Command::InvalidateAll { collection } => {
                let vcpu = self.collection(context, collection)?;
                let table = context.redistributors.property_table(vcpu);
                return Ok(table.map(|table| Job::of_command(Sweep::Configure(table))));
            }
            Command::MoveAll { from, to } => {
                let (from, to) = (redistributor(context, from)?, redistributor(context, to)?);
                return Ok((from != to).then(|| Job::of_command(Sweep::Move { from, to })));
            }
            // Everything before has been done.
            Command::Sync { target } => drop(redistributor(context, target)?),
        }
        Ok(None)
    }

    /// Returns what an event means.
    ///
    /// # Errors
    /// If the guest has not mapped it, or its tables are not sound.
    pub(super) fn translate(
        &mut self,
        context: &ItsContext<'_>,
        device: u32,
        event: u32,
    ) -> Result<Translation, CommandError> {
        if let Some(known) = self.cache.find(device, event) {
            return Ok(known);
        }
        let found = self.look_up(context, device, event)?;
        self.cache.keep(device, event, found);
        Ok(found)
    }

    /// Looks up in the tables what an event means.
    fn look_up(
        &self,
        context: &ItsContext<'_>,
        device: u32,
        event: u32,
    ) -> Result<Translation, CommandError> {
        let entry = self.event(context, device, event)?;
        Ok(Translation {
            lpi: lpi(context, entry.intid)?,
            vcpu: self.collection(context, entry.collection)?,
        })
    }

    fn map_device(
        &mut self,
        context: &ItsContext<'_>,
        device: u32,
        size: u8,
        events: Option<u64>,
    ) -> Result<(), CommandError> {
        let slot = self.device_slot(context, device)?;
        let entry = match events {
            None => 0,
            Some(events) => {
                let bits = u32::from(size) + 1;
                if bits > ID_BITS {
                    return Err(CommandError::EventBits(bits));
                }
                DeviceEntry { events, size }.encode()
            }
        };
        self.cache.drop_device(device);
        write_word(context.memory, slot, entry)
    }

    fn map_collection(
        &mut self,
        context: &ItsContext<'_>,
        collection: u16,
        target: Option<u64>,
    ) -> Result<(), CommandError> {
        let slot = self.collection_slot(context, collection)?;
        let entry = match target {
            None => 0,
            Some(target) => CollectionEntry {
                vcpu: redistributor(context, target)?.raw(),
            }
            .encode(),
        };
        // Any event may be of this collection.
        self.cache.clear();
        write_word(context.memory, slot, entry)
    }

    fn map_event(
        &mut self,
        context: &mut ItsContext<'_>,
        device: u32,
        event: u32,
        entry: EventEntry,
    ) -> Result<(), CommandError> {
        let slot = self.event_slot(context, device, event)?;
        let lpi = lpi(context, entry.intid)?;
        self.collection_slot(context, entry.collection)?;
        write_word(context.memory, slot, entry.encode())?;
        self.cache.drop_event(device, event);
        // The collection may be mapped later: its INVALL then does the rest.
        if let Ok(vcpu) = self.collection(context, entry.collection) {
            configure(context, Translation { lpi, vcpu });
        }
        Ok(())
    }

    fn move_event(
        &mut self,
        context: &mut ItsContext<'_>,
        device: u32,
        event: u32,
        collection: u16,
    ) -> Result<(), CommandError> {
        let slot = self.event_slot(context, device, event)?;
        let found = self.look_up(context, device, event)?;
        let to = self.collection(context, collection)?;
        let entry = EventEntry {
            intid: found.lpi.raw(),
            collection,
        };
        write_word(context.memory, slot, entry.encode())?;
        self.cache.drop_event(device, event);
        if to != found.vcpu
            && let Some(first) = IntId::new(found.lpi.raw() & !31)
        {
            let mask = 1 << (found.lpi.raw() % 32);
            let redistributors = &mut *context.redistributors;
            redistributors.move_pending(first, mask, found.vcpu, to);
        }
        Ok(())
    }

    fn device_slot(&self, context: &ItsContext<'_>, device: u32) -> Result<u64, CommandError> {
        let slot = (device >> ID_BITS == 0)
            .then(|| self.devices.entry(context.memory, device))
            .flatten();
        slot.ok_or(CommandError::DeviceOutOfRange(device))
    }

    fn collection_slot(
        &self,
        context: &ItsContext<'_>,
        collection: u16,
    ) -> Result<u64, CommandError> {
        let slot = self.collections.entry(context.memory, collection.into());
        slot.ok_or(CommandError::CollectionOutOfRange(collection))
    }

    fn event_slot(
        &self,
        context: &ItsContext<'_>,
        device: u32,
        event: u32,
    ) -> Result<u64, CommandError> {
        let word = read_word(context.memory, self.device_slot(context, device)?)?;
        let entry = DeviceEntry::decode(word).ok_or(CommandError::DeviceUnmapped(device))?;
        if entry.has(event) {
            Ok(entry.events + u64::from(event) * ENTRY_BYTES)
        } else {
            Err(CommandError::EventOutOfRange(event))
        }
    }

    fn event(
        &self,
        context: &ItsContext<'_>,
        device: u32,
        event: u32,
    ) -> Result<EventEntry, CommandError> {
        let word = read_word(context.memory, self.event_slot(context, device, event)?)?;
        EventEntry::decode(word).ok_or(CommandError::EventUnmapped(event))
    }

    /// Returns the vCPU that a collection is mapped to.
    fn collection(
        &self,
        context: &ItsContext<'_>,
        collection: u16,
    ) -> Result<VcpuId, CommandError> {
        let word = read_word(context.memory, self.collection_slot(context, collection)?)?;
        let entry =
            CollectionEntry::decode(word).ok_or(CommandError::CollectionUnmapped(collection))?;
        redistributor(context, entry.vcpu.into())
    }
}

/// Returns the vCPU whose redistributor has this number.
fn redistributor(context: &ItsContext<'_>, number: u64) -> Result<VcpuId, CommandError> {
    u16::try_from(number)
        .ok()
        .map(VcpuId::new)
        .filter(|vcpu| vcpu.index() < context.redistributors.vcpu_count())
        .ok_or(CommandError::NoRedistributor(number))
}

/// Returns the LPI of this number.
fn lpi(context: &ItsContext<'_>, intid: u32) -> Result<IntId, CommandError> {
    let index = intid.checked_sub(IntId::LPI_BASE);
    index
        .filter(|index| *index < context.redistributors.lpi_count())
        .and_then(|_| IntId::new(intid))
        .ok_or(CommandError::NoLpi(intid))
}

/// Takes over the properties of one LPI.
fn configure(context: &mut ItsContext<'_>, found: Translation) {
    if let Some(table) = context.redistributors.property_table(found.vcpu) {
        let mut properties = [0];
        table.read(context.memory, found.lpi, &mut properties);
        context.redistributors.configure(found.lpi, &properties);
    }
}

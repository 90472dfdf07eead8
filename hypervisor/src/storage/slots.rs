//! Who has which slot of a disk.
//!
//! Every client can have its guaranteed slots whatever the others do; what is left of
//! the slots goes to whoever asks first. A client that is refused is told when it may
//! ask again: by the event of its own next request, or, should it have none, once the
//! slots of others have come back.

use alloc::boxed::Box;
use alloc::sync::Weak;
use alloc::vec::Vec;

use super::{
    Buffer, Call, Command, DiskError, DiskEvent, DiskHardware, DiskUser, Finished,
    GUARANTEED_SLOTS, MAX_CLIENTS, SLOT_COUNT, Tag,
};

/// A client, as an index into the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ClientId(usize);

/// What a slot is used for.
enum Slot {
    Free(Buffer),
    /// A client fills or empties its buffer.
    Lent,
    /// The hardware works on it.
    Started(Started, Command),
    /// The hardware is done with it; the client has not collected it yet.
    Done {
        client: ClientId,
        tag: Tag,
        command: Command,
        buffer: Buffer,
        result: Result<(), DiskError>,
    },
}

/// For whom the hardware works.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Started {
    For(ClientId, Tag),
    /// For nobody: the client does not want it any more.
    Abandoned(ClientId),
    /// For nobody: the client has gone.
    Orphan,
}

impl Started {
    /// Returns whose slot it is.
    const fn client(self) -> Option<ClientId> {
        match self {
            Self::For(client, _) | Self::Abandoned(client) => Some(client),
            Self::Orphan => None,
        }
    }
}

struct Client {
    /// Slots that it has, or that the hardware has of it.
    held: usize,
    /// It was refused one, and has got none since.
    waits: bool,
    user: Option<(Weak<dyn DiskUser>, usize)>,
}

/// All slots of a disk, and its clients.
pub(super) struct Slots {
    hardware: Box<dyn DiskHardware>,
    slots: Vec<Slot>,
    clients: [Option<Client>; MAX_CLIENTS],
    /// Who is asked first whether it waits.
    turn: usize,
}

impl Slots {
    pub(super) fn new(hardware: Box<dyn DiskHardware>, buffers: Vec<Buffer>) -> Self {
        Self {
            hardware,
            slots: buffers
                .into_iter()
                .take(SLOT_COUNT)
                .map(Slot::Free)
                .collect(),
            clients: [const { None }; MAX_CLIENTS],
            turn: 0,
        }
    }

    pub(super) fn attach(&mut self) -> Option<ClientId> {
        let at = self.clients.iter().position(Option::is_none)?;
        *self.clients.get_mut(at)? = Some(Client {
            held: 0,
            waits: false,
            user: None,
        });
        Some(ClientId(at))
    }

    pub(super) fn listen(&mut self, id: ClientId, user: Weak<dyn DiskUser>, number: usize) {
        if let Some(client) = self.client(id) {
            client.user = Some((user, number));
        }
    }

    fn client(&mut self, ClientId(at): ClientId) -> Option<&mut Client> {
        self.clients.get_mut(at)?.as_mut()
    }

    /// Tells whether the client may have one more slot: one that is guaranteed to it, or
    /// one that is guaranteed to nobody else.
    fn may_take(&self, id: ClientId) -> bool {
        let is_free = |slot: &&Slot| matches!(slot, Slot::Free(_));
        let free = self.slots.iter().filter(is_free).count();
        let unused = |client: &Client| GUARANTEED_SLOTS.saturating_sub(client.held);
        let of = |at: usize| self.clients.get(at).and_then(Option::as_ref);
        let own = of(id.0).map_or(0, unused);
        let all: usize = (0..MAX_CLIENTS).filter_map(of).map(unused).sum();
        free > 0 && (own > 0 || free > all)
    }

    /// Lends a slot to the client.
    pub(super) fn begin(&mut self, id: ClientId) -> Option<(usize, Buffer)> {
        let may = self.may_take(id);
        let client = self.client(id)?;
        client.waits = !may;
        if !may {
            return None;
        }
        client.held += 1;
        self.slots.iter_mut().enumerate().find_map(|(n, slot)| {
            match core::mem::replace(slot, Slot::Lent) {
                Slot::Free(buffer) => Some((n, buffer)),
                other => {
                    *slot = other;
                    None
                }
            }
        })
    }

    /// Takes back what was lent.
    pub(super) fn give_back(&mut self, id: ClientId, slot: usize, buffer: Buffer) {
        if let Some(slot) = self.slots.get_mut(slot) {
            *slot = Slot::Free(buffer);
        }
        self.release(id);
    }

    fn release(&mut self, id: ClientId) {
        if let Some(client) = self.client(id) {
            client.held = client.held.saturating_sub(1);
        }
    }

    /// Starts a request in a slot that was lent to the client.
    pub(super) fn start(
        &mut self,
        id: ClientId,
        slot: usize,
        command: Command,
        tag: Tag,
        buffer: Buffer,
    ) -> Result<(), DiskError> {
        match self.hardware.start(slot, command, buffer) {
            Ok(()) => {
                if let Some(slot) = self.slots.get_mut(slot) {
                    *slot = Slot::Started(Started::For(id, tag), command);
                }
                Ok(())
            }
            Err(buffer) => {
                self.give_back(id, slot, buffer);
                Err(DiskError::Broken)
            }
        }
    }

    pub(super) fn acknowledge(&mut self) {
        self.hardware.acknowledge();
    }

    /// Takes one finished request of the hardware, if there is one, and returns who is
    /// to hear of it, if somebody is.
    pub(super) fn take_finished(&mut self) -> Option<Option<Call>> {
        let Finished {
            slot: number,
            buffer,
            result,
        } = self.hardware.take_finished()?;
        let Some(slot) = self.slots.get_mut(number) else {
            return Some(None);
        };
        let Slot::Started(whose, command) = *slot else {
            return Some(None);
        };
        let Started::For(client, tag) = whose else {
            *slot = Slot::Free(buffer);
            if let Started::Abandoned(client) = whose {
                self.release(client);
            }
            return Some(None);
        };
        *slot = Slot::Done {
            client,
            tag,
            command,
            buffer,
            result,
        };
        let call = self.call(client, DiskEvent::Done(tag));
        if call.is_none() {
            // Nobody will ever collect it.
            self.drop_done(client, |other| other == tag);
        }
        Some(call)
    }

    fn call(&mut self, id: ClientId, event: DiskEvent) -> Option<Call> {
        let (user, disk) = self.client(id)?.user.as_ref()?;
        Some(Call {
            user: user.upgrade()?,
            disk: *disk,
            event,
        })
    }

    /// Returns a client that has waited for a slot and may have one now.
    pub(super) fn take_waiting(&mut self) -> Option<Call> {
        for _ in 0..MAX_CLIENTS {
            let id = ClientId(self.turn);
            self.turn = (self.turn + 1) % MAX_CLIENTS;
            if !self.client(id).is_some_and(|client| client.waits) || !self.may_take(id) {
                continue;
            }
            if let Some(client) = self.client(id) {
                client.waits = false;
            }
            if let Some(call) = self.call(id, DiskEvent::Room) {
                return Some(call);
            }
        }
        None
    }

    /// Lends a slot with the outcome of a request.
    pub(super) fn collect(
        &mut self,
        id: ClientId,
        wanted: Tag,
    ) -> Option<(usize, Buffer, Command, Result<(), DiskError>)> {
        let is_it = |slot: &Slot| matches!(slot, Slot::Done { client, tag, .. } if *client == id && *tag == wanted);
        let at = self.slots.iter().position(is_it)?;
        match core::mem::replace(self.slots.get_mut(at)?, Slot::Lent) {
            Slot::Done {
                buffer,
                command,
                result,
                ..
            } => Some((at, buffer, command, result)),
            _ => None,
        }
    }

    /// Frees slots whose outcome nobody will collect.
    fn drop_done(&mut self, id: ClientId, which: impl Fn(Tag) -> bool) {
        let mut dropped = 0;
        for slot in &mut self.slots {
            *slot = match core::mem::replace(slot, Slot::Lent) {
                Slot::Done {
                    client,
                    tag,
                    buffer,
                    ..
                } if client == id && which(tag) => {
                    dropped += 1;
                    Slot::Free(buffer)
                }
                other => other,
            };
        }
        if let Some(client) = self.client(id) {
            client.held = client.held.saturating_sub(dropped);
        }
    }

    /// Has nobody hear of a request. If the hardware is at it, its slot counts as the
    /// client's until it comes back.
    pub(super) fn abandon(&mut self, id: ClientId, tag: Tag) {
        self.drop_done(id, |other| other == tag);
        for slot in &mut self.slots {
            if let Slot::Started(whose, _) = slot
                && *whose == Started::For(id, tag)
            {
                *whose = Started::Abandoned(id);
            }
        }
    }

    /// Lets a client go.
    pub(super) fn detach(&mut self, id: ClientId) {
        self.drop_done(id, |_| true);
        for slot in &mut self.slots {
            if let Slot::Started(whose, _) = slot
                && whose.client() == Some(id)
            {
                *whose = Started::Orphan;
            }
        }
        if let Some(client) = self.clients.get_mut(id.0) {
            *client = None;
        }
    }

    /// Returns how many slots are free.
    #[cfg(test)]
    pub(super) fn free(&self) -> usize {
        let is_free = |slot: &&Slot| matches!(slot, Slot::Free(_));
        self.slots.iter().filter(is_free).count()
    }
}

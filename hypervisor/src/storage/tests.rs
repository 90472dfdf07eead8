use alloc::sync::Arc;
use std::sync::{Mutex, MutexGuard};

use super::*;
use crate::testing::{DiskState, FakeDisk};

const SECTORS: u64 = FakeDisk::SECTORS;

/// Hears of events, and takes the disk's lock as a VM's device would.
#[derive(Default)]
struct Listener {
    heard: Mutex<Vec<(usize, DiskEvent)>>,
}

impl Listener {
    fn take(&self) -> Vec<(usize, DiskEvent)> {
        core::mem::take(&mut *self.heard.lock().expect("no panic"))
    }
}

impl DiskUser for Listener {
    fn disk_event(&self, disk: usize, event: DiskEvent, _current: Option<(VmId, VcpuId)>) {
        // Whoever hears of it may take locks of lower ranks: none is held.
        drop(RankedLock::<_, { rank::VM_TABLE }>::new(()).lock());
        self.heard.lock().expect("no panic").push((disk, event));
    }
}

struct Fixture {
    disk: Arc<HostDisk>,
    hardware: FakeDisk,
    listener: Arc<Listener>,
}

impl Fixture {
    fn new() -> Self {
        let hardware = FakeDisk::default();
        Self {
            disk: hardware.host_disk(),
            hardware,
            listener: Arc::default(),
        }
    }

    fn hardware(&self) -> MutexGuard<'_, DiskState> {
        self.hardware.state()
    }

    fn client(&self, number: usize, first_sector: u64, sectors: u64) -> DiskClient {
        let view = DiskView {
            first_sector,
            sectors,
            is_read_only: false,
        };
        let client = self.disk.attach(view).expect("on the disk");
        let user: Weak<dyn DiskUser> = Arc::downgrade(&(self.listener.clone() as Arc<_>));
        client.listen(user, number);
        client
    }

    fn free(&self) -> usize {
        self.disk.lock().free()
    }
}

fn write(client: &DiskClient, sector: u64, byte: u8, tag: Tag) -> bool {
    let Some(mut bounce) = client.begin() else {
        return false;
    };
    bounce[..SECTOR_BYTES].fill(byte);
    let bytes = SECTOR_BYTES;
    let started = bounce.submit(Command::Write { sector, bytes }, tag);
    assert_eq!(started, Ok(()));
    true
}

fn outcome(client: &DiskClient, tag: Tag) -> Option<Result<(), DiskError>> {
    client.collect(tag).map(|done| done.result)
}

#[test]
fn requests_come_back_in_any_order_to_those_who_made_them() {
    let fixture = Fixture::new();
    let (one, two) = (fixture.client(1, 0, 100), fixture.client(2, 100, 100));
    assert!(write(&one, 3, 0xaa, 10));
    assert!(write(&two, 3, 0xbb, 20));
    let read = two.begin().expect("room");
    let command = Command::Read {
        sector: 7,
        bytes: 1024,
    };
    assert_eq!(read.submit(command, 21), Ok(()));
    fixture.hardware().bytes[107 * SECTOR_BYTES..109 * SECTOR_BYTES].fill(0x77);

    fixture.hardware().finish(2, None);
    fixture.hardware().finish(1, Some(DiskError::Io));
    fixture.disk.service(None);
    let mut heard = fixture.listener.take();
    heard.sort_by_key(|(_, event)| format_key(*event));
    assert_eq!(heard, [(2, DiskEvent::Done(20)), (2, DiskEvent::Done(21))]);
    assert_eq!(outcome(&one, 20), None, "it is not its own");
    assert_eq!(outcome(&two, 20), Some(Err(DiskError::Io)));
    let done = two.collect(21).expect("it is done");
    assert_eq!(done.result, Ok(()));
    assert!(done.bounce[..1024].iter().all(|byte| *byte == 0x77));
    assert_eq!(done.command.sectors(), Some((107, 2)));
    drop(done);
    assert_eq!(outcome(&two, 21), None, "once");

    fixture.hardware().finish_all();
    fixture.disk.service(None);
    assert_eq!(fixture.listener.take(), [(1, DiskEvent::Done(10))]);
    assert_eq!(outcome(&one, 10), Some(Ok(())));
    assert_eq!(fixture.hardware().bytes[3 * SECTOR_BYTES], 0xaa);
    assert_eq!(fixture.hardware().bytes[103 * SECTOR_BYTES], 0, "it failed");
    assert_eq!(fixture.free(), SLOT_COUNT);
    assert_eq!(fixture.hardware().acknowledged, 2);
}

fn format_key(event: DiskEvent) -> Tag {
    match event {
        DiskEvent::Done(tag) => tag,
        DiskEvent::Room => Tag::MAX,
    }
}

#[test]
fn nobody_leaves_its_part_of_the_disk() {
    let fixture = Fixture::new();
    let client = fixture.client(1, 100, 100);
    let refused = [
        Command::Read {
            sector: 100,
            bytes: 512,
        },
        Command::Write {
            sector: 99,
            bytes: 1024,
        },
        Command::Read {
            sector: u64::MAX,
            bytes: 512,
        },
        Command::Read {
            sector: 0,
            bytes: 511,
        },
        Command::Write {
            sector: 0,
            bytes: 0,
        },
        Command::Read {
            sector: 0,
            bytes: SLOT_BYTES + 512,
        },
        Command::Discard {
            sector: 90,
            sectors: 11,
        },
        Command::Discard {
            sector: 0,
            sectors: 65,
        },
        Command::WriteZeroes {
            sector: u64::MAX,
            sectors: 2,
            may_unmap: false,
        },
    ];
    for command in refused {
        let bounce = client.begin().expect("room");
        assert_eq!(
            bounce.submit(command, 1),
            Err(DiskError::Refused),
            "{command:?}"
        );
    }
    assert_eq!(fixture.free(), SLOT_COUNT);
    assert!(fixture.hardware().started.is_empty());
    let ends = client.begin().expect("room");
    let command = Command::WriteZeroes {
        sector: 90,
        sectors: 10,
        may_unmap: true,
    };
    assert_eq!(ends.submit(command, 1), Ok(()));
    let (_, command, _) = fixture.hardware().started[0];
    assert_eq!(command.sectors(), Some((190, 10)));
}

#[test]
fn who_may_only_read_changes_nothing() {
    let fixture = Fixture::new();
    let view = DiskView {
        is_read_only: true,
        ..fixture.disk.whole()
    };
    let client = fixture.disk.attach(view).expect("on the disk");
    let changes = [
        Command::Write {
            sector: 0,
            bytes: 512,
        },
        Command::Discard {
            sector: 0,
            sectors: 1,
        },
        Command::WriteZeroes {
            sector: 0,
            sectors: 1,
            may_unmap: false,
        },
    ];
    for command in changes {
        let bounce = client.begin().expect("room");
        assert_eq!(bounce.submit(command, 1), Err(DiskError::Refused));
    }
    let bounce = client.begin().expect("room");
    assert_eq!(bounce.submit(Command::Flush, 1), Ok(()));
    fixture.hardware().finish_all();
    assert_eq!(fixture.hardware().flushes, 1);
}

#[test]
fn a_part_that_is_not_on_the_disk_cannot_be_had() {
    let fixture = Fixture::new();
    for (first_sector, sectors) in [(0, SECTORS + 1), (SECTORS, 1), (1, u64::MAX), (0, 0)] {
        let view = DiskView {
            first_sector,
            sectors,
            is_read_only: false,
        };
        let attached = fixture.disk.attach(view);
        assert_eq!(attached.err(), Some(AttachError::OutsideDisk(SECTORS)));
    }
    let clients: Vec<_> = (0..MAX_CLIENTS).map(|n| fixture.client(n, 0, 10)).collect();
    let more = fixture.disk.attach(fixture.disk.whole());
    assert_eq!(more.err(), Some(AttachError::TooManyClients));
    drop(clients);
    assert!(fixture.disk.attach(fixture.disk.whole()).is_ok());
}

#[test]
fn a_greedy_client_leaves_the_others_their_share() {
    let fixture = Fixture::new();
    let (greedy, modest) = (fixture.client(1, 0, 100), fixture.client(2, 0, 100));
    let taken = (0..).take_while(|tag| write(&greedy, 0, 1, *tag)).count();
    assert_eq!(taken, SLOT_COUNT - GUARANTEED_SLOTS);
    let taken = (0..).take_while(|tag| write(&modest, 1, 2, *tag)).count();
    assert_eq!(taken, GUARANTEED_SLOTS);
}

#[test]
fn who_was_refused_without_a_request_of_its_own_is_told_of_room() {
    let fixture = Fixture::new();
    let greedy = fixture.client(1, 0, 100);
    while write(&greedy, 0, 1, 5) {}
    assert_eq!(fixture.free(), 0, "it was alone");
    let late = fixture.client(2, 0, 100);
    assert!(late.begin().is_none());
    // One that is collected while its user is told, as a VM's device does it.
    fixture.hardware().finish_all();
    fixture.disk.service(None);
    let heard = fixture.listener.take();
    assert_eq!(heard.len(), SLOT_COUNT);
    assert!(late.begin().is_none(), "nobody has collected anything");
    while let Some(done) = greedy.collect(5) {
        assert_eq!(done.result, Ok(()));
    }
    fixture.disk.service(None);
    let mut heard = fixture.listener.take();
    heard.sort_by_key(|(disk, _)| *disk);
    assert_eq!(heard, [(1, DiskEvent::Room), (2, DiskEvent::Room)]);
    assert!(late.begin().is_some());
    fixture.disk.service(None);
    assert_eq!(fixture.listener.take(), []);
}

#[test]
fn abandoned_requests_count_until_the_hardware_is_done() {
    let fixture = Fixture::new();
    let client = fixture.client(1, 0, 100);
    let other = fixture.client(2, 0, 100);
    while write(&client, 0, 1, 5) {}
    fixture.hardware().finish(0, None);
    fixture.disk.service(None);
    assert_eq!(fixture.listener.take().len(), 1);
    client.abandon(5);
    assert_eq!(outcome(&client, 5), None);
    client.abandon(5);
    assert_eq!(outcome(&client, 5), None);
    assert_eq!(
        fixture.free(),
        GUARANTEED_SLOTS + 1,
        "what was done is free"
    );
    assert!(client.begin().is_some(), "one is left to it");
    assert!(write(&client, 0, 2, 6));
    assert!(client.begin().is_none());
    assert!(write(&other, 0, 3, 7));
    fixture.hardware().finish_all();
    fixture.disk.service(None);
    let mut heard = fixture.listener.take();
    heard.sort_by_key(|(_, event)| format_key(*event));
    assert_eq!(
        heard,
        [
            (1, DiskEvent::Done(6)),
            (2, DiskEvent::Done(7)),
            (1, DiskEvent::Room)
        ]
    );
    assert_eq!(fixture.free(), SLOT_COUNT - 2);
}

#[test]
fn who_has_gone_leaves_its_buffers_to_the_hardware() {
    let fixture = Fixture::new();
    let client = fixture.client(1, 0, 100);
    assert!(write(&client, 0, 0xab, 5));
    assert!(write(&client, 1, 0xcd, 6));
    fixture.hardware().finish(0, None);
    fixture.disk.service(None);
    fixture.listener.take();
    drop(client);
    assert_eq!(fixture.free(), SLOT_COUNT - 1);
    // Whoever comes to its place does not hear of what it left.
    let next = fixture.client(3, 0, 100);
    fixture.hardware().finish_all();
    fixture.disk.service(None);
    assert_eq!(fixture.listener.take(), []);
    assert_eq!(outcome(&next, 6), None);
    assert_eq!(fixture.hardware().bytes[SECTOR_BYTES], 0xcd);
    assert_eq!(fixture.free(), SLOT_COUNT);
}

#[test]
fn nobody_has_to_listen() {
    let fixture = Fixture::new();
    let client = fixture.disk.attach(fixture.disk.whole()).expect("whole");
    assert!(write(&client, 0, 1, 5));
    let gone = fixture.client(1, 0, 100);
    gone.listen(Weak::<Listener>::new(), 1);
    assert!(write(&gone, 0, 1, 5));
    fixture.hardware().finish_all();
    fixture.disk.service(None);
    assert_eq!(fixture.free(), SLOT_COUNT);
}

#[test]
fn a_broken_disk_says_so() {
    let fixture = Fixture::new();
    let client = fixture.client(1, 0, 100);
    fixture.hardware().is_broken = true;
    let bounce = client.begin().expect("room");
    assert_eq!(bounce.submit(Command::Flush, 1), Err(DiskError::Broken));
    assert_eq!(fixture.free(), SLOT_COUNT);
}

#[test]
fn partitions_are_read_before_anybody_uses_the_disk() {
    let fixture = Fixture::new();
    {
        let bytes = &mut fixture.hardware().bytes;
        bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
        bytes[446 + 4] = 0x83;
        bytes[446 + 8] = 100;
        bytes[446 + 12] = 50;
    }
    let mut looks = 0;
    let is_patient = || {
        looks += 1;
        if looks == 3 {
            fixture.hardware().finish_all();
        }
        true
    };
    assert_eq!(fixture.disk.read_partitions(is_patient), Ok(()));
    assert_eq!(fixture.disk.partitions().len(), 1);
    let view = fixture.disk.partition(1).expect("it is there");
    assert_eq!((view.first_sector, view.sectors), (100, 50));
    assert_eq!(fixture.disk.partition(2), None);
    assert_eq!(fixture.free(), SLOT_COUNT);
}

#[test]
fn a_disk_that_never_answers_is_given_up() {
    let fixture = Fixture::new();
    let mut patience = 10;
    let is_patient = || {
        patience -= 1;
        patience > 0
    };
    let read = fixture.disk.read_partitions(is_patient);
    assert_eq!(read, Err(DiskError::Broken));
    assert_eq!(fixture.disk.partitions(), []);
    assert_eq!(fixture.free(), SLOT_COUNT - 1, "the hardware has one still");
}

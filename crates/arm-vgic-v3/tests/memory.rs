//! How much memory a vGIC takes, and when: a test of its own, because it counts
//! what this program allocates.
#![expect(unsafe_code, reason = "counts what the allocator hands out")]
#![expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test that indexes wrongly fails, as it should"
)]

#[path = "its/machine.rs"]
#[expect(dead_code, reason = "the tests of the ITS use more of it")]
mod machine;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use arm_vgic_v3::its::{Its, ItsContext, LpiPort, STEPS_PER_ACCESS};
use arm_vgic_v3::{FakeIch, Frame, Group, Kicks, SgiRegister, Vgic, VgicConfig};
use vm_contract::{GuestMemory, GuestPhysAddr, IntId, VcpuId, Width};

use machine::{
    BASER0, BASER1, CBASER, COLLECTIONS, CTLR, CWRITER, DEVICES, EVENTS, FIRST_LPI, PENDING,
    PROPERTIES, QUEUE, Ram, VALID, discard, int, invall, mapc, mapd, mapti, movall, movi,
};

/// The system's allocator, and how often and how much it was asked for.
struct Counting {
    calls: AtomicUsize,
    bytes: AtomicUsize,
}

#[global_allocator]
static ALLOCATOR: Counting = Counting {
    calls: AtomicUsize::new(0),
    bytes: AtomicUsize::new(0),
};

// SAFETY: passes everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Returns what `work` returns, how often it allocated, and how many bytes.
fn counted<R>(work: impl FnOnce() -> R) -> (R, usize, usize) {
    let read = || {
        (
            ALLOCATOR.calls.load(Ordering::Relaxed),
            ALLOCATOR.bytes.load(Ordering::Relaxed),
        )
    };
    let before = read();
    let result = work();
    let after = read();
    (result, after.0 - before.0, after.1 - before.1)
}

const CONFIG: VgicConfig<'_> = VgicConfig {
    affinities: &[0, 1, 2, 3],
    spi_count: 256,
};

/// Does what a guest with four vCPUs keeps a vGIC busy with.
fn use_all(vgic: &mut Vgic, cpus: &mut [FakeIch; 4]) -> usize {
    let mut taken = 0;
    let vcpus = [0, 1, 2, 3].map(VcpuId::new);
    for vcpu in vcpus {
        let _ = vgic.set_awake(vcpu, true);
        vgic.load(vcpu, &mut cpus[vcpu.index()]);
        cpus[vcpu.index()].open();
    }
    let _ = vgic.write(vcpus[0], Frame::Distributor, 0, Width::Word, 0b11);
    for offset in (0x84..0xA8).chain(0x104..0x128).step_by(4) {
        let _ = vgic.write(
            vcpus[0],
            Frame::Distributor,
            offset,
            Width::Word,
            u32::MAX.into(),
        );
    }
    for n in 0..256 {
        let intid = IntId::spi(n).expect("256 SPIs");
        let route = 0x6000 + 8 * u64::from(intid.raw());
        let target = u64::from(n % 4);
        let _ = vgic.write(vcpus[0], Frame::Distributor, route, Width::Dword, target);
        let _ = vgic.pulse_spi(intid);
        let _ = vgic.set_spi_level(intid, true);
        let _ = vgic.send_sgi(vcpus[0], SgiRegister::Sgi1, u64::from(n % 16) << 24 | 0xF);
        for vcpu in vcpus {
            let ich = &mut cpus[vcpu.index()];
            let _ = vgic.refresh(vcpu, ich);
            if let Some(intid) = ich.acknowledge(Group::One) {
                let _ = vgic.fold(vcpu, ich);
                vgic.flush(vcpu, ich);
                ich.end(Group::One, intid);
                taken += 1;
            }
        }
        let _ = vgic.set_spi_level(intid, false);
    }
    for vcpu in vcpus {
        let _ = vgic.save(vcpu, &mut cpus[vcpu.index()]);
    }
    vgic.reset();
    taken
}

const LPIS: u32 = 2048;

/// A VM with LPIs and an ITS, whose hypervisor serves everything at once.
struct Whole<'a> {
    vgic: &'a mut Vgic,
    its: &'a mut Its,
    ram: &'a Ram,
    cpus: &'a mut [FakeIch; 4],
}

impl Whole<'_> {
    fn serve(&mut self, kicks: Kicks) {
        for vcpu in kicks {
            let folded = self.vgic.refresh(vcpu, &mut self.cpus[vcpu.index()]);
            self.serve(folded.kicks);
        }
    }

    /// Does something with the ITS, then what is left for it to do.
    fn with_its(&mut self, work: impl FnOnce(&mut Its, &mut ItsContext<'_>)) {
        let mut port = LpiPort::new(self.vgic);
        let mut context = ItsContext {
            memory: self.ram,
            redistributors: &mut port,
        };
        work(self.its, &mut context);
        while self.its.has_work() {
            self.its.run(&mut context, STEPS_PER_ACCESS);
        }
        let kicks = port.kicks();
        self.serve(kicks);
    }

    fn set(&mut self, register: u64, width: Width, value: u64) {
        self.with_its(|its, context| {
            let written = its.write(context, register, width, value);
            written.expect("a register");
        });
    }

    fn set_gicr(&mut self, vcpu: VcpuId, register: u64, width: Width, value: u64) {
        let offset = 0x2_0000 * u64::from(vcpu.raw()) + register;
        let written = self
            .vgic
            .write(vcpu, Frame::Redistributors, offset, width, value);
        self.serve(written.expect("a register"));
        while self.vgic.has_table_request() {
            self.with_its(|its, context| its.run(context, STEPS_PER_ACCESS));
        }
    }

    /// Has one command done, the `n`th.
    fn command(&mut self, n: &mut u64, command: [u64; 4]) {
        let address = GuestPhysAddr::from((QUEUE + *n % 128 * 32) as usize);
        let words = command.map(u64::to_le_bytes);
        let written = self.ram.write(address, words.as_flattened());
        written.expect("the queue is in memory");
        *n += 1;
        self.set(CWRITER, Width::Dword, *n % 128 * 32);
    }

    /// Lets a vCPU take an interrupt and end it, if there is any.
    fn take(&mut self, vcpu: VcpuId) -> bool {
        let ich = &mut self.cpus[vcpu.index()];
        let taken = ich.acknowledge(Group::One);
        if let Some(intid) = taken {
            let folded = self.vgic.fold(vcpu, ich);
            self.vgic.flush(vcpu, ich);
            ich.end(Group::One, intid);
            self.serve(folded.kicks);
        }
        let mut kicks = Kicks::NONE;
        kicks.insert(vcpu);
        self.serve(kicks);
        taken.is_some()
    }

    /// Does what a guest keeps LPIs and an ITS busy with. Returns how many interrupts
    /// it took.
    fn use_lpis(&mut self) -> usize {
        let vcpus = [0, 1, 2, 3].map(VcpuId::new);
        let written = self
            .vgic
            .write(vcpus[0], Frame::Distributor, 0, Width::Word, 0b11);
        self.serve(written.expect("a register"));
        for lpi in 0..u64::from(LPIS) {
            let address = GuestPhysAddr::from((PROPERTIES + lpi) as usize);
            let written = self.ram.write(address, &[0xA1]);
            written.expect("the table is in memory");
        }
        for vcpu in vcpus {
            let kicks = self.vgic.set_awake(vcpu, true);
            self.vgic.load(vcpu, &mut self.cpus[vcpu.index()]);
            self.cpus[vcpu.index()].open();
            self.serve(kicks);
            self.set_gicr(vcpu, 0x70, Width::Dword, PROPERTIES | 13);
            // Two share a table.
            let table = PENDING + u64::from(vcpu.raw() % 2) * 0x1_0000;
            self.set_gicr(vcpu, 0x78, Width::Dword, table);
            self.set_gicr(vcpu, 0, Width::Word, 1);
        }
        for (register, table) in [(CBASER, QUEUE), (BASER0, DEVICES), (BASER1, COLLECTIONS)] {
            self.set(register, Width::Dword, VALID | table);
        }
        self.set(CTLR, Width::Word, 1);
        let n = &mut 0;
        self.command(n, mapd(5, 10, EVENTS));
        (0..4).for_each(|collection| self.command(n, mapc(collection, collection.into())));
        for event in 0..LPIS {
            let collection = (event % 4) as u16;
            self.command(n, mapti(5, event, FIRST_LPI + event, collection));
        }
        let mut taken = 0;
        for event in 0..LPIS {
            self.with_its(|its, context| {
                assert!(its.signal(context, 5, event).is_some());
            });
            if event % 8 == 7 {
                taken += vcpus
                    .map(|vcpu| self.take(vcpu))
                    .iter()
                    .filter(|one| **one)
                    .count();
            }
        }
        for event in 0..64 {
            self.command(n, int(5, event));
            self.command(n, movi(5, event, 1));
            self.command(n, discard(5, event));
        }
        self.command(n, movall(0, 1));
        self.command(n, invall(2));
        assert_eq!(self.its.rejected(), 0);
        for enable in [0, 1, 0] {
            for vcpu in vcpus {
                self.set_gicr(vcpu, 0, Width::Word, enable);
                taken += usize::from(self.take(vcpu));
            }
        }
        for vcpu in vcpus {
            let _ = self.vgic.save(vcpu, &mut self.cpus[vcpu.index()]);
        }
        self.vgic.reset();
        self.its.reset();
        taken
    }
}

#[test]
fn four_vcpus_and_256_spis_stay_below_64_kib_and_nothing_is_allocated_later() {
    let mut cpus = [0; 4].map(|_| FakeIch::new(4));
    let build = || Vgic::new(&CONFIG).expect("a good shape");
    let (mut vgic, calls, bytes) = counted(build);
    let plain = bytes + size_of::<Vgic>();
    assert_ne!(calls, 0, "the allocator counts");
    assert!(plain < 64 * 1024, "{plain} bytes");
    let (taken, calls, _) = counted(|| use_all(&mut vgic, &mut cpus));
    assert!(taken >= 256, "{taken} interrupts were taken");
    assert_eq!(calls, 0);

    let (mut vgic, _, bytes) = counted(|| build().with_lpis(LPIS));
    let with_its = bytes + size_of_val(&vgic) + size_of::<Its>();
    assert!(with_its < 64 * 1024, "{with_its} bytes");
    let (mut its, ram) = (Its::new(), Ram::new());
    let mut whole = Whole {
        vgic: &mut vgic,
        its: &mut its,
        ram: &ram,
        cpus: &mut cpus,
    };
    let (taken, calls, _) = counted(|| whole.use_lpis());
    assert!(taken >= 256, "{taken} LPIs were taken");
    assert_eq!(calls, 0);
    println!("{plain} bytes; with 2048 LPIs and an ITS {with_its}");
}

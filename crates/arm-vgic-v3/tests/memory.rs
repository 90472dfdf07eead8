//! How much memory a vGIC takes, and when: a test of its own, because it counts
//! what this program allocates.
#![expect(unsafe_code, reason = "counts what the allocator hands out")]
#![expect(clippy::indexing_slicing, reason = "there is a CPU for each vCPU")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use arm_vgic_v3::its::Its;
use arm_vgic_v3::{FakeIch, Frame, Group, SgiRegister, Vgic, VgicConfig};
use vm_contract::{IntId, VcpuId, Width};

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

    let (vgic, _, bytes) = counted(|| build().with_lpis(2048));
    let with_its = bytes + size_of_val(&vgic) + size_of::<Its>();
    assert!(with_its < 64 * 1024, "{with_its} bytes");
    println!("{plain} bytes; with 2048 LPIs and an ITS {with_its}");
}

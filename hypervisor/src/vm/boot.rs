//! How a VM starts, at first and after each reset: memory is cleared and filled
//! anew, devices and interrupt controller are at their reset state, and the
//! first vCPU begins.
//!
//! That takes long, so it is done in steps: other VMs have their turns between
//! them.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use vm_contract::GuestPhysAddr;

use super::Vm;
use super::power::Start;
use crate::loader::{LoadError, Piece};

/// How much memory one step clears or fills.
const STEP_BYTES: usize = 1 << 20;

/// A VM on its way to its first instruction. None of its vCPUs is on.
pub struct Boot {
    vm: Arc<Vm>,
    stage: Stage,
}

enum Stage {
    Devices,
    /// So many bytes are clear.
    Memory(usize),
    /// So many bytes of it are loaded.
    Image(usize),
    Ramdisk(usize),
    Start,
}

impl Boot {
    /// Begins to start `vm`.
    #[must_use]
    pub const fn new(vm: Arc<Vm>) -> Self {
        Self {
            vm,
            stage: Stage::Devices,
        }
    }

    /// Returns the VM.
    #[must_use]
    pub const fn vm(&self) -> &Arc<Vm> {
        &self.vm
    }

    /// Does one step; `true` once the VM runs.
    ///
    /// # Errors
    /// [`LoadError`] if its image cannot be unpacked; it has not been started then.
    pub fn step(&mut self) -> Result<bool, LoadError> {
        let vm = &*self.vm;
        let images = &vm.images;
        self.stage = match self.stage {
            Stage::Devices => {
                vm.reset_devices();
                Stage::Memory(0)
            }
            Stage::Memory(done) => vm
                .ram()
                .clear(vm.machine, done, STEP_BYTES)
                .map_or(Stage::Image(0), Stage::Memory),
            Stage::Image(done) => match images.layout.flat() {
                Some(address) => vm
                    .load_part(address, images.image, done)?
                    .map_or(Stage::Ramdisk(0), Stage::Image),
                None => {
                    images
                        .layout
                        .load(images.image, |piece| vm.load_piece(&piece))?;
                    Stage::Ramdisk(0)
                }
            },
            Stage::Ramdisk(done) => match images.layout.initrd.zip(images.ramdisk) {
                Some((address, bytes)) => vm
                    .load_part(address, bytes, done)?
                    .map_or(Stage::Start, Stage::Ramdisk),
                None => Stage::Start,
            },
            Stage::Start => {
                vm.load_piece(&Piece {
                    address: images.layout.tree,
                    bytes: &images.tree,
                })?;
                vm.start();
                return Ok(true);
            }
        };
        Ok(false)
    }
}

impl Vm {
    fn reset_devices(&self) {
        self.bus.reset(|intid| {
            self.with_vgic(None, |vgic| ((), vgic.set_spi_level(intid, false)));
        });
        self.reset_its();
        self.vgic.lock().reset();
        // Of the life before.
        self.machine.forget_guest(self.vcpu_facts.vttbr());
        self.counter_offset
            .store(self.machine.now_ticks(), Ordering::Relaxed);
    }

    /// Loads the next part of `bytes` after the first `done`, of which the first
    /// belongs to `address`. Returns how many are done then; `None` if all are.
    fn load_part(
        &self,
        address: GuestPhysAddr,
        bytes: &[u8],
        done: usize,
    ) -> Result<Option<usize>, LoadError> {
        let end = bytes.len().min(done + STEP_BYTES);
        let part = bytes.get(done..end).unwrap_or_default();
        self.load_piece(&Piece {
            address: address + done,
            bytes: part,
        })?;
        Ok((end < bytes.len()).then_some(end))
    }

    fn load_piece(&self, piece: &Piece<'_>) -> Result<(), LoadError> {
        let ram = self.ram();
        ram.load(piece.address, piece.bytes)
            .map_err(|_| LoadError::DoesNotFit)?;
        ram.host_ranges(piece.address, piece.bytes.len(), |range| {
            self.machine.clean_to_coherency(range);
        });
        Ok(())
    }

    fn start(&self) {
        let layout = &self.images.layout;
        let start = Start {
            entry: layout.entry,
            context: usize::from(layout.tree) as u64,
        };
        self.change_power(None, |power| power.boot(start));
    }
}

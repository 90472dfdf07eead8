//! Our own vGIC under test: a VM in miniature, with a CPU in software for each vCPU
//! and a hypervisor that does what `Vgic` asks of it.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use vm_contract::{AccessError, IntId, VcpuId, Width};

use super::{GicUnderTest, IccRegister, Limits, SPURIOUS, Shape, Signals};
use crate::{
    FakeIch, Folded, Frame, Group, IchRegs, Kicks, ListRegister, SgiRegister, Vgic, VgicConfig,
};

/// Fields of ICH_VMCR_EL2.
mod vmcr {
    pub(super) const VENG0: u64 = 1 << 0;
    pub(super) const VENG1: u64 = 1 << 1;
    pub(super) const VCBPR: u64 = 1 << 4;
    pub(super) const VEOIM: u64 = 1 << 9;
    pub(super) const VBPR1_SHIFT: u32 = 18;
    pub(super) const VBPR0_SHIFT: u32 = 21;
    pub(super) const VPMR_SHIFT: u32 = 24;
}

/// ICC_CTLR_EL1.CBPR.
const CTLR_CBPR: u64 = 1 << 0;
/// ICC_CTLR_EL1.EOImode.
const CTLR_EOI_MODE: u64 = 1 << 1;
/// ICC_RPR_EL1 when nothing is being handled.
const IDLE: u64 = 0xFF;

/// The CPUs of a [`VgicMachine`] and the manners of its hypervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MachineConfig {
    /// List registers of each CPU: 1 to 16.
    pub lr_count: usize,
    /// Bits of priority and of preemption: 5 to 7.
    pub priority_bits: u32,
    /// ICC_DIR_EL1 can be trapped.
    pub dir_trap: bool,
    /// Kicks are served at once, rather than before a guest looks.
    pub prompt: bool,
    /// The PPI, if any, whose wire is a physical interrupt linked to it, as the
    /// virtual timer's is.
    pub linked_ppi: Option<u32>,
    /// The same for an SPI, as that of a device passed through.
    pub linked_spi: Option<u32>,
}

impl Default for MachineConfig {
    fn default() -> Self {
        Self {
            lr_count: 4,
            priority_bits: 5,
            dir_trap: true,
            prompt: true,
            linked_ppi: None,
            linked_spi: None,
        }
    }
}

impl MachineConfig {
    /// Returns one of the machines that random guests run on: 48, again and again.
    #[must_use]
    pub fn numbered(number: u8) -> Self {
        let few = |lr_count| Self {
            lr_count,
            ..Self::default()
        };
        let linked = |config| Self {
            linked_ppi: Some(27),
            linked_spi: Some(33),
            ..config
        };
        let untrapped = |config| Self {
            dir_trap: false,
            ..config
        };
        let config = match number % 8 {
            0 => few(1),
            1 => linked(few(2)),
            2 => few(3),
            3 => linked(few(4)),
            4 => few(16),
            5 => linked(few(16)),
            6 => untrapped(few(16)),
            _ => untrapped(few(2)),
        };
        Self {
            priority_bits: 5 + u32::from(number / 8 % 3),
            prompt: number % 48 < 24,
            ..config
        }
    }

    /// Returns what a comparison must spare this machine.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits {
            at_most_16: !self.dir_trap && self.lr_count >= 16,
            no_separate_deactivation: !self.dir_trap && self.lr_count < 16,
            linked: [self.linked_ppi, self.linked_spi],
        }
    }
}

/// A linked interrupt and the physical one behind it.
#[derive(Clone, Copy, Debug)]
struct Link {
    /// Whose PPI it is; of an SPI, any vCPU.
    vcpu: VcpuId,
    intid: IntId,
    physical: IntId,
    /// The level of the physical wire.
    wire: bool,
    /// The physical interrupt is active.
    active: bool,
}

/// A [`Vgic`] with everything that belongs around it.
#[derive(Clone, Debug)]
pub struct VgicMachine {
    vgic: Vgic,
    config: MachineConfig,
    cpus: Vec<FakeIch>,
    links: Vec<Link>,
    /// vCPUs that have not looked yet.
    owed: Kicks,
    complaint: Option<String>,
}

impl VgicMachine {
    /// Returns a machine out of reset. Impossible shapes become small ones.
    #[must_use]
    pub fn new(shape: &Shape<'_>, config: MachineConfig) -> Self {
        let wanted = VgicConfig {
            affinities: shape.affinities,
            spi_count: shape.spi_count,
        };
        let smallest = VgicConfig {
            affinities: &[0],
            spi_count: 0,
        };
        let mut cpu = FakeIch::new(config.lr_count).with_preemption_bits(config.priority_bits);
        if !config.dir_trap {
            cpu = cpu.without_dir_trap();
        }
        let mut complaint = None;
        let vgic = Vgic::new(&wanted).or_else(|error| {
            complaint = Some(format!("{error}"));
            Vgic::new(&smallest)
        });
        let Ok(vgic) = vgic else {
            unreachable!("one vCPU is a shape that every GIC can have")
        };
        let mut machine = Self {
            vgic: vgic.with_priority_bits(config.priority_bits),
            config,
            cpus: alloc::vec![cpu; shape.affinities.len()],
            links: Vec::new(),
            owed: Kicks::NONE,
            complaint,
        };
        for (vcpu, cpu) in (0..).map(VcpuId::new).zip(&mut machine.cpus) {
            machine.vgic.load(vcpu, cpu);
            // Physical INTIDs are others than the virtual ones.
            machine
                .links
                .extend(Link::new(vcpu, config.linked_ppi, IntId::ppi(4)));
        }
        machine.links.extend(Link::new(
            VcpuId::new(0),
            config.linked_spi,
            IntId::spi(300),
        ));
        machine
    }

    /// Returns a maker of such machines.
    pub fn factory(config: MachineConfig) -> impl Fn(&Shape<'_>) -> Box<dyn GicUnderTest> {
        move |shape| Box::new(Self::new(shape, config))
    }

    /// Returns the vGIC inside.
    #[must_use]
    pub fn vgic(&self) -> &Vgic {
        &self.vgic
    }

    /// Returns all vCPUs.
    fn vcpus(&self) -> impl Iterator<Item = VcpuId> + use<> {
        let count = u16::try_from(self.cpus.len()).unwrap_or(u16::MAX);
        (0..count).map(VcpuId::new)
    }

    /// Does what a change asks for.
    fn serve(&mut self, kicks: Kicks) {
        self.owed.extend(kicks);
        if self.config.prompt {
            self.attend();
        }
    }

    /// Serves the kicks that are owed and maintenance interrupts, and looks at the
    /// sources of linked interrupts, as happens before guests run on.
    fn attend(&mut self) {
        loop {
            while !self.owed.is_empty() {
                for vcpu in core::mem::take(&mut self.owed) {
                    self.refresh(vcpu);
                }
            }
            for vcpu in self.vcpus() {
                let asked = self.cpus.get(vcpu.index()).map(FakeIch::maintenance);
                if asked == Some(true) {
                    self.refresh(vcpu);
                    let asked = self.cpus.get(vcpu.index()).map(FakeIch::maintenance);
                    if asked == Some(true) {
                        self.complain(format!("the maintenance interrupt of {vcpu} storms"));
                    }
                }
            }
            self.look_at_sources();
            if self.owed.is_empty() {
                return;
            }
        }
    }

    fn refresh(&mut self, vcpu: VcpuId) {
        if let Some(cpu) = self.cpus.get_mut(vcpu.index()) {
            let folded = self.vgic.refresh(vcpu, cpu);
            self.settle(vcpu, folded);
        }
    }

    /// Takes back what `vcpu` has in its list registers.
    fn fold(&mut self, vcpu: VcpuId) {
        if let Some(cpu) = self.cpus.get_mut(vcpu.index()) {
            let folded = self.vgic.fold(vcpu, cpu);
            self.settle(vcpu, folded);
        }
    }

    fn flush(&mut self, vcpu: VcpuId) {
        if let Some(cpu) = self.cpus.get_mut(vcpu.index()) {
            self.vgic.flush(vcpu, cpu);
        }
    }

    /// Accesses a register that shows or changes what list registers hold. Only the
    /// asking vCPU stops for it; the others hold on to theirs.
    fn live_access<R>(
        &mut self,
        asker: VcpuId,
        frame: Frame,
        offset: u64,
        access: impl FnOnce(&mut Vgic) -> (R, Kicks),
    ) -> R {
        self.fold(asker);
        let (result, kicks) = access(&mut self.vgic);
        let mut due = self.vgic.look_again(asker, frame, offset);
        due.extend(kicks);
        self.flush(asker);
        self.serve(due);
        result
    }

    /// Does what came of looking at the list registers of `vcpu`.
    fn settle(&mut self, vcpu: VcpuId, folded: Folded) {
        self.owed.extend(folded.kicks);
        for physical in folded.deactivate() {
            self.deactivate_physical(vcpu, physical.raw());
        }
    }

    /// Deactivates a physical interrupt on the CPU of `vcpu`.
    fn deactivate_physical(&mut self, vcpu: VcpuId, physical: u32) {
        let link = self.links.iter_mut().find(|link| {
            let here = link.intid.is_spi() || link.vcpu == vcpu;
            link.physical.raw() == physical && here && link.active
        });
        match link {
            Some(link) => link.active = false,
            None => self.complain(format!(
                "physical interrupt {physical} is deactivated by {vcpu} and was not active"
            )),
        }
    }

    /// Brings linked interrupts in line with their physical wires.
    fn look_at_sources(&mut self) {
        if self.links.is_empty() {
            return;
        }
        for vcpu in self.vcpus() {
            // What the guest's EOI deactivated.
            let ended = self
                .cpus
                .get_mut(vcpu.index())
                .map(FakeIch::take_deactivated)
                .unwrap_or_default();
            for physical in ended {
                self.deactivate_physical(vcpu, physical.into());
            }
        }
        for n in 0..self.links.len() {
            let Some(link) = self.links.get_mut(n) else {
                continue;
            };
            if link.wire && !link.active {
                link.active = true;
                let kicks = self.vgic.raise_linked(link.vcpu, link.intid, link.physical);
                self.owed.extend(kicks);
            } else if !link.wire && link.active {
                let link = *link;
                self.take_low_source_back(link);
            }
        }
    }

    /// The source of a linked interrupt was found low.
    fn take_low_source_back(&mut self, link: Link) {
        let involved = |vcpu: &VcpuId| link.intid.is_spi() || *vcpu == link.vcpu;
        self.vcpus()
            .filter(involved)
            .for_each(|vcpu| self.fold(vcpu));
        if self.vgic.is_linked_pending(link.vcpu, link.intid) {
            match self.vgic.lower_linked(link.vcpu, link.intid) {
                Some(physical) => self.deactivate_physical(link.vcpu, physical.raw()),
                None => self.complain(format!("{link:?} cannot be lowered")),
            }
        }
        self.vcpus()
            .filter(involved)
            .for_each(|vcpu| self.flush(vcpu));
    }

    /// Drives the wire of an interrupt if that is linked. Tells whether it is.
    fn drive_link(&mut self, vcpu: VcpuId, intid: IntId, asserted: bool) -> bool {
        let link = self
            .links
            .iter_mut()
            .find(|link| link.intid == intid && (intid.is_spi() || link.vcpu == vcpu));
        let Some(link) = link else {
            return false;
        };
        link.wire = asserted;
        self.serve(Kicks::NONE);
        true
    }

    fn complain(&mut self, what: String) {
        self.complaint.get_or_insert(what);
    }

    /// Lets `vcpu` run on up to its next exit. `None` if there is no such vCPU.
    fn guest(&mut self, vcpu: usize) -> Option<&mut FakeIch> {
        self.attend();
        self.cpus.get_mut(vcpu)
    }

    fn deactivate(&mut self, vcpu: usize, value: u64) {
        let intid = u32::try_from(value & 0xFF_FFFF).unwrap_or_default();
        let went_through = self.guest(vcpu).map(|cpu| cpu.deactivate(intid));
        if went_through == Some(false) {
            let Some(vcpu) = self.vcpus().nth(vcpu) else {
                return;
            };
            self.fold(vcpu);
            let folded = self.vgic.deactivate(vcpu, value);
            self.settle(vcpu, folded);
            self.flush(vcpu);
        }
    }

    fn send_sgi(&mut self, vcpu: usize, register: SgiRegister, value: u64) {
        self.attend();
        if let Some(vcpu) = self.vcpus().nth(vcpu) {
            let kicks = self.vgic.send_sgi(vcpu, register, value);
            self.serve(kicks);
        }
    }
}

impl Link {
    /// Returns the link of a virtual interrupt, if one is wanted.
    fn new(vcpu: VcpuId, intid: Option<u32>, physical: Option<IntId>) -> Option<Self> {
        Some(Self {
            vcpu,
            intid: IntId::new(intid?)?,
            physical: physical?,
            wire: false,
            active: false,
        })
    }
}

impl GicUnderTest for VgicMachine {
    fn read(
        &mut self,
        vcpu: usize,
        frame: Frame,
        offset: u64,
        width: Width,
    ) -> Result<u64, AccessError> {
        self.attend();
        let asker = self.vcpus().nth(vcpu).ok_or(AccessError::NoDevice)?;
        let access = |vgic: &mut Vgic| (vgic.read(asker, frame, offset, width), Kicks::NONE);
        if Vgic::needs_fold(frame, offset) {
            // A first read asks the other vCPUs what they have in hand, so that a
            // second one is right.
            let _ = self.live_access(asker, frame, offset, access);
            self.attend();
            self.live_access(asker, frame, offset, access)
        } else {
            access(&mut self.vgic).0
        }
    }

    fn write(
        &mut self,
        vcpu: usize,
        frame: Frame,
        offset: u64,
        width: Width,
        value: u64,
    ) -> Result<(), AccessError> {
        self.attend();
        let asker = self.vcpus().nth(vcpu).ok_or(AccessError::NoDevice)?;
        let access = |vgic: &mut Vgic| match vgic.write(asker, frame, offset, width, value) {
            Ok(kicks) => (Ok(()), kicks),
            Err(error) => (Err(error), Kicks::NONE),
        };
        if Vgic::needs_fold(frame, offset) {
            self.live_access(asker, frame, offset, access)
        } else {
            let (written, kicks) = access(&mut self.vgic);
            self.serve(kicks);
            written
        }
    }

    fn read_icc(&mut self, vcpu: usize, register: IccRegister) -> u64 {
        let Some(cpu) = self.guest(vcpu) else {
            return 0;
        };
        let value = match register {
            IccRegister::Iar0 => cpu.acknowledge(Group::Zero).unwrap_or(SPURIOUS).into(),
            IccRegister::Iar1 => cpu.acknowledge(Group::One).unwrap_or(SPURIOUS).into(),
            IccRegister::Hppir0 => highest_pending(cpu, false).into(),
            IccRegister::Hppir1 => highest_pending(cpu, true).into(),
            IccRegister::Rpr => running_priority(cpu),
            IccRegister::Pmr => cpu.read_vmcr() >> vmcr::VPMR_SHIFT & 0xFF,
            IccRegister::Bpr0 => cpu.read_vmcr() >> vmcr::VBPR0_SHIFT & 7,
            IccRegister::Bpr1 if cpu.read_vmcr() & vmcr::VCBPR != 0 => {
                (cpu.read_vmcr() >> vmcr::VBPR0_SHIFT & 7).min(6) + 1
            }
            IccRegister::Bpr1 => cpu.read_vmcr() >> vmcr::VBPR1_SHIFT & 7,
            IccRegister::Ctlr => {
                let is_set =
                    |bit: u64, value: u64| if cpu.read_vmcr() & bit != 0 { value } else { 0 };
                is_set(vmcr::VCBPR, CTLR_CBPR) | is_set(vmcr::VEOIM, CTLR_EOI_MODE)
            }
            IccRegister::Igrpen0 => u64::from(cpu.read_vmcr() & vmcr::VENG0 != 0),
            IccRegister::Igrpen1 => u64::from(cpu.read_vmcr() & vmcr::VENG1 != 0),
            IccRegister::Eoir0
            | IccRegister::Eoir1
            | IccRegister::Dir
            | IccRegister::Sgi0r
            | IccRegister::Sgi1r
            | IccRegister::Asgi1r => 0,
        };
        self.serve(Kicks::NONE);
        value
    }

    fn write_icc(&mut self, vcpu: usize, register: IccRegister, value: u64) {
        let priority_bits = self.config.priority_bits;
        let Some(cpu) = self.guest(vcpu) else {
            return;
        };
        let old = cpu.read_vmcr();
        let field = |shift: u32, mask: u64| old & !(mask << shift) | (value & mask) << shift;
        let flag = |old: u64, bit: u64, set: bool| if set { old | bit } else { old & !bit };
        match register {
            IccRegister::Eoir0 | IccRegister::Eoir1 => {
                let intid = u32::try_from(value & 0xFF_FFFF).unwrap_or_default();
                // Special INTIDs end nothing.
                if !(1020..1024).contains(&intid) {
                    let group1 = register == IccRegister::Eoir1;
                    cpu.end(if group1 { Group::One } else { Group::Zero }, intid);
                }
            }
            IccRegister::Dir => self.deactivate(vcpu, value),
            IccRegister::Pmr => {
                let implemented = 0xFF00_u64 >> priority_bits;
                cpu.write_vmcr(
                    old & !(0xFF << vmcr::VPMR_SHIFT)
                        | (value & implemented & 0xFF) << vmcr::VPMR_SHIFT,
                );
            }
            IccRegister::Bpr0 => cpu.write_vmcr(field(vmcr::VBPR0_SHIFT, 7)),
            IccRegister::Bpr1 if old & vmcr::VCBPR != 0 => {}
            IccRegister::Bpr1 => cpu.write_vmcr(field(vmcr::VBPR1_SHIFT, 7)),
            IccRegister::Ctlr => {
                let common = flag(old, vmcr::VCBPR, value & CTLR_CBPR != 0);
                cpu.write_vmcr(flag(common, vmcr::VEOIM, value & CTLR_EOI_MODE != 0));
            }
            IccRegister::Igrpen0 => cpu.set_group_enabled(Group::Zero, value & 1 != 0),
            IccRegister::Igrpen1 => cpu.set_group_enabled(Group::One, value & 1 != 0),
            IccRegister::Sgi0r => self.send_sgi(vcpu, SgiRegister::Sgi0, value),
            IccRegister::Sgi1r => self.send_sgi(vcpu, SgiRegister::Sgi1, value),
            IccRegister::Asgi1r => self.send_sgi(vcpu, SgiRegister::Asgi1, value),
            IccRegister::Iar0
            | IccRegister::Iar1
            | IccRegister::Hppir0
            | IccRegister::Hppir1
            | IccRegister::Rpr => {}
        }
        self.serve(Kicks::NONE);
    }

    fn set_spi(&mut self, intid: u32, asserted: bool) {
        if let Some(intid) = IntId::new(intid)
            && !self.drive_link(VcpuId::new(0), intid, asserted)
        {
            let kicks = self.vgic.set_spi_level(intid, asserted);
            self.serve(kicks);
        }
    }

    fn set_ppi(&mut self, vcpu: usize, intid: u32, asserted: bool) {
        if let (Some(vcpu), Some(intid)) = (self.vcpus().nth(vcpu), IntId::new(intid))
            && !self.drive_link(vcpu, intid, asserted)
        {
            let kicks = self.vgic.set_ppi_level(vcpu, intid, asserted);
            self.serve(kicks);
        }
    }

    fn signals(&mut self, vcpu: usize) -> Signals {
        let signalled = self.guest(vcpu).and_then(|cpu| cpu.signalled());
        Signals {
            irq: signalled == Some(Group::One),
            fiq: signalled == Some(Group::Zero),
        }
    }

    fn move_vcpu(&mut self, vcpu: usize) {
        self.attend();
        let Some(id) = self.vcpus().nth(vcpu) else {
            return;
        };
        let Some(cpu) = self.cpus.get_mut(vcpu) else {
            return;
        };
        let folded = self.vgic.save(id, cpu);
        let deliverable = self.vgic.deliverable(id);
        let silent = cpu.signalled().is_none();
        // Another CPU, in whose registers something of others still lies.
        let mut next =
            FakeIch::new(self.config.lr_count).with_preemption_bits(self.config.priority_bits);
        if !self.config.dir_trap {
            next = next.without_dir_trap();
        }
        self.vgic.load(id, &mut next);
        let signalled = next.signalled().is_some();
        let certain = treats_equals_alike(&next);
        // Physical interrupts that the old CPU's list registers deactivated.
        let ended = core::mem::replace(cpu, next).take_deactivated();
        for physical in ended {
            self.deactivate_physical(id, physical.into());
        }
        self.settle(id, folded);
        if !silent {
            self.complain(format!("a CPU without a vCPU signals for {id}"));
        }
        if deliverable != signalled && (signalled || certain) {
            self.complain(format!(
                "{id} was said to have a reason to wake: {deliverable}; it is signalled: {signalled}"
            ));
        }
        self.serve(Kicks::NONE);
    }

    fn check(&self) -> Result<(), String> {
        if let Some(complaint) = &self.complaint {
            return Err(complaint.clone());
        }
        let mut shared = Vec::new();
        for (vcpu, cpu) in self.cpus.iter().enumerate() {
            let held = || cpu.list_registers().iter().filter(|lr| !lr.is_inactive());
            let mut intids: Vec<u32> = held().map(|lr| lr.intid()).collect();
            if repeats(&mut intids) {
                return Err(format!("vCPU {vcpu} has an INTID twice: {intids:?}"));
            }
            shared.extend(intids.into_iter().filter(|&intid| intid >= 32));
            if let Some(lr) = held().find(|lr| lr.is_linked() && lr.is_active() && lr.is_pending())
            {
                return Err(format!("linked, active and pending: {lr:?}"));
            }
        }
        if repeats(&mut shared) {
            return Err(format!("an SPI is on two CPUs: {shared:?}"));
        }
        Ok(())
    }
}

/// Sorts, and tells whether something is there twice.
fn repeats(intids: &mut [u32]) -> bool {
    intids.sort_unstable();
    intids
        .windows(2)
        .any(|pair| matches!(pair, [first, second] if first == second))
}

/// Tells whether several pending interrupts of one priority would all be signalled or
/// none of them. Otherwise one of Group 0 may preempt where one of Group 1 does not, and
/// which of them counts is the CPU's choice.
fn treats_equals_alike(cpu: &FakeIch) -> bool {
    let both = vmcr::VENG0 | vmcr::VENG1;
    running_priority(cpu) == IDLE || cpu.read_vmcr() & both != both
}

/// Returns what ICC_HPPIR0_EL1 or ICC_HPPIR1_EL1 reads: neither the priority mask
/// nor the running priority counts.
fn highest_pending(cpu: &FakeIch, group1: bool) -> u32 {
    let enabled = |lr: &ListRegister| {
        let bit = if lr.is_group1() {
            vmcr::VENG1
        } else {
            vmcr::VENG0
        };
        cpu.read_vmcr() & bit != 0
    };
    cpu.list_registers()
        .iter()
        .filter(|lr| lr.is_pending() && !lr.is_active() && enabled(lr))
        .min_by_key(|lr| lr.priority())
        .filter(|lr| lr.is_group1() == group1)
        .map_or(SPURIOUS, |lr| lr.intid())
}

/// Returns what ICC_RPR_EL1 reads.
fn running_priority(cpu: &FakeIch) -> u64 {
    let bits = cpu.preemption_bits();
    (0..1 << (bits - 5))
        .find_map(|n| {
            let active = (cpu.read_ap0r(n) | cpu.read_ap1r(n)) & 0xFFFF_FFFF;
            let level = 32 * n as u64 + u64::from(active.trailing_zeros());
            (active != 0).then_some(level << (8 - bits))
        })
        .unwrap_or(IDLE)
}

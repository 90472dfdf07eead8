//! One interrupt.

/// Where a shared interrupt goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// To the vCPU of this affinity, if there is one.
    One([u8; 4]),
    /// To any one vCPU. The affinity is only remembered.
    Any([u8; 4]),
}

/// An SGI, a PPI or an SPI.
#[derive(Clone, Debug)]
pub(super) struct Interrupt {
    pub(super) enabled: bool,
    pub(super) group1: bool,
    pub(super) priority: u8,
    /// Edge-triggered rather than level-sensitive.
    pub(super) edge: bool,
    /// The level of its wire.
    pub(super) wire: bool,
    /// A level-sensitive message was sent and not withdrawn.
    pub(super) message: bool,
    /// Pending since an edge, an SGI or a write, until it is acknowledged.
    latched: bool,
    pub(super) active: bool,
    /// Of shared interrupts.
    pub(super) route: Route,
}

impl Interrupt {
    /// Returns the interrupt `intid` at reset.
    pub(super) fn new(intid: u32) -> Self {
        Self {
            enabled: false,
            group1: false,
            priority: 0,
            // SGIs always are.
            edge: intid < 16,
            wire: false,
            message: false,
            latched: false,
            active: false,
            route: Route::One([0; 4]),
        }
    }

    /// Tells whether it is pending, active or not.
    pub(super) fn is_pending(&self) -> bool {
        let level = !self.edge && (self.wire || self.message);
        self.latched || level
    }

    /// Drives its wire.
    pub(super) fn set_wire(&mut self, asserted: bool) {
        let rises = asserted && !self.wire;
        if rises && self.edge {
            self.latched = true;
        }
        self.wire = asserted;
    }

    /// An SGI arrives, or software writes ISPENDR.
    pub(super) fn make_pending(&mut self) {
        self.latched = true;
    }

    /// Software writes ICPENDR: what a wire asserts stays pending.
    pub(super) fn clear_pending(&mut self) {
        self.latched = false;
    }

    /// A message (GICD_SETSPI) arrives.
    pub(super) fn send_message(&mut self) {
        if self.edge {
            self.latched = true;
        } else {
            self.message = true;
        }
    }

    /// The message is withdrawn (GICD_CLRSPI).
    pub(super) fn withdraw_message(&mut self) {
        self.message = false;
        self.latched = false;
    }

    /// A vCPU takes it.
    pub(super) fn acknowledge(&mut self) {
        self.latched = false;
        self.active = true;
    }
}

//! The switch beside its model: what the fuzz target does with its input, and what
//! replays its corpus.
#![expect(
    clippy::indexing_slicing,
    reason = "for tests: indices are of ports, of which no switch has more"
)]

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use thiserror::Error;

use super::{ReferenceSwitch, Step, port_configs};
use crate::{DropReason, Endpoint, Frame, FrameBuf, Limits, Offload, PortId, PortSet, Switch};

/// Something that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Failure(String);

/// Two answers that should be one.
fn same<T: PartialEq + core::fmt::Debug>(what: &str, real: &T, model: &T) -> Result<(), Failure> {
    if real == model {
        Ok(())
    } else {
        Err(Failure(format!(
            "{what}: {real:?}, but should be {model:?}"
        )))
    }
}

struct Pair {
    switch: Switch,
    endpoints: Vec<Endpoint>,
    held: [VecDeque<Frame>; PortId::COUNT],
    unsent: [Vec<FrameBuf>; PortId::COUNT],
    model: ReferenceSwitch,
    now: u64,
}

/// Lets what the bytes say happen to a switch and to its model. The first byte chooses
/// the size of the pool, each eight that follow are a [`Step`].
///
/// # Errors
/// The first thing that differs, or a frame that is lost at the end.
pub fn compare(input: &[u8]) -> Result<(), Failure> {
    let Some((&first, steps)) = input.split_first() else {
        return Ok(());
    };
    let mut pair = Pair::new(first)?;
    let (steps, _) = steps.as_chunks();
    for step in steps {
        pair.step(Step::decode(u64::from_le_bytes(*step)))?;
    }
    pair.finish()
}

impl Pair {
    fn new(first: u8) -> Result<Self, Failure> {
        let limits = Limits {
            frame_bytes: 100,
            queue_frames: 3,
            sender_frames: 2,
            pool_frames: (first & 1 != 0).then_some(u32::from(first >> 1) % 8 + 1),
            learned_per_port: u32::from(first >> 4) % 4,
            pinned: 2,
            age_ticks: 8,
            hash_seed: first.into(),
        };
        let (switch, endpoints) =
            Switch::new(&limits, port_configs()).map_err(|error| Failure(error.to_string()))?;
        let model = ReferenceSwitch::new(&limits, port_configs());
        Ok(Self {
            switch,
            endpoints,
            held: core::array::from_fn(|_| VecDeque::new()),
            unsent: core::array::from_fn(|_| Vec::new()),
            model,
            now: 0,
        })
    }

    fn step(&mut self, step: Step) -> Result<(), Failure> {
        match step {
            Step::Send {
                port,
                bytes,
                offload,
            } => {
                let real = self.send(port, &bytes, offload);
                same("submit", &real, &self.send_in_model(port, &bytes, offload))?;
            }
            Step::Take(port) => {
                let real = self.take(port, Offload::None);
                let real = real.map(|frame| self.unsent[port.index()].push(frame));
                same("take", &real, &self.model.take(port))?;
            }
            Step::Untake(port) => {
                self.unsent[port.index()].pop();
                self.model.give_back_unsent(port);
            }
            Step::Receive(port) => self.receive(port)?,
            Step::GiveBack(port) => {
                self.held[port.index()].pop_front();
                self.model.give_back(port);
            }
            Step::SetUp(port, up) => {
                self.switch.set_up(port, up);
                self.model.set_up(port, up);
            }
            Step::Configure(port, config) => {
                self.switch.configure(port, config.clone());
                self.model.configure(port, config);
            }
            Step::Pin(vlan, mac, port) => {
                let real = self.switch.pin(vlan, mac, port).is_ok();
                same("pin", &real, &self.model.pin(vlan, mac, port))?;
            }
            Step::Unpin(vlan, mac) => {
                let real = self.switch.unpin(vlan, mac);
                same("unpin", &real, &self.model.unpin(vlan, mac))?;
            }
            Step::Wait(ticks) => self.now += ticks,
        }
        self.check()
    }

    fn take(&self, port: PortId, offload: Offload) -> Result<FrameBuf, DropReason> {
        let endpoint = self.endpoints.get(port.index());
        endpoint.ok_or(DropReason::Foreign)?.frame(offload)
    }

    fn send(
        &mut self,
        port: PortId,
        bytes: &[u8],
        offload: Offload,
    ) -> Result<PortSet, DropReason> {
        let mut frame = self.take(port, offload)?;
        if let Err(reason) = frame.append(bytes) {
            if let Some(endpoint) = self.endpoints.get(port.index()) {
                endpoint.count_drop(reason);
            }
            return Err(reason);
        }
        self.switch.submit(frame, self.now)
    }

    fn send_in_model(
        &mut self,
        port: PortId,
        bytes: &[u8],
        offload: Offload,
    ) -> Result<PortSet, DropReason> {
        self.model.take(port)?;
        if bytes.len() > self.switch.pool().frame_bytes() + 4 {
            // It does not fit, whoever it is from.
            self.model.give_back_unsent(port);
            self.model.count_drop(port, DropReason::TooLong);
            return Err(DropReason::TooLong);
        }
        self.model.submit(port, bytes, offload, self.now)
    }

    fn receive(&mut self, port: PortId) -> Result<(), Failure> {
        let endpoint = self.endpoints.get_mut(port.index());
        let frame = endpoint.and_then(Endpoint::receive);
        let expected = self.model.receive(port);
        let contents = |frame: &Frame| {
            let mut bytes = alloc::vec![0; frame.len()];
            let len = frame.copy_to(&mut bytes);
            (len, bytes, frame.offload())
        };
        let real = frame.as_ref().map(contents);
        let model = expected.map(|it| (Some(it.bytes.len()), it.bytes, it.offload));
        same("receive", &real, &model)?;
        self.held[port.index()].extend(frame);
        Ok(())
    }

    /// Compares what can be seen without changing anything.
    fn check(&self) -> Result<(), Failure> {
        same(
            "free frames",
            &self.switch.pool().free(),
            &self.model.free(),
        )?;
        for endpoint in &self.endpoints {
            let id = endpoint.id();
            let learned = self.switch.learned(id);
            same("learned", &learned, &self.model.learned(id))?;
            same(
                "statistics",
                &endpoint.statistics(),
                self.model.statistics(id),
            )?;
        }
        Ok(())
    }

    /// Empties all queues and hands: every frame is free then.
    fn finish(mut self) -> Result<(), Failure> {
        for id in PortId::all().take(self.endpoints.len()) {
            while self
                .endpoints
                .get(id.index())
                .is_some_and(Endpoint::has_frames)
            {
                self.receive(id)?;
            }
        }
        drop((self.held, self.unsent));
        let pool = self.switch.pool();
        same("free frames at the end", &pool.free(), &pool.capacity())
    }
}

/// Runs every input of a corpus: one a line, in hexadecimal digits.
///
/// # Errors
/// The first failure, or a line that is no input.
pub fn replay(corpus: &str) -> Result<(), Failure> {
    for (n, line) in (1..).zip(corpus.lines()) {
        let byte = |at: usize| u8::from_str_radix(line.get(at..at + 2)?, 16).ok();
        let input: Option<Vec<u8>> = (0..line.len()).step_by(2).map(byte).collect();
        let input = input.ok_or_else(|| Failure(format!("line {n}: no hexadecimal digits")))?;
        compare(&input).map_err(|failure| Failure(format!("line {n}: {failure}")))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sequence without a pattern (xorshift64).
    fn numbers() -> impl Iterator<Item = u64> {
        core::iter::successors(Some(0x9E37_79B9_7F4A_7C15), |number: &u64| {
            let number = number ^ number << 13;
            let number = number ^ number >> 7;
            Some(number ^ number << 17)
        })
    }

    #[test]
    fn steps_reach_every_fate_of_a_frame() {
        // Only a frame of another switch is beyond steps at one switch.
        let mut missing: Vec<_> = DropReason::ALL.into();
        missing.retain(|reason| *reason != DropReason::Foreign);
        let mut tagged = 0;
        for first in [0x30, 0x37] {
            let mut pair = Pair::new(first).unwrap();
            for number in numbers().take(if cfg!(miri) { 300 } else { 5_000 }) {
                pair.step(Step::decode(number)).unwrap();
                let received = pair.held.iter().filter_map(VecDeque::back);
                tagged += received.filter(|frame| frame.tag().is_some()).count();
            }
            for endpoint in &pair.endpoints {
                let counted = endpoint.statistics();
                missing.retain(|reason| counted.dropped(*reason) == 0);
                assert!(counted.rx_frames > 0 && counted.tx_frames > 0);
            }
            pair.finish().unwrap();
        }
        if !cfg!(miri) {
            assert_eq!(missing, []);
            assert!(tagged > 0);
        }
    }

    #[test]
    fn what_differs_is_told() {
        let mut pair = Pair::new(0).unwrap();
        pair.model.set_up(PortId::FIRST, false);
        let outcome = numbers().take(1_000).try_for_each(|number| {
            let step = Step::decode(number);
            let disturbing = matches!(step, Step::SetUp(..));
            if disturbing { Ok(()) } else { pair.step(step) }
        });
        assert!(outcome.is_err());
    }
}

//! A network card between a guest that does anything and a busy cable.

use super::{Bytes, Finding, guest};
use crate::Net;
use crate::fakes::{FakeCable, FakeFrame, Rig};
use crate::net::Checksum;

const MTU: u16 = 256;
const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// Plays a driver of a network card, and the cable.
///
/// # Errors
/// What broke.
pub fn net(input: &[u8]) -> Result<(), Finding> {
    let device = Net::new(OWN, MTU, FakeCable::default());
    guest::play::<_, 3>(device, input, |rig, bytes| {
        check_sent(&mut rig.mmio.device_mut().backend_mut().sent)?;
        come(rig, bytes);
        Ok(())
    })
}

fn check_sent(sent: &mut alloc::vec::Vec<FakeFrame>) -> Result<(), Finding> {
    for frame in sent.drain(..) {
        if frame.bytes.len() > usize::from(MTU) + 18 {
            return Err("a frame is longer than the MTU allows");
        }
        if frame.checksum.within(frame.bytes.len() as u64).is_none() {
            return Err("a checksum lies outside its frame");
        }
    }
    Ok(())
}

fn come(rig: &mut Rig<Net<FakeCable>>, bytes: &mut Bytes<'_>) {
    let mut frame = alloc::vec![bytes.byte(); usize::from(bytes.byte()) * 2];
    if bytes.byte() & 1 != 0 {
        frame
            .iter_mut()
            .zip(OWN)
            .for_each(|(place, byte)| *place = byte);
    }
    let checksum = match bytes.byte() % 3 {
        0 => Checksum::Valid,
        1 => Checksum::Needed {
            start: bytes.byte().into(),
            offset: bytes.byte().into(),
        },
        _ => Checksum::InFrame,
    };
    rig.mmio
        .device_mut()
        .backend_mut()
        .coming
        .push_back(FakeFrame {
            bytes: frame,
            checksum,
            cut: bytes.byte().into(),
        });
    if bytes.byte() & 1 != 0 {
        rig.poll();
    }
}

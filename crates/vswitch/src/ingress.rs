//! From a sender's bytes to a frame without a tag in a VLAN.

use crate::config::{PortConfig, PortMode};
use crate::frame::ADDRESSES_BYTES;
use crate::pool::Buffer;
use crate::vlan::{TAG_BYTES, TAG_TYPE};
use crate::{DropReason, MacAddress, Tag, VlanId};

/// Addresses and type (IEEE 802.3-2018, 3.1.1).
const HEADER_BYTES: usize = ADDRESSES_BYTES + 2;

/// A frame that has passed the checks of its port, its tag taken away.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) destination: MacAddress,
    pub(crate) source: MacAddress,
    pub(crate) vlan: VlanId,
    /// Priority of the tag that it had, in the frame's VLAN.
    pub(crate) tag: Tag,
    /// What follows the addresses is another tag.
    pub(crate) payload_tagged: bool,
}

/// The first bytes of a frame.
struct Header {
    destination: MacAddress,
    source: MacAddress,
    tag: Option<Tag>,
    /// The type behind the tag, or the first one.
    inner_type: u16,
}

impl Header {
    fn read(frame: &[u8]) -> Option<Self> {
        let (destination, rest) = frame.split_first_chunk()?;
        let (source, rest) = rest.split_first_chunk()?;
        let (kind, rest) = rest.split_first_chunk()?;
        let (tag, inner_type) = if u16::from_be_bytes(*kind) == TAG_TYPE {
            let (control, rest) = rest.split_first_chunk()?;
            let inner_type = rest.first_chunk()?;
            (Some(Tag::new(u16::from_be_bytes(*control))), inner_type)
        } else {
            (None, kind)
        };
        Some(Self {
            destination: MacAddress::new(*destination),
            source: MacAddress::new(*source),
            tag,
            inner_type: u16::from_be_bytes(*inner_type),
        })
    }
}

/// Checks a frame that comes from a port and takes its tag away.
pub(crate) fn admit(
    config: &PortConfig,
    frame_bytes: usize,
    buffer: &mut Buffer,
) -> Result<Admitted, DropReason> {
    let frame = buffer.bytes.get(buffer.start..buffer.end);
    let header = frame.and_then(Header::read).ok_or(DropReason::TooShort)?;
    let tag_bytes = if header.tag.is_some() { TAG_BYTES } else { 0 };
    if buffer.len() > frame_bytes + tag_bytes {
        return Err(DropReason::TooLong);
    }
    check_addresses(config, &header)?;
    let vlan = vlan(&config.mode, &header)?;
    let offload = buffer.offload.check(HEADER_BYTES + tag_bytes, buffer.len());
    buffer.offload = offload.map_err(|_| DropReason::BadChecksum)?;
    if header.tag.is_some() {
        take_tag_away(buffer);
    }
    Ok(Admitted {
        destination: header.destination,
        source: header.source,
        vlan,
        tag: header.tag.unwrap_or(Tag::new(0)).in_vlan(vlan),
        payload_tagged: header.inner_type == TAG_TYPE,
    })
}

fn check_addresses(config: &PortConfig, header: &Header) -> Result<(), DropReason> {
    if !header.source.is_station() {
        Err(DropReason::BadSource)
    } else if config.only_source.is_some_and(|only| only != header.source) {
        Err(DropReason::Spoofed)
    } else if header.destination.is_bridge_reserved() {
        Err(DropReason::Reserved)
    } else {
        Ok(())
    }
}

fn vlan(mode: &PortMode, header: &Header) -> Result<VlanId, DropReason> {
    // A tag without a VLAN says no more than no tag (IEEE 802.1Q-2018, 6.9).
    let identifier = header.tag.map_or(0, Tag::identifier);
    match mode {
        // A second tag would come to light when the first is gone.
        PortMode::Access(_) if identifier != 0 || header.inner_type == TAG_TYPE => {
            Err(DropReason::TaggedOnAccess)
        }
        PortMode::Access(vlan) => Ok(*vlan),
        PortMode::Trunk { native, .. } if identifier == 0 => native.ok_or(DropReason::NoNativeVlan),
        PortMode::Trunk { allowed, native } => VlanId::new(identifier)
            .filter(|vlan| allowed.contains(*vlan) || *native == Some(*vlan))
            .ok_or(DropReason::VlanNotAllowed),
    }
}

/// Moves the addresses over the tag. The rest stays where it is.
fn take_tag_away(buffer: &mut Buffer) {
    let start = buffer.start + TAG_BYTES;
    let addresses = buffer.start..buffer.start + ADDRESSES_BYTES;
    if addresses.end + TAG_BYTES <= buffer.end {
        buffer.bytes.copy_within(addresses, start);
        buffer.start = start;
        buffer.offload = buffer.offload.without_tag(4);
    }
}

/// Returns how a frame leaves by a port of this mode: not at all, or with this tag or
/// without one.
pub(crate) fn egress(mode: &PortMode, frame: &Admitted) -> Option<Option<Tag>> {
    match mode {
        PortMode::Access(vlan) => (*vlan == frame.vlan).then_some(None),
        // Without its own tag, a frame that carries another would change VLAN behind
        // the port.
        PortMode::Trunk { native, .. } if *native == Some(frame.vlan) => {
            Some(frame.payload_tagged.then_some(frame.tag))
        }
        PortMode::Trunk { allowed, .. } => allowed.contains(frame.vlan).then_some(Some(frame.tag)),
    }
}

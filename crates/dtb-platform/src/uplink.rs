//! The switch's way out of the machine, read and written.

use alloc::string::String;
use alloc::vec::Vec;

use crate::blob::Blob;
use crate::domains::add_nodes;
use crate::tree::{Node, Tree};
use crate::vm_config::{VlanMode, allowed, check_properties, property};
use crate::{BlobError, ConfigError, Fault, PropertyError, RawNode, TreeError};

/// What names the node, a child of `/chosen`.
const UPLINK: &str = "armature,uplink";

/// The port of the switch that is a network card of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// Which of the machine's network cards it is: they are counted from 0 by
    /// ascending address.
    pub card: u32,
    /// The VLANs that it is in.
    pub vlan: VlanMode,
}

impl Uplink {
    fn read(node: Node<'_, '_>) -> Result<Self, ConfigError> {
        use property::{HOST_NET, NATIVE_VLAN, TRUNK, VLAN};
        check_properties(node, &[HOST_NET, VLAN, TRUNK, NATIVE_VLAN])?;
        let card = node.word(HOST_NET, allowed::HOST_NET)?;
        let uplink = Self {
            card: card.ok_or_else(|| node.missing(HOST_NET, allowed::HOST_NET))?,
            vlan: VlanMode::read(node)?,
        };
        uplink.check(node.path())?;
        Ok(uplink)
    }

    fn check(&self, node: String) -> Result<(), ConfigError> {
        self.vlan.check().map_err(|(property, allowed)| {
            ConfigError::Property(PropertyError {
                node,
                property,
                fault: Fault::Invalid,
                allowed,
            })
        })
    }
}

/// Reads which network card of the machine the switch is joined to, if `blob`
/// asks for one: the child of `/chosen` compatible with `armature,uplink`.
///
/// # Errors
/// The tree cannot be read at all. Inside, whoever configured the machine is to
/// blame: a property of the node is wrong, or there is a second one.
pub fn uplink(blob: &[u8]) -> Result<Result<Option<Uplink>, ConfigError>, BlobError> {
    let blob = Blob::check(blob)?;
    let tree = Tree::read(&blob)?;
    let nodes = tree.find("/chosen").into_iter().flat_map(|chosen| {
        chosen
            .children()
            .filter(|node| node.is_compatible(&[UPLINK]) && node.is_available())
    });
    let mut nodes = nodes.fuse();
    Ok(match (nodes.next(), nodes.next()) {
        (None, _) => Ok(None),
        (Some(node), None) => Uplink::read(node).map(Some),
        (Some(_), Some(second)) => Err(ConfigError::Uplinks {
            node: second.path(),
        }),
    })
}

/// Returns a copy of the tree `host_blob` with a node under `/chosen` for the
/// uplink, so that [`uplink`] of it returns that.
///
/// # Errors
/// [`TreeError::Config`] if a VLAN is none, and else those of [`add_nodes`].
pub fn add_uplink(host_blob: &[u8], uplink: &Uplink) -> Result<Vec<u8>, TreeError> {
    const NAME: &str = "uplink";
    uplink.check(alloc::format!("/chosen/{NAME}"))?;
    let mut node = RawNode::new(NAME);
    node.set_text("compatible", UPLINK);
    node.set_words(property::HOST_NET, &[uplink.card]);
    uplink.vlan.write(&mut node);
    add_nodes(host_blob, &[node])
}

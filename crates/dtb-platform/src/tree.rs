//! A checked blob as nodes with parents, children and typed properties.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use fdt::Fdt;
use fdt::node::NodeProperty;

use crate::blob::{Blob, be32};
use crate::{BlobError, Fault, PropertyError};

/// Every node of a tree, in the order of the blob.
pub(crate) struct Tree<'a> {
    nodes: Vec<NodeData<'a>>,
    /// Address and size of each entry of the memory reservation block.
    reservations: Vec<(u64, u64)>,
}

struct NodeData<'a> {
    name: &'a str,
    parent: Option<usize>,
    properties: Vec<NodeProperty<'a>>,
}

impl<'a> Tree<'a> {
    /// Reads all of `blob`.
    pub(crate) fn read(blob: &'a Blob<'_>) -> Result<Self, BlobError> {
        let fdt = Fdt::new(blob.bytes()).map_err(|_| BlobError::Truncated)?;
        let root = fdt.find_node("/").ok_or(BlobError::Structure(0))?;
        let mut nodes = Vec::new();
        let mut unread = vec![(root, None)];
        while let Some((node, parent)) = unread.pop() {
            let index = nodes.len();
            let properties = node.properties().collect();
            nodes.push(NodeData {
                name: node.name,
                parent,
                properties,
            });
            // The last one pushed is read first.
            let first_child = unread.len();
            unread.extend(node.children().map(|child| (child, Some(index))));
            if let Some(children) = unread.get_mut(first_child..) {
                children.reverse();
            }
        }
        let reservations = fdt
            .memory_reservations()
            .map(|entry| (entry.address().addr() as u64, entry.size() as u64))
            .collect();
        Ok(Self {
            nodes,
            reservations,
        })
    }

    pub(crate) fn reservations(&self) -> &[(u64, u64)] {
        &self.reservations
    }

    /// Returns the nodes in the order of the blob: the root comes first, and
    /// parents come before their children.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = Node<'_, 'a>> {
        self.nodes.iter().enumerate().map(|(index, data)| Node {
            tree: self,
            index,
            data,
        })
    }

    /// Returns the nodes that are compatible with one of `names` and usable.
    pub(crate) fn compatible(&self, names: &'static [&str]) -> impl Iterator<Item = Node<'_, 'a>> {
        self.nodes()
            .filter(|node| node.is_compatible(names) && node.is_available())
    }

    /// Returns the node at `path`, which starts at the root. A part without a
    /// unit address stands for any one.
    pub(crate) fn find(&self, path: &str) -> Option<Node<'_, 'a>> {
        let mut node = self.node(0)?;
        for part in path.split('/').filter(|part| !part.is_empty()) {
            node = node
                .children()
                .find(|child| child.name() == part)
                .or_else(|| node.children().find(|child| child.base_name() == part))?;
        }
        Some(node)
    }

    /// Returns the node at `path`, which may instead start with an alias.
    pub(crate) fn resolve(&self, path: &str) -> Option<Node<'_, 'a>> {
        if path.starts_with('/') {
            return self.find(path);
        }
        let (alias, rest) = path.split_once('/').unwrap_or((path, ""));
        let target = string(self.find("/aliases")?.property(alias)?)?;
        self.find(&format!("{target}/{rest}"))
    }

    /// Returns the node that other nodes refer to as `phandle`.
    pub(crate) fn phandle(&self, phandle: u32) -> Option<Node<'_, 'a>> {
        self.nodes().find(|node| {
            ["phandle", "linux,phandle"]
                .iter()
                .any(|name| node.property(name).and_then(word) == Some(phandle))
        })
    }

    fn node(&self, index: usize) -> Option<Node<'_, 'a>> {
        Some(Node {
            tree: self,
            index,
            data: self.nodes.get(index)?,
        })
    }
}

/// One node of a tree.
#[derive(Clone, Copy)]
pub(crate) struct Node<'t, 'a> {
    tree: &'t Tree<'a>,
    index: usize,
    data: &'t NodeData<'a>,
}

impl<'t, 'a> Node<'t, 'a> {
    pub(crate) fn tree(self) -> &'t Tree<'a> {
        self.tree
    }

    /// Returns the name with the unit address; the root's is empty.
    pub(crate) fn name(self) -> &'a str {
        self.data.name
    }

    /// Returns the name without the unit address.
    pub(crate) fn base_name(self) -> &'a str {
        self.data.name.split('@').next().unwrap_or_default()
    }

    pub(crate) fn parent(self) -> Option<Self> {
        self.tree.node(self.data.parent?)
    }

    pub(crate) fn children(self) -> impl Iterator<Item = Self> {
        // Children come after their parent.
        self.tree
            .nodes()
            .skip(self.index + 1)
            .filter(move |n| n.data.parent == Some(self.index))
    }

    /// Returns where the node is, for messages.
    pub(crate) fn path(self) -> String {
        match self.parent() {
            None => String::from("/"),
            Some(parent) if parent.index == 0 => format!("/{}", self.name()),
            Some(parent) => format!("{}/{}", parent.path(), self.name()),
        }
    }

    pub(crate) fn properties(self) -> &'t [NodeProperty<'a>] {
        &self.data.properties
    }

    pub(crate) fn property(self, name: &str) -> Option<&'a [u8]> {
        self.data
            .properties
            .iter()
            .find(|p| p.name == name)
            .map(|p| p.value)
    }

    /// Tells whether `compatible` lists one of `names`.
    pub(crate) fn is_compatible(self, names: &[&str]) -> bool {
        self.compatible().any(|own| names.contains(&own))
    }

    /// Returns what `compatible` lists, the most specific first.
    pub(crate) fn compatible(self) -> impl Iterator<Item = &'a str> {
        let list = self.property("compatible").unwrap_or_default();
        list.split(|&byte| byte == 0)
            .filter_map(|name| core::str::from_utf8(name).ok())
            .filter(|name| !name.is_empty())
    }

    /// Tells whether the node can be used, which takes the `status` of its own
    /// and of every node above.
    pub(crate) fn is_available(self) -> bool {
        let status = self.property("status").map(string);
        matches!(status, None | Some(Some("okay" | "ok")))
            && self.parent().is_none_or(Self::is_available)
    }

    /// Reads a property that holds one word, if it is there.
    pub(crate) fn word(
        self,
        name: &'static str,
        allowed: &'static str,
    ) -> Result<Option<u32>, PropertyError> {
        self.read(name, allowed, word)
    }

    /// Reads a property that holds any number of words, if it is there.
    pub(crate) fn words(
        self,
        name: &'static str,
        allowed: &'static str,
    ) -> Result<Option<Vec<u32>>, PropertyError> {
        self.read(name, allowed, |value| match value.as_chunks() {
            (words, []) => Some(words.iter().copied().map(u32::from_be_bytes).collect()),
            _ => None,
        })
    }

    /// Tells whether a property is there, which holds nothing.
    pub(crate) fn flag(self, name: &'static str) -> Result<bool, PropertyError> {
        let flag = self.read(name, "empty", |value| value.is_empty().then_some(()))?;
        Ok(flag.is_some())
    }

    /// Reads a property that holds one string, if it is there.
    pub(crate) fn string(self, name: &'static str) -> Result<Option<&'a str>, PropertyError> {
        self.read(name, "one string that ends with a NUL", string)
    }

    /// Reads a property that holds one number of one or two words, if it is
    /// there.
    pub(crate) fn number(
        self,
        name: &'static str,
        allowed: &'static str,
    ) -> Result<Option<u64>, PropertyError> {
        self.read(name, allowed, number)
    }

    fn read<T>(
        self,
        name: &'static str,
        allowed: &'static str,
        decode: impl FnOnce(&'a [u8]) -> Option<T>,
    ) -> Result<Option<T>, PropertyError> {
        let Some(value) = self.property(name) else {
            return Ok(None);
        };
        decode(value)
            .map(Some)
            .ok_or_else(|| self.invalid(name, allowed))
    }

    /// Reports that a property says what it must not.
    pub(crate) fn invalid(self, property: &'static str, allowed: &'static str) -> PropertyError {
        PropertyError {
            node: self.path(),
            property,
            fault: Fault::Invalid,
            allowed,
        }
    }

    /// Reports that a property is missing.
    pub(crate) fn missing(self, property: &'static str, allowed: &'static str) -> PropertyError {
        PropertyError {
            node: self.path(),
            property,
            fault: Fault::Missing,
            allowed,
        }
    }
}

/// Tells whether a value is there twice.
pub(crate) fn has_repeats<T: Ord + Copy>(values: &[T]) -> bool {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    sorted.len() != values.len()
}

/// Decodes a value of exactly one word.
pub(crate) fn word(value: &[u8]) -> Option<u32> {
    be32(value, 0).filter(|_| value.len() == 4)
}

/// Decodes a value of one or two words.
pub(crate) fn number(value: &[u8]) -> Option<u64> {
    match value.len() {
        4 => word(value).map(u64::from),
        8 => value.first_chunk().copied().map(u64::from_be_bytes),
        _ => None,
    }
}

/// Decodes a value of one string, which ends with its only NUL.
pub(crate) fn string(value: &[u8]) -> Option<&str> {
    core::ffi::CStr::from_bytes_with_nul(value)
        .ok()?
        .to_str()
        .ok()
}

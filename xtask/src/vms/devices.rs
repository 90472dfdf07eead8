//! The disks and network cards of a virtual machine in the file, and the uplink.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use anyhow::Result;
use dtb_platform::{DiskPart, NetConfig, VlanMode, VmConfig};
use serde::Deserialize;
use toml::{Spanned, Value};

use super::entry::{Entry, Source, Table};
use crate::run::disks::{self, DiskSpec, Home, Image};

/// The numbers that a partition may have.
const PARTITIONS: RangeInclusive<u32> = 1..=128;

/// What the keys may be.
mod allowed {
    pub(super) const SIZE: &str = "a size such as \"64 MiB\" or \"2 GiB\"";
    pub(super) const SECTORS: &str =
        "a list of two integers: the first sector of 512 bytes, and how many, at least one";
    pub(super) const TRUNK: &str = "a list of integers from 1 to 4094, at least one and none twice";
    pub(super) const NATIVE: &str = "an integer from 1 to 4094 that is not in trunk";
    pub(super) const MAC: &str = "six bytes such as \"52:54:00:00:00:01\", neither a group's \
                                  address nor one that begins with 02:61:72";
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a [[vm.disk]] table")]
pub(super) struct DiskTable {
    file: Option<Spanned<Value>>,
    new: Option<Spanned<Value>>,
    memory: Option<Spanned<Value>>,
    partition: Option<Spanned<Value>>,
    sectors: Option<Spanned<Value>>,
    #[serde(rename = "read-only")]
    read_only: Option<Spanned<Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a [[vm.net]] table")]
pub(super) struct NetTable {
    mac: Option<Spanned<Value>>,
    vlan: Option<Spanned<Value>>,
    trunk: Option<Spanned<Value>>,
    #[serde(rename = "native-vlan")]
    native_vlan: Option<Spanned<Value>>,
    #[serde(rename = "any-source")]
    any_source: Option<Spanned<Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an [uplink] table")]
pub(super) struct UplinkTable {
    vlan: Option<Spanned<Value>>,
    trunk: Option<Spanned<Value>>,
    #[serde(rename = "native-vlan")]
    native_vlan: Option<Spanned<Value>>,
}

/// Reads the disks of a virtual machine.
pub(super) fn disks(source: &Source<'_>, tables: &[Spanned<DiskTable>]) -> Result<Vec<DiskSpec>> {
    at_most(source, tables, VmConfig::MAX_DISKS, "[[vm.disk]]")?;
    tables.iter().map(|table| disk(source, table)).collect()
}

/// Reads the network cards of a virtual machine.
pub(super) fn nets(source: &Source<'_>, tables: &[Spanned<NetTable>]) -> Result<Vec<NetConfig>> {
    at_most(source, tables, VmConfig::MAX_NETS, "[[vm.net]]")?;
    tables.iter().map(|table| net(source, table)).collect()
}

/// Reads the VLANs of the uplink.
pub(super) fn uplink(source: &Source<'_>, table: &Spanned<UplinkTable>) -> Result<VlanMode> {
    let keys = table.get_ref();
    let entries = [
        ("vlan", &keys.vlan),
        ("trunk", &keys.trunk),
        ("native-vlan", &keys.native_vlan),
    ];
    vlan(&Table::new(source, table.span().start, entries))
}

/// Checks that no two of all network cards are given the same address.
pub(super) fn check_macs<'a>(
    source: &Source<'_>,
    tables: impl Iterator<Item = &'a Spanned<NetTable>>,
) -> Result<()> {
    let mut known = BTreeSet::new();
    for table in tables {
        if let Some(entry) = source.entry("mac", &table.get_ref().mac)
            && !known.insert(mac(entry.value()))
        {
            return Err(entry.refuse("an address that no other network card has"));
        }
    }
    Ok(())
}

fn at_most<T>(source: &Source<'_>, tables: &[Spanned<T>], most: usize, what: &str) -> Result<()> {
    match tables.get(most) {
        None => Ok(()),
        Some(table) => Err(source.error(
            table.span().start,
            format_args!("too many; allowed are at most {most} {what}"),
        )),
    }
}

fn disk(source: &Source<'_>, table: &Spanned<DiskTable>) -> Result<DiskSpec> {
    let keys = table.get_ref();
    let entries = [
        ("file", &keys.file),
        ("new", &keys.new),
        ("memory", &keys.memory),
        ("partition", &keys.partition),
        ("sectors", &keys.sectors),
        ("read-only", &keys.read_only),
    ];
    let table = Table::new(source, table.span().start, entries);
    let image = match (table.get("file"), table.get("new")) {
        (Some(entry), None) => Image::File(entry.file()?),
        (None, Some(entry)) => {
            let size = entry.value().as_str().and_then(disks::size);
            Image::Kept(size.ok_or_else(|| entry.refuse(allowed::SIZE))?)
        }
        (Some(_), Some(entry)) => return Err(entry.misplaced("not allowed beside file")),
        (None, None) => {
            return Err(table.error("[[vm.disk]] has no image; allowed is one of file and new"));
        }
    };
    let in_memory = table.flag("memory")?;
    let part = match (table.get("partition"), table.get("sectors")) {
        (Some(entry), _) | (None, Some(entry)) if in_memory => {
            return Err(entry.misplaced("not allowed beside memory"));
        }
        (Some(_), Some(entry)) => return Err(entry.misplaced("not allowed beside partition")),
        (Some(entry), None) => DiskPart::Partition(entry.number(&PARTITIONS, "")?),
        (None, Some(entry)) => sectors(&entry)?,
        (None, None) => DiskPart::Whole,
    };
    Ok(DiskSpec {
        image,
        home: if in_memory {
            Home::Memory
        } else {
            Home::Disk(part)
        },
        read_only: table.flag("read-only")?,
    })
}

fn sectors(entry: &Entry<'_>) -> Result<DiskPart> {
    let number = |value: &Value| u64::try_from(value.as_integer()?).ok();
    let numbers = entry.value().as_array().map(Vec::as_slice);
    let part = match numbers {
        Some([first, count]) => number(first).zip(number(count)),
        _ => None,
    };
    let part = part.filter(|(_, count)| *count > 0);
    part.map(|(first, count)| DiskPart::Sectors { first, count })
        .ok_or_else(|| entry.refuse(allowed::SECTORS))
}

fn net(source: &Source<'_>, table: &Spanned<NetTable>) -> Result<NetConfig> {
    let keys = table.get_ref();
    let entries = [
        ("mac", &keys.mac),
        ("vlan", &keys.vlan),
        ("trunk", &keys.trunk),
        ("native-vlan", &keys.native_vlan),
        ("any-source", &keys.any_source),
    ];
    let table = Table::new(source, table.span().start, entries);
    let address = table.get("mac").map(|entry| {
        let address = mac(entry.value()).filter(|mac| NetConfig::may_have(*mac));
        address.ok_or_else(|| entry.refuse(allowed::MAC))
    });
    Ok(NetConfig {
        mac: address.transpose()?,
        vlan: vlan(&table)?,
        anti_spoofing: !table.flag("any-source")?,
    })
}

/// Reads the VLANs that a port is in.
fn vlan(table: &Table<'_>) -> Result<VlanMode> {
    let native = table.get("native-vlan");
    match (table.get("trunk"), table.get("vlan")) {
        (Some(_), Some(entry)) => Err(entry.misplaced("not allowed beside trunk")),
        (Some(entry), None) => {
            let tagged = vlans(entry.value()).ok_or_else(|| entry.refuse(allowed::TRUNK))?;
            let native = native.map(|entry| {
                let vlan = vlan_number(entry.value()).filter(|vlan| !tagged.contains(vlan));
                vlan.ok_or_else(|| entry.refuse(allowed::NATIVE))
            });
            let native = native.transpose()?;
            Ok(VlanMode::Trunk { tagged, native })
        }
        (None, access) => {
            if let Some(entry) = native {
                return Err(entry.misplaced("not allowed without trunk"));
            }
            let access = access.map(|entry| entry.number(&VlanMode::VLANS, ""));
            Ok(access
                .transpose()?
                .map_or_else(VlanMode::default, VlanMode::Access))
        }
    }
}

fn vlans(value: &Value) -> Option<Vec<u16>> {
    let vlans = value.as_array()?.iter().map(vlan_number);
    let vlans: Vec<u16> = vlans.collect::<Option<_>>()?;
    let different: BTreeSet<_> = vlans.iter().collect();
    (!vlans.is_empty() && different.len() == vlans.len()).then_some(vlans)
}

fn vlan_number(value: &Value) -> Option<u16> {
    let number = u16::try_from(value.as_integer()?).ok()?;
    VlanMode::VLANS.contains(&number).then_some(number)
}

/// Reads six bytes of two hexadecimal digits each.
fn mac(value: &Value) -> Option<[u8; 6]> {
    let bytes = value.as_str()?.split(':').map(|byte| {
        let digits = byte.len() == 2 && byte.bytes().all(|digit| digit.is_ascii_hexdigit());
        digits.then(|| u8::from_str_radix(byte, 16).ok()).flatten()
    });
    let bytes: Vec<u8> = bytes.collect::<Option<_>>()?;
    bytes.try_into().ok()
}

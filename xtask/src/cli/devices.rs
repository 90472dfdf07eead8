//! The flags that give virtual machines disks and network cards.

use clap::ValueEnum;

use crate::run::disks::{self, DiskSpec, Image};

/// What `--disk` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DiskFlag {
    pub(crate) disk: DiskSpec,
    /// The number of the virtual machine that has it.
    pub(crate) vm: usize,
}

/// What `--net` says: how far each guest's network card reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum NetFlag {
    /// Guests have none
    #[default]
    None,
    /// The other guests
    Switch,
    /// The other guests, and through QEMU's user network the outside
    User,
}

/// Reads `FILE[,ro][,vm=N]` or `new:SIZE[,ro][,vm=N]`.
pub(crate) fn disk(text: &str) -> Result<DiskFlag, String> {
    let mut words = text.split(',');
    let name = words.next().unwrap_or_default();
    let image = match name.strip_prefix("new:") {
        Some(size) => Image::Kept(disks::size(size).ok_or_else(|| {
            format!("`{size}` is no size: it must be a number with M or G behind it, such as 64M")
        })?),
        None if name.is_empty() => return Err("there must be a file, or new:SIZE".to_owned()),
        None => Image::File(name.into()),
    };
    let mut flag = DiskFlag {
        disk: DiskSpec::whole(image),
        vm: 0,
    };
    for word in words {
        match word.split_once('=') {
            None if word == "ro" => flag.disk.read_only = true,
            Some(("vm", number)) => {
                flag.vm = number.parse().map_err(|_| {
                    format!("`{number}` is no number of a virtual machine, which count from 0")
                })?;
            }
            _ => return Err(format!("`{word}` is not known: it must be ro or vm=N")),
        }
    }
    Ok(flag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_a_file_or_new() {
        let file = disk("a/b.img").unwrap();
        assert_eq!(file.disk, DiskSpec::whole(Image::File("a/b.img".into())));
        assert_eq!(file.vm, 0);
        let new = disk("new:2G,vm=3,ro").unwrap();
        assert_eq!(new.disk.image, Image::Kept(2 << 30));
        assert!(new.disk.read_only && new.vm == 3);
    }

    #[test]
    fn what_cannot_be_followed_says_what_can() {
        for (text, message) in [
            ("", "there must be a file, or new:SIZE"),
            (
                "new:,ro",
                "`` is no size: it must be a number with M or G behind it, such as 64M",
            ),
            ("f,rw", "`rw` is not known: it must be ro or vm=N"),
            ("f,ro=1", "`ro=1` is not known: it must be ro or vm=N"),
            (
                "f,vm=x",
                "`x` is no number of a virtual machine, which count from 0",
            ),
        ] {
            assert_eq!(disk(text), Err(message.to_owned()));
        }
    }
}

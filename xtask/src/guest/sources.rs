//! Reads the machine's own apt sources, to learn which Debian mirror it uses.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// Names a mirror where the machine's own sources name none of Debian.
pub(crate) const MIRROR_VARIABLE: &str = "ARMATURE_DEBIAN_MIRROR";

/// Where Debian's keyring package puts the keys of the archive.
const KEYRINGS: [&str; 2] = [
    "/usr/share/keyrings/debian-archive-keyring.gpg",
    "/usr/share/keyrings/debian-archive-keyring.pgp",
];

/// The suites by which a source is known to be Debian's main archive: unlike
/// its security and updates suites, these hold every package.
const SUITES: [&str; 9] = [
    "bookworm",
    "trixie",
    "forky",
    "sid",
    "stable",
    "oldstable",
    "testing",
    "unstable",
    "oldoldstable",
];

/// A Debian mirror and the keys that sign it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mirror {
    pub(crate) uri: String,
    /// The keyring; apt's own trusted keys if there is none.
    pub(crate) signed_by: Option<PathBuf>,
}

impl Mirror {
    /// Finds the mirror: the environment's, else that of the apt sources.
    pub(crate) fn find() -> Result<Self> {
        let keyring = KEYRINGS
            .iter()
            .map(PathBuf::from)
            .find(|path| path.is_file());
        if let Ok(uri) = std::env::var(MIRROR_VARIABLE) {
            if keyring.is_none() {
                bail!(
                    "{MIRROR_VARIABLE} is set, but Debian's keys are not installed: \
                     apt-get install debian-archive-keyring"
                );
            }
            return Ok(Self {
                uri,
                signed_by: keyring,
            });
        }
        let mut found = source_files(Path::new("/etc/apt"))
            .into_iter()
            .find_map(|path| {
                let text = fs::read_to_string(&path).ok()?;
                let deb822 = path
                    .extension()
                    .is_some_and(|extension| extension == "sources");
                if deb822 {
                    from_deb822(&text)
                } else {
                    from_lines(&text)
                }
            });
        if let Some(mirror) = &mut found {
            mirror.signed_by = mirror.signed_by.take().or(keyring);
        }
        let Some(mirror) = found else {
            bail!(
                "this machine's apt sources name no Debian mirror, where the guest's kernel \
                 comes from. Install Debian's keys (apt-get install debian-archive-keyring) \
                 and set {MIRROR_VARIABLE} to the URL of a mirror, the one that holds `dists/`"
            );
        };
        Ok(mirror)
    }
}

/// Returns apt's source files: the main one, then the directory's in order.
fn source_files(etc: &Path) -> Vec<PathBuf> {
    let mut parts: Vec<PathBuf> = fs::read_dir(etc.join("sources.list.d"))
        .map(|entries| {
            entries
                .filter_map(Result::ok)
                .map(|entry| entry.path())
                .collect()
        })
        .unwrap_or_default();
    parts.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "sources" || extension == "list")
    });
    parts.sort();
    parts.insert(0, etc.join("sources.list"));
    parts
}

/// Reads one-line sources: `deb [options] URI SUITE COMPONENT…`.
fn from_lines(text: &str) -> Option<Mirror> {
    text.lines().find_map(|line| {
        let line = line
            .split('#')
            .next()?
            .trim()
            .strip_prefix("deb ")?
            .trim_start();
        let (options, line) = match line.strip_prefix('[') {
            Some(rest) => rest.split_once(']')?,
            None => ("", line),
        };
        let mut words = line.split_whitespace();
        let uri = words.next()?;
        let suite = words.next()?;
        let main = words.any(|component| component == "main");
        let signed_by = options
            .split_whitespace()
            .find_map(|option| option.strip_prefix("signed-by="))
            .map(PathBuf::from);
        (main && SUITES.contains(&suite)).then(|| Mirror {
            uri: uri.to_owned(),
            signed_by,
        })
    })
}

/// Reads the newer form of sources: paragraphs of `Field: value` lines.
fn from_deb822(text: &str) -> Option<Mirror> {
    let without_comments: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    without_comments
        .split(|line| line.trim().is_empty())
        .find_map(|paragraph| {
            let values = |name: &str| -> Vec<&str> {
                let mut inside = false;
                let mut values = Vec::new();
                for line in paragraph {
                    // A line that starts with a blank continues the field before.
                    let value = if line.starts_with([' ', '\t']) {
                        inside.then_some(*line)
                    } else {
                        let field = line.split_once(':');
                        inside = field.is_some_and(|(field, _)| field.eq_ignore_ascii_case(name));
                        field.filter(|_| inside).map(|(_, value)| value)
                    };
                    values.extend(value.into_iter().flat_map(str::split_whitespace));
                }
                values
            };
            let usable = values("Types").contains(&"deb")
                && values("Components").contains(&"main")
                && values("Suites").iter().any(|suite| SUITES.contains(suite))
                && values("Enabled") != ["no"];
            // Keys may also be written out in place; a file is meant here.
            let signed_by = values("Signed-By")
                .first()
                .filter(|key| key.starts_with('/'))
                .copied();
            let uri = values("URIs").first().copied()?;
            usable.then(|| Mirror {
                uri: uri.to_owned(),
                signed_by: signed_by.map(PathBuf::from),
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mirror(uri: &str, signed_by: Option<&str>) -> Option<Mirror> {
        Some(Mirror {
            uri: uri.into(),
            signed_by: signed_by.map(PathBuf::from),
        })
    }

    #[test]
    fn one_line_sources_give_the_main_archive_and_its_keyring() {
        let text = "# deb http://commented.example bookworm main\n\
                    deb-src http://source.example bookworm main\n\
                    deb http://security.example bookworm-security main\n\
                    deb http://other.example stable contrib\n\
                    deb [arch=amd64 signed-by=/k.gpg] http://m.example/debian bookworm main contrib\n";
        assert_eq!(
            from_lines(text),
            mirror("http://m.example/debian", Some("/k.gpg"))
        );
        assert_eq!(
            from_lines("deb  http://m.example trixie  main # why"),
            mirror("http://m.example", None)
        );
        assert_eq!(from_lines("deb http://u.example/ubuntu noble main"), None);
    }

    #[test]
    fn deb822_sources_are_read_by_paragraph() {
        let text = "Types: deb\nURIs: http://security.example\nSuites: bookworm-security\n\
                    Components: main\n\n# a comment\nTypes: deb deb-src\n\
                    URIs:\n http://m.example/debian\n# between\nSuites: bookworm bookworm-updates\n\
                    Components: main contrib\nSigned-By: /k.gpg\n";
        assert_eq!(
            from_deb822(text),
            mirror("http://m.example/debian", Some("/k.gpg"))
        );
    }

    #[test]
    fn disabled_sources_and_keys_written_out_are_passed_over() {
        let off =
            "Types: deb\nURIs: http://m.example\nSuites: sid\nComponents: main\nEnabled: no\n";
        assert_eq!(from_deb822(off), None);
        let inline = "Types: deb\nURIs: http://m.example\nSuites: sid\nComponents: main\n\
                      Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mDMEY\n";
        assert_eq!(from_deb822(inline), mirror("http://m.example", None));
    }
}

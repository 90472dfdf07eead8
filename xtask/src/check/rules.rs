//! The rules about packages: who may depend on whom, and what each must have.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::workspace::{Package, Workspace};

/// The one crate that every crate of the family may name.
const CONTRACT: &str = "vm-contract";
/// What the two interrupt controllers share.
const VGIC_CORE: &str = "arm-vgic-core";
const VGICS: [&str; 2] = ["arm-vgic-v2", "arm-vgic-v3"];

/// Crates without assembly, system registers and unsafe code.
pub(super) const PURE: [&str; 6] = [
    CONTRACT,
    "virtio-devices",
    "primecell-devices",
    "vswitch",
    "ffa-proxy",
    "dtb-platform",
];

/// Features may only add test doubles and test suites. What a board is, or how
/// the hypervisor runs, is a value.
const FEATURES: [&str; 3] = ["default", "fakes", "conformance"];

/// Returns what is wrong with the packages.
pub(super) fn problems(workspace: &Workspace) -> Result<Vec<String>> {
    let packages = &workspace.metadata.packages;
    let root = workspace.root();
    let toolchain = fs::read_to_string(root.join("rust-toolchain.toml"))
        .context("cannot read rust-toolchain.toml")?;
    let mut problems = dependencies(packages, root);
    problems.extend(features(packages));
    problems.extend(rust_versions(packages, &toolchain)?);
    for package in packages {
        let manifest = fs::read_to_string(&package.manifest_path)
            .with_context(|| format!("cannot read {}", package.manifest_path.display()))?;
        problems.extend(lints(&package.name, &manifest)?);
        if is_family(package, root) {
            problems.extend(papers(package));
        }
        if PURE.contains(&package.name.as_str()) {
            let library = package.directory().join("src/lib.rs");
            let library = fs::read_to_string(&library)
                .with_context(|| format!("cannot read {}", library.display()))?;
            problems.extend(purity(&package.name, &library));
        }
    }
    Ok(problems)
}

/// Tells whether the package is one of the crates for others to use.
fn is_family(package: &Package, root: &Path) -> bool {
    package.directory().starts_with(root.join("crates"))
}

fn dependencies(packages: &[Package], root: &Path) -> Vec<String> {
    let mut problems = Vec::new();
    for package in packages {
        let members = package.dependencies.iter().filter_map(|dependency| {
            packages
                .iter()
                .find(|member| member.name == dependency.name)
        });
        for member in members {
            let (from, to) = (package.name.as_str(), member.name.as_str());
            // A crate's own tests may ask for its test doubles that way.
            let allowed = if from == to {
                true
            } else if is_family(package, root) {
                let core = to == VGIC_CORE && VGICS.contains(&from);
                from != CONTRACT && (to == CONTRACT || core)
            } else {
                is_family(member, root) || to == "hypervisor"
            };
            if !allowed {
                problems.push(format!(
                    "{from} depends on {to}: a crate of the family may only depend on {CONTRACT} \
                     (the two vGICs on {VGIC_CORE} too); adapters belong to the hypervisor"
                ));
            }
        }
    }
    problems
}

fn features(packages: &[Package]) -> Vec<String> {
    let mut problems = Vec::new();
    for package in packages {
        for feature in package.features.keys() {
            if !FEATURES.contains(&feature.as_str()) {
                problems.push(format!(
                    "{} has the feature {feature}: only {FEATURES:?} are allowed; what differs \
                     between boards and modes is a value",
                    package.name
                ));
            }
        }
    }
    problems
}

fn rust_versions(packages: &[Package], toolchain: &str) -> Result<Vec<String>> {
    let toolchain: toml::Table = toolchain.parse().context("in rust-toolchain.toml")?;
    let channel = toolchain
        .get("toolchain")
        .and_then(|table| table.get("channel"))
        .and_then(toml::Value::as_str)
        .context("rust-toolchain.toml names no channel")?;
    let minor = |version: &str| version.split('.').take(2).collect::<Vec<_>>().join(".");
    Ok(packages
        .iter()
        .filter(|package| package.rust_version.as_deref().map(minor) != Some(minor(channel)))
        .map(|package| {
            let stated = package.rust_version.as_deref().unwrap_or("none");
            let name = &package.name;
            format!("{name} states Rust {stated}, but what is tested with is {channel}")
        })
        .collect())
}

fn lints(name: &str, manifest: &str) -> Result<Option<String>> {
    let manifest: toml::Table = manifest
        .parse()
        .with_context(|| format!("in the manifest of {name}"))?;
    let inherited = manifest
        .get("lints")
        .and_then(|lints| lints.get("workspace"))
        .and_then(toml::Value::as_bool);
    Ok((inherited != Some(true))
        .then(|| format!("{name} does not take the workspace's lints: [lints] workspace = true")))
}

fn papers(package: &Package) -> Vec<String> {
    ["README.md", "CHANGELOG.md"]
        .iter()
        .filter(|paper| !package.directory().join(paper).is_file())
        .map(|paper| format!("{} has no {paper}", package.name))
        .collect()
}

fn purity(name: &str, library: &str) -> Option<String> {
    let forbids = library
        .lines()
        .any(|line| line.trim() == "#![forbid(unsafe_code)]");
    (!forbids).then(|| format!("{name} is a pure crate, but lacks #![forbid(unsafe_code)]"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Dependency;

    fn package(path: &str, dependencies: &[&str]) -> Package {
        let name = path.rsplit('/').next().unwrap_or(path);
        let dependency = |name: &&str| Dependency {
            name: (*name).to_owned(),
        };
        Package {
            name: name.to_owned(),
            manifest_path: Path::new("/repo").join(path).join("Cargo.toml"),
            rust_version: Some("1.95".to_owned()),
            dependencies: dependencies.iter().map(dependency).collect(),
            features: [].into(),
            targets: Vec::new(),
        }
    }

    fn found(packages: &[Package]) -> Vec<String> {
        dependencies(packages, Path::new("/repo"))
    }

    #[test]
    fn the_family_as_designed_has_no_problem() {
        let packages = [
            package("crates/vm-contract", &["memory_addr"]),
            package("crates/arm-vgic-core", &["vm-contract"]),
            package(
                "crates/arm-vgic-v3",
                &["vm-contract", "arm-vgic-core", "proptest"],
            ),
            package("crates/s2-mmu", &["vm-contract", "s2-mmu"]),
            package("hypervisor", &["vm-contract", "arm-vgic-v3", "s2-mmu"]),
            package("xtask", &["vm-contract"]),
            package("examples", &["hypervisor", "s2-mmu"]),
        ];
        assert_eq!(found(&packages), [""; 0]);
        assert_eq!(features(&packages), [""; 0]);
    }

    #[test]
    fn siblings_may_not_depend_on_each_other() {
        let siblings = [
            package("crates/s2-mmu", &[]),
            package("crates/arm-vcpu", &["s2-mmu"]),
        ];
        assert_eq!(found(&siblings).len(), 1);
        let core = [
            package("crates/arm-vgic-core", &[]),
            package("crates/vswitch", &["arm-vgic-core"]),
        ];
        assert_eq!(found(&core).len(), 1);
        let upwards = [
            package("hypervisor", &[]),
            package("crates/vswitch", &["hypervisor"]),
        ];
        assert_eq!(found(&upwards).len(), 1);
        let contract = [
            package("crates/vm-contract", &["s2-mmu"]),
            package("crates/s2-mmu", &[]),
        ];
        assert_eq!(found(&contract).len(), 1);
        let tools = [package("xtask", &[]), package("hypervisor", &["xtask"])];
        assert_eq!(found(&tools).len(), 1);
    }

    #[test]
    fn a_feature_that_chooses_a_board_is_found() {
        let mut package = package("crates/arm-vcpu", &[]);
        package.features.insert("fakes".into(), vec![]);
        assert!(features(std::slice::from_ref(&package)).is_empty());
        package.features.insert("board-virt".into(), vec![]);
        assert_eq!(features(&[package]).len(), 1);
    }

    #[test]
    fn the_stated_rust_is_the_tested_one() {
        let packages = [package("crates/a", &[])];
        let versions = |channel: &str| {
            let toolchain = format!("[toolchain]\nchannel = \"{channel}\"\n");
            rust_versions(&packages, &toolchain).unwrap()
        };
        assert!(versions("1.95.0").is_empty());
        assert_eq!(versions("1.96.0").len(), 1);
        assert!(rust_versions(&packages, "[toolchain]\n").is_err());
    }

    #[test]
    fn lints_and_purity_are_looked_for() {
        assert_eq!(lints("a", "[lints]\nworkspace = true\n").unwrap(), None);
        assert!(lints("a", "[package]\nname = \"a\"\n").unwrap().is_some());
        assert_eq!(purity("a", "#![no_std]\n#![forbid(unsafe_code)]\n"), None);
        assert!(purity("a", "// #![forbid(unsafe_code)]\n").is_some());
    }
}

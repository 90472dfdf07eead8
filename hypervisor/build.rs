//! Links the EL2 image as a static position-independent executable.

use std::env;

fn main() {
    let script = "src/boot/image.ld";
    println!("cargo:rerun-if-changed={script}");
    println!("cargo:rerun-if-changed=src/boot/start.S");
    println!("cargo:rerun-if-changed=src/boot/fault.S");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("none") {
        return;
    }
    let directory = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    for argument in [
        &format!("-T{directory}/{script}"),
        "-pie",
        "--no-dynamic-linker",
        // Read-only data holds addresses too; start.S relocates it before the
        // tables that make it read-only are in force.
        "-znotext",
        "-znorelro",
        "-zmax-page-size=4096",
    ] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}

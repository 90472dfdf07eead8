//! Gives the guests their place in memory.

use std::{env, error::Error, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=guest.ld");
    if env::var("CARGO_CFG_TARGET_OS")? == "none" {
        let script = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("guest.ld");
        println!("cargo:rustc-link-arg-bins=-T{}", script.display());
        println!("cargo:rustc-link-arg-bins=-znostart-stop-gc");
    }
    Ok(())
}

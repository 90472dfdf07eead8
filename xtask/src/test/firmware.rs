//! Firmware as a guest: U-Boot.

use anyhow::Result;

use super::suite::{Run, Test, Verdict};
use crate::run::spec::{Boot, VmSpec};

const BANNER: &str = "U-Boot 20";
const AUTOBOOT: &str = "Hit any key to stop autoboot";
const PROMPT: &str = "=> ";

pub(super) fn tests() -> Vec<Test> {
    vec![Test::new(
        "u_boot_reaches_its_prompt_resets_and_powers_off",
        u_boot,
    )]
}

fn u_boot(run: &Run<'_>) -> Result<Verdict> {
    let firmware = run.context.guests.u_boot()?;
    let mut guest = run.talk(VmSpec::new(Boot::Firmware(firmware)), |_| {})?;
    for end in ["reset\n", "poweroff\n"] {
        guest.expect(BANNER)?;
        guest.expect(AUTOBOOT)?;
        guest.send(" ");
        guest.expect(PROMPT)?;
        guest.send("echo $arch-$cpu\n");
        guest.expect("\narm-armv8")?;
        guest.expect(PROMPT)?;
        guest.send(end);
    }
    guest.power_off()?;
    Ok(Verdict::Passed)
}

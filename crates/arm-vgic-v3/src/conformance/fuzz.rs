//! What the fuzz targets do with their input, and what replays their corpora. The
//! first byte chooses the machine that our vGIC runs on; any bytes are an input.

use alloc::format;
use alloc::vec::Vec;

use super::{Failure, MachineConfig, ReferenceGic, Step, VgicMachine, compare, shape, torment};

/// Lets a hostile guest at our vGIC, see [`torment`].
///
/// # Errors
/// What does not hold.
pub fn hostile(input: &[u8]) -> Result<(), Failure> {
    let Some((&number, deeds)) = input.split_first() else {
        return Ok(());
    };
    let config = MachineConfig::numbered(number);
    torment(&mut VgicMachine::new(&shape(), config), deeds)
}

/// Runs a guest on our vGIC and on the reference, see [`compare`]. Eight bytes make a
/// [`Step`].
///
/// # Errors
/// The first thing that differs.
pub fn guests(input: &[u8]) -> Result<(), Failure> {
    let Some((&number, steps)) = input.split_first() else {
        return Ok(());
    };
    let (steps, _) = steps.as_chunks();
    let steps = steps
        .iter()
        .map(|step| Step::decode(u64::from_le_bytes(*step)));
    run_guest(MachineConfig::numbered(number), steps)
}

/// Runs a guest on our vGIC, in this machine, and on the reference.
///
/// # Errors
/// The first thing that differs.
pub fn run_guest(
    config: MachineConfig,
    steps: impl IntoIterator<Item = Step>,
) -> Result<(), Failure> {
    let mut vgic = VgicMachine::new(&shape(), config);
    let model = ReferenceGic::new(&shape()).with_priority_bits(config.priority_bits);
    compare(&mut vgic, model, config.limits(), steps)
}

/// Runs every input of a corpus: one a line, in hexadecimal digits.
///
/// # Errors
/// The first failure of `run`, or a line that is no input.
pub fn replay(
    corpus: &str,
    mut run: impl FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    for (n, line) in corpus.lines().enumerate() {
        let byte = |at: usize| u8::from_str_radix(line.get(at..at + 2)?, 16).ok();
        let input: Option<Vec<u8>> = (0..line.len()).step_by(2).map(byte).collect();
        let outcome = match input {
            Some(input) => run(&input),
            None => Err(Failure::new("no hexadecimal digits".into())),
        };
        outcome.map_err(|failure| Failure::new(format!("line {}: {failure}", n + 1)))?;
    }
    Ok(())
}

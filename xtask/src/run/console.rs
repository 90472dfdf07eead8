//! The guest's console on this terminal.

use std::io::{self, Read, Write};
use std::thread;

use anyhow::{Context, Result};

use super::session::{Keyboard, Outcome, Session, Step};
use super::terminal::{Escapes, RawTerminal, size};
use crate::guest::initramfs::Purpose;

/// What the shell of the built RAM disk prints when it awaits a command.
pub(crate) const PROMPT: &str = "armature:";

/// Returns what makes the guest offer a shell that fits this terminal.
pub(crate) fn shell_purpose() -> Purpose {
    let (rows, columns) = size();
    Purpose::Shell { rows, columns }
}

/// Connects the terminal with the guest until the run ends. Input that does
/// not come from a terminal is kept back until the shell's prompt appears if
/// `awaits_prompt` says that one will.
pub(crate) fn interact(session: &mut Session, awaits_prompt: bool) -> Result<Outcome> {
    let terminal = RawTerminal::enter()?;
    let is_terminal = terminal.is_some();
    if is_terminal {
        eprint!("xtask: this terminal is the guest's console; leave with Ctrl-A x\r\n");
    }
    let mut waiting = awaits_prompt && !is_terminal;
    if !waiting {
        forward_input(session.keyboard().clone(), is_terminal);
    }
    let mut stdout = io::stdout().lock();
    let mut seen = Vec::new();
    loop {
        match session.next()? {
            Step::Console(bytes) => {
                stdout
                    .write_all(&bytes)
                    .and_then(|()| stdout.flush())
                    .context("cannot write to standard output")?;
                if waiting {
                    seen.extend_from_slice(&bytes);
                    let prompt = PROMPT.as_bytes();
                    if seen.windows(prompt.len()).any(|window| window == prompt) {
                        waiting = false;
                        forward_input(session.keyboard().clone(), is_terminal);
                    }
                    let unneeded = seen.len().saturating_sub(prompt.len());
                    seen.drain(..unneeded);
                }
            }
            Step::Ended(outcome) => {
                if is_terminal && outcome != Outcome::PoweredOff {
                    // The guest's last line may not have an end.
                    eprint!("\r\n");
                }
                return Ok(outcome);
            }
        }
    }
}

/// Types what comes on standard input. Its end is no reason to end the guest.
fn forward_input(keyboard: Keyboard, is_terminal: bool) {
    thread::spawn(move || {
        let mut escapes = Escapes::default();
        let mut buffer = [0; 1024];
        while let Ok(length) = io::stdin().read(&mut buffer) {
            let typed = buffer.get(..length).unwrap_or_default();
            if typed.is_empty() {
                break;
            }
            if !is_terminal {
                keyboard.send(typed);
                continue;
            }
            let (keys, leaves) = escapes.filter(typed);
            keyboard.send(&keys);
            if leaves {
                keyboard.leave();
                break;
            }
        }
    });
}

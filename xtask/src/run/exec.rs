//! `--exec`: runs one command in the guest and takes its output and status out
//! of everything else that the console says.

use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use super::session::{Outcome, Session, Step};

/// One command's execution, known to both sides by its mark.
pub(crate) struct Execution {
    mark: String,
}

impl Execution {
    /// Chooses a mark that no command prints by accident.
    pub(crate) fn new() -> Self {
        let time = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            mark: format!("armature-{:x}-{:x}", std::process::id(), time.as_nanos()),
        }
    }

    /// Returns the mark.
    pub(crate) fn mark(&self) -> &str {
        &self.mark
    }

    /// Passes the command's output on to standard output until the run ends,
    /// and with `verbose` the whole console to standard error. Returns the
    /// command's status if it ended.
    pub(crate) fn run(self, session: &mut Session, verbose: bool) -> Result<(Outcome, Option<u8>)> {
        let mut stdout = io::stdout().lock();
        self.run_into(session, |console, output| {
            if verbose {
                io::stderr().write_all(console)?;
            }
            stdout.write_all(output)?;
            stdout.flush()
        })
    }

    /// Hands everything that the console prints, and the part of it that is
    /// the command's, to `sink` until the run ends.
    pub(crate) fn run_into(
        self,
        session: &mut Session,
        mut sink: impl FnMut(&[u8], &[u8]) -> io::Result<()>,
    ) -> Result<(Outcome, Option<u8>)> {
        session.heed_kernel_panics();
        let mut filter = Filter::new(&self.mark);
        loop {
            match session.next()? {
                Step::Console(bytes) => {
                    sink(&bytes, &filter.feed(&bytes)).context("cannot write the output")?;
                }
                Step::Ended(outcome) => return Ok((outcome, filter.status())),
            }
        }
    }
}

/// Finds what lies between the two marks.
struct Filter {
    begin: Vec<u8>,
    end: Vec<u8>,
    buffer: Vec<u8>,
    state: State,
}

enum State {
    Before,
    Inside,
    /// The second mark has passed, and then the status up to `>`.
    AtStatus,
    After(Option<u8>),
}

impl Filter {
    fn new(mark: &str) -> Self {
        Self {
            begin: format!("<{mark} begin>\n").into_bytes(),
            end: format!("<{mark} status ").into_bytes(),
            buffer: Vec::new(),
            state: State::Before,
        }
    }

    /// Returns the command's status, if it ended with a valid one.
    fn status(&self) -> Option<u8> {
        match self.state {
            State::After(status) => status,
            _ => None,
        }
    }

    /// Takes what the console printed and returns the command's part of it.
    fn feed(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.buffer.extend_from_slice(bytes);
        let mut output = Vec::new();
        loop {
            match self.state {
                State::Before => match find(&self.buffer, &self.begin) {
                    Some(start) => {
                        self.buffer.drain(..start + self.begin.len());
                        self.state = State::Inside;
                    }
                    None => {
                        let useless = self.buffer.len() - partial(&self.buffer, &self.begin);
                        self.buffer.drain(..useless);
                        return output;
                    }
                },
                State::Inside => match find(&self.buffer, &self.end) {
                    Some(end) => {
                        output.extend(self.buffer.drain(..end));
                        self.buffer.drain(..self.end.len());
                        self.state = State::AtStatus;
                    }
                    None => {
                        let complete = self.buffer.len() - partial(&self.buffer, &self.end);
                        output.extend(self.buffer.drain(..complete));
                        return output;
                    }
                },
                State::AtStatus => {
                    let Some(end) = find(&self.buffer, b">") else {
                        return output;
                    };
                    let digits: Vec<u8> = self.buffer.drain(..end).collect();
                    let status = std::str::from_utf8(&digits)
                        .ok()
                        .and_then(|s| s.parse().ok());
                    self.state = State::After(status);
                }
                State::After(_) => {
                    self.buffer.clear();
                    return output;
                }
            }
        }
    }
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes
        .windows(needle.len())
        .position(|window| window == needle)
}

/// Returns how many bytes at the end of `bytes` may start the needle.
fn partial(bytes: &[u8], needle: &[u8]) -> usize {
    (1..needle.len().min(bytes.len() + 1))
        .rev()
        .find(|length| {
            needle
                .get(..*length)
                .is_some_and(|start| bytes.ends_with(start))
        })
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONSOLE: &[u8] =
        b"[ 0.0] boot\r\n\n<m begin>\none\r\n<m \xff two<m status 7>\n[ 9.9] reboot: Power down\r\n";

    #[test]
    fn output_is_exact_wherever_the_console_is_cut() {
        for size in 1..CONSOLE.len() {
            let mut filter = Filter::new("m");
            let output: Vec<u8> = CONSOLE
                .chunks(size)
                .flat_map(|chunk| filter.feed(chunk))
                .collect();
            assert_eq!(output, b"one\r\n<m \xff two", "in pieces of {size}");
            assert_eq!(filter.status(), Some(7));
        }
    }

    #[test]
    fn a_command_that_never_ends_has_no_status_but_its_output_shows() {
        let mut filter = Filter::new("m");
        assert_eq!(filter.feed(b"<m begin>\nworking"), b"working");
        assert_eq!(filter.status(), None);
        assert_eq!(filter.feed(b"<m status "), b"");
        assert_eq!(filter.status(), None);
    }

    #[test]
    fn every_mark_is_new() {
        assert_ne!(Execution::new().mark(), Execution::new().mark());
    }
}

//! A conversation with a guest on its console.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::instructions::{Counts, Exits};
use super::session::{Outcome, Session, Step};
use crate::telemetry::tracer::Trace;

/// A running guest, and what it has printed that nobody has looked at yet.
pub(crate) struct Dialogue {
    session: Session,
    unread: String,
}

impl Dialogue {
    pub(crate) fn new(mut session: Session) -> Self {
        session.heed_kernel_panics();
        Self {
            session,
            unread: String::new(),
        }
    }

    /// Types this.
    pub(crate) fn send(&self, text: &str) {
        self.session.keyboard().send(text.as_bytes());
    }

    /// Waits until the guest prints `text`, and returns what came before it.
    pub(crate) fn expect(&mut self, text: &str) -> Result<String> {
        loop {
            if let Some(start) = self.unread.find(text) {
                let before = self.unread.drain(..start).collect();
                self.unread.drain(..text.len());
                return Ok(before);
            }
            if let Some(outcome) = self.advance()? {
                let tail = self.session.last_words();
                bail!("waited for {text:?}, but {outcome}; the console:\n{tail}");
            }
        }
    }

    /// Waits until lines with all of these texts have appeared, in any order.
    pub(crate) fn expect_all(&mut self, texts: &[&str]) -> Result<()> {
        let mut missing = texts.to_vec();
        while let Some(first) = missing.first() {
            let line = self
                .expect("\n")
                .with_context(|| format!("waited for {first:?}"))?;
            missing.retain(|text| !line.contains(text));
        }
        Ok(())
    }

    /// Returns everything that the machine has printed, looked at or not.
    pub(crate) fn all(&self) -> Result<String> {
        let path = self.session.log_path();
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Waits until the guest powers off, and returns what it printed last.
    pub(crate) fn power_off(mut self) -> Result<String> {
        self.powered_off()?;
        Ok(self.unread)
    }

    /// Does the same on a machine that counts instructions, and returns how
    /// many there were as well, and how often guests were left.
    pub(crate) fn power_off_counted(mut self) -> Result<(String, Counts, Exits)> {
        self.powered_off()?;
        let counting = self.session.counting();
        let counting = counting.context("this machine counts no instructions")?;
        let exits = counting.exits()?;
        let exits = exits.context("there is no hypervisor to leave guests for")?;
        Ok((self.unread, counting.counts()?, exits))
    }

    /// Does the same on a machine that is traced, and returns the trace.
    pub(crate) fn power_off_traced(mut self) -> Result<Trace> {
        self.powered_off()?;
        let trace = self.session.take_trace();
        trace.context("this machine is not traced")?
    }

    /// Returns the directory of the run.
    pub(crate) fn directory(&self) -> &Path {
        self.session.directory()
    }

    /// Waits for the end of the run, whatever it is.
    pub(crate) fn outcome(mut self) -> Result<Outcome> {
        self.end()
    }

    fn powered_off(&mut self) -> Result<()> {
        let outcome = self.end()?;
        if outcome != Outcome::PoweredOff {
            let tail = self.session.last_words();
            bail!("waited for the guest to power off, but {outcome}; the console:\n{tail}");
        }
        Ok(())
    }

    fn end(&mut self) -> Result<Outcome> {
        loop {
            if let Some(outcome) = self.advance()? {
                return Ok(outcome);
            }
        }
    }

    /// Reads on, or tells how the run ended.
    fn advance(&mut self) -> Result<Option<Outcome>> {
        match self.session.next()? {
            Step::Console(bytes) => {
                // Consoles of tests speak ASCII; anything else only has to be
                // harmless, even if it is cut in two here.
                self.unread.push_str(&String::from_utf8_lossy(&bytes));
                Ok(None)
            }
            Step::Ended(Outcome::Interrupted(signal)) => interrupted(signal),
            Step::Ended(outcome) => Ok(Some(outcome)),
        }
    }
}

/// Ends everything at the user's wish.
pub(crate) fn interrupted<T>(signal: i32) -> Result<T> {
    eprintln!("stopped by signal {signal}");
    std::process::exit(128 + signal);
}

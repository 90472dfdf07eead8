//! The console's log: a file with everything, and the last lines at hand.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// How many lines a failure shows.
const TAIL_LINES: usize = 40;
/// Longer lines are cut in the tail, never in the file.
const LONGEST_LINE: usize = 400;

/// Keeps what the console printed.
pub(crate) struct Log {
    file: File,
    path: PathBuf,
    tail: VecDeque<String>,
    line: Vec<u8>,
}

impl Log {
    /// Starts an empty log at this path.
    pub(crate) fn create(path: PathBuf) -> Result<Self> {
        let file =
            File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self {
            file,
            path,
            tail: VecDeque::new(),
            line: Vec::new(),
        })
    }

    /// Returns where the log is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Adds what the console printed, and tells whether a line of the Linux
    /// kernel's last words was completed by it.
    pub(crate) fn add(&mut self, bytes: &[u8]) -> Result<bool> {
        self.file
            .write_all(bytes)
            .context("cannot write the console log")?;
        let mut died = false;
        for byte in bytes {
            match byte {
                b'\n' => died |= self.end_line(),
                b'\r' => {}
                _ if self.line.len() < LONGEST_LINE => self.line.push(*byte),
                _ => {}
            }
        }
        Ok(died)
    }

    /// Returns the last lines.
    pub(crate) fn tail(&self) -> String {
        let partial = String::from_utf8_lossy(&self.line);
        let mut lines: Vec<&str> = self.tail.iter().map(String::as_str).collect();
        if !partial.is_empty() {
            lines.push(&partial);
        }
        lines.join("\n")
    }

    fn end_line(&mut self) -> bool {
        let line = String::from_utf8_lossy(&self.line).into_owned();
        self.line.clear();
        // Kernel messages bear a time stamp; a program's output seldom does.
        let died = line.starts_with('[') && line.contains("] Kernel panic - not syncing");
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(line);
        died
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(name: &str) -> Log {
        let name = format!("armature-log-{name}-{}", std::process::id());
        Log::create(std::env::temp_dir().join(name)).unwrap()
    }

    #[test]
    fn the_tail_holds_the_last_lines_and_the_file_holds_all() {
        let mut log = log("tail");
        for number in 0..100 {
            assert!(!log.add(format!("line {number}\r\n").as_bytes()).unwrap());
        }
        log.add(b"no end yet").unwrap();
        let tail = log.tail();
        assert!(tail.starts_with("line 60\nline 61\n"), "{tail}");
        assert!(tail.ends_with("line 99\nno end yet"), "{tail}");
        let file = std::fs::read_to_string(log.path()).unwrap();
        std::fs::remove_file(log.path()).unwrap();
        assert!(file.starts_with("line 0\r\n"));
    }

    #[test]
    fn a_kernel_panic_is_known_by_its_time_stamp() {
        let mut log = log("panic");
        assert!(
            !log.add(b"echo Kernel panic - not syncing: a joke\n")
                .unwrap()
        );
        assert!(!log.add(b"[    1.0] Kernel panic - not").unwrap());
        assert!(log.add(b" syncing: no init found\r\n").unwrap());
        std::fs::remove_file(log.path()).unwrap();
    }
}

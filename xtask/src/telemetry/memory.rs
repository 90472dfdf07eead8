//! The memory of a machine that runs.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::qmp::{Client, News};

/// Physical memory that can be read.
pub(super) trait Memory {
    /// Returns so many bytes from an address on.
    fn read(&mut self, address: u64, bytes: usize) -> Result<Vec<u8>>;

    /// Returns so many words of 64 bits from an address on.
    fn words(&mut self, address: u64, count: usize) -> Result<Vec<u64>> {
        let bytes = self.read(address, count * 8)?;
        let (words, _) = bytes.as_chunks();
        Ok(words.iter().copied().map(u64::from_le_bytes).collect())
    }

    /// Returns an exact number of words.
    fn array<const N: usize>(&mut self, address: u64) -> Result<[u64; N]> {
        let words = self.words(address, N)?;
        words.try_into().ok().context("memory is missing")
    }
}

/// The memory of a machine in QEMU, which hands it over in a file.
pub(super) struct QemuMemory {
    client: Client,
    file: PathBuf,
}

impl QemuMemory {
    /// Reads through `client`, by way of `file`.
    pub(super) fn new(client: Client, file: PathBuf) -> Self {
        Self { client, file }
    }

    /// Waits for so long, unless the machine stops.
    pub(super) fn wait(&mut self, time: Duration) -> News {
        self.client.wait(time)
    }

    /// Lets QEMU leave, whose machine has stopped.
    pub(super) fn quit(&mut self) -> Result<()> {
        self.client.execute("quit", &json!({}))
    }
}

impl Memory for QemuMemory {
    fn read(&mut self, address: u64, bytes: usize) -> Result<Vec<u8>> {
        if bytes == 0 {
            return Ok(Vec::new());
        }
        let file = self.file.to_string_lossy();
        let arguments = json!({ "val": address, "size": bytes, "filename": file });
        self.client.execute("pmemsave", &arguments)?;
        let read =
            fs::read(&self.file).with_context(|| format!("cannot read {}", self.file.display()))?;
        ensure!(read.len() == bytes, "memory at {address:#x} is missing");
        Ok(read)
    }
}

impl Drop for QemuMemory {
    fn drop(&mut self) {
        // It need not exist.
        let _ = fs::remove_file(&self.file);
    }
}

#[cfg(test)]
pub(super) mod fakes {
    use super::*;

    /// Memory from address 0 on.
    #[derive(Default)]
    pub(crate) struct FakeMemory(pub(crate) Vec<u8>);

    impl FakeMemory {
        /// Appends words and returns where they are.
        pub(crate) fn add(&mut self, words: &[u64]) -> u64 {
            let address = self.0.len() as u64;
            self.0
                .extend(words.iter().flat_map(|word| word.to_le_bytes()));
            address
        }

        /// Appends text and returns where it is.
        pub(crate) fn add_text(&mut self, text: &str) -> u64 {
            let address = self.0.len() as u64;
            self.0.extend(text.as_bytes());
            self.0.resize(self.0.len().next_multiple_of(8), 0);
            address
        }

        /// Overwrites a word.
        pub(crate) fn set(&mut self, address: u64, word: u64) {
            let at = usize::try_from(address).unwrap();
            self.0[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
    }

    impl Memory for FakeMemory {
        fn read(&mut self, address: u64, bytes: usize) -> Result<Vec<u8>> {
            let at = usize::try_from(address)?;
            let read = self.0.get(at..at + bytes);
            Ok(read.context("no memory")?.to_vec())
        }
    }
}

//! QEMU's control channel, for questions: one at a time, each with its answer.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// How long QEMU may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// One end of a control channel.
pub(super) struct Client {
    stream: BufReader<UnixStream>,
    /// What has come of a message that is not complete yet.
    line: Vec<u8>,
    has_stopped: bool,
}

/// What came while one waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Nothing.
    Nothing,
    /// The machine has stopped for good; QEMU is still there.
    Stopped,
    /// QEMU is gone.
    Gone,
}

impl Client {
    /// Greets the QEMU at the other end.
    pub(super) fn new(stream: UnixStream) -> Result<Self> {
        let mut client = Self {
            stream: BufReader::new(stream),
            line: Vec::new(),
            has_stopped: false,
        };
        let greeting = client.receive(PATIENCE)?;
        let greeting = greeting.context("QEMU does not answer: is something else attached?")?;
        if greeting.get("QMP").is_none() {
            bail!("this is not QEMU's control channel");
        }
        client.execute("qmp_capabilities", &json!({}))?;
        Ok(client)
    }

    /// Has QEMU do something.
    pub(super) fn execute(&mut self, command: &str, arguments: &Value) -> Result<()> {
        let message = json!({ "execute": command, "arguments": arguments });
        writeln!(self.stream.get_mut(), "{message}").context("QEMU is gone")?;
        loop {
            let answer = self.receive(PATIENCE)?;
            let answer = answer.with_context(|| format!("QEMU does not answer {command}"))?;
            if let Some(error) = answer.get("error") {
                bail!("QEMU refuses {command}: {error}");
            }
            if answer.get("return").is_some() {
                return Ok(());
            }
        }
    }

    /// Waits for so long, unless the machine stops.
    pub(super) fn wait(&mut self, time: Duration) -> News {
        loop {
            match self.receive(time) {
                _ if self.has_stopped => return News::Stopped,
                Ok(Some(_)) => {}
                Ok(None) => return News::Nothing,
                Err(_) => return News::Gone,
            }
        }
    }

    /// Returns the next message, or nothing if none comes.
    fn receive(&mut self, time: Duration) -> Result<Option<Value>> {
        self.stream.get_ref().set_read_timeout(Some(time))?;
        match self.stream.read_until(b'\n', &mut self.line) {
            Ok(0) => bail!("QEMU is gone"),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Ok(None);
            }
            Err(error) => return Err(error).context("QEMU is gone"),
        }
        let message: Value = serde_json::from_slice(&self.line).context("QEMU talks nonsense")?;
        self.line.clear();
        self.has_stopped |= message
            .get("event")
            .is_some_and(|event| event == "SHUTDOWN");
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    /// A QEMU that says these lines, each after it was told something, the first
    /// one at once.
    fn qemu(lines: &'static [&'static str]) -> UnixStream {
        let (own, other) = UnixStream::pair().unwrap();
        thread::spawn(move || {
            let mut told = BufReader::new(other);
            for line in lines {
                writeln!(told.get_mut(), "{line}").unwrap();
                let mut ignored = String::new();
                told.read_line(&mut ignored).unwrap();
            }
        });
        own
    }

    const GREETING: &str = r#"{"QMP": {"version": {}}}"#;

    #[test]
    fn answers_are_told_from_events_and_errors() {
        let lines = &[
            GREETING,
            r#"{"return": {}}"#,
            "{\"event\": \"RESUME\"}\n{\"return\": {}}",
            r#"{"error": {"desc": "no such file"}}"#,
            "{\"event\": \"SHUTDOWN\"}\n{\"return\": {}}",
        ];
        let mut client = Client::new(qemu(lines)).unwrap();
        client.execute("stop", &json!({})).unwrap();
        let error = client.execute("pmemsave", &json!({})).unwrap_err();
        assert!(error.to_string().contains("no such file"), "{error}");
        assert!(!client.has_stopped);
        client.execute("query", &json!({})).unwrap();
        assert_eq!(client.wait(Duration::from_secs(1)), News::Stopped);
    }

    #[test]
    fn something_else_is_not_taken_for_qemu() {
        assert!(Client::new(qemu(&["{}"])).is_err());
        let (own, other) = UnixStream::pair().unwrap();
        drop(other);
        assert!(Client::new(own).is_err());
    }
}

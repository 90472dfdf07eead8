//! QEMU's control channel: how a run ended, told by QEMU and not by a guest.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use anyhow::Result;
use serde::Deserialize;

/// Something that QEMU reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// The machine stops; the reason is QEMU's word for it.
    Shutdown(String),
    /// A command failed.
    Refused(String),
}

#[derive(Deserialize)]
struct Message {
    event: Option<String>,
    data: Option<Data>,
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Data {
    reason: Option<String>,
}

#[derive(Deserialize)]
struct Refusal {
    desc: String,
}

/// Opens the channel and, with `start`, lets the machine run.
pub(crate) fn open(mut stream: &UnixStream, start: bool) -> Result<()> {
    stream.write_all(b"{\"execute\":\"qmp_capabilities\"}\n")?;
    if start {
        stream.write_all(b"{\"execute\":\"cont\"}\n")?;
    }
    Ok(())
}

/// Passes on QEMU's reports until the channel closes.
pub(crate) fn listen(stream: UnixStream, mut report: impl FnMut(Report)) {
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        if let Some(message) = parse(&line) {
            report(message);
        }
    }
}

fn parse(line: &str) -> Option<Report> {
    let message: Message = serde_json::from_str(line).ok()?;
    if let Some(refusal) = message.error {
        return Some(Report::Refused(refusal.desc));
    }
    (message.event.as_deref() == Some("SHUTDOWN")).then(|| {
        let reason = message.data.and_then(|data| data.reason);
        Report::Shutdown(reason.unwrap_or_else(|| "unknown".to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shutdown_tells_its_reason() {
        let line = r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "SHUTDOWN",
                       "data": {"guest": true, "reason": "guest-reset"}}"#;
        assert_eq!(parse(line), Some(Report::Shutdown("guest-reset".into())));
    }

    #[test]
    fn other_messages_are_passed_over_and_errors_are_not() {
        assert_eq!(
            parse(r#"{"QMP": {"version": {}, "capabilities": ["oob"]}}"#),
            None
        );
        assert_eq!(parse(r#"{"return": {}}"#), None);
        assert_eq!(
            parse(r#"{"event": "RESET", "data": {"guest": true}}"#),
            None
        );
        assert_eq!(parse("not json"), None);
        let error = r#"{"error": {"class": "GenericError", "desc": "no"}}"#;
        assert_eq!(parse(error), Some(Report::Refused("no".into())));
    }
}

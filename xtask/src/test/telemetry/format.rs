//! Google's Trace Event Format, as far as traces of the hypervisor use it: what must
//! be true of such a file.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// Times are in microseconds, exact to a nanosecond.
const HALF_A_NANOSECOND: f64 = 0.0005;

/// A process and one of its threads.
type Id = (u64, u64);

/// What is on one track.
#[derive(Default)]
pub(super) struct Track {
    process: Option<String>,
    thread: Option<String>,
    spans: BTreeMap<String, u64>,
    moments: BTreeMap<String, u64>,
    /// When the last event began.
    latest: f64,
    /// When those spans end that have begun and not ended.
    open: Vec<f64>,
}

/// A valid trace.
pub(super) struct Tracks(BTreeMap<Id, Track>);

impl Track {
    /// Returns how many spans have this name.
    pub(super) fn spans(&self, name: &str) -> u64 {
        self.spans.get(name).copied().unwrap_or(0)
    }

    /// Returns how many moments have this name.
    pub(super) fn moments(&self, name: &str) -> u64 {
        self.moments.get(name).copied().unwrap_or(0)
    }

    /// Checks that an event comes after those before it, and lies within those that
    /// have not ended.
    fn add(&mut self, start: f64, end: f64) -> Result<()> {
        ensure!(start >= self.latest, "it comes before one before it");
        self.latest = start;
        self.open.retain(|open| start + HALF_A_NANOSECOND < *open);
        if let Some(enclosing) = self.open.last() {
            let ends_inside = end <= enclosing + HALF_A_NANOSECOND;
            ensure!(ends_inside, "it ends after one that it began in");
        }
        if end > start {
            self.open.push(end);
        }
        Ok(())
    }
}

impl Tracks {
    /// Reads a trace.
    ///
    /// # Errors
    /// It is not valid, and why.
    pub(super) fn read(json: &Value) -> Result<Self> {
        let events = json.get("traceEvents").and_then(Value::as_array);
        let mut tracks = BTreeMap::new();
        let mut processes = BTreeMap::new();
        for event in events.context("there is no array traceEvents")? {
            add(event, &mut tracks, &mut processes).with_context(|| format!("in {event}"))?;
        }
        let mut names = BTreeSet::new();
        for (id, track) in &mut tracks {
            track.process = processes.get(&id.0).cloned();
            let both = (track.process.clone(), track.thread.clone());
            ensure!(both.0.is_some() && both.1.is_some(), "{id:?} has no name");
            ensure!(names.insert(both), "two tracks have the name of {id:?}");
        }
        Ok(Self(tracks))
    }

    /// Returns the track with this name.
    pub(super) fn named(&self, process: &str, thread: &str) -> Result<&Track> {
        let is = |track: &&Track| {
            track.process.as_deref() == Some(process) && track.thread.as_deref() == Some(thread)
        };
        let track = self.0.values().find(is);
        track.with_context(|| format!("there is no track {process}, {thread}"))
    }
}

/// Checks one event, and adds it to its track.
fn add(
    event: &Value,
    tracks: &mut BTreeMap<Id, Track>,
    processes: &mut BTreeMap<u64, String>,
) -> Result<()> {
    let text = |key: &str| {
        let text = event.get(key).and_then(Value::as_str);
        let text = text.filter(|text| !text.is_empty());
        text.with_context(|| format!("{key} is no text"))
    };
    let number = |key: &str| {
        let number = event.get(key).and_then(Value::as_u64);
        number.with_context(|| format!("{key} is no number"))
    };
    let time = |key: &str| {
        let time = event.get(key).and_then(Value::as_f64);
        let time = time.filter(|time| time.is_finite() && *time >= 0.0);
        time.with_context(|| format!("{key} is no time"))
    };
    let (phase, name) = (text("ph")?, text("name")?.to_owned());
    let id = (number("pid")?, number("tid")?);
    let track = tracks.entry(id).or_default();
    let argument = |key: &str| event.get("args").and_then(|arguments| arguments.get(key));
    let told = || {
        let name = argument("name").and_then(Value::as_str);
        name.map(str::to_owned).context("no name is told")
    };
    match (phase, name.as_str()) {
        ("M", "process_name") => drop(processes.insert(id.0, told()?)),
        ("M", "thread_name") => track.thread = Some(told()?),
        ("M", "thread_sort_index") => {
            ensure!(
                argument("sort_index").is_some_and(Value::is_u64),
                "no index"
            );
        }
        ("X", _) => {
            let start = time("ts")?;
            track.add(start, start + time("dur")?)?;
            *track.spans.entry(name).or_default() += 1;
        }
        ("i", _) => {
            let scope = text("s")?;
            ensure!(
                ["g", "p", "t"].contains(&scope),
                "there is no scope {scope}"
            );
            let start = time("ts")?;
            track.add(start, start)?;
            *track.moments.entry(name).or_default() += 1;
        }
        _ => bail!("it is of an unknown kind"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn names() -> [Value; 2] {
        ["process_name", "thread_name"]
            .map(|what| json!({"ph": "M", "name": what, "pid": 1, "tid": 2, "args": {"name": "n"}}))
    }

    fn span(ts: f64, dur: f64) -> Value {
        json!({"ph": "X", "name": "s", "pid": 1, "tid": 2, "ts": ts, "dur": dur})
    }

    fn read(events: impl IntoIterator<Item = Value>) -> Result<Tracks> {
        let events: Vec<_> = names().into_iter().chain(events).collect();
        Tracks::read(&json!({ "traceEvents": events }))
    }

    #[test]
    fn spans_follow_each_other_or_are_nested() {
        let moment = json!({"ph": "i", "name": "m", "s": "t", "pid": 1, "tid": 2, "ts": 9.5});
        let spans = [
            span(1.0, 2.0),
            span(3.0, 7.0),
            span(3.0, 2.0),
            span(5.0, 5.0),
        ];
        let tracks = read(spans.into_iter().chain([moment, span(10.0, 0.0)])).unwrap();
        let track = tracks.named("n", "n").unwrap();
        assert_eq!((track.spans("s"), track.moments("m")), (5, 1));
        assert!(tracks.named("n", "other").is_err());
    }

    #[test]
    fn what_is_wrong_is_found() {
        let complaint = |events: Vec<Value>| format!("{:#}", read(events).err().unwrap());
        let crossing = vec![span(1.0, 2.0), span(2.0, 2.0)];
        assert!(complaint(crossing).contains("ends after"));
        let back = vec![span(5.0, 1.0), span(2.0, 1.0)];
        assert!(complaint(back).contains("comes before"));
        assert!(complaint(vec![span(5.0, -1.0)]).contains("dur is no time"));
        let mut unnamed = span(1.0, 1.0);
        unnamed["tid"] = 3.into();
        assert!(complaint(vec![unnamed]).contains("has no name"));
        for key in ["ph", "name", "pid", "tid", "ts", "dur"] {
            let mut event = span(1.0, 1.0);
            event.as_object_mut().unwrap().remove(key);
            assert!(complaint(vec![event]).contains(key), "{key}");
        }
        let mut unknown = span(1.0, 1.0);
        unknown["ph"] = "Q".into();
        assert!(complaint(vec![unknown]).contains("unknown kind"));
        assert!(Tracks::read(&json!([])).is_err());
    }
}

//! A trace as Perfetto and chrome://tracing read it: the JSON of Google's Trace
//! Event Format. Each VM is a process whose threads are its vCPUs; one more process
//! has the machine's CPUs.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use serde_json::{Value, json};

use super::event::{Event, What};
use super::tracer::Trace;

/// The process of the CPUs. VM *n* is process *n* + 2.
const CPUS: u64 = 1;
/// Threads of different processes have different numbers.
const THREADS: u64 = 1000;

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// A track: process and thread.
type Track = (u64, u64);

/// Something on a track, times in nanoseconds.
struct Mark {
    start: u64,
    /// How long it lasted; a moment only if `None`.
    length: Option<u64>,
    name: String,
    arguments: Value,
}

fn vcpu_track(vm: u16, vcpu: u16) -> Track {
    let process = CPUS + 1 + u64::from(vm);
    (process, process * THREADS + u64::from(vcpu))
}

fn cpu_track(cpu: u16) -> Track {
    (CPUS, CPUS * THREADS + u64::from(cpu))
}

/// Writes the trace.
pub(crate) fn write(trace: &Trace, out: &mut impl Write) -> io::Result<()> {
    let mut tracks = marks(trace);
    write!(out, "{{\"displayTimeUnit\":\"ns\",\"otherData\":")?;
    let lost: u64 = trace.lost.iter().sum();
    let by_cpu = &trace.lost;
    write!(
        out,
        "{}",
        json!({ "lostEvents": lost, "lostEventsByCpu": by_cpu })
    )?;
    write!(out, ",\"traceEvents\":[")?;
    let mut separator = "\n";
    for event in names(trace, tracks.keys()) {
        write!(out, "{separator}{event}")?;
        separator = ",\n";
    }
    for ((process, thread), marks) in &mut tracks {
        // What encloses something comes before it.
        marks.sort_by_key(|mark| (mark.start, std::cmp::Reverse(mark.length)));
        for mark in marks.iter() {
            write!(out, "{separator}{}", mark.event(*process, *thread))?;
        }
    }
    writeln!(out, "\n]}}")
}

impl Mark {
    fn event(&self, process: u64, thread: u64) -> Value {
        let Self {
            name, arguments, ..
        } = self;
        let start = micros(self.start);
        match self.length.map(micros) {
            Some(length) => json!({
                "ph": "X", "name": name, "pid": process, "tid": thread,
                "ts": start, "dur": length, "args": arguments,
            }),
            None => json!({
                "ph": "i", "s": "t", "name": name, "pid": process, "tid": thread,
                "ts": start, "args": arguments,
            }),
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "exact for months, and then to less than a nanosecond"
)]
fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1000.0
}

/// Returns what names the processes and threads.
fn names<'a>(trace: &Trace, tracks: impl Iterator<Item = &'a Track>) -> Vec<Value> {
    let named = |what: &str, (process, thread): Track, arguments: &Value| json!({ "name": what, "ph": "M", "pid": process, "tid": thread, "args": arguments });
    let mut events = Vec::new();
    let mut processes = BTreeSet::new();
    for track in tracks {
        let (process, thread) = *track;
        let number = thread % THREADS;
        let (group, name) = match process.checked_sub(CPUS + 1) {
            None => ("CPUs".to_owned(), format!("CPU {number}")),
            Some(vm) => {
                let name = usize::try_from(vm)
                    .ok()
                    .and_then(|vm| trace.machine.vms.get(vm));
                let name = name.map_or("?", String::as_str);
                (format!("VM {vm} {name}"), format!("vCPU {number}"))
            }
        };
        if processes.insert(process) {
            events.push(named("process_name", *track, &json!({ "name": group })));
        }
        events.push(named("thread_name", *track, &json!({ "name": name })));
        events.push(named(
            "thread_sort_index",
            *track,
            &json!({ "sort_index": number }),
        ));
    }
    events
}

/// Returns what belongs on each track.
fn marks(trace: &Trace) -> BTreeMap<Track, Vec<Mark>> {
    let frequency = u128::from(trace.machine.ticks_per_second.max(1));
    let nanos = |ticks: u64| {
        let nanos = u128::from(ticks) * NANOS_PER_SECOND / frequency;
        u64::try_from(nanos).unwrap_or(u64::MAX)
    };
    let mut tracks: BTreeMap<Track, Vec<Mark>> = BTreeMap::new();
    let mut add = |track, start, end: Option<u64>, name: String, arguments| {
        let start = nanos(start);
        let length = end.map(|end| nanos(end) - start);
        tracks.entry(track).or_default().push(Mark {
            start,
            length,
            name,
            arguments,
        });
    };
    for Event {
        ticks,
        cpu,
        vm,
        vcpu,
        what,
    } in &trace.events
    {
        let track = vcpu_track(*vm, *vcpu);
        let mut inject = |at, intid| {
            let arguments = json!({ "intid": intid, "cpu": cpu });
            add(track, at, None, format!("interrupt {intid}"), arguments);
        };
        match what {
            What::Injection { intid } => inject(*ticks, *intid),
            What::Exit {
                reason,
                ticks: cost,
                pc,
                injected,
            } => {
                if let Some(intid) = injected {
                    inject(ticks + cost, *intid);
                }
                let name = trace.machine.reasons.get(usize::from(*reason));
                let name = name.map_or_else(|| format!("reason {reason}"), Clone::clone);
                let arguments = json!({ "cpu": cpu, "pc": format!("{pc:#x}") });
                add(track, *ticks, Some(ticks + cost), name, arguments);
            }
            What::Load | What::Unload => {}
        }
    }
    for Turn {
        cpu,
        vm,
        vcpu,
        start,
        end,
    } in turns(&trace.events)
    {
        let name = format!("VM {vm} vCPU {vcpu}");
        add(cpu_track(cpu), start, Some(end), name, json!({}));
    }
    tracks
}

/// A vCPU's time on a CPU.
#[derive(Debug, PartialEq, Eq)]
struct Turn {
    cpu: u16,
    vm: u16,
    vcpu: u16,
    start: u64,
    end: u64,
}

/// Finds the turns: from where a vCPU was loaded to where it left, or to the last
/// that was heard of it.
fn turns(events: &[Event]) -> Vec<Turn> {
    let mut open: BTreeMap<u16, Turn> = BTreeMap::new();
    let mut turns = Vec::new();
    // In the order of their CPU's ring, which is that of time but for exits, which
    // bear the time of their beginning.
    for event in events {
        let Event {
            ticks,
            cpu,
            vm,
            vcpu,
            what,
        } = *event;
        let own = |turn: &Turn| (turn.vm, turn.vcpu) == (vm, vcpu);
        match what {
            What::Load => {
                let turn = Turn {
                    cpu,
                    vm,
                    vcpu,
                    start: ticks,
                    end: ticks,
                };
                turns.extend(open.insert(cpu, turn));
            }
            What::Unload => {
                if let Some(mut turn) = open.remove(&cpu) {
                    turn.end = if own(&turn) { ticks } else { turn.end };
                    turns.push(turn);
                }
            }
            What::Exit { .. } | What::Injection { .. } => {
                if let Some(turn) = open.get_mut(&cpu).filter(|turn| own(turn)) {
                    turn.end = turn.end.max(event.end());
                }
            }
        }
    }
    turns.extend(open.into_values());
    turns
}

impl Event {
    /// Returns when it was over.
    const fn end(&self) -> u64 {
        match self.what {
            What::Exit { ticks, .. } => self.ticks + ticks,
            _ => self.ticks,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::machine::{Machine, fakes};
    use super::*;

    fn event(ticks: u64, cpu: u16, vm: u16, what: What) -> Event {
        Event {
            ticks,
            cpu,
            vm,
            vcpu: 0,
            what,
        }
    }

    fn exit(reason: u8, ticks: u64, injected: Option<u32>) -> What {
        What::Exit {
            reason,
            ticks,
            pc: 0x4000,
            injected,
        }
    }

    #[test]
    fn a_trace_becomes_events_on_tracks() {
        let (mut memory, anchor) = fakes::memory();
        let machine = Machine::find(&mut memory, anchor).unwrap().unwrap();
        let trace = Trace {
            machine,
            events: vec![
                event(10, 0, 1, What::Load),
                event(12, 0, 1, exit(1, 3, Some(27))),
                event(20, 0, 1, What::Unload),
            ],
            lost: vec![4, 1],
        };
        let mut json = Vec::new();
        write(&trace, &mut json).unwrap();
        let json: Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(json["otherData"]["lostEvents"], 5);
        let events = json["traceEvents"].as_array().unwrap();
        let of_phase = |phase: &str| {
            let is = |event: &&Value| event["ph"] == phase;
            events.iter().filter(is).collect::<Vec<_>>()
        };
        let names: Vec<_> = of_phase("M").iter().map(|event| &event["args"]).collect();
        let expected = [
            json!({ "name": "CPUs" }),
            json!({ "name": "CPU 0" }),
            json!({ "sort_index": 0 }),
            json!({ "name": "VM 1 two" }),
            json!({ "name": "vCPU 0" }),
            json!({ "sort_index": 0 }),
        ];
        assert!(names.into_iter().eq(&expected), "{json:#}");
        // A tick is a millisecond here.
        let [turn, exit] = of_phase("X")[..] else {
            panic!("one turn and one exit: {json:#}");
        };
        assert_eq!(
            (&turn["ts"], &turn["dur"]),
            (&json!(10_000.0), &json!(10_000.0))
        );
        assert_eq!(turn["name"], "VM 1 vCPU 0");
        assert_eq!(
            (&exit["ts"], &exit["dur"]),
            (&json!(12_000.0), &json!(3000.0))
        );
        assert_eq!((&exit["name"], &exit["pid"]), (&json!("hvc"), &json!(3)));
        let [interrupt] = of_phase("i")[..] else {
            panic!("one interrupt: {json:#}");
        };
        assert_eq!(interrupt["ts"], 15_000.0);
        assert_eq!(interrupt["args"]["intid"], 27);
        assert_eq!(interrupt["tid"], exit["tid"]);
    }

    #[test]
    fn a_turn_whose_end_is_missing_ends_with_what_is_known() {
        let turn = |cpu, vm, start, end| Turn {
            cpu,
            vm,
            vcpu: 0,
            start,
            end,
        };
        let events = [
            event(1, 0, 0, What::Unload),
            event(2, 0, 0, What::Load),
            event(3, 0, 0, exit(0, 4, None)),
            // Lost: how it left.
            event(10, 0, 1, What::Load),
            event(11, 1, 0, What::Load),
            event(12, 0, 1, What::Unload),
            event(13, 1, 0, What::Injection { intid: 1 }),
        ];
        let expected = [turn(0, 0, 2, 7), turn(0, 1, 10, 12), turn(1, 0, 11, 13)];
        assert_eq!(turns(&events), expected);
    }
}

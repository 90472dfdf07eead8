//! Two Linux guests that talk to each other: by the hypervisor's switch, or on two
//! QEMUs whose network cards a socket joins.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context, Result};
use dtb_platform::NetConfig;

use super::TIMEOUT;
use crate::guest::Guests;
use crate::guest::initramfs::Purpose;
use crate::run::Prepared;
use crate::run::dialogue::Dialogue;
use crate::run::session::Session;
use crate::run::spec::{GuestLinux, MachineSpec, Mode, VmSpec};
use crate::workspace::Workspace;

/// How many packets go to and fro, one after the other, and how much is fetched.
const PINGS: u32 = 2000;
const STREAM_MB: u32 = 64;

/// What one guest says when all is done, and what begins its figures.
const FETCHED: &str = "io: fetched ";

/// Begins every command: nobody speaks of its own accord.
const UP: &str = "echo 1 > /proc/sys/net/ipv6/conf/eth0/disable_ipv6
    ip link set eth0 up
    ip addr add dev eth0 10.1.0";

/// What the way between two guests came to in one run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Figures {
    /// The mean of the way there and back.
    pub(super) round_trip_us: f64,
    pub(super) mb_per_s: f64,
}

/// Lets two guests talk once.
pub(super) fn measure(workspace: &Workspace, guests: &Guests, mode: Mode) -> Result<Figures> {
    let serve = format!(
        "mkdir /tmp/pages
         dd if=/dev/zero of=/tmp/pages/data bs=1M count={STREAM_MB} 2> /dev/null
         httpd -h /tmp/pages
         {UP}.1/24
         sleep 100000"
    );
    // The clock of the kernel has hundredths of a second.
    let fetch = format!(
        "{UP}.2/24
         until ping -q -c 1 -W 1 10.1.0.1 > /dev/null; do :; done
         ping -A -q -c {PINGS} 10.1.0.1
         from=$(cut -d' ' -f1 /proc/uptime | tr -d .)
         wget -q -O /dev/null http://10.1.0.1/data || exit
         to=$(cut -d' ' -f1 /proc/uptime | tr -d .)
         echo \"{FETCHED}$((to - from)) done\""
    );
    let server = vm(guests, "server", serve)?;
    let client = vm(guests, "client", fetch)?;
    let start = |machine: &MachineSpec, log| -> Result<Dialogue> {
        let prepared = Prepared::new(workspace, machine, log)?;
        Ok(Dialogue::new(Session::start(prepared, Some(TIMEOUT))?))
    };
    match mode {
        Mode::Hypervisor => {
            let machine = MachineSpec::of(2, vec![server, client]);
            figures(&mut start(&machine, "bench-io.log")?)
        }
        Mode::Bare => {
            // Free a moment ago, and nobody else knows of it.
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
                .local_addr()?
                .port();
            let address = format!("127.0.0.1:{port}");
            let server = bare(server, &format!("listen={address}"), 1);
            let client = bare(client, &format!("connect={address}"), 2);
            // Stops when it is dropped.
            let _server = start(&server, "bench-io-server.log")?;
            figures(&mut start(&client, "bench-io.log")?)
        }
    }
}

fn vm(guests: &Guests, name: &str, command: String) -> Result<VmSpec> {
    let mut vm = GuestLinux {
        kernel: guests.linux()?,
        purpose: Purpose::Run { command },
    }
    .vm(guests)?;
    (vm.name, vm.vcpus) = (name.to_owned(), 1);
    vm.nets.push(NetConfig::default());
    vm.add_drivers(guests)?;
    Ok(vm)
}

/// Returns a machine for one of both guests, whose card is at one end of a socket.
fn bare(vm: VmSpec, end: &str, number: u8) -> MachineSpec {
    let mut machine = MachineSpec::new(vm);
    machine.mode = Mode::Bare;
    machine.qemu_args = [
        "-global",
        "virtio-mmio.force-legacy=false",
        "-netdev",
        &format!("socket,id=peer,{end}"),
        "-device",
        &format!("virtio-net-device,netdev=peer,mac=52:54:00:00:00:0{number}"),
    ]
    .map(str::to_owned)
    .into();
    machine
}

/// Reads what the guest says that fetches.
fn figures(guest: &mut Dialogue) -> Result<Figures> {
    guest.expect("round-trip min/avg/max = ")?;
    let times = guest.expect(" ms")?;
    guest.expect(FETCHED)?;
    let hundredths = guest.expect(" done")?;
    read(&times, &hundredths)
        .with_context(|| format!("the guest says {times:?} and {hundredths:?}"))
}

fn read(times: &str, hundredths: &str) -> Option<Figures> {
    let mean: f64 = times.split('/').nth(1)?.parse().ok()?;
    let hundredths: f64 = hundredths.parse().ok()?;
    let megabytes = f64::from(STREAM_MB) * 1.048_576;
    Some(Figures {
        round_trip_us: mean * 1000.0,
        mb_per_s: megabytes * 100.0 / hundredths.max(1.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_guest_says_is_read() {
        let figures = read("0.267/5.119/109.651", "200").unwrap();
        assert!((figures.round_trip_us - 5119.0).abs() < 0.01);
        assert!((figures.mb_per_s - 33.554).abs() < 0.01);
        assert_eq!(read("0.267", "200"), None);
        assert_eq!(read("1/2/3", "soon"), None);
    }
}

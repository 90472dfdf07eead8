//! Network cards of Linux guests: the switch, its VLANs and the uplink.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;

use anyhow::{Context, Result, ensure};
use dtb_platform::{NetConfig, VlanMode};

use super::monitor;
use super::suite::{Run, Test, Verdict};
use crate::guest::initramfs::Purpose;
use crate::run::spec::{MachineSpec, VmSpec};

/// How many packets go to and fro, and how much goes one way, in MB.
const PINGS: u32 = 1000;
const STREAM_MB: u32 = 200;

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new("a_guest_fetches_a_page_by_the_uplink", fetches),
        Test::on_hypervisor("vms_reach_those_of_their_vlan_only", vlans).within_minutes(10),
    ]
}

/// A guest asks QEMU's user network for an address and fetches a page from a server
/// of this host.
fn fetches(run: &Run<'_>) -> Result<Verdict> {
    let page = "a page of the host\n".repeat(5000);
    let port = serve(page.clone())?;
    let command = format!(
        "udhcpc -q -n -i eth0 > /tmp/lease 2>&1 || {{ cat /tmp/lease; exit 1; }}
         ip -4 -o addr show eth0 | grep -c 'inet 10\\.0\\.2\\.'
         ping -q -c 3 10.0.2.2 > /tmp/ping || {{ cat /tmp/ping; exit 2; }}
         wget -q -O - http://10.0.2.2:{port}/page"
    );
    let output = run.output(&command, |machine| {
        machine.uplink = Some(VlanMode::default());
        for vm in &mut machine.vms {
            vm.nets.push(NetConfig::default());
        }
    })?;
    ensure!(
        output == format!("1\n{page}"),
        "another page came, of {} bytes:\n{:.200}",
        output.len(),
        output
    );
    Ok(Verdict::Passed)
}

/// Serves a page to whoever asks on this host, until this program ends, and returns
/// the port.
fn serve(page: String) -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot serve a page")?;
    let port = listener
        .local_addr()
        .map(|address: SocketAddr| address.port())?;
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // Whoever leaves early gets no page.
            let _ = answer(stream, &page);
        }
    });
    Ok(port)
}

/// Answers one request, whatever it is for.
fn answer(mut stream: TcpStream, page: &str) -> std::io::Result<()> {
    let request = BufReader::new(stream.try_clone()?).lines();
    for line in request {
        if line?.is_empty() {
            break;
        }
    }
    let length = page.len();
    write!(
        stream,
        "HTTP/1.0 200 OK\r\nContent-Length: {length}\r\n\r\n{page}"
    )
}

/// One VM serves another one, which sends it packets and fetches a stream; a third,
/// in another VLAN, gets nothing.
fn vlans(run: &Run<'_>) -> Result<()> {
    // Nobody speaks of its own accord.
    const UP: &str = "echo 1 > /proc/sys/net/ipv6/conf/eth0/disable_ipv6
         ip link set eth0 up
         ip addr add dev eth0 10.1.0";
    // Until it is told by a line that all is over.
    const WAIT: &str = "read -r line < /dev/ttyAMA0";
    let serve = format!(
        "mkdir /tmp/pages
         dd if=/dev/urandom of=/tmp/pages/data bs=1M count={STREAM_MB} 2> /dev/null
         httpd -h /tmp/pages
         {UP}.1/24
         echo sum-sent=$(md5sum < /tmp/pages/data)
         {WAIT}"
    );
    let fetch = format!(
        "{UP}.2/24
         until ping -q -c 1 -W 1 10.1.0.1 > /dev/null; do :; done
         ping -A -q -c {PINGS} 10.1.0.1
         echo sum-received=$(wget -q -O - http://10.1.0.1/data | md5sum)"
    );
    let listen = format!(
        "{UP}.3/24
         echo listening
         {WAIT}
         echo overheard=$(cat /sys/class/net/eth0/statistics/rx_packets)."
    );
    let vms = vec![
        in_vlan(run, "server", 1, serve)?,
        in_vlan(run, "client", 1, fetch)?,
        in_vlan(run, "listener", 2, listen)?,
    ];
    let mut guest = run.talk_on(&MachineSpec::of(3, vms))?;
    guest.expect_all(&[
        "listener| listening",
        &format!("{PINGS} packets transmitted, {PINGS} packets received, 0% packet loss"),
        "sum-received=",
        "sum-sent=",
    ])?;
    let said = guest.all()?;
    let sum = |what: &str| {
        let line = said.lines().find_map(|line| line.split_once(what));
        line.map(|(_, sum)| sum.trim().to_owned())
    };
    let (sent, received) = (sum("sum-sent="), sum("sum-received="));
    ensure!(
        sent == received && sent.is_some(),
        "{sent:?} was sent, {received:?} received"
    );
    for vm in [0, 2] {
        monitor::leave_to(&mut guest, vm)?;
        guest.send("\n");
    }
    guest.expect("overheard=")?;
    let overheard = guest.expect(".")?;
    ensure!(overheard == "0", "the third VM has got {overheard} packets");
    guest.power_off()?;
    Ok(())
}

/// Returns Linux with a network card that runs a command.
fn in_vlan(run: &Run<'_>, name: &str, vlan: u16, command: String) -> Result<VmSpec> {
    let mut vm = run.linux(Purpose::Run { command })?;
    (vm.name, vm.vcpus) = (name.to_owned(), 1);
    vm.nets.push(NetConfig {
        vlan: VlanMode::Access(vlan),
        ..NetConfig::default()
    });
    vm.add_drivers(&run.context.guests)?;
    Ok(vm)
}

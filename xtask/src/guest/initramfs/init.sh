#!/bin/busybox sh
# The guest's first process.
/bin/busybox --install -s /bin
export PATH=/bin HOME=/root TERM=linux
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts
mount -t devpts devpts /dev/pts
mount -t tmpfs tmp /tmp
hostname armature
cd /root

# The drivers of the devices that this guest has, where its kernel lacks them.
[ -e /etc/drivers ] && for driver in $(cat /etc/drivers); do
    xzcat "$driver" > /tmp/driver.ko && insmod /tmp/driver.ko
    rm /tmp/driver.ko
done

[ -e /etc/exec ] && exec /bin/sh /etc/exec

read -r rows columns < /etc/console-size
stty -F /dev/ttyAMA0 rows "$rows" cols "$columns"
# Only what threatens the machine itself may disturb the shell's screen.
dmesg -n 4
echo
echo "Linux $(uname -r) on $(nproc) CPUs. Leave with poweroff; reboot starts the guest again."
# A shell that ends makes room for the next: init must never exit.
while :; do
    setsid -c sh -l < /dev/ttyAMA0 > /dev/ttyAMA0 2>&1
done

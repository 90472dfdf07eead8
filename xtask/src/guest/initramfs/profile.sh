# There is no init daemon to ask: these end the machine at once.
poweroff() { sync; busybox poweroff -f; }
halt() { poweroff; }
reboot() { sync; busybox reboot -f; }
export PS1='armature:\w# '

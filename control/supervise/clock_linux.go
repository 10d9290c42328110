package supervise

import "golang.org/x/sys/unix"

// monotonic is CLOCK_MONOTONIC in microseconds, which systemd compares with its own.
func monotonic() int64 {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return 0 // it cannot fail for this clock
	}
	return now.Nano() / 1000
}

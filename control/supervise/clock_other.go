//go:build !linux

package supervise

// monotonic is for systemd, which runs on Linux only.
func monotonic() int64 { return 0 }

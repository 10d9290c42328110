package probe

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Secrecy is who may read a file, and who may write it.
type Secrecy uint8

// The secrecies, of which each wants all that those before it want.
const (
	Unwritten Secrecy = iota // nobody but its owner writes it
	Hidden                   // nobody but its owner, and its group, reads it
	Secret                   // nobody but its owner reads it
)

// File is one whose owner and mode matter.
type File struct {
	Name, What string
	Secrecy    Secrecy
	Optional   bool // it may be absent
}

// CheckFile compares a file's mode with what it may be. dataOwner is the user that the
// data directory belongs to, who the relay runs as; negative: not known.
func CheckFile(f File, dataOwner int) Check {
	c := Check{Name: "file", About: f.Name, State: OK, Expected: f.What + ", " + secrecyText(f.Secrecy)}
	info, err := os.Stat(f.Name)
	switch {
	case errors.Is(err, fs.ErrNotExist) && f.Optional:
		c.Seen = "it is not there yet"
		return c
	case err != nil:
		c.State, c.Seen, c.Fix = Problem, err.Error(), "see that the file is there, and that the relay's user may read it"
		return c
	}
	return judgeMode(c, f, info.Mode(), ownerOf(info), dataOwner)
}

// judgeMode is pure.
func judgeMode(c Check, f File, mode fs.FileMode, owner, dataOwner int) Check {
	c.Seen = fmt.Sprintf("mode %04o", mode.Perm())
	wanted := map[Secrecy]string{Unwritten: "go-w", Hidden: "o-rwx,g-w", Secret: "go-rwx"}[f.Secrecy]
	bits := map[Secrecy]fs.FileMode{Unwritten: 0o022, Hidden: 0o027, Secret: 0o077}[f.Secrecy]
	foreign := owner >= 0 && dataOwner >= 0 && owner != dataOwner && owner != 0
	switch {
	case mode.Perm()&0o002 != 0:
		c.State, c.Seen, c.Fix = Problem, c.Seen+": anybody on this machine may write it", "chmod "+wanted+" "+f.Name
	case f.Secrecy == Secret && mode.Perm()&0o007 != 0:
		c.State, c.Seen, c.Fix = Problem, c.Seen+": anybody on this machine may read it", "chmod "+wanted+" "+f.Name
	case mode.Perm()&bits != 0:
		c.State, c.Fix = Warning, "chmod "+wanted+" "+f.Name
	case foreign:
		c.State, c.Seen, c.Fix = Warning, fmt.Sprintf("%s, of user %d; the data directory is of user %d", c.Seen, owner, dataOwner), "let root or the relay's user own it"
	}
	return c
}

func secrecyText(s Secrecy) string {
	switch s {
	case Hidden:
		return "readable by its owner and group only"
	case Secret:
		return "readable by its owner only"
	}
	return "writable by its owner only"
}

// Owner is the user a file belongs to; -1: not known.
func Owner(name string) int {
	info, err := os.Stat(name)
	if err != nil {
		return -1
	}
	return ownerOf(info)
}

// Disk is how a file system stands.
type Disk struct {
	Free uint64 // octets that the relay's user may still use
	Kind string // as "ext4"; empty: not known
}

// CheckDisk compares the file system of the data directory with what the relay keeps
// free.
func CheckDisk(dir string, reserve uint64) Check {
	c := Check{Name: "disk", About: dir, State: OK, Expected: fmt.Sprintf("a local file system with more than %s free (storage.reserve)", octets(reserve))}
	for at := dir; ; at = filepath.Dir(at) { // before the first start the directory may be missing
		disk, err := diskOf(at)
		if err == nil {
			return judgeDisk(c, disk, reserve)
		}
		if !errors.Is(err, fs.ErrNotExist) || at == filepath.Dir(at) {
			c.State, c.Seen, c.Fix = Warning, "it could not be asked: "+err.Error(), "look with df"
			return c
		}
	}
}

// volatile and remote file systems, and why a spool does not belong there.
var doubtfulDisks = map[string]string{
	"tmpfs": "is memory: all mail and keys are lost at a restart of the machine",
	"ramfs": "is memory: all mail and keys are lost at a restart of the machine",
	"nfs":   "is on the network: what was synced may not be durable, and locks may not hold",
	"cifs":  "is on the network: what was synced may not be durable, and locks may not hold",
	"smb2":  "is on the network: what was synced may not be durable, and locks may not hold",
}

func judgeDisk(c Check, d Disk, reserve uint64) Check {
	c.Seen = octets(d.Free) + " free"
	if d.Kind != "" {
		c.Seen += " on " + d.Kind
	}
	why, doubtful := doubtfulDisks[d.Kind]
	switch {
	case d.Free <= reserve:
		c.State, c.Fix = Problem, "make room: below the reserve no new mail is taken (452 DISK_FULL), and delivery goes on"
	case doubtful:
		c.State, c.Seen, c.Fix = Warning, c.Seen+", which "+why, "put data_dir on a local disk"
	case d.Free < 4*reserve:
		c.State, c.Fix = Warning, "make room before it is as little as the reserve"
	case d.Kind == "overlay":
		c.State, c.Seen, c.Fix = Warning, c.Seen+", which a container throws away", "mount a volume at data_dir"
	}
	return c
}

func octets(n uint64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%d octets", n)
}

// Descriptors that the relay needs beside those of its clients: the store, the log,
// DNS, deliveries and their spooled bodies.
const otherDescriptors = 1024

// CheckDescriptors compares the limit of open files with what all allowed connections
// need. limit zero: it is not known.
func CheckDescriptors(limit uint64, whose string, connections int) Check {
	needed := uint64(2*connections) + otherDescriptors // a socket and a spooled body each
	c := Check{Name: "descriptors", About: whose, State: OK, Expected: fmt.Sprintf("at least %d open files (two for each of smtp.max_connections = %d, and %d more)", needed, connections, otherDescriptors)}
	c.Seen = fmt.Sprintf("%d", limit)
	switch {
	case limit == 0:
		c.State, c.Seen, c.Fix = Skipped, "not known", "look with: ulimit -n"
	case limit < needed:
		c.State, c.Fix = Warning, fmt.Sprintf("LimitNOFILE=%d in the service unit, or ulimit -n, or a smaller smtp.max_connections", needed)
	}
	return c
}

// Clock is what the kernel says of its time.
type Clock struct {
	Known        bool
	Synchronised bool
	ErrorMicros  int64 // the most it may be wrong, as the kernel estimates it
}

// maxClockError is from where times in signatures and certificates begin to be doubted:
// ours.
const maxClockError = 2_000_000 // microseconds

// CheckClock says whether the clock can be believed.
func CheckClock(k Clock) Check {
	c := Check{Name: "clock", About: "this machine", State: OK, Expected: "kept right over the network (NTP)", Seen: "synchronised"}
	switch {
	case !k.Known:
		c.State, c.Seen, c.Fix = Skipped, "the kernel does not say", "see that NTP runs: signatures have times, and receivers compare them"
	case !k.Synchronised:
		c.State, c.Seen, c.Fix = Warning, "the kernel says that nothing keeps it right", "run chrony, systemd-timesyncd or the like; in a container the host does: signatures have times, and receivers compare them"
	case k.ErrorMicros > maxClockError:
		c.State, c.Seen, c.Fix = Warning, fmt.Sprintf("it may be wrong by %d ms", k.ErrorMicros/1000), "see why NTP does not reach its servers"
	}
	return c
}

// ClockNow asks the kernel.
func ClockNow() Clock { return clockNow() }

// DescriptorLimit is how many files a process may open; zero: not known. pid zero is
// this process.
func DescriptorLimit(pid int) uint64 { return descriptorLimit(pid) }

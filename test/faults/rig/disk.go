package rig

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// diskSize is that of the file system, in octets. Its file is sparse.
const diskSize = 1 << 30

// Disk is an ext4 file system in a file, mounted through a loop device: what is
// in the file is what a disk would have if the power failed now. It needs root.
type Disk struct {
	dir    string
	number int // of power cuts
}

// NewDisk makes and mounts a file system in a folder of its own below dir.
func NewDisk(dir string) (*Disk, error) {
	dir, err := os.MkdirTemp(dir, "anechoic-disk")
	if err != nil {
		return nil, err
	}
	d := &Disk{dir: dir}
	err = os.Mkdir(d.Mount(), 0o700)
	if err == nil {
		err = makeImage(d.image())
	}
	if err == nil {
		err = d.mount()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("a disk needs root, mkfs.ext4 (Debian: e2fsprogs) and loop devices: %w", err), os.RemoveAll(dir))
	}
	return d, nil
}

func makeImage(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(diskSize), f.Close()); err != nil {
		return err
	}
	return shell("mkfs.ext4", "-q", "-F", name)
}

func shell(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return nil
}

// Mount is where it is mounted.
func (d *Disk) Mount() string { return filepath.Join(d.dir, "m") }

func (d *Disk) image() string { return filepath.Join(d.dir, fmt.Sprintf("image%d", d.number)) }

func (d *Disk) mount() error { return shell("mount", "-o", "loop", d.image(), d.Mount()) }

func (d *Disk) unmount() error { return shell("umount", d.Mount()) }

// Close unmounts and removes it.
func (d *Disk) Close() error { return errors.Join(d.unmount(), os.RemoveAll(d.dir)) }

// CutByCopy is a power cut as seen from outside: the file is copied as it is, and
// the copy takes its place. Whoever wrote to the disk was killed right before.
func (d *Disk) CutByCopy() error {
	old := d.image()
	d.number++
	if err := shell("cp", "--sparse=always", old, d.image()); err != nil {
		return err
	}
	return errors.Join(d.unmount(), os.Remove(old), d.mount())
}

// The ioctl that has ext4 drop everything that is not on disk, its journal's
// open transaction too, and fail from then on (EXT4_IOC_SHUTDOWN with
// NOLOGFLUSH; linux/fs/ext4/ext4.h).
const (
	ext4Shutdown   = 0x8004587d
	withoutFlushes = 2
)

// Fail is a power cut as seen from inside: every write and fsync fails from now
// on. Repair is to follow.
func (d *Disk) Fail() error {
	f, err := os.Open(d.Mount())
	if err != nil {
		return err
	}
	defer f.Close()
	flags := uint32(withoutFlushes)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), ext4Shutdown, uintptr(unsafe.Pointer(&flags))); errno != 0 {
		return fmt.Errorf("shut the file system down: %w", errno)
	}
	return nil
}

// Repair mounts it again after Fail, with what was on disk.
func (d *Disk) Repair() error { return errors.Join(d.unmount(), d.mount()) }

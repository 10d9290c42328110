package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// harm is what a faulty disk does to one operation.
type harm struct {
	name  string
	cause error
	short bool // a write that leaves half of its octets on the disk before it fails
	syncs bool // hits syncs, else writes and new files
	stays bool // every operation after it fails too
}

var harms = []harm{
	{name: "a write fails", cause: syscall.EIO},
	{name: "a write is cut short", cause: syscall.EIO, short: true},
	{name: "a sync fails", cause: syscall.EIO, syncs: true},
	{name: "a sync fails, and all after it", cause: syscall.EIO, syncs: true, stays: true},
	{name: "a write finds the disk full", cause: syscall.ENOSPC, short: true},
	{name: "the disk is full from then on", cause: syscall.ENOSPC, stays: true},
}

// faulty is a disk that does harm to its n-th operation of a kind, once armed.
type faulty struct {
	vfs.FS

	mu    sync.Mutex // guards what follows
	harm  harm
	left  int // operations until it happens; negative: not armed, or over
	hit   string
	again bool
}

// arm has the n-th operation from now fail.
func (d *faulty) arm(h harm, n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.harm, d.left = h, n
}

// struck names what was hit; empty: nothing yet.
func (d *faulty) struck() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.hit
}

// strike says whether this operation fails.
func (d *faulty) strike(op, name string, sync bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if sync != d.harm.syncs && !d.again || d.left < 0 && !d.again {
		return nil
	}
	if d.left--; d.left > 0 && !d.again {
		return nil
	}
	d.again = d.harm.stays
	if d.left = -1; d.hit == "" {
		d.hit = op + " " + name
	}
	return &os.PathError{Op: op, Path: name, Err: d.harm.cause}
}

func (d *faulty) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := d.strike("create", name, false); err != nil {
		return nil, err
	}
	return d.wrap(name)(d.FS.Create(name, c))
}

func (d *faulty) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := d.strike("reuse", name, false); err != nil {
		return nil, err
	}
	return d.wrap(name)(d.FS.ReuseForWrite(old, name, c))
}

func (d *faulty) OpenDir(name string) (vfs.File, error) { return d.wrap(name)(d.FS.OpenDir(name)) }

func (d *faulty) Rename(old, name string) error {
	return errors.Join(d.strike("rename", name, false), d.FS.Rename(old, name))
}

func (d *faulty) Unwrap() vfs.FS { return d.FS }

func (d *faulty) wrap(name string) func(vfs.File, error) (vfs.File, error) {
	return func(f vfs.File, err error) (vfs.File, error) {
		if err != nil {
			return nil, err
		}
		return &faultyFile{File: f, disk: d, name: name}, nil
	}
}

type faultyFile struct {
	vfs.File
	disk *faulty
	name string
}

func (f *faultyFile) Write(p []byte) (int, error) {
	err := f.disk.strike("write", f.name, false)
	if err == nil {
		return f.File.Write(p)
	}
	if !f.disk.harm.short {
		return 0, err
	}
	n, _ := f.File.Write(p[:len(p)/2])
	return n, err
}

func (f *faultyFile) Sync() error {
	if err := f.disk.strike("sync", f.name, true); err != nil {
		return err
	}
	return f.File.Sync()
}

func (f *faultyFile) SyncData() error {
	if err := f.disk.strike("sync", f.name, true); err != nil {
		return err
	}
	return f.File.SyncData()
}

func (f *faultyFile) SyncTo(n int64) (bool, error) {
	if err := f.disk.strike("sync", f.name, true); err != nil {
		return false, err
	}
	return f.File.SyncTo(n)
}

// small is a disk with room for so many octets.
type small struct {
	vfs.FS

	mu    sync.Mutex // guards what follows
	room  int64
	sizes map[string]int64
}

func (s *small) used() (n int64) {
	for _, size := range s.sizes {
		n += size
	}
	return n
}

func (s *small) GetDiskUsage(string) (vfs.DiskUsage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return vfs.DiskUsage{TotalBytes: uint64(s.room), AvailBytes: uint64(max(0, s.room-s.used())), UsedBytes: uint64(s.used())}, nil
}

func (s *small) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return s.wrap(name, 0)(s.FS.Create(name, c))
}

func (s *small) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	s.mu.Lock()
	size := s.sizes[old]
	delete(s.sizes, old)
	s.mu.Unlock()
	return s.wrap(name, size)(s.FS.ReuseForWrite(old, name, c))
}

func (s *small) Remove(name string) error {
	s.mu.Lock()
	delete(s.sizes, name)
	s.mu.Unlock()
	return s.FS.Remove(name)
}

func (s *small) Rename(old, name string) error {
	s.mu.Lock()
	s.sizes[name] = s.sizes[old]
	delete(s.sizes, old)
	s.mu.Unlock()
	return s.FS.Rename(old, name)
}

func (s *small) Unwrap() vfs.FS { return s.FS }

func (s *small) wrap(name string, size int64) func(vfs.File, error) (vfs.File, error) {
	return func(f vfs.File, err error) (vfs.File, error) {
		if err != nil {
			return nil, err
		}
		s.mu.Lock()
		s.sizes[name] = size
		s.mu.Unlock()
		return &smallFile{File: f, disk: s, name: name}, nil
	}
}

type smallFile struct {
	vfs.File
	disk *small
	name string
	at   int64
}

func (f *smallFile) Write(p []byte) (int, error) {
	f.disk.mu.Lock()
	grown := max(f.disk.sizes[f.name], f.at+int64(len(p)))
	if f.disk.used()-f.disk.sizes[f.name]+grown > f.disk.room {
		f.disk.mu.Unlock()
		return 0, &os.PathError{Op: "write", Path: f.name, Err: syscall.ENOSPC}
	}
	if _, there := f.disk.sizes[f.name]; there {
		f.disk.sizes[f.name] = grown
	}
	f.disk.mu.Unlock()
	f.at += int64(len(p))
	return f.File.Write(p)
}

// seeded is a source of chance that a failing test can be run again with.
func seeded(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

func (h harm) String() string { return fmt.Sprintf("%s (%v)", h.name, h.cause) }

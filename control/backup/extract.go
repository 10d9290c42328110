package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// room is what stays free beside what is unpacked: the store needs some to be opened.
const room = 64 << 20

// checkRoom refuses what the disk of a folder cannot hold, before anything is written.
func checkRoom(dir string, octets int64) error {
	usage, err := vfs.Default.GetDiskUsage(dir)
	if err != nil {
		return nil // a file system that does not know its size
	}
	if need := uint64(octets) + room; usage.AvailBytes < need {
		return fmt.Errorf("%s: %d MiB are needed, %d MiB are free: make room on that disk", dir, need>>20, usage.AvailBytes>>20)
	}
	return nil
}

// unpack writes every file of a backup to where place says; no path: it is only read.
// Nothing that is there is written over.
func unpack(ctx context.Context, a *Archive, place func(name string) string, progress func(done, of int64)) error {
	done, of := int64(0), a.Manifest().Octets()
	return a.Each(ctx, func(f File, content io.Reader) error {
		tell := writerFunc(func(p []byte) (int, error) {
			done += int64(len(p))
			if progress != nil {
				progress(done, of)
			}
			return len(p), ctx.Err()
		})
		content = io.TeeReader(content, tell)
		path := place(f.Name)
		if path == "" {
			_, err := io.Copy(io.Discard, content)
			return err
		}
		return writeFile(path, content)
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// writeFile makes a file, and the folders to it, for their owner alone.
func writeFile(path string, content io.Reader) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, content)
	return errors.Join(err, out.Sync(), out.Close())
}

// dataPlace puts the files of the data directory below a folder.
func dataPlace(dir string) func(string) string {
	return func(name string) string {
		if rest, ok := strings.CutPrefix(name, dataPrefix); ok {
			return filepath.Join(dir, filepath.FromSlash(rest))
		}
		return ""
	}
}

// syncTree makes the names in a folder, and in those below it, durable.
func syncTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		return syncFolder(path)
	})
}

func syncFolder(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

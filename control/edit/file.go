package edit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// ErrChanged says that somebody else changed the file since it was read.
var ErrChanged = errors.New("the file was changed by somebody else meanwhile")

// maxFile bounds what is read: the bound of the registry itself.
const maxFile = 2 << 30

// File is a file as it was read.
type File struct {
	Path string // where the file itself is: links are followed
	Text []byte

	info fs.FileInfo
}

// Open reads a file that is to be changed.
func Open(path string) (File, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return File{}, err
	}
	in, err := os.Open(real)
	if err != nil {
		return File{}, err
	}
	defer in.Close()
	f := File{Path: real}
	if f.info, err = in.Stat(); err != nil {
		return File{}, err
	}
	if !f.info.Mode().IsRegular() || f.info.Size() > maxFile {
		return File{}, &fs.PathError{Op: "edit", Path: real, Err: errors.New("no regular file of up to 2 GiB")}
	}
	f.Text, err = readAll(in, f.info.Size())
	return f, err
}

// readAll reads a file with room for its size at once.
func readAll(in io.Reader, size int64) ([]byte, error) {
	var text bytes.Buffer
	text.Grow(int(size) + bytes.MinRead)
	_, err := text.ReadFrom(in)
	return text.Bytes(), err
}

// Replace writes a text in the file's place and returns the file as it is now.
//
// All or nothing: the text is written beside the file, synced, and renamed over
// it, with the mode and the owner the file has. Where it stops, the file is the
// old one or the new one, never a part:
//
//	state on disk                          after a crash there
//	file of before, part of a new one      file of before; .NAME.*.new is left over
//	file of before, a whole new one        the same
//	renamed, folder not synced             either, whole
//	folder synced                          the new one
//
// ErrChanged says that the file is not what Open read; nothing was written then.
// Two that write at a time: one of them is told so.
func (f File) Replace(text []byte) (File, error) {
	unlock, err := lock(f.Path)
	if err != nil {
		return File{}, err
	}
	defer unlock()
	if err := f.unchanged(); err != nil {
		return File{}, err
	}
	info, err := f.write(text)
	return File{Path: f.Path, Text: text, info: info}, err
}

// comparedAtOnce is how much of a file is read for a comparison.
const comparedAtOnce = 256 << 10

// unchanged reads the file again: times of files are too coarse to tell.
func (f File) unchanged() error {
	in, err := os.Open(f.Path)
	if err != nil {
		return err
	}
	defer in.Close()
	same, err := holds(in, f.Text)
	if err == nil && !same {
		err = fmt.Errorf("%s: %w", f.Path, ErrChanged)
	}
	return err
}

// holds says that what is read is a text, and nothing more.
func holds(in io.Reader, text []byte) (bool, error) {
	some := make([]byte, comparedAtOnce)
	for {
		n, err := in.Read(some)
		if !bytes.HasPrefix(text, some[:n]) {
			return false, nil
		}
		text = text[n:]
		if err == io.EOF {
			return len(text) == 0, nil
		}
		if err != nil {
			return false, err
		}
	}
}

// write gives what the new file is.
func (f File) write(text []byte) (info fs.FileInfo, err error) {
	folder := filepath.Dir(f.Path)
	out, err := os.CreateTemp(folder, "."+filepath.Base(f.Path)+".*.new")
	if err != nil {
		return nil, fmt.Errorf("nothing can be written beside %s, which is how it is changed: %w", f.Path, err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(out.Name()) // nothing more can be done about what was not finished
		}
	}()
	if err = f.fill(out, text); err == nil {
		info, err = out.Stat()
	}
	if closed := out.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", f.Path, err)
	}
	if err := os.Rename(out.Name(), f.Path); err != nil {
		return nil, err
	}
	return info, syncFolder(folder)
}

// fill writes the text and gives it mode and owner of the file, before anybody can
// read it.
func (f File) fill(out *os.File, text []byte) error {
	if err := keepOwner(out, f.info); err != nil {
		return fmt.Errorf("its owner cannot be kept; run this as the owner or as root: %w", err)
	}
	if err := out.Chmod(f.info.Mode().Perm()); err != nil {
		return err
	}
	if _, err := out.Write(text); err != nil {
		return err
	}
	return out.Sync()
}

func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	defer folder.Close()
	return folder.Sync()
}

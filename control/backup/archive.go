package backup

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"
)

// Archive is a backup that is being read.
type Archive struct {
	manifest Manifest
	plain    *zstd.Decoder
	tar      *tar.Reader
	sums     strings.Builder // SHA256SUMS as it has to be
}

// Open reads the manifest of a backup. What it says is only known to be as it was
// written once Each came to its end. Identities are needed for one that is encrypted.
func Open(r io.Reader, identities []age.Identity) (*Archive, error) {
	plain, err := unseal(r, identities)
	if err != nil {
		return nil, fmt.Errorf("backup: %w", err)
	}
	a := &Archive{plain: plain, tar: tar.NewReader(plain)}
	text, err := a.whole(manifestName, maxManifest)
	if err == nil {
		a.manifest, err = readManifest(text)
	}
	if err != nil {
		a.Close()
		return nil, fmt.Errorf("backup: %w", err)
	}
	a.add(manifestName, sha256.Sum256(text))
	return a, nil
}

// Manifest says what the backup holds.
func (a *Archive) Manifest() Manifest { return a.manifest }

// Close ends the reading.
func (a *Archive) Close() { a.plain.Close() }

// add writes a line as sha256sum(1) does.
func (a *Archive) add(name string, sum [sha256.Size]byte) {
	fmt.Fprintf(&a.sums, "%s  %s\n", hex.EncodeToString(sum[:]), name)
}

// Each calls visit for each file, in order, once, with its content. Nil says that
// everything was as it was written; what was visited before an error may not be.
func (a *Archive) Each(ctx context.Context, visit func(f File, content io.Reader) error) error {
	for _, f := range a.manifest.Files {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := a.one(f, visit); err != nil {
			return fmt.Errorf("backup: %s: %w", f.Name, err)
		}
	}
	if err := a.end(); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	return nil
}

func (a *Archive) one(f File, visit func(File, io.Reader) error) error {
	if err := a.next(f.Name, f.Size); err != nil {
		return err
	}
	sum := sha256.New()
	content := io.TeeReader(damaging{a.tar}, sum)
	if err := visit(f, content); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, content); err != nil {
		return err
	}
	a.add(f.Name, [sha256.Size]byte(sum.Sum(nil)))
	return nil
}

// damaging says of errors of reading what they are: what writes the content has
// others.
type damaging struct{ r io.Reader }

func (d damaging) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	return n, broken(err)
}

func broken(err error) error {
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, ErrDamaged) {
		return err
	}
	return damagedf("%w", err)
}

// next goes to a file that has to come now.
func (a *Archive) next(name string, size int64) error {
	h, err := a.tar.Next()
	switch {
	case errors.Is(err, io.EOF):
		return damagedf("%s is missing", name)
	case err != nil:
		return broken(err)
	case h.Name != name || h.Typeflag != tar.TypeReg || h.Linkname != "":
		return damagedf("%q stands where the file %s has to be", h.Name, name)
	case size >= 0 && h.Size != size:
		return damagedf("%s has %d octets instead of %d", name, h.Size, size)
	}
	return nil
}

// whole reads a file that is none of the listed ones.
func (a *Archive) whole(name string, most int64) ([]byte, error) {
	if err := a.next(name, -1); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(damaging{a.tar}, most+1))
	if err == nil && int64(len(text)) > most {
		err = damagedf("%s is larger than %d octets", name, most)
	}
	return text, err
}

// end checks the sums, that nothing follows, and the sum of the container.
func (a *Archive) end() error {
	want := a.sums.String()
	text, err := a.whole(sumsName, int64(len(want)))
	if err != nil {
		return err
	}
	if string(text) != want {
		return damagedf("%s does not fit what the files hold", sumsName)
	}
	if h, err := a.tar.Next(); err == nil {
		return damagedf("%q follows the last file", h.Name)
	} else if !errors.Is(err, io.EOF) {
		return broken(err)
	}
	rest, err := io.CopyN(io.Discard, damaging{a.plain}, 1)
	switch {
	case rest > 0:
		return damagedf("something follows the last file")
	case !errors.Is(err, io.EOF):
		return err
	}
	return nil
}

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

	"filippo.io/age"

	"anechoic/engine/local"
	"anechoic/ledger"
	"anechoic/relay/custody"
)

// Checked is what Verify found.
type Checked struct {
	Manifest Manifest         `json:"manifest"`
	Ledger   ledger.Report    `json:"ledger"`
	Queue    custody.Surveyed `json:"queue"`
	Keys     int              `json:"keys"` // sealed signing keys that open
	Problems []string         `json:"problems"`
}

// OK says that the backup can be restored, and that all of it is as it was.
func (c Checked) OK() bool { return len(c.Problems) == 0 }

func (c *Checked) problem(format string, args ...any) {
	c.Problems = append(c.Problems, fmt.Sprintf(format, args...))
}

// Verify reads a backup whole. In a folder of its own below work (empty: the
// system's for temporary files), which it removes again, it unpacks the data, opens
// the store for reading, verifies the ledger, reads every message in custody, and
// opens every sealed key. What is wrong with the backup is in Checked; an error says
// that it could not be judged.
func Verify(ctx context.Context, a *Archive, work string, progress func(done, of int64)) (c Checked, err error) {
	c = Checked{Manifest: a.Manifest(), Problems: []string{}}
	dir, err := os.MkdirTemp(work, "anechoic-verify-")
	if err != nil {
		return c, fmt.Errorf("backup: verify: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := checkRoom(dir, c.Manifest.Octets()); err != nil {
		return c, fmt.Errorf("backup: verify: %w, or name another folder", err)
	}
	err = unpack(ctx, a, dataPlace(dir), progress)
	if errors.Is(err, ErrDamaged) {
		c.problem("%v", err)
		return c, nil
	}
	if err == nil {
		err = c.inspect(ctx, dir)
	}
	if err != nil {
		return c, fmt.Errorf("backup: verify: %w", err)
	}
	return c, nil
}

// inspect looks at what was unpacked.
func (c *Checked) inspect(ctx context.Context, dir string) error {
	reader, err := local.OpenReader(filepath.Join(dir, storeName))
	if errors.Is(err, local.ErrNewer) {
		return err
	}
	if err != nil {
		c.problem("its store does not open: %v", err)
		return nil
	}
	defer func() { _ = reader.Close() }() // it is removed
	if err := c.inspectLedger(ctx, reader); err != nil {
		return err
	}
	if err := c.inspectQueue(ctx, reader, dir); err != nil {
		return err
	}
	return c.inspectKeys(ctx, dir)
}

func (c *Checked) inspectLedger(ctx context.Context, store *local.Reader) (err error) {
	if c.Ledger, err = ledger.Verify(ctx, store); err != nil {
		return err
	}
	if !c.Ledger.OK() {
		c.problem("its ledger is not as it was sealed: %s", c.Ledger.Bad)
		return nil
	}
	found := Head{Facts: c.Ledger.Facts - c.Ledger.Unsealed, Segments: c.Ledger.Segments, Hash: c.Ledger.Head.String()}
	if said := c.Manifest.Ledger; said != found && said.Segments > 0 {
		c.problem("its ledger ends with segment %d, %s, and not with segment %d, %s, as its manifest says", found.Segments, found.Hash, said.Segments, said.Hash)
	}
	return nil
}

func (c *Checked) inspectQueue(ctx context.Context, store *local.Reader, dir string) error {
	key, err := readSealKey(dir)
	if err != nil {
		c.problem("%v", err)
		return nil
	}
	c.Queue, err = custody.Survey(ctx, store, key, true)
	switch {
	case errors.Is(err, custody.ErrSealKey):
		c.problem("%v", err)
		return nil
	case err != nil:
		return err
	}
	if c.Queue.Damaged > 0 {
		c.problem("%d records or messages in its queue are damaged, the first: %s", c.Queue.Damaged, c.Queue.FirstDamage)
	}
	said := c.Manifest.Queue
	if said.Messages != c.Queue.Messages || said.Queued != c.Queue.Queued || said.Held != c.Queue.Held || said.Detained != c.Queue.Detained {
		c.problem("its queue has %d messages, %d queued and %d held recipients and %d detained messages, and not %d, %d, %d and %d as its manifest says",
			c.Queue.Messages, c.Queue.Queued, c.Queue.Held, c.Queue.Detained, said.Messages, said.Queued, said.Held, said.Detained)
	}
	return nil
}

// inspectKeys opens every sealed key with the identity beside them.
func (c *Checked) inspectKeys(ctx context.Context, dir string) error {
	dir = filepath.Join(dir, keysName)
	text, err := os.Open(filepath.Join(dir, "identity.txt"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // no key was ever sealed
	}
	if err != nil {
		return err
	}
	identities, err := age.ParseIdentities(text)
	if err = errors.Join(err, text.Close()); err != nil {
		c.problem("its signing keys do not open: %v", err)
		return nil
	}
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".age") {
			return errors.Join(err, ctx.Err())
		}
		if err := opens(path, identities); err != nil {
			c.problem("its signing key %s does not open: %v", strings.TrimPrefix(path, dir+"/"), err)
			return nil
		}
		c.Keys++
		return nil
	})
}

func opens(path string, identities []age.Identity) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	plain, err := age.Decrypt(in, identities...)
	if err == nil {
		_, err = io.Copy(io.Discard, plain)
	}
	return err
}

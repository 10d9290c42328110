package backup

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"filippo.io/age"

	"anechoic/engine/local"
	"anechoic/relay/custody"
)

// Source is what a backup is made of.
type Source struct {
	Version    string // of the program
	Hostname   string
	DataDir    string
	Store      string // a checkpoint, or empty: that of the data directory, which nobody may have open
	ConfigFile string // relay.toml
	Recipients []age.Recipient
	Progress   func(done, of int64) // octets; nil: nobody is told
}

// Create writes a backup. It reads as a stream and holds no more than a manifest in
// memory. After an error what was written is of no use.
func Create(ctx context.Context, s Source, w io.Writer) (m Manifest, err error) {
	p := packer{ctx: ctx, source: s, store: s.Store, have: map[string]bool{}}
	if p.store == "" {
		p.store = filepath.Join(s.DataDir, storeName)
	}
	// Open until the end: nobody else changes the store meanwhile.
	reader, err := local.OpenReader(p.store)
	if err != nil {
		return m, fmt.Errorf("backup: %w", err)
	}
	defer func() { err = errors.Join(err, reader.Close()) }()
	if err := p.describe(reader); err != nil {
		return m, fmt.Errorf("backup: %w", err)
	}
	if err := p.list(); err != nil {
		return m, fmt.Errorf("backup: %w", err)
	}
	if err := p.write(w); err != nil {
		return m, fmt.Errorf("backup: %w", err)
	}
	return p.manifest, nil
}

// packer is how far Create came.
type packer struct {
	ctx      context.Context
	source   Source
	store    string
	manifest Manifest
	paths    []string        // of manifest.Files
	have     map[string]bool // those
	tar      *tar.Writer
	sums     strings.Builder
	done, of int64
}

// describe writes into the manifest what the store says of itself.
func (p *packer) describe(store *local.Reader) error {
	s := p.source
	dir, err := filepath.Abs(s.DataDir)
	if err != nil {
		return err
	}
	p.manifest = Manifest{
		Format: FormatVersion, Version: s.Version, Created: time.Now().UTC(), Hostname: s.Hostname, DataDir: dir, Running: s.Store != "", Store: store.Format(), Config: []ConfigFile{},
	}
	if p.manifest.Ledger, err = headOf(store); err != nil {
		return err
	}
	key, err := readSealKey(s.DataDir)
	if err != nil {
		return err
	}
	p.manifest.Queue, err = custody.Survey(p.ctx, store, key, false)
	return err
}

func headOf(store *local.Reader) (h Head, err error) {
	last, there, err := store.LedgerHead()
	if err != nil {
		return h, fmt.Errorf("ledger: %w", err)
	}
	if there {
		h = Head{Facts: last.First + last.Count, Segments: last.Number, Hash: last.Hash().String()}
	}
	return h, nil
}

// readSealKey reads the key that binds what is queued.
func readSealKey(dataDir string) ([]byte, error) {
	key, err := os.ReadFile(filepath.Join(dataDir, sealKeyName))
	if err != nil {
		return nil, fmt.Errorf("seal key: %w: without it what is queued cannot be sent", err)
	}
	return key, nil
}

// list finds the files. Those of the store are there before the others are looked
// for: a signing key is on disk before the store knows of it, and is never deleted.
func (p *packer) list() error {
	entries, err := os.ReadDir(p.store)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Type().IsRegular() && e.Name() != lockName {
			if err := p.add(dataPrefix+storeName+"/"+e.Name(), filepath.Join(p.store, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := p.listData(); err != nil {
		return err
	}
	return p.listConfig()
}

// listData finds what of the data directory is not the store.
func (p *packer) listData() error {
	root, err := filepath.EvalSymlinks(p.manifest.DataDir)
	if err != nil {
		return err
	}
	return filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		switch {
		case left[rel] && d.IsDir():
			return fs.SkipDir
		case left[rel], d.IsDir(), strings.HasPrefix(d.Name(), ".new-"): // a file that is being written
			return nil
		case !d.Type().IsRegular():
			return fmt.Errorf("%s is no regular file: it would be missing after a restore: put what it leads to in its place, or take it away", name)
		}
		return p.add(dataPrefix+filepath.ToSlash(rel), name)
	})
}

func (p *packer) add(name, path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if err := checkName(name); err != nil {
		return fmt.Errorf("%s cannot be part of a backup: rename it", path)
	}
	p.manifest.Files = append(p.manifest.Files, File{Name: name, Size: info.Size()})
	p.paths = append(p.paths, path)
	p.have[path] = true
	p.of += info.Size()
	return nil
}

// write writes manifest, files and sums.
func (p *packer) write(w io.Writer) error {
	if err := p.manifest.check(); err != nil {
		return err
	}
	out, err := seal(w, p.source.Recipients)
	if err != nil {
		return err
	}
	p.tar = tar.NewWriter(out)
	text, err := json.Marshal(p.manifest)
	if err != nil {
		return err
	}
	if err := p.put(manifestName, int64(len(text)), strings.NewReader(string(text))); err != nil {
		return err
	}
	for i, f := range p.manifest.Files {
		if err := p.file(f, p.paths[i]); err != nil {
			return fmt.Errorf("%s: %w", p.paths[i], err)
		}
	}
	sums := p.sums.String()
	if err := p.put(sumsName, int64(len(sums)), strings.NewReader(sums)); err != nil {
		return err
	}
	if err := p.tar.Close(); err != nil {
		return err
	}
	return out.Close()
}

func (p *packer) file(f File, path string) error {
	in, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: the relay stopped meanwhile, or somebody removed it: make the backup again", err)
	}
	if err != nil {
		return err
	}
	defer in.Close()
	return p.put(f.Name, f.Size, in)
}

// put adds one file of exactly so many octets.
func (p *packer) put(name string, size int64, content io.Reader) error {
	h := tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o600, ModTime: p.manifest.Created.Truncate(time.Second)}
	if err := p.tar.WriteHeader(&h); err != nil {
		return err
	}
	sum := sha256.New()
	n, err := io.CopyN(io.MultiWriter(p.tar, sum, p), content, size)
	switch {
	case errors.Is(err, io.EOF):
		return fmt.Errorf("it had %d octets and has %d: it changed while it was read: make the backup again", size, n)
	case err != nil:
		return err
	}
	fmt.Fprintf(&p.sums, "%s  %s\n", hex.EncodeToString(sum.Sum(nil)), name)
	return nil
}

// Write counts what was read, and ends it when nobody wants it any more.
func (p *packer) Write(b []byte) (int, error) {
	p.done += int64(len(b))
	if p.source.Progress != nil {
		p.source.Progress(min(p.done, p.of), p.of)
	}
	return len(b), p.ctx.Err()
}

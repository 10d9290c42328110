package signing

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"filippo.io/age"

	"anechoic/org"
)

// Names in the keys directory. A file that was not finished has its own suffix
// and is never read.
const (
	keysDir      = "keys"
	identityFile = "identity.txt"
	sealedSuffix = ".age"
	unfinished   = ".new"
)

// maxSealed bounds a sealed key: the key file limit and what age adds.
const maxSealed = org.MaxKeyFile + 8<<10

// errForeign says that a sealed file holds the key of another name.
var errForeign = errors.New("it was sealed for another key")

// vault is the keys directory: an age identity (identity.txt, 0600) and private
// keys sealed to it, <organisation>/<domain>/<selector>.<algorithm>.age. It
// protects copies of single files and swapped files, not a stolen directory.
//
// A file comes to be in steps, and a crash may fall after each:
//
//	state on disk                     after a restart
//	nothing                           made again
//	F.new, torn or whole              F.new is removed, F is made again
//	F.new and F, two names of one     F is read; F.new is never looked at
//	F                                 F is read
//
// F appears by link(2), which does not replace: what exists is never overwritten.
// What exists and does not open is an error for a person.
type vault struct {
	root *os.Root
	path string
	seal func(content []byte) ([]byte, error)
	open func(sealed []byte) ([]byte, error)
}

func openVault(dataDir string) (*vault, error) {
	where := filepath.Join(dataDir, keysDir)
	if err := os.MkdirAll(where, 0o700); err != nil {
		return nil, fmt.Errorf("signing: keys directory: %w", err)
	}
	root, err := os.OpenRoot(where)
	if err != nil {
		return nil, fmt.Errorf("signing: keys directory: %w", err)
	}
	v := &vault{root: root, path: where}
	if err := errors.Join(v.checkDir(), syncDir(dataDir)); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	if err := v.unlock(); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return v, nil
}

// checkDir refuses a keys directory in which others could exchange files.
func (v *vault) checkDir() error {
	info, err := v.root.Stat(".")
	if err != nil {
		return fmt.Errorf("signing: keys directory: %w", err)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("signing: keys directory %s has mode %04o, others than its owner may write to it: chmod 700 it", v.path, info.Mode().Perm())
	}
	return nil
}

func (v *vault) close() error { return v.root.Close() }

// unlock reads the identity, or makes it if there is nothing sealed yet.
func (v *vault) unlock() error {
	content, err := v.read(identityFile, org.MaxKeyFile)
	if errors.Is(err, fs.ErrNotExist) {
		content, err = v.makeIdentity()
	}
	if err != nil {
		return err
	}
	identity, err := age.ParseHybridIdentity(strings.TrimSpace(string(content)))
	if err != nil { // age's error may show the text: it stays here
		return fmt.Errorf("signing: %s is not one age identity (AGE-SECRET-KEY-PQ-1…): restore it from a backup; without it the sealed keys beside it cannot be opened", v.place(identityFile))
	}
	v.seal = func(content []byte) ([]byte, error) { return ageSeal(content, identity.Recipient()) }
	v.open = func(sealed []byte) ([]byte, error) { return ageOpen(sealed, identity) }
	return nil
}

// makeIdentity makes identity.txt, unless sealed keys lie there that only a lost
// one can open.
func (v *vault) makeIdentity() ([]byte, error) {
	sealed, err := v.anySealed()
	if err != nil {
		return nil, fmt.Errorf("signing: keys directory %s: %w", v.path, err)
	}
	if sealed != "" {
		return nil, fmt.Errorf("signing: %s is missing, but %s is sealed to it: restore it from a backup, or move the sealed keys away to have new ones made", v.place(identityFile), v.place(sealed))
	}
	identity, err := age.GenerateHybridIdentity()
	if err != nil {
		return nil, fmt.Errorf("signing: make an identity: %w", err)
	}
	content := []byte(identity.String() + "\n")
	return content, v.write(identityFile, content)
}

// anySealed gives one sealed key's name, if there is one.
func (v *vault) anySealed() (found string, err error) {
	err = fs.WalkDir(v.root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(name, sealedSuffix) {
			found = name
			return fs.SkipAll
		}
		return err
	})
	return found, err
}

// key unseals the key of a reference, or makes and seals it.
func (v *vault) key(ref KeyRef) (*key, error) {
	found, err := v.unsealed(ref)
	if !errors.Is(err, fs.ErrNotExist) {
		return found, err
	}
	name, err := ref.file()
	if err != nil {
		return nil, err
	}
	return v.makeKey(ref, name)
}

// has says that there is a sealed key of a reference, whether it opens or not.
func (v *vault) has(ref KeyRef) bool {
	name, err := ref.file()
	if err != nil {
		return false
	}
	_, err = v.root.Stat(name)
	return !errors.Is(err, fs.ErrNotExist)
}

// unsealed unseals the key of a reference; fs.ErrNotExist if there is none.
func (v *vault) unsealed(ref KeyRef) (*key, error) {
	name, err := ref.file()
	if err != nil {
		return nil, err
	}
	sealed, err := v.read(name, maxSealed)
	if err != nil {
		return nil, err
	}
	private, err := v.unseal(ref, sealed)
	if err != nil {
		return nil, fmt.Errorf("signing: sealed key %s does not open: %w: restore it from a backup, or move it away to have a new key made, whose record must then be published", v.place(name), err)
	}
	return private, nil
}

func (v *vault) unseal(ref KeyRef, sealed []byte) (*key, error) {
	content, err := v.open(sealed)
	if err != nil {
		return nil, err
	}
	text, found := bytes.CutPrefix(content, label(ref))
	if !found {
		return nil, errForeign
	}
	private, err := org.ParsePrivateKey(text, ref.Algorithm)
	if err != nil {
		return nil, err
	}
	return newKey(private, ""), nil
}

func (v *vault) makeKey(ref KeyRef, name string) (*key, error) {
	private, err := makeKey(ref.Algorithm)
	if err != nil {
		return nil, fmt.Errorf("signing: make key %s: %w", ref, err)
	}
	text, err := encodePrivate(private)
	if err != nil {
		return nil, fmt.Errorf("signing: make key %s: %w", ref, err)
	}
	sealed, err := v.seal(append(label(ref), text...))
	if err != nil {
		return nil, fmt.Errorf("signing: seal key %s: %w", ref, err)
	}
	if err := v.write(name, sealed); err != nil {
		return nil, err
	}
	return newKey(private, ""), nil
}

// label is the line before the PEM block of a sealed key. It binds the file to
// its name: another organisation's key, copied there, does not open.
func label(ref KeyRef) []byte { return []byte("anechoic-key: " + ref.String() + "\n") }

// read reads a private file whole: a regular one that only its owner can read.
func (v *vault) read(name string, limit int64) ([]byte, error) {
	f, err := v.root.Open(name)
	if err != nil {
		return nil, fmt.Errorf("signing: %s: %w", v.place(name), err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, fmt.Errorf("signing: %s: %w", v.place(name), err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("signing: %s is not a regular file", v.place(name))
	case info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("signing: %s has mode %04o, others than its owner may reach it: chmod 600 it, and change the keys if somebody may have read them", v.place(name), info.Mode().Perm())
	case info.Size() > limit:
		return nil, fmt.Errorf("signing: %s has %d octets, the limit is %d", v.place(name), info.Size(), limit)
	}
	content, err := io.ReadAll(io.LimitReader(f, limit))
	if err != nil {
		return nil, fmt.Errorf("signing: read %s: %w", v.place(name), err)
	}
	return content, nil
}

// write makes a file durable, whole or not at all. It does not replace one.
func (v *vault) write(name string, content []byte) error {
	if err := v.makeDirs(path.Dir(name)); err != nil {
		return fmt.Errorf("signing: make the directory of %s: %w", v.place(name), err)
	}
	temp := name + unfinished
	if err := v.root.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("signing: remove unfinished %s: %w", v.place(temp), err)
	}
	if err := v.writeSynced(temp, content); err != nil {
		return errors.Join(fmt.Errorf("signing: write %s: %w", v.place(temp), err), v.root.Remove(temp))
	}
	if err := errors.Join(v.root.Link(temp, name), v.root.Remove(temp)); err != nil {
		return fmt.Errorf("signing: make %s: %w", v.place(name), err)
	}
	if err := syncDir(v.place(path.Dir(name))); err != nil {
		return fmt.Errorf("signing: make %s durable: %w", v.place(name), err)
	}
	return nil
}

func (v *vault) writeSynced(name string, content []byte) error {
	f, err := v.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// makeDirs makes a directory and those above it, durably, each for its owner
// alone.
func (v *vault) makeDirs(dir string) error {
	if dir == "." {
		return nil
	}
	if err := v.makeDirs(path.Dir(dir)); err != nil {
		return err
	}
	if err := v.root.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(v.place(path.Dir(dir)))
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// place is a name as a person finds it.
func (v *vault) place(name string) string { return filepath.Join(v.path, filepath.FromSlash(name)) }

func ageSeal(content []byte, to age.Recipient) ([]byte, error) {
	var sealed bytes.Buffer
	w, err := age.Encrypt(&sealed, to)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(content); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return sealed.Bytes(), nil
}

func ageOpen(sealed []byte, with age.Identity) ([]byte, error) {
	r, err := age.Decrypt(bytes.NewReader(sealed), with)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

package signing

import (
	"cmp"
	"context"
	"crypto"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"anechoic/mail"
	"anechoic/mail/background"
	"anechoic/org"
	"anechoic/standard/dkim"
)

// KeyRef names a private key. It is what travels instead of the key.
type KeyRef struct {
	Organisation org.ID
	Domain       mail.Domain
	Selector     string
	Algorithm    org.Algorithm
}

// ErrNoKey says that a KeyRef names no key here.
var ErrNoKey = errors.New("no such key")

// Keys is what can be done with private keys: uses, never their bytes. A key
// process or a KMS would be other implementations. Safe for concurrent use.
type Keys interface {
	// Sign signs a digest as DKIM wants it: 32 octets of SHA-256, opts
	// crypto.SHA256 for RSA (PKCS #1 v1.5) and crypto.Hash(0) for Ed25519.
	Sign(ctx context.Context, ref KeyRef, digest []byte, opts crypto.SignerOpts) ([]byte, error)
	// Public is the public half, which must not be changed.
	Public(ref KeyRef) (crypto.PublicKey, error)
}

// String is "organisation/domain/selector/algorithm".
func (r KeyRef) String() string {
	return string(r.Organisation) + "/" + r.Domain.String() + "/" + r.Selector + "/" + string(r.Algorithm)
}

// RecordName is where the key's record stands in DNS (RFC 6376 section 3.6.2.1).
func (r KeyRef) RecordName() string { return dkim.KeyName(r.Selector, r.Domain) }

// file is where the sealed key lies below the keys directory. A name that would
// mean something to a file system is refused: the registry checks names too, but
// a key must not depend on that.
func (r KeyRef) file() (string, error) {
	if r.Algorithm != org.RSA2048 && r.Algorithm != org.Ed25519 {
		return "", fmt.Errorf("signing: key %s: algorithm %q is not known", r, r.Algorithm)
	}
	for _, part := range []string{string(r.Organisation), r.Domain.String(), r.Selector} {
		if part == "" || part[0] == '.' || strings.ContainsAny(part, "/\\\x00") {
			return "", fmt.Errorf("signing: key %s: %q cannot be part of a file name", r, part)
		}
	}
	return path.Join(string(r.Organisation), r.Domain.String(), r.Selector+"."+string(r.Algorithm)+".age"), nil
}

// LocalKeys is Keys in this process: sealed files of the data directory, and key
// files the registry names. What the registry names is one immutable KeySet,
// swapped whole by Use; keys that commands made lie beside it, and a key that was
// revoked is neither's.
type LocalKeys struct {
	vault *vault
	live  atomic.Pointer[KeySet]
	lives atomic.Pointer[Lives]
	added sync.Map // KeyRef to *key: those made by command, whatever the Directory

	preparing sync.Mutex // one Prepare at a time: it makes files
}

// KeySet is the keys of one Directory, ready to sign. Only Prepare makes one.
type KeySet struct {
	keys map[KeyRef]*key
}

// OpenKeys opens the keys below a data directory. The first time it makes the
// identity that seals them. It makes no key and opens none: Prepare does.
func OpenKeys(dataDir string) (*LocalKeys, error) {
	v, err := openVault(dataDir)
	if err != nil {
		return nil, err
	}
	k := &LocalKeys{vault: v}
	k.live.Store(&KeySet{})
	return k, nil
}

// Close gives up the directory. Keys in use stay usable.
func (k *LocalKeys) Close() error { return k.vault.close() }

// Follow has the keys that commands made opened and what was revoked refused,
// from now on. It is called before the first Prepare. A key that was made and
// whose file is gone is an error: no other may take its place under its name.
func (k *LocalKeys) Follow(lives *Lives) error {
	var errs []error
	for _, life := range lives.all() {
		if life.Added.IsZero() || !life.Revoked.IsZero() {
			continue
		}
		ref := KeyRef{life.Organisation, life.Domain, life.Selector, life.Algorithm}
		found, err := k.vault.unsealed(ref)
		if err != nil {
			errs = append(errs, fmt.Errorf("signing: key %s was made by a command: %w", ref, err))
			continue
		}
		k.added.Store(ref, found)
	}
	k.lives.Store(lives)
	return errors.Join(errs...)
}

// make makes and seals a key beside those of the Directory, or opens it if it is
// there already. It can sign at once; whether it does, its life says.
func (k *LocalKeys) make(ref KeyRef) error {
	k.preparing.Lock()
	defer k.preparing.Unlock()
	made, err := k.vault.key(ref)
	if err != nil {
		return err
	}
	k.added.Store(ref, made)
	return nil
}

// find gives a key that may be used.
func (k *LocalKeys) find(ref KeyRef) (*key, error) {
	if k.lives.Load().Revoked(ref.Domain, ref.Selector) {
		return nil, fmt.Errorf("signing: key %s: %w", ref, ErrRevoked)
	}
	if found, ok := k.live.Load().keys[ref]; ok {
		return found, nil
	}
	if found, ok := k.added.Load(ref); ok {
		return found.(*key), nil
	}
	return nil, fmt.Errorf("signing: key %s: %w", ref, ErrNoKey)
}

// Prepare reads every key the Directory names and makes those that are missing,
// as many at a time as there are processors; what was revoked it leaves out. It
// lists every problem; with one there is no set. What Sign uses changes only by
// Use, so that a reload can still fail. Keys made on the way stay, sealed, for the
// next time.
//
// A sealed key that is in use already is not read again. A key file is, since a
// person may have put another key there: files are those that were read with the
// registry, nil if none were.
func (k *LocalKeys) Prepare(ctx context.Context, dir *org.Directory, files *org.KeyFiles) (*KeySet, []org.Problem) {
	k.preparing.Lock()
	defer k.preparing.Unlock()

	live, set := k.live.Load(), &KeySet{keys: make(map[KeyRef]*key)}
	var mu sync.Mutex // guards set and problems
	var problems []org.Problem
	lives := k.lives.Load()
	if lives != nil {
		problems = lives.collisions(dir)
	}
	work := background.Limit(runtime.GOMAXPROCS(0))
	for ref, named := range keysOf(dir) {
		if lives.Revoked(ref.Domain, ref.Selector) {
			continue
		}
		if inUse := live.keys[ref]; inUse != nil && named.File == "" && inUse.file == "" {
			mu.Lock()
			set.keys[ref] = inUse
			mu.Unlock()
			continue
		}
		work.Go(func() {
			got, err := k.obtain(ctx, ref, named.File, files)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				problems = append(problems, keyProblem(ref, err))
			} else {
				set.keys[ref] = got
			}
		})
	}
	work.Wait()
	if len(problems) > 0 {
		slices.SortFunc(problems, func(a, b org.Problem) int { return cmp.Compare(a.Where, b.Where) })
		return nil, problems
	}
	return set, nil
}

// Use makes a set the one that signs. Called just before the Directory it was
// prepared for takes over, so that every key named there is found.
func (k *LocalKeys) Use(set *KeySet) { k.live.Store(set) }

// keysOf gives every key a Directory names, in the order of organisations.
func keysOf(dir *org.Directory) iter.Seq2[KeyRef, org.Key] {
	return func(yield func(KeyRef, org.Key) bool) {
		for o := range dir.Organisations() {
			for _, d := range o.Domains {
				for _, k := range d.Keys {
					if !yield(refOf(d, k), k) {
						return
					}
				}
			}
		}
	}
}

func refOf(d *org.Domain, k org.Key) KeyRef {
	return KeyRef{Organisation: d.Organisation, Domain: d.Name, Selector: k.Selector, Algorithm: k.Algorithm}
}

// keyProblem puts a key's error beside the problems of the registry.
func keyProblem(ref KeyRef, err error) org.Problem {
	return org.Problem{Where: "key " + ref.String(), Message: err.Error()}
}

// obtain gives the key of ref: that of a key file, or unsealed, or made.
func (k *LocalKeys) obtain(ctx context.Context, ref KeyRef, file string, files *org.KeyFiles) (*key, error) {
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case file == "":
		return k.vault.key(ref)
	}
	private, err := files.Key(file, ref.Algorithm)
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	return newKey(private, file), nil
}

// Sign: see Keys.
func (k *LocalKeys) Sign(_ context.Context, ref KeyRef, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	found, err := k.find(ref)
	if err != nil {
		return nil, err
	}
	sig, err := found.sign(digest, opts)
	if err != nil {
		return nil, fmt.Errorf("signing: key %s: %w", ref, err)
	}
	return sig, nil
}

// Public: see Keys.
func (k *LocalKeys) Public(ref KeyRef) (crypto.PublicKey, error) {
	found, err := k.find(ref)
	if err != nil {
		return nil, err
	}
	return found.public, nil
}

// String says how many keys there are, and nothing of what they are.
func (s *KeySet) String() string { return fmt.Sprintf("%d signing keys", s.Len()) }

// LogValue is String.
func (s *KeySet) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Len is the number of keys.
func (s *KeySet) Len() int { return len(s.keys) }

// String names the keys in use by their number.
func (k *LocalKeys) String() string { return k.live.Load().String() }

// LogValue is String.
func (k *LocalKeys) LogValue() slog.Value { return slog.StringValue(k.String()) }

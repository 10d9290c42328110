package org

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
)

// MaxKeyFile bounds what is read as a key: a 4096-bit key has under 4 KiB of PEM.
const MaxKeyFile = 64 << 10

// RSABits is the size of RSA keys, made here or read from a file: the 2048 of
// RSA2048 (RFC 8301 section 3.2: signers should use at least 2048).
const RSABits = 2048

// KeyPEM is the one form of private key taken: PKCS #8 (RFC 5958, RFC 7468
// section 10), which holds RSA and Ed25519 alike.
const KeyPEM = "PRIVATE KEY"

// ErrKeyFile says that a file is not a private key that can be used here.
var ErrKeyFile = errors.New("not a usable private key")

// KeyFiles are the private keys that ReadRegistry read, on their way to who signs
// with them: each file is read and checked once. They are handed on beside the
// Directory, which outlives them and never holds a key. A nil *KeyFiles has read
// none yet.
type KeyFiles struct {
	keys map[namedKey]privateKey
}

// namedKey is a file and what the registry says it holds.
type namedKey struct {
	file      string
	algorithm Algorithm
}

// privateKey gives a private key. As a function it is where neither a print nor
// reflection finds the key.
type privateKey func() crypto.Signer

// Key gives the key of a file: the one that was read with the registry, or else
// what the file holds now.
func (f *KeyFiles) Key(file string, a Algorithm) (crypto.Signer, error) {
	if f != nil {
		if give, ok := f.keys[namedKey{file, a}]; ok {
			return give(), nil
		}
	}
	return readKeyFile(file, a)
}

// Len is the number of keys that were read.
func (f *KeyFiles) Len() int {
	if f == nil {
		return 0
	}
	return len(f.keys)
}

// String says how many keys there are, and nothing of what they are.
func (f *KeyFiles) String() string { return fmt.Sprintf("%d key files", f.Len()) }

// LogValue is String.
func (f *KeyFiles) LogValue() slog.Value { return slog.StringValue(f.String()) }

// KeyFiles gives the keys that were read with the registry.
func (r *Registry) KeyFiles() *KeyFiles { return r.keys }

// readKeyFiles reads every key file, side by side, and holds it against the
// algorithm that stands beside it.
func (r *Registry) readKeyFiles() []Problem {
	entries := r.keyEntries()
	problems, keys := make([]*Problem, len(entries)), make([]privateKey, len(entries))
	sideBySide(len(entries), func(i int) {
		key, err := readKeyFile(entries[i].file, entries[i].algorithm)
		if err != nil {
			problems[i] = &Problem{Where: entries[i].where(), Message: err.Error(), Hint: "a PKCS#8 PEM file, relative to the registry; without key_file a key is made and kept sealed"}
			return
		}
		keys[i] = func() crypto.Signer { return key }
	})
	r.keys = &KeyFiles{keys: make(map[namedKey]privateKey, len(entries))}
	var list []Problem
	for i, e := range entries {
		if problems[i] != nil {
			list = append(list, *problems[i])
			continue
		}
		r.keys.keys[e.namedKey] = keys[i]
	}
	return list
}

// keyEntry is an entry of the registry that names a key file.
type keyEntry struct {
	namedKey
	organisation, domain, key int
}

func (e keyEntry) where() string {
	return below(below(below("organisation", e.organisation)+".domain", e.domain)+".dkim", e.key) + ".key_file"
}

func (r *Registry) keyEntries() (entries []keyEntry) {
	for i := range r.Organisations {
		for j := range r.Organisations[i].Domains {
			for k := range r.Organisations[i].Domains[j].DKIM {
				e := &r.Organisations[i].Domains[j].DKIM[k]
				if e.KeyFile != "" && e.Algorithm != "" {
					entries = append(entries, keyEntry{namedKey{r.keyFile(e), Algorithm(e.Algorithm)}, i, j, k})
				}
			}
		}
	}
	return entries
}

// readKeyFile reads a key that the registry names by file.
func readKeyFile(file string, a Algorithm) (crypto.Signer, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("the key file cannot be read: %w", unlessKey(file, err))
	}
	if !info.Mode().IsRegular() { // a pipe would be waited for
		return nil, fmt.Errorf("key file %s: %w: it is not a regular file", file, ErrKeyFile)
	}
	if info.Size() > MaxKeyFile {
		return nil, fmt.Errorf("key file %s: %w: it is larger than %d octets", file, ErrKeyFile, MaxKeyFile)
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("the key file cannot be read: %w", unlessKey(file, err))
	}
	defer clear(content)
	key, err := ParsePrivateKey(content, a)
	if err != nil {
		return nil, fmt.Errorf("key file %s: %w", file, err)
	}
	return key, nil
}

// unlessKey is an error of a file without its name, where the name may be a line of a
// key that stands in the wrong place: base64 has slashes as paths have, but no dot.
func unlessKey(file string, err error) error {
	var at *fs.PathError
	if errors.As(err, &at) && !strings.Contains(filepath.Base(file), ".") {
		return at.Err
	}
	return err
}

// ParsePrivateKey reads exactly one PKCS #8 private key in PEM, of that algorithm:
// rsa-2048 means a modulus of exactly 2,048 bits. Text before it is passed over, as
// RFC 7468 section 2 has it. Errors wrap ErrKeyFile and never show what was read.
func ParsePrivateKey(content []byte, a Algorithm) (crypto.Signer, error) {
	if len(content) > MaxKeyFile {
		return nil, fmt.Errorf("%w: it is larger than %d octets", ErrKeyFile, MaxKeyFile)
	}
	block, rest := pem.Decode(content)
	if block == nil {
		return nil, fmt.Errorf("%w: it holds no PEM block %s; convert it: openssl pkcs8 -topk8 -nocrypt -in FILE -out NEW", ErrKeyFile, KeyPEM)
	}
	defer clear(block.Bytes)
	if err := pkcs8Only(block); err != nil {
		return nil, err
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return nil, fmt.Errorf("%w: something follows the first PEM block; keep one key in one file", ErrKeyFile)
	}
	if key, ok := readRSA(block.Bytes); ok && a == RSA2048 {
		return key, nil
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: its PKCS #8 content does not parse", ErrKeyFile)
	}
	return ofAlgorithm(parsed, a)
}

// pkcs8Only names what else a PEM block may be and how to convert it.
func pkcs8Only(block *pem.Block) error {
	switch block.Type {
	case KeyPEM:
		return nil
	case "RSA PRIVATE KEY":
		return fmt.Errorf("%w: it is PKCS #1; convert it: openssl pkcs8 -topk8 -nocrypt -in FILE -out NEW", ErrKeyFile)
	case "ENCRYPTED PRIVATE KEY":
		return fmt.Errorf("%w: it is encrypted; decrypt it: openssl pkcs8 -in FILE -out NEW", ErrKeyFile)
	case "PUBLIC KEY":
		return fmt.Errorf("%w: it is a public key; name the private one", ErrKeyFile)
	}
	return fmt.Errorf("%w: its PEM block is of another type than %s", ErrKeyFile, KeyPEM)
}

// ofAlgorithm checks that a parsed key is what the registry says it is.
func ofAlgorithm(parsed any, a Algorithm) (crypto.Signer, error) {
	switch private := parsed.(type) {
	case *rsa.PrivateKey:
		bits := private.N.BitLen()
		switch {
		case a != RSA2048:
			return nil, fmt.Errorf("%w: it is an RSA key, the registry says %s", ErrKeyFile, a)
		case bits != RSABits:
			return nil, fmt.Errorf("%w: it has %d bits, %s means %d", ErrKeyFile, bits, a, RSABits)
		case len(private.Primes) != 2:
			return nil, fmt.Errorf("%w: it has %d primes, taken are two", ErrKeyFile, len(private.Primes))
		}
		private.Precompute()
		return private, nil
	case ed25519.PrivateKey:
		if a != Ed25519 {
			return nil, fmt.Errorf("%w: it is an Ed25519 key, the registry says %s", ErrKeyFile, a)
		}
		return private, nil
	}
	return nil, fmt.Errorf("%w: it is a %T, DKIM has RSA and Ed25519", ErrKeyFile, parsed)
}

package org

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
)

// Bounds of a stored password's cost: high enough to be worth something, low
// enough that a registry cannot make each AUTH a memory bomb. RFC 9106 section 4
// asks for 64 MiB and three passes where there is memory; the project's own
// hashes take 19 MiB and two.
const (
	minMemory, maxMemory = 8 << 10, 64 << 10 // KiB
	maxTime              = 10
	maxThreads           = 4
	minSalt, minKey      = 8, 16 // octets
	maxSaltKey           = 64
	maxPHC               = 256 // characters of the whole string

	ownMemory, ownTime = 19456, 2
	ownSalt, ownKey    = 16, 32

	argon2Version = "19"
	phcForm       = "$argon2id$v=19$m=19456,t=2,p=1$salt$hash"
)

// PasswordHash is an argon2id hash (RFC 9106) with its parameters.
type PasswordHash struct {
	memory, time uint32
	threads      uint8
	salt, key    []byte
}

// ParsePasswordHash reads a PHC string: $argon2id$v=19$m=19456,t=2,p=1$salt$hash
// with base64 without padding. Parameters outside 8 to 64 MiB, 1 to 10 passes, 1
// to 4 lanes are refused.
func ParsePasswordHash(s string) (PasswordHash, error) {
	parts := strings.Split(s, "$")
	if len(s) > maxPHC || len(parts) != 6 || parts[0] != "" || strings.ContainsAny(s, "\r\n") { // base64 would pass over line ends
		return PasswordHash{}, errors.New("it has not the form " + phcForm)
	}
	if parts[1] != "argon2id" {
		return PasswordHash{}, errors.New("its algorithm is not argon2id")
	}
	if parts[2] != "v="+argon2Version {
		return PasswordHash{}, errors.New("its version is not v=" + argon2Version)
	}
	h, err := parseCost(parts[3])
	if err != nil {
		return PasswordHash{}, err
	}
	encoding := base64.RawStdEncoding.Strict()
	var saltErr, keyErr error
	h.salt, saltErr = encoding.DecodeString(parts[4])
	h.key, keyErr = encoding.DecodeString(parts[5])
	switch {
	case saltErr != nil || len(h.salt) < minSalt || len(h.salt) > maxSaltKey:
		return PasswordHash{}, fmt.Errorf("its salt is not %d to %d octets in base64 without padding", minSalt, maxSaltKey)
	case keyErr != nil || len(h.key) < minKey || len(h.key) > maxSaltKey:
		return PasswordHash{}, fmt.Errorf("its hash is not %d to %d octets in base64 without padding", minKey, maxSaltKey)
	}
	return h, nil
}

// parseCost reads m=…,t=…,p=… in this order, as the PHC string format has it.
func parseCost(s string) (h PasswordHash, err error) {
	parts := strings.Split(s, ",")
	if len(parts) != 3 {
		return h, errors.New("its parameters are not m=…,t=…,p=…")
	}
	var values [3]uint64
	for i, bound := range []struct {
		name     string
		low, top uint64
	}{{"m=", minMemory, maxMemory}, {"t=", 1, maxTime}, {"p=", 1, maxThreads}} {
		digits, ok := strings.CutPrefix(parts[i], bound.name)
		values[i], err = strconv.ParseUint(digits, 10, 32)
		if !ok || err != nil || strconv.FormatUint(values[i], 10) != digits || values[i] < bound.low || values[i] > bound.top {
			return h, fmt.Errorf("its parameter %s is not %d to %d", bound.name, bound.low, bound.top)
		}
	}
	h.memory, h.time, h.threads = uint32(values[0]), uint32(values[1]), uint8(values[2])
	return h, nil
}

// HashPassword makes the PHC string of a password, with a new salt.
func HashPassword(password []byte) string {
	h := PasswordHash{memory: ownMemory, time: ownTime, threads: 1, salt: make([]byte, ownSalt)}
	rand.Read(h.salt) // never fails (its documentation)
	h.key = argon2.IDKey(password, h.salt, h.time, h.memory, h.threads, ownKey)
	return h.String()
}

// Matches says that this is the password. It takes the hash's memory and tens of
// milliseconds: the caller bounds how many run at a time.
func (h PasswordHash) Matches(password []byte) bool {
	if len(h.key) == 0 {
		return false
	}
	key := argon2.IDKey(password, h.salt, h.time, h.memory, h.threads, uint32(len(h.key)))
	return subtle.ConstantTimeCompare(key, h.key) == 1
}

// String is the PHC string.
func (h PasswordHash) String() string {
	encoding := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%s$m=%d,t=%d,p=%d$%s$%s", argon2Version, h.memory, h.time, h.threads,
		encoding.EncodeToString(h.salt), encoding.EncodeToString(h.key))
}

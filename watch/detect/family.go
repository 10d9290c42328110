package detect

import (
	"math"
	"strings"
)

// Bounds of families.
const (
	maxFamilies  = 8  // of one principal
	maxStem      = 32 // octets
	minStem      = 4
	suffixLetter = 38 // a–z, 0–9, separators, others
)

// family is local parts that begin alike and go on at random, as admin_supportqwrtz
// and admin_supportplkmn: what the campaigns of 2024 wrote in From.
type family struct {
	Stem        string
	Names       uint32 // different ones, as far as known sets tell
	Suffixes    uint32 // characters behind the stem, of all
	Digits      uint32 // of them: names that only count up are no family
	First, Last int64
	letters     [suffixLetter]uint16
}

// families are those of one principal, bounded.
type families []family

// add counts a local part that was not seen before, and gives its family.
func (fs *families) add(local string, now int64) *family {
	local = strings.ToLower(clean(local))
	fs.forget(now)
	for i := range *fs {
		f := &(*fs)[i]
		stem := commonStem(f.Stem, local)
		if len(stem) >= minStem && len(local) > len(stem) && 2*len(stem) >= min(len(f.Stem), 2*minStem) {
			f.take(stem, local, now)
			return f
		}
	}
	return fs.begin(local, now)
}

// begin makes a family of one name; the one that was not seen for longest makes room.
func (fs *families) begin(local string, now int64) *family {
	fresh := family{Stem: strings.Clone(local[:min(len(local), maxStem)]), Names: 1, First: now, Last: now}
	if len(*fs) < maxFamilies {
		*fs = append(*fs, fresh)
		return &(*fs)[len(*fs)-1]
	}
	least := 0
	for i, f := range *fs {
		if l := (*fs)[least]; f.Names < l.Names || f.Names == l.Names && f.Last < l.Last {
			least = i
		}
	}
	(*fs)[least] = fresh
	return &(*fs)[least]
}

// forget drops families that did not grow for an hour.
func (fs *families) forget(now int64) {
	kept := (*fs)[:0]
	for _, f := range *fs {
		if now-f.Last <= 3600 {
			kept = append(kept, f)
		}
	}
	if *fs = kept; len(kept) == 0 {
		*fs = nil
	}
}

func (f *family) take(stem, local string, now int64) {
	if len(stem) < len(f.Stem) {
		f.Stem = strings.Clone(stem)
	}
	f.Names++
	f.Last = now
	for _, c := range []byte(local[len(stem):]) {
		f.Suffixes++
		slot := letterSlot(c)
		if slot >= 26 && slot < 36 {
			f.Digits++
		}
		if f.letters[slot] < math.MaxUint16 {
			f.letters[slot]++
		}
	}
}

// entropy is bits for each character behind the stem.
func (f *family) entropy() (bits float64) {
	var total float64
	for _, n := range f.letters {
		total += float64(n)
	}
	for _, n := range f.letters {
		if n > 0 {
			p := float64(n) / total
			bits -= p * math.Log2(p)
		}
	}
	return bits
}

// isRandom says that what follows the stem looks made up: long enough, spread over
// many letters, and not numbers alone.
func (f *family) isRandom(t *Thresholds) bool {
	return f.Suffixes >= f.Names*uint32(t.FamilySuffix) && f.Digits*10 < f.Suffixes*9 && f.entropy() >= t.FamilyEntropy
}

// commonStem is how far both begin alike, without digits at its end.
func commonStem(a, b string) string {
	n := 0
	for n < len(a) && n < len(b) && n < maxStem && a[n] == b[n] {
		n++
	}
	return strings.TrimRight(a[:n], "0123456789")
}

func letterSlot(c byte) int {
	switch {
	case c >= 'a' && c <= 'z':
		return int(c - 'a')
	case c >= '0' && c <= '9':
		return 26 + int(c-'0')
	case c == '.' || c == '-' || c == '_' || c == '+':
		return 36
	}
	return 37
}

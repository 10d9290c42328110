package backup

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"filippo.io/age"
)

// small is an archive that can be damaged in every way there is.
func small(t testing.TB) []byte {
	return whole(t, file("data/seal.key", "key"), file("data/store/000001.sst", strings.Repeat("table ", 50)), file("config/relay.toml", "hostname"))
}

func TestEveryFlippedBitIsNoticed(t *testing.T) {
	b := small(t)
	if err := readAll(b); err != nil {
		t.Fatal(err)
	}
	for i := range b {
		for bit := range 8 {
			changed := bytes.Clone(b)
			changed[i] ^= 1 << bit
			if err := readAll(changed); !errors.Is(err, ErrDamaged) {
				t.Errorf("bit %d of octet %d of %d: %v", bit, i, len(b), err)
			}
		}
	}
}

func TestEveryCutIsNoticed(t *testing.T) {
	b := small(t)
	for n := range b {
		if err := readAll(b[:n]); !errors.Is(err, ErrDamaged) {
			t.Errorf("%d octets of %d: %v", n, len(b), err)
		}
	}
	if err := readAll(append(bytes.Clone(b), 0)); !errors.Is(err, ErrDamaged) {
		t.Errorf("an octet more: %v", err)
	}
	if err := readAll(append(bytes.Clone(b), b...)); !errors.Is(err, ErrDamaged) {
		t.Errorf("twice: %v", err)
	}
}

func TestAnEncryptedBackupOpensForItsRecipientsAlone(t *testing.T) {
	ours, _ := age.GenerateX25519Identity()
	other, _ := age.GenerateX25519Identity()
	n := newNode(t)
	b := n.backup(t, ours.Recipient())
	if bytes.Contains(b, []byte("Hello.")) {
		t.Error("it holds mail that anybody reads")
	}
	if err := readAll(b, other, ours); err != nil {
		t.Error(err)
	}
	if err := readAll(b); !errors.Is(err, ErrSealed) {
		t.Errorf("without an identity: %v", err)
	}
	if err := readAll(b, other); !errors.Is(err, ErrIdentity) {
		t.Errorf("with another identity: %v", err)
	}
	for i := 0; i < len(b); i += 1 + len(b)/500 {
		changed := bytes.Clone(b)
		changed[i] ^= 0x10
		if err := readAll(changed, ours); err == nil {
			t.Errorf("octet %d of %d was changed, and nobody noticed", i, len(b))
		}
	}
	if err := readAll(b[:len(b)-1], ours); !errors.Is(err, ErrDamaged) {
		t.Errorf("cut short: %v", err)
	}
}

// What a stranger made up leads nowhere but to an error, although its sums are right.
func TestMadeUpBackupsAreRefused(t *testing.T) {
	key := file("data/seal.key", "key")
	named := func(name string) []byte { return whole(t, file(name, "x")) }
	typed := func(kind byte, link string) []byte {
		m := member{tar.Header{Name: "data/seal.key", Typeflag: kind, Linkname: link}, ""}
		all := []member{manifestOf(t, file("data/seal.key", "")), m}
		return sealedTar(t, append(all, sumsOf(all...))...)
	}
	manifest := func(text string) []byte { return sealedTar(t, file(manifestName, text)) }
	for name, b := range map[string][]byte{
		"is no plain path":                                      named("../evil"),
		`"data/../../evil"`:                                     named("data/../../evil"),
		`"/etc/passwd"`:                                         named("/etc/passwd"),
		`data\\evil`:                                            named(`data\evil`),
		"neither data nor configuration":                        named("evil"),
		`"data/.restoring/evil", which is no part`:              named("data/.restoring/evil"),
		`"data/control.sock", which is no part`:                 named("data/control.sock"),
		`"data/store/LOCK", which is no part`:                   named("data/store/LOCK"),
		`"data/store/below/evil", which`:                        named("data/store/below/evil"),
		`"data/seal.key" twice`:                                 whole(t, key, key),
		`"data/keys" as a file and as a folder`:                 whole(t, file("data/keys", "x"), file("data/keys/a", "y")),
		"where the file data/seal.key has to be":                typed(tar.TypeSymlink, "/etc/passwd"),
		"has to be":                                             typed(tar.TypeLink, "data/other"),
		`"data/seal.key" stands where`:                          typed(tar.TypeFifo, ""),
		"data/seal.key is missing":                              sealedTar(t, manifestOf(t, key)),
		`"SHA256SUMS" stands where the file data/seal.key`:      sealedTar(t, manifestOf(t, key), sumsOf()),
		"has 5 octets instead of 3":                             sealedTar(t, manifestOf(t, key), file("data/seal.key", "longer"[:5])),
		"SHA256SUMS does not fit":                               sealedTar(t, manifestOf(t, key), key, sumsOf(manifestOf(t, key), file("data/seal.key", "KEY"))),
		"SHA256SUMS is missing":                                 sealedTar(t, manifestOf(t, key), key),
		"SHA256SUMS is larger than":                             sealedTar(t, manifestOf(t, key), key, file(sumsName, strings.Repeat("x", 1000))),
		`"data/more" follows the last file`:                     sealedTar(t, manifestOf(t, key), key, sumsOf(manifestOf(t, key), key), file("data/more", "x")),
		"manifest.json is missing":                              sealedTar(t),
		`"data/seal.key" stands where the file manifest.json`:   sealedTar(t, key),
		"its manifest is no JSON":                               manifest("{"),
		`its manifest cannot be read: json: unknown field "no"`: manifest(`{"format":1,"no":1}`),
		"its manifest has format 0":                             manifest(`{}`),
		"has -1 octets":                                         manifest(`{"format":1,"files":[{"name":"data/a","size":-1}]}`),
		"has 9223372036854775807 octets":                        manifest(`{"format":1,"files":[{"name":"data/a","size":1},{"name":"data/b","size":9223372036854775807}]}`),
		"does not begin as a backup does":                       []byte("PK\x03\x04 something else altogether"),
		"does not begin as":                                     nil,
	} {
		if err := readAll(b); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := readAll(manifest(`{"format":2,"anything":1}`)); !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), "it has format 2, and this one reads up to 1") {
		t.Errorf("a newer one: %v", err)
	}
}

// A header of a megabyte and more is none that Create writes.
func TestHugeHeadersAreRefused(t *testing.T) {
	var content bytes.Buffer
	w := tar.NewWriter(&content)
	if err := w.WriteHeader(&tar.Header{Name: "header", Typeflag: tar.TypeReg, Size: 2 << 20, Format: tar.FormatUSTAR}); err != nil {
		t.Fatal(err)
	}
	w.Write(bytes.Repeat([]byte("x"), 2<<20))
	w.Close()
	b := content.Bytes()
	b[156] = tar.TypeXHeader
	copy(b[148:156], "        ") // it is added up with blanks in its place
	sum := 0
	for _, octet := range b[:512] {
		sum += int(octet)
	}
	copy(b[148:156], fmt.Sprintf("%06o\x00 ", sum))
	if err := readAll(sealedBytes(t, b)); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "too long") {
		t.Errorf("it said %v", err)
	}
}

// FuzzBackup reads anything as a backup: only what Create wrote reads as one.
func FuzzBackup(f *testing.F) {
	b := small(f)
	f.Add(b)
	f.Add(b[:len(b)/2])
	f.Add([]byte(ageHead + "v1\n-> X25519 abc\n"))
	f.Fuzz(func(t *testing.T, other []byte) {
		if readAll(other) != nil {
			return
		}
		content, last := other[:len(other)-trailerSize], other[len(other)-trailerSize:]
		if sum := sha256.Sum256(content); !bytes.Equal(last, trailer(sum[:])) {
			t.Error("it reads as a backup, and its sum is not that of what it holds")
		}
	})
}

// FuzzBackupTar reads anything in a container whose sum is right: no name leads out of
// where it is unpacked to, and what reads is what its manifest says.
func FuzzBackupTar(f *testing.F) {
	add := func(members ...member) {
		var content bytes.Buffer
		w := tar.NewWriter(&content)
		for _, m := range members {
			m.Size = int64(len(m.text))
			w.WriteHeader(&m.Header)
			io.WriteString(w, m.text)
		}
		w.Close()
		f.Add(content.Bytes())
	}
	key := file("data/seal.key", "key")
	add(manifestOf(f, key), key, sumsOf(manifestOf(f, key), key))
	add(manifestOf(f, key))
	add(manifestOf(f, file("../evil", "x")), file("../evil", "x"))
	f.Fuzz(func(t *testing.T, content []byte) {
		a, err := Open(bytes.NewReader(sealedBytes(t, content)), nil)
		if err != nil {
			return
		}
		defer a.Close()
		at := 0
		err = a.Each(ctx, func(f File, r io.Reader) error {
			if err := checkName(f.Name); err != nil {
				t.Error(err)
			}
			if f != a.Manifest().Files[at] {
				t.Errorf("%+v came instead of %+v", f, a.Manifest().Files[at])
			}
			at++
			n, err := io.Copy(io.Discard, r)
			if err == nil && n != f.Size {
				t.Errorf("%s has %d octets instead of %d", f.Name, n, f.Size)
			}
			return err
		})
		if err == nil && at != len(a.Manifest().Files) {
			t.Errorf("%d files of %d were read", at, len(a.Manifest().Files))
		}
	})
}

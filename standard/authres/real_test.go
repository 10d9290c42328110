package authres

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"anechoic/mail"
)

// notRead are the ways in which fields of the suites leave the grammar, and how many
// do: Microsoft's without a name, Yahoo's of before RFC 5451 ("from=…"), Received-SPF
// with a semicolon left out, and one whose value is no value.
var notRead = map[string]int{"there is no authserv-id": 14, "a semicolon is missing": 13, "follows a word without space": 1}

// TestRealFieldsAreRead reads each field of results in the messages of the suites;
// every ARC-Authentication-Results among them, Microsoft's too, is read.
func TestRealFieldsAreRead(t *testing.T) {
	read, failed := map[string]int{}, map[string]int{}
	root := shared(t, "ANECHOIC_SUITES", "suites")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, f := range fieldsOfResults(b) {
			body, parse := f.RawValue(), func(b []byte) error { _, err := Parse(b); return err }
			switch {
			case f.Is("ARC-Authentication-Results"):
				_, body, _ = bytes.Cut(body, []byte(";"))
			case f.Is(ReceivedSPFName):
				parse = func(b []byte) error { _, err := ParseReceivedSPF(b); return err }
			}
			if err := parse(body); err != nil {
				failed[reasonOf(err)]++
				if f.Is("ARC-Authentication-Results") {
					t.Errorf("%s: %s: %v\n%s", path, f.Name(), err, body)
				}
				continue
			}
			read[strings.ToLower(f.Name())]++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(notRead, failed); diff != "" {
		t.Error(diff)
	}
	if len(read) != 3 {
		t.Errorf("%v were read: the walk is broken", read)
	}
	t.Logf("%v were read, %v not", read, failed)
}

// reasonOf is the kind of an error.
func reasonOf(err error) string {
	for kind := range notRead {
		if strings.Contains(err.Error(), kind) {
			return kind
		}
	}
	return err.Error()
}

// fieldsOfResults gives the fields of a message in a file, if it is one.
func fieldsOfResults(b []byte) (fields []mail.Field) {
	b = bytes.ReplaceAll(bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
	for len(b) > 0 {
		header, err := mail.ParseHeader(b[:nextField(b)], mail.HeaderLimits{})
		if err != nil || len(header.Fields) != 1 {
			return fields
		}
		if f := header.Fields[0]; f.Is(FieldName) || f.Is(ReceivedSPFName) || f.Is("ARC-Authentication-Results") {
			fields = append(fields, f)
		}
		b = b[nextField(b):]
	}
	return fields
}

// nextField is where the field at the front of b ends.
func nextField(b []byte) int {
	for i := 0; i < len(b); i++ {
		if b[i] == '\n' && (i+1 == len(b) || b[i+1] != ' ' && b[i+1] != '\t') {
			return i + 1
		}
	}
	return len(b)
}

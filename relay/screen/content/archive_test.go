package content

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"testing"
)

// zipOf packs names and texts, in pairs.
func zipOf(pairs ...string) []byte {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i := 0; i+1 < len(pairs); i += 2 {
		w, err := z.Create(pairs[i])
		if err == nil {
			_, err = io.WriteString(w, pairs[i+1])
		}
		if err != nil {
			panic(err)
		}
	}
	if err := z.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func gzipOf(data []byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write(data) // in memory
	z.Close()
	return b.Bytes()
}

func tarOf(pairs ...string) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i+1 < len(pairs); i += 2 {
		if err := w.WriteHeader(&tar.Header{Name: pairs[i], Mode: 0o600, Size: int64(len(pairs[i+1]))}); err != nil {
			panic(err)
		}
		io.WriteString(w, pairs[i+1]) // in memory
	}
	w.Close()
	return b.Bytes()
}

// encrypted sets the flag of encryption on each file of a zip.
func encrypted(data []byte) []byte {
	for _, at := range []struct {
		mark string
		flag int
	}{{"PK\x03\x04", 6}, {"PK\x01\x02", 8}} {
		for i := 0; i+at.flag < len(data); i++ {
			if bytes.HasPrefix(data[i:], []byte(at.mark)) {
				data[i+at.flag] |= 1
			}
		}
	}
	return data
}

func TestArchivesAreLookedInto(t *testing.T) {
	program := string(windowsProgram)
	ole := "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + strings.Repeat("\x00", 40<<10)
	for _, c := range []struct {
		behaviour, name string
		data            []byte
		want            string
	}{
		{"harmless files raise nothing", "a.zip", zipOf("readme.txt", "hello", "b/c.pdf", "%PDF-1.7"), ""},
		{"a program is found", "a.zip", zipOf("setup.exe", program), "file-program:dangerous"},
		{"a program under another name is found", "a.zip", zipOf("report.pdf", program), "file-program:dangerous file-contradicts:dangerous"},
		{"two endings are found", "a.zip", zipOf("invoice.pdf.js", "x"), "file-script:dangerous file-two-endings:dangerous"},
		{"an archive in an archive is opened", "a.zip", zipOf("b.zip", string(zipOf("c.scr", program))), "file-program:dangerous"},
		{"archives in archives end", "a.zip", zipOf("b.zip", string(zipOf("c.zip", string(zipOf("d.zip", string(zipOf("e.zip", string(zipOf("f.txt", "x"))))))))), "file-unopened:note message-cut:note"},
		{"a tar in a gzip is opened", "a.tar.gz", gzipOf(tarOf("x/run.vbs", "x")), "file-script:dangerous"},
		{"a tar that leads out is found", "a.tar", tarOf("../../etc/passwd.txt", "x"), "file-path:dangerous"},
		{"a zip that leads out is found", "a.zip", zipOf(`..\..\a.txt`, "x", "/etc/x.txt", "y", "C:/z.txt", "z"), "file-path:dangerous"},
		{"encryption is found, and names are judged", "a.zip", encrypted(zipOf("x.exe", program)), "file-program:dangerous file-encrypted:suspicious"},
		{"encryption in an inner archive is found", "a.zip", zipOf("b.zip", string(encrypted(zipOf("x.txt", "hello")))), "file-encrypted:suspicious"},
		{"a damaged archive is named", "a.zip", zipOf("a.txt", "hello")[:60], "file-unopened:note"},
		{"a rar is named", "a.rar", []byte("Rar!\x1a\x07\x01\x00 and so on"), "file-unopened:note"},
		{"a 7z is named", "a.7z", []byte("7z\xbc\xaf\x27\x1c and so on"), "file-unopened:note"},
		{"a zip behind a picture is opened", "a.zip", append([]byte("GIF89a"), zipOf("x.exe", program)...), "file-program:dangerous"},
		{"macros are found", "a.docm", zipOf("[Content_Types].xml", "<x/>", "word/vbaProject.bin", "x"), "file-macros:suspicious"},
		{"macros are found under a harmless name", "a.docx", zipOf("[Content_Types].xml", "<x/>", "word/vbaProject.bin", "x"), "file-macros:suspicious"},
		{"a document raises nothing", "a.docx", zipOf("[Content_Types].xml", "<x/>", "word/document.xml", "x", "_rels/.rels", "<x/>"), ""},
		{"a template from elsewhere is found", "a.docx", zipOf("[Content_Types].xml", "<x/>", "word/_rels/settings.xml.rels", `<Relationships><Relationship Id="1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/attachedTemplate" Target="http://evil.example/x.dotm" TargetMode="External"/></Relationships>`), "file-remote:suspicious"},
		{"an old document raises nothing", "a.doc", []byte(ole), ""},
		{"macros of an old document are found", "a.doc", []byte(ole + string(oleMacros)), "file-macros:suspicious"},
		{"an encrypted document is found", "a.docx", []byte(ole + string(oleEncrypted)), "file-encrypted:suspicious"},
		{"an Android program is found", "a.apk", zipOf("AndroidManifest.xml", "x"), "file-program:dangerous"},
		{"a Java program is found under another name", "a.zip", zipOf("META-INF/MANIFEST.MF", "x"), "file-program:dangerous"},
	} {
		t.Run(c.behaviour, func(t *testing.T) {
			content := read(t, attachment("application/octet-stream", `attachment; filename="`+c.name+`"`, c.data))
			if got := codes(Judge(content, Rules{})); got != c.want {
				t.Errorf("findings %q, want %q\n%+v", got, c.want, content.Files)
			}
		})
	}
}

// deep packs zeros: a small archive that unpacks to size octets.
func zeros(size int) string { return strings.Repeat("\x00", size) }

func TestBombsEndAsAFinding(t *testing.T) {
	big := zipOf("zeros", zeros(20<<20))
	lying := bytes.Clone(big)
	for i := range lying { // the sizes of the list say 1 octet
		if bytes.HasPrefix(lying[i:], centralHeader) {
			binary.LittleEndian.PutUint32(lying[i+24:], 1)
		}
	}
	for _, c := range []struct {
		behaviour, name string
		data            []byte
		want            string
	}{
		{"a zip of zeros", "a.zip", big, "file-bomb:dangerous"},
		{"a gzip of zeros", "a.gz", gzipOf([]byte(zeros(20 << 20))), "file-bomb:dangerous"},
		{"a gzip in a zip", "a.zip", zipOf("b.gz", string(gzipOf([]byte(zeros(20<<20))))), "file-bomb:dangerous"},
		{"a zip that lies about sizes", "a.zip", lying, "file-unopened:note"},
		{"a file of zeros that is small", "a.zip", zipOf("zeros", zeros(8<<20)), ""},
	} {
		t.Run(c.behaviour, func(t *testing.T) {
			if got := codes(Judge(read(t, attachment("application/zip", `attachment; filename="`+c.name+`"`, c.data)), Rules{})); got != c.want {
				t.Errorf("findings %q, want %q", got, c.want)
			}
		})
	}
}

func TestManyFilesInAnArchiveAreBounded(t *testing.T) {
	var pairs []string
	for i := range 5000 {
		pairs = append(pairs, fmt.Sprintf("%d.txt", i), "")
	}
	c := read(t, attachment("application/zip", `attachment; filename="a.zip"`, zipOf(pairs...)))
	if got, want := codes(Judge(c, Rules{})), "file-unopened:note message-cut:note"; got != want || len(c.Files) > 10 {
		t.Errorf("%q with %d files, want %q", got, len(c.Files), want)
	}
	c = read(t, attachment("application/x-tar", `attachment; filename="a.tar"`, tarOf(pairs...)))
	if got, want := codes(Judge(c, Rules{})), "file-unopened:note message-cut:note"; got != want || len(c.Files) > DefaultLimits().Files+2 {
		t.Errorf("%q with %d files, want %q", got, len(c.Files), want)
	}
}

func TestAnArchiveThatIsTooBigIsNamed(t *testing.T) {
	data := zipOf("a.txt", "hello")
	c, err := Read(messageOf(t, attachment("application/zip", `attachment; filename="a.zip"`, data)), Limits{ArchiveMemory: int64(len(data)) - 1})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := codes(Judge(c, Rules{})), "file-unopened:note message-cut:note"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

package content

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

// Why an archive was not looked into.
const (
	unopenedDeep    = "it is an archive in too many archives"
	unopenedBig     = "it is too big to be looked into"
	unopenedMany    = "it holds too many files"
	unopenedDamaged = "it is damaged or incomplete"
	unopenedKind    = "this kind of archive is not opened here"
	unopenedMethod  = "it is packed in a way that is not known here"
)

var (
	errBomb   = errors.New("it unpacks to far more than its size")
	errBudget = errors.New("no more may be unpacked")
)

// unpacking is a reader of what an archive unpacks to, within the bounds.
type unpacking struct {
	in     io.Reader
	w      *walk
	packed func() int64 // octets that were used for it, or are at most
	out    int64
}

func (u *unpacking) Read(p []byte) (int, error) {
	if u.out > BombFloor && u.out > u.w.limits.Ratio*max(u.packed(), 1) {
		return 0, errBomb
	}
	if u.w.budget.unpacked <= 0 {
		return 0, errBudget
	}
	n, err := u.in.Read(p[:min(int64(len(p)), u.w.budget.unpacked)])
	u.out += int64(n)
	u.w.budget.unpacked -= int64(n)
	return n, err
}

// failed notes on the archive why unpacking it ended.
func (w *walk) failed(f *File, err error) {
	switch {
	case err == nil, errors.Is(err, io.EOF):
	case errors.Is(err, errBomb):
		f.Bomb = true
	case errors.Is(err, errBudget):
		f.Unopened = unopenedBig
		w.cut("unpacked archives")
	case errors.Is(err, zip.ErrAlgorithm):
		f.Unopened = unopenedMethod
	default:
		f.Unopened = unopenedDamaged
	}
}

// tooDeep notes on an archive that it stands in too many others.
func (w *walk) tooDeep(f *File, depth int) bool {
	if depth < w.limits.ArchiveDepth {
		return false
	}
	f.Unopened = unopenedDeep
	w.cut("archives in archives")
	return true
}

// entry takes one file of an archive: its name is judged, and what r gives of it,
// if r is not nil, is looked into. The error is one of the reader.
func (w *walk) entry(outer *File, name string, r io.Reader, encrypted bool, depth int) error {
	if w.budget.files--; w.budget.files < 0 {
		w.cut("files")
		outer.Unopened = unopenedMany
		return errBudget
	}
	name = clip(strings.ToValidUTF8(name, "\ufffd"), maxName)
	f := File{Place: clip(outer.Place+", "+shown(outer.Name()), maxName), Names: []string{name}, Packed: true, Encrypted: encrypted, BadPath: leadsOut(name)}
	var failure failing
	if r != nil {
		failure.in = r
		w.inspect(&failure, &f, "", depth+1)
	}
	outer.Bomb, outer.Encrypted = outer.Bomb || f.Bomb, outer.Encrypted || f.Encrypted
	w.content.Files = append(w.content.Files, f)
	return failure.err
}

// failing keeps the error that ended a reader.
type failing struct {
	in  io.Reader
	err error
}

func (f *failing) Read(p []byte) (int, error) {
	n, err := f.in.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		f.err = err
	}
	return n, err
}

// leadsOut says that unpacking a file of this name without care writes outside the
// folder.
func leadsOut(name string) bool {
	name = strings.ReplaceAll(name, `\`, "/")
	return strings.HasPrefix(name, "/") || len(name) > 1 && name[1] == ':' || strings.HasPrefix(path.Clean(name), "../") || strings.HasSuffix(name, "/..") || name == ".."
}

// centralHeader begins each record of the list at a zip's end.
var centralHeader = []byte("PK\x01\x02")

// zip looks into a zip archive. The list of its files stands at its end, so it is
// held in memory, as far as the bounds allow.
func (w *walk) zip(in io.Reader, f *File, depth int) {
	if w.tooDeep(f, depth) {
		return
	}
	var b bytes.Buffer
	n, err := io.Copy(&b, io.LimitReader(in, w.budget.memory+1))
	if err != nil || n > w.budget.memory {
		f.Unopened = unopenedBig
		w.cut("archives in memory")
		return
	}
	w.budget.memory -= n
	defer func() { w.budget.memory += n }()
	if bytes.Count(b.Bytes(), centralHeader) > 2*w.limits.Files {
		f.Unopened = unopenedMany
		w.cut("files")
		return
	}
	z, err := zip.NewReader(bytes.NewReader(b.Bytes()), n)
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) {
		if f.Kind.isZip() {
			f.Unopened = unopenedDamaged
		}
		return
	}
	w.zipFiles(z, f, n, depth)
}

func (w *walk) zipFiles(z *zip.Reader, f *File, size int64, depth int) {
	f.Kind = kindOfZip(z)
	if w.declaresBomb(z, size) {
		f.Bomb = true
		return
	}
	for _, e := range z.File {
		if strings.HasSuffix(e.Name, "/") {
			continue
		}
		err := w.zipFile(e, f, depth)
		w.failed(f, err)
		if errors.Is(err, errBomb) || errors.Is(err, errBudget) {
			return
		}
	}
}

// declaresBomb adds up what the files say they unpack to: files that share their
// octets are counted each.
func (w *walk) declaresBomb(z *zip.Reader, size int64) bool {
	var total uint64
	for _, e := range z.File {
		if total += min(e.UncompressedSize64, 1<<50); total > BombFloor && total > uint64(w.limits.Ratio*max(size, 1)) {
			return true
		}
	}
	return false
}

// zipFile looks into one file. Of documents only what can do harm is read.
func (w *walk) zipFile(e *zip.File, f *File, depth int) error {
	const encrypted = 1 // bit 0 of the flags, APPNOTE.TXT 4.4.4
	if e.Flags&encrypted != 0 {
		f.Encrypted = true
		return w.entry(f, e.Name, nil, true, depth)
	}
	document := f.Kind == KindOOXML || f.Kind == KindODF
	if document {
		lower := strings.ToLower(e.Name)
		f.Macros = f.Macros || strings.HasSuffix(lower, "vbaproject.bin") || strings.HasPrefix(lower, "basic/") || strings.Contains(lower, "macrosheets/")
		if last, _ := extensions(e.Name); !strings.HasSuffix(lower, ".rels") && !classes[last].active() || last == "bin" {
			return nil
		}
	}
	r, err := e.Open()
	if err != nil {
		return errors.Join(w.entry(f, e.Name, nil, false, depth), err)
	}
	defer r.Close()
	u := &unpacking{in: r, w: w, packed: func() int64 { return int64(min(e.CompressedSize64, 1<<40)) }}
	if document && strings.HasSuffix(strings.ToLower(e.Name), ".rels") {
		f.Remote = f.Remote || remoteTemplate(u)
		return nil
	}
	return w.entry(f, e.Name, u, false, depth)
}

// kindOfZip tells documents and programs, which are zip archives, from others.
func kindOfZip(z *zip.Reader) Kind {
	for _, e := range z.File {
		switch {
		case e.Name == "[Content_Types].xml":
			return KindOOXML
		case e.Name == "mimetype":
			return KindODF
		case e.Name == "AndroidManifest.xml":
			return KindAndroid
		case e.Name == "META-INF/MANIFEST.MF":
			return KindJar
		}
	}
	return KindZip
}

// relations is how much of a document's list of relations is read.
const relations = 64 << 10

// remoteTemplate says that a document fetches its template when it is opened.
func remoteTemplate(r io.Reader) bool {
	b, _ := io.ReadAll(io.LimitReader(r, relations)) // a damaged list says nothing
	for relation := range bytes.SplitSeq(bytes.ToLower(b), []byte("<relationship ")) {
		external := bytes.Contains(relation, []byte(`targetmode="external"`))
		loads := bytes.Contains(relation, []byte("/attachedtemplate")) || bytes.Contains(relation, []byte("/oleobject")) || bytes.Contains(relation, []byte("/frame"))
		if external && loads && bytes.Contains(relation, []byte("://")) {
			return true
		}
	}
	return false
}

// counting counts what is read.
type counting struct {
	in io.Reader
	n  int64
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.in.Read(p)
	c.n += int64(n)
	return n, err
}

// gzip looks at the one file in a gzip (RFC 1952), which is often a tar archive.
func (w *walk) gzip(in io.Reader, f *File, depth int) {
	if w.tooDeep(f, depth) {
		return
	}
	packed := &counting{in: in}
	z, err := gzip.NewReader(packed)
	if err != nil {
		f.Unopened = unopenedDamaged
		return
	}
	name := z.Name
	if name == "" {
		name = strings.TrimSuffix(strings.TrimSuffix(f.Name(), ".gz"), ".GZ")
	}
	w.failed(f, w.entry(f, name, &unpacking{in: z, w: w, packed: func() int64 { return packed.n }}, false, depth))
}

// tar looks into a tar archive as it comes by.
func (w *walk) tar(in io.Reader, f *File, depth int) {
	if w.tooDeep(f, depth) {
		return
	}
	packed := &counting{in: in}
	for t := tar.NewReader(packed); ; {
		h, err := t.Next()
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			w.failed(f, err)
			return
		}
		if h.Typeflag == tar.TypeDir {
			continue
		}
		err = w.entry(f, h.Name, &unpacking{in: t, w: w, packed: func() int64 { return packed.n }}, false, depth)
		if h.Typeflag == tar.TypeSymlink && leadsOut(h.Linkname) {
			w.content.Files[len(w.content.Files)-1].BadPath = true
		}
		w.failed(f, err)
		if err != nil {
			return
		}
	}
}

// What the directory of an OLE file names, in UTF-16 (MS-OVBA 2.2, MS-OFFCRYPTO
// 2.3.4.4).
var (
	oleMacros    = utf16le("_VBA_PROJECT")
	oleEncrypted = utf16le("EncryptedPackage")
)

func utf16le(s string) []byte {
	b := make([]byte, 0, 2*len(s))
	for i := range len(s) {
		b = append(b, s[i], 0)
	}
	return b
}

// searchOLE looks for macros and encryption in the names of a document's streams.
func searchOLE(in io.Reader, f *File) {
	const overlap = 64 // longer than any of the names
	window := make([]byte, 0, 32<<10)
	for {
		n, err := io.ReadFull(in, window[len(window):cap(window)])
		window = window[:len(window)+n]
		f.Macros = f.Macros || bytes.Contains(window, oleMacros)
		f.Encrypted = f.Encrypted || bytes.Contains(window, oleEncrypted)
		if err != nil {
			return
		}
		window = window[:copy(window, window[len(window)-overlap:])]
	}
}

// shown makes a text that strangers wrote safe to print: in quotes, without
// characters that turn or hide what follows, and short.
func shown(s string) string {
	const most = 80 // characters
	if r := []rune(clip(s, 4*most)); len(r) > most {
		s = string(r[:most]) + "…"
	}
	return fmt.Sprintf("%q", clip(s, 5*most))
}

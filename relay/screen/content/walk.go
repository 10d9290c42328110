package content

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"anechoic/mail"
)

// walk is one reading of a message.
type walk struct {
	limits  Limits
	budget  budget
	content Content
	parts   int
	kept    int              // octets of Texts
	inside  int              // messages in which the part being read stands
	links   map[linkKey]bool // links that are kept
	hosts   hosts            // of links
}

// budget is what is left of the bounds that the whole message shares.
type budget struct {
	files    int
	memory   int64
	unpacked int64
	text     int
}

// part is what the header of a part says.
type part struct {
	kind       string // the media type
	parameters []mail.Parameter
	encoding   string // of its transfer
	attached   bool
	names      []string
	place      string
}

func (w *walk) cut(what string) {
	if !slices.Contains(w.content.Cut, what) {
		w.content.Cut = append(w.content.Cut, what)
	}
}

// What programs read in different ways.
const (
	twoTypes      = "a part has two types"
	twoEncodings  = "a part has two transfer encodings"
	twoBoundaries = "a part has two boundaries"
	noBoundary    = "parts have no boundary"
	noParts       = "no parts stand where the header announces some"
	packedParts   = "parts stand in a transfer encoding"
)

// ambiguous notes it. In a message in the message missing parts do not count:
// bounces cut off what they return.
func (w *walk) ambiguous(what string) {
	if w.inside > 0 && (what == noParts || what == noBoundary) {
		return
	}
	if !slices.Contains(w.content.Ambiguous, what) {
		w.content.Ambiguous = append(w.content.Ambiguous, what)
	}
}

// message reads the whole body under the header of the message.
func (w *walk) message(m mail.Message) error {
	if body, ok := m.Body.InMemory(); ok {
		return w.read(m.Header, linesIn(body))
	}
	return w.read(m.Header, newLines(m.Body.Reader()))
}

// read reads a body, or the beginning of one, under its header.
func (w *walk) read(h mail.Header, l *lines) error {
	var fields []field
	for _, f := range h.Fields {
		if f.HasPrefix("Content-") {
			fields = append(fields, field{contentField([]byte(f.Name())), f.RawValue()})
		}
	}
	defer l.free()
	w.entity(l, w.readPart(fields, "text/plain", "the message"), 0)
	if l.err != nil {
		return fmt.Errorf("content: read the body: %w", l.err)
	}
	return nil
}

// readPart reads the fields of a part's header. Of a field that is there twice the
// first counts, but every name does.
func (w *walk) readPart(fields []field, otherwise, place string) part {
	p := part{kind: otherwise, place: place}
	typed := false
	for _, f := range fields {
		switch f.name {
		case "content-type":
			kind, parameters := mail.ReadParameters(f.value)
			if !typed {
				p.kind, p.parameters, typed = kind, parameters, true
			} else if kind != p.kind {
				w.ambiguous(twoTypes)
			}
			p.names = addNames(p.names, parameters, "name")
		case "content-disposition":
			word, parameters := mail.ReadParameters(f.value)
			p.attached = p.attached || word == "attachment"
			p.names = append(addNames(nil, parameters, "filename"), p.names...)
		case "content-transfer-encoding":
			word, _ := mail.ReadParameters(f.value)
			if p.encoding == "" {
				p.encoding = word
			} else if p.encoding != word {
				w.ambiguous(twoEncodings)
			}
		}
	}
	p.names = distinct(p.names)
	return p
}

// hasTwoBoundaries says that a header gives different ones.
func (p part) hasTwoBoundaries() bool {
	first := p.parameter("boundary")
	return slices.ContainsFunc(p.parameters, func(q mail.Parameter) bool { return q.Name == "boundary" && q.Value != first })
}

func (p part) parameter(name string) string {
	for _, q := range p.parameters {
		if q.Name == name {
			return q.Value
		}
	}
	return ""
}

// entity reads what stands under a header: parts, a message, or a file.
func (w *walk) entity(l *lines, p part, depth int) {
	if depth > w.limits.Depth {
		w.cut("parts in parts")
		return
	}
	boundary := strings.TrimRight(joined(p.parameters, "boundary"), " \t")
	switch {
	case strings.HasPrefix(p.kind, "multipart/") && boundary != "":
		w.multipart(l, p, boundary, depth)
	case isMessage(p.kind):
		w.inner(l, p, depth)
	default:
		if strings.HasPrefix(p.kind, "multipart/") {
			w.ambiguous(noBoundary)
		}
		if p.kind == "message/partial" { // RFC 2046 section 5.2.2
			w.content.Incomplete = true
		}
		w.file(l.decoded(p.encoding), p)
	}
}

// isMessage says that a part holds a message (RFC 2046 section 5.2.1, RFC 6532
// section 3.7).
func isMessage(kind string) bool {
	return kind == "message/rfc822" || kind == "message/global" || kind == "message/news"
}

// multipart reads the parts between boundaries. What stands before the first and
// behind the last is shown by no program and is passed over.
func (w *walk) multipart(l *lines, p part, boundary string, depth int) {
	level, otherwise := len(l.boundaries), "text/plain"
	if p.hasTwoBoundaries() {
		w.ambiguous(twoBoundaries)
	}
	if p.encoding == "base64" || p.encoding == "quoted-printable" { // RFC 2045 section 6.4
		w.ambiguous(packedParts)
	}
	if p.kind == "multipart/digest" { // RFC 2046 section 5.1.5
		otherwise = "message/rfc822"
	}
	l.boundaries = append(l.boundaries, boundary)
	if l.discard(); l.hit != level {
		w.ambiguous(noParts)
	}
	for n := 1; l.hit == level && !l.closing; n++ {
		if w.parts++; w.parts > w.limits.Parts {
			w.cut("parts")
			l.ended = true
			return
		}
		l.resume()
		w.part(l, otherwise, placeOf(p.place, n), depth+1)
		l.discard()
	}
	l.boundaries = l.boundaries[:level]
	if l.hit == level {
		l.resume()
		l.discard()
	}
}

// placeOf numbers a part in the way of IMAP (RFC 9051 section 6.4.5): "part 2.1".
func placeOf(outer string, n int) string {
	if !strings.HasPrefix(outer, "part ") {
		return "part " + strconv.Itoa(n)
	}
	return outer + "." + strconv.Itoa(n)
}

// part reads a header and what stands under it.
func (w *walk) part(l *lines, otherwise, place string, depth int) {
	fields, complete := l.header(w.limits.PartHeader)
	if !complete {
		w.cut("the header of a part")
	}
	w.entity(l, w.readPart(fields, otherwise, place), depth)
}

// inner reads a message in a message, in base64 too, which the standard forbids and
// programs open. Its files count; whom its header names does not.
func (w *walk) inner(l *lines, p part, depth int) {
	if p.encoding == "base64" || p.encoding == "quoted-printable" {
		l = newLines(l.decoded(p.encoding))
		defer l.free()
	}
	w.inside++
	w.part(l, "text/plain", placeOf(p.place, 1), depth+1)
	w.inside--
}

// file reads one part that holds no others.
func (w *walk) file(r io.Reader, p part) {
	f := File{Place: p.place, Names: p.names, Type: p.kind, Shown: !p.attached && (len(p.names) == 0 || strings.HasPrefix(p.kind, "image/"))}
	if text := w.inspect(r, &f, p.parameter("charset"), 0); text != "" {
		w.keepText(&f, text)
		w.text(&f, text)
	}
	w.content.Files = append(w.content.Files, f)
}

// text reads what a text part says: links, an invitation, a file in the text.
func (w *walk) text(f *File, text string) {
	switch {
	case f.Kind == KindHTML || f.Kind == KindSVG || f.Type == "text/html" || f.Type == "application/xhtml+xml":
		w.html(f, text)
	case f.Kind == KindCalendar || f.Type == "text/calendar":
		w.calendar(f.Place, text)
	default:
		w.plainLinks(f.Place, text)
		w.uuencoded(f.Place, text)
	}
}

// uuencoded finds files of the old way, "begin 644 name": some programs still show
// them as attachments.
func (w *walk) uuencoded(place, text string) {
	if !strings.HasPrefix(text, "begin ") && !strings.Contains(text, "\nbegin ") {
		return
	}
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, "begin ")
		mode, name, named := strings.Cut(rest, " ")
		if !ok || !named || len(mode) < 3 || len(mode) > 4 || strings.Trim(mode, "01234567") != "" {
			continue
		}
		if w.budget.files--; w.budget.files < 0 {
			w.cut("files")
			return
		}
		w.content.Files = append(w.content.Files, File{Place: place + ", in the text", Names: []string{strings.TrimSpace(name)}})
	}
}

// inspect reads r to its end and fills in what f is. It gives the beginning of a
// text that is to be read.
func (w *walk) inspect(r io.Reader, f *File, charset string, depth int) (text string) {
	in := newPeek(r)
	defer in.free()
	f.Kind = kindOf(in.head, f.Name(), f.Type)
	switch {
	case f.Kind.isZip():
		w.zip(in, f, depth)
	case f.Kind == KindGzip:
		w.gzip(in, f, depth)
	case f.Kind == KindTar:
		w.tar(in, f, depth)
	case f.Kind == KindOLE:
		searchOLE(in, f)
	case f.Kind.isArchive():
		f.Unopened = unopenedKind
	case endsLikeZip(f.Names):
		w.zip(in, f, depth)
	case w.isText(*f):
		if octets := w.readText(in, f.Packed); octets != nil {
			text = decodeCharset(octets, charset)
		}
	}
	in.drain()
	f.Size = in.size
	return text
}

// isText says that the text of f is read: what programs show, HTML, and calendars.
func (w *walk) isText(f File) bool {
	return f.Kind == KindHTML || f.Kind == KindSVG || f.Kind == KindCalendar || f.Kind == KindUnknown && (strings.HasPrefix(f.Type, "text/") || f.Type == "")
}

// readText takes as much of a text as may be read. Text in archives is not read.
func (w *walk) readText(in *peek, packed bool) []byte {
	if packed {
		return nil
	}
	if w.budget.text <= 0 {
		w.cut("text")
		return nil
	}
	text := in.text(w.budget.text)
	if w.budget.text -= len(text); w.budget.text <= 0 {
		w.cut("text")
	}
	return text
}

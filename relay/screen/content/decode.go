package content

import (
	"bytes"
	"encoding/base64"
	"io"
	"mime"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/htmlindex"
)

// decoded reads a part through its transfer encoding (RFC 2045 section 6). Of what
// is not in the encoding programs skip over what they must: so does this.
func (l *lines) decoded(encoding string) io.Reader {
	switch encoding {
	case "base64":
		return &base64Reader{in: l}
	case "quoted-printable":
		return &quotedReader{in: l}
	}
	return l
}

// base64Reader decodes base64 (RFC 2045 section 6.8): characters outside the
// alphabet are ignored, and padding ends a group of four, not the text.
type base64Reader struct {
	in   *lines
	out  []byte // decoded and not yet read
	bits uint32
	have int // characters in bits
}

func (r *base64Reader) Read(p []byte) (n int, err error) {
	n = copy(p, r.out)
	r.out = r.out[:copy(r.out, r.out[n:])]
	for n < len(p) {
		line, ok := r.in.next()
		if room := p[n:]; ok && len(r.out) == 0 && len(line) <= len(room) { // it becomes shorter: no detour
			n += len(r.take(room[:0], line))
			continue
		}
		if ok {
			r.out = r.take(r.out, line)
		} else {
			r.out = r.flush(r.out)
		}
		m := copy(p[n:], r.out)
		r.out = r.out[:copy(r.out, r.out[m:])]
		if n += m; !ok {
			break
		}
	}
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

// take decodes a line, or a piece of one. A line of whole groups and nothing else,
// which is nearly all there is, is for the library.
func (r *base64Reader) take(b, line []byte) []byte {
	line = trimmedRight(line)
	if r.have == 0 && len(line)%4 == 0 {
		b = slices.Grow(b, len(line))
		if n, err := base64.StdEncoding.Decode(b[len(b):len(b)+len(line)], line); err == nil {
			return b[:len(b)+n]
		}
	}
	for _, c := range line {
		if c == '=' {
			b = r.flush(b)
			continue
		}
		v := base64Values[c]
		if v < 0 {
			continue
		}
		r.bits = r.bits<<6 | uint32(v)
		if r.have++; r.have == 4 {
			b = append(b, byte(r.bits>>16), byte(r.bits>>8), byte(r.bits))
			r.bits, r.have = 0, 0
		}
	}
	return b
}

// flush ends a group of two or three characters.
func (r *base64Reader) flush(b []byte) []byte {
	switch r.have {
	case 2:
		b = append(b, byte(r.bits>>4))
	case 3:
		b = append(b, byte(r.bits>>10), byte(r.bits>>2))
	}
	r.bits, r.have = 0, 0
	return b
}

var base64Values = func() (t [256]int8) {
	for i := range t {
		t[i] = int8(strings.IndexByte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", byte(i)))
	}
	return t
}()

// quotedReader decodes quoted-printable (RFC 2045 section 6.7): a = that is followed
// by no two hexadecimal digits stays.
type quotedReader struct {
	in  *lines
	out []byte
}

func (r *quotedReader) Read(p []byte) (n int, err error) {
	n = copy(p, r.out)
	r.out = r.out[:copy(r.out, r.out[n:])]
	for n < len(p) {
		line, ok := r.in.next()
		if !ok {
			break
		}
		if len(line)+len("\r\n") <= len(p)-n { // it cannot become longer: no detour
			n += len(appendQuoted(p[n:n], line))
			continue
		}
		r.out = appendQuoted(r.out, line)
		m := copy(p[n:], r.out)
		r.out = r.out[:copy(r.out, r.out[m:])]
		n += m
	}
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

// appendQuoted decodes a line, or a piece of one.
func appendQuoted(b, line []byte) []byte {
	if len(line) == 0 || line[len(line)-1] != '\n' {
		return appendUnescaped(b, line, '=')
	}
	text := trimmedRight(line)
	if last := len(text) - 1; last >= 0 && text[last] == '=' {
		return appendUnescaped(b, text[:last], '=')
	}
	return append(appendUnescaped(b, text, '='), '\r', '\n')
}

// appendUnescaped puts the octets of %41 or =41 in their place.
func appendUnescaped(b, text []byte, mark byte) []byte {
	for {
		at := bytes.IndexByte(text, mark)
		if at < 0 {
			return append(b, text...)
		}
		b = append(b, text[:at]...)
		if text = text[at:]; len(text) > 2 {
			if octet := int(hexValues[text[1]])<<4 | int(hexValues[text[2]]); octet >= 0 {
				b, text = append(b, byte(octet)), text[3:]
				continue
			}
		}
		b, text = append(b, mark), text[1:]
	}
}

// hexValues gives what a hexadecimal digit stands for; -1: it is none.
var hexValues = func() (t [256]int8) {
	for i := range t {
		t[i] = int8(strings.IndexByte("0123456789abcdef", lowerOctet(byte(i))))
	}
	return t
}()

// lowerOctet is c, or the small letter of a capital of ASCII.
func lowerOctet(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		c |= 0x20
	}
	return c
}

// decodeCharset makes UTF-8 of a text. A byte order mark says more than the label;
// an unknown label is UTF-8 if that fits, or else what most old mail is.
func decodeCharset(b []byte, label string) string {
	switch {
	case bytes.HasPrefix(b, []byte("\xef\xbb\xbf")):
		b, label = b[3:], "utf-8"
	case bytes.HasPrefix(b, []byte("\xff\xfe")):
		label = "utf-16le"
	case bytes.HasPrefix(b, []byte("\xfe\xff")):
		label = "utf-16be"
	}
	charset := charsetOf(label)
	if charset == nil && utf8.Valid(b) {
		return string(b)
	}
	if charset == nil {
		charset = charmap.Windows1252
	}
	text, err := charset.NewDecoder().Bytes(b)
	if err != nil {
		return strings.ToValidUTF8(string(b), "\ufffd")
	}
	return strings.ToValidUTF8(string(text), "\ufffd")
}

// charsetOf is the encoding of a label; nil: UTF-8, ASCII, or unknown.
func charsetOf(label string) encoding.Encoding {
	label = strings.ToLower(strings.TrimSpace(label))
	if label == "" || label == "utf-8" || label == "us-ascii" || label == "utf8" {
		return nil
	}
	charset, err := htmlindex.Get(label)
	if err != nil {
		return nil
	}
	return charset
}

// maxWords is the longest header text in which encoded-words are decoded.
const maxWords = 16 << 10

// decodeWords decodes the encoded-words of a header text (RFC 2047), in quotes too,
// where they should not be and programs decode them. What cannot be decoded stays.
func decodeWords(s string) string {
	if !strings.Contains(s, "=?") || len(s) > maxWords {
		return strings.ToValidUTF8(s, "\ufffd")
	}
	d := mime.WordDecoder{CharsetReader: func(label string, in io.Reader) (io.Reader, error) {
		b, err := io.ReadAll(in)
		return strings.NewReader(decodeCharset(b, label)), err
	}}
	text, err := d.DecodeHeader(s)
	if err != nil {
		return strings.ToValidUTF8(s, "\ufffd")
	}
	return strings.ToValidUTF8(text, "\ufffd")
}

// headSize is how many of the first octets decide what a file is: up to the mark
// of ISO 9660, behind 16 sectors.
const headSize = 16*2048 + 8

// peek is a reader whose first octets can be seen before they are read, and that
// counts.
type peek struct {
	in     io.Reader
	buffer *[]byte // in which head lies, and text
	head   []byte
	given  int // octets of head that were read
	size   int64
}

// heads are buffers for first octets, which are large for small messages, and for
// texts on their way to a string.
var heads = sync.Pool{New: func() any { b := make([]byte, headSize); return &b }}

// maxPooled bounds the buffers that are kept.
const maxPooled = 1 << 20

// newPeek reads the first octets of r: of a short file, all.
func newPeek(r io.Reader) *peek {
	p := &peek{in: r, buffer: heads.Get().(*[]byte)}
	n, _ := io.ReadFull(r, (*p.buffer)[:headSize]) // an error of the input is kept by lines, and comes again
	p.head = (*p.buffer)[:n]
	return p
}

// free gives the buffer back; nothing is read after that, and head and text are gone.
func (p *peek) free() {
	if len(*p.buffer) <= maxPooled {
		heads.Put(p.buffer)
	}
	*p = peek{}
}

func (p *peek) Read(b []byte) (n int, err error) {
	if p.given < len(p.head) {
		n = copy(b, p.head[p.given:])
		p.given += n
	} else {
		n, err = p.in.Read(b)
	}
	p.size += int64(n)
	return n, err
}

// text reads a file of which nothing was read, at most so many octets of it.
func (p *peek) text(most int) []byte {
	text := p.head[:min(len(p.head), most)]
	for len(text) < most {
		text = slices.Grow(text, bytes.MinRead)
		n, err := p.in.Read(text[len(text):min(cap(text), most)])
		if text = text[:len(text)+n]; err != nil { // of the input: it is kept by lines
			break
		}
	}
	if len(p.head) < len(text) {
		p.head, *p.buffer = text, text[:cap(text)]
	}
	p.given, p.size = len(text), int64(len(text))
	return text
}

// drain counts what is left. Nothing looks at head after it.
func (p *peek) drain() {
	p.size += int64(len(p.head) - p.given)
	p.given = len(p.head)
	for {
		n, err := p.in.Read((*p.buffer)[:headSize])
		if p.size += int64(n); err != nil {
			return
		}
	}
}

package content

import (
	"bufio"
	"bytes"
	"io"
	"mime"
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

func (r *base64Reader) Read(p []byte) (int, error) {
	for len(r.out) < len(p) {
		line, ok := r.in.next()
		if !ok {
			r.flush()
			if len(r.out) == 0 {
				return 0, io.EOF
			}
			break
		}
		r.take(line)
	}
	n := copy(p, r.out)
	r.out = r.out[:copy(r.out, r.out[n:])]
	return n, nil
}

func (r *base64Reader) take(line []byte) {
	for r.have == 0 && len(line) >= 4 { // whole groups, which is nearly all there is
		a, b, c, d := base64Values[line[0]], base64Values[line[1]], base64Values[line[2]], base64Values[line[3]]
		if a|b|c|d < 0 {
			break
		}
		bits := uint32(a)<<18 | uint32(b)<<12 | uint32(c)<<6 | uint32(d)
		r.out = append(r.out, byte(bits>>16), byte(bits>>8), byte(bits))
		line = line[4:]
	}
	for _, c := range line {
		if c == '=' {
			r.flush()
			continue
		}
		v := base64Values[c]
		if v < 0 {
			continue
		}
		r.bits = r.bits<<6 | uint32(v)
		if r.have++; r.have == 4 {
			r.out = append(r.out, byte(r.bits>>16), byte(r.bits>>8), byte(r.bits))
			r.bits, r.have = 0, 0
		}
	}
}

// flush ends a group of two or three characters.
func (r *base64Reader) flush() {
	switch r.have {
	case 2:
		r.out = append(r.out, byte(r.bits>>4))
	case 3:
		r.out = append(r.out, byte(r.bits>>10), byte(r.bits>>2))
	}
	r.bits, r.have = 0, 0
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
	text := bytes.TrimRight(line, " \t\r\n")
	ended := len(line) > 0 && line[len(line)-1] == '\n'
	if ended && bytes.HasSuffix(text, []byte{'='}) {
		text, ended = text[:len(text)-1], false
	} else if !ended {
		text = line
	}
	b = appendUnescaped(b, text, '=')
	if ended {
		b = append(b, '\r', '\n')
	}
	return b
}

// appendUnescaped puts the octets of %41 or =41 in their place.
func appendUnescaped(b, text []byte, mark byte) []byte {
	for {
		at := bytes.IndexByte(text, mark)
		if at < 0 {
			return append(b, text...)
		}
		b = append(b, text[:at]...)
		if text = text[at:]; len(text) > 2 && hexValue(text[1]) >= 0 && hexValue(text[2]) >= 0 {
			b, text = append(b, byte(hexValue(text[1])<<4|hexValue(text[2]))), text[3:]
		} else {
			b, text = append(b, mark), text[1:]
		}
	}
}

func hexValue(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
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
	in   *bufio.Reader
	head []byte
	size int64
}

// heads are buffers for first octets, which are large for small messages.
var heads = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, headSize) }}

func newPeek(r io.Reader) *peek {
	p := &peek{in: heads.Get().(*bufio.Reader)}
	p.in.Reset(r)
	p.head, _ = p.in.Peek(headSize) // a short file is whole
	return p
}

// free gives the buffer back; nothing is read after that, and head is gone.
func (p *peek) free() {
	p.in.Reset(nil)
	heads.Put(p.in)
	p.in, p.head = nil, nil
}

func (p *peek) Read(b []byte) (int, error) {
	n, err := p.in.Read(b)
	p.size += int64(n)
	return n, err
}

func (p *peek) drain() {
	n, _ := io.Copy(io.Discard, p.in) // an error of the input is kept by lines
	p.size += n
}

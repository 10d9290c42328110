package dkim

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"math/bits"

	"anechoic/mail"
)

// BodyHashes is a body as signatures see it: the SHA-256 of its canonical
// forms. The zero BodyHashes belongs to no body and is refused by Sign.
type BodyHashes struct {
	Relaxed   [sha256.Size]byte // RFC 6376 section 3.4.4
	Simple    [sha256.Size]byte // RFC 6376 section 3.4.3; zero unless HasSimple
	HasSimple bool
}

// of gives the hash of one canonical form, if it was computed.
func (h BodyHashes) of(c Canonicalization) (hash [sha256.Size]byte, ok bool) {
	if c == Simple {
		return h.Simple, h.HasSimple
	}
	return h.Relaxed, h.Relaxed != [sha256.Size]byte{}
}

// BodyHasher hashes a body while its bytes arrive, in pieces of any size. It is
// not safe for concurrent use.
type BodyHasher struct {
	relaxed bodyForm
	simple  *bodyForm // nil unless a signature of the header wants it
	ended   bool
	sum     BodyHashes
}

// NewBodyHasher makes a hasher for the canonical forms that are needed: relaxed
// for signing, and what the DKIM-Signature and ARC-Message-Signature fields of
// header name.
func NewBodyHasher(header mail.Header) *BodyHasher {
	h := &BodyHasher{relaxed: bodyForm{hash: sha256.New(), relaxed: true}}
	for _, f := range header.Fields {
		if (f.Is("DKIM-Signature") || f.Is("ARC-Message-Signature")) && wantsSimpleBody(f) {
			h.simple = &bodyForm{hash: sha256.New()}
			break
		}
	}
	return h
}

// wantsSimpleBody says that a signature that can be read at all hashed the
// simple form.
func wantsSimpleBody(f mail.Field) bool {
	tags, err := ParseTags(f.RawValue())
	if err != nil {
		return false
	}
	value, ok := tags.Get("c")
	if !ok {
		return f.Is("DKIM-Signature") // RFC 6376 section 3.5: the default is simple/simple
	}
	_, body, err := ParseCanonicalization(value)
	return err == nil && body == Simple
}

var errBodyEnded = errors.New("dkim: the body was written to after its end; make a new BodyHasher for each message")

// Write takes the next octets of the body: CRLF line ends, without dot-stuffing.
// It fails only after Sum.
func (h *BodyHasher) Write(p []byte) (int, error) {
	if h.ended {
		return 0, errBodyEnded
	}
	h.relaxed.write(p)
	if h.simple != nil {
		h.simple.write(p)
	}
	return len(p), nil
}

// Sum ends the body and gives its hashes. Called again it gives the same.
func (h *BodyHasher) Sum() BodyHashes {
	if h.ended {
		return h.sum
	}
	h.ended = true
	h.relaxed.end(&h.sum.Relaxed)
	if h.simple != nil {
		h.simple.end(&h.sum.Simple)
		h.sum.HasSimple = true
	}
	return h.sum
}

// bodyForm hashes one canonical form of a body. What may yet turn out to be
// trailing (line ends, white space) is kept as counts, in this order: lines,
// space, cr. While nothing is kept, octets go to the hash in runs.
type bodyForm struct {
	hash    hash.Hash
	relaxed bool
	started bool // something was put out

	lines int  // CRLFs
	space bool // white space of a line that has not gone on yet
	cr    bool // a CR whose LF has not come

	n   int
	out [2048]byte // short runs gather here
}

func (b *bodyForm) write(p []byte) {
	for len(p) > 0 {
		if b.lines == 0 && !b.space && !b.cr {
			n := len(p)
			if b.relaxed {
				n = plainRun(p)
			}
			b.pass(p[:n])
			p = p[n:]
		}
		p = b.settle(p)
	}
}

// pass puts out a run that is canonical as it is, but for the line ends it
// closes with.
func (b *bodyForm) pass(run []byte) {
	end := len(run)
	if end > 0 && run[end-1] == '\r' {
		b.cr = true
		end--
	}
	for end > 1 && run[end-1] == '\n' && run[end-2] == '\r' {
		b.lines++
		end -= 2
	}
	b.put(run[:end])
}

// settle takes octets one by one until what is kept proved not to be trailing,
// and gives the rest.
func (b *bodyForm) settle(p []byte) []byte {
	for i, c := range p {
		switch {
		case b.relaxed && (c == ' ' || c == '\t'):
			if b.cr {
				b.release()
			}
			b.space = true
		case c == '\r':
			if b.cr {
				b.release()
			}
			b.cr = true
		case c == '\n' && b.cr:
			b.cr, b.space = false, false
			b.lines++
		default:
			b.release()
			return p[i:]
		}
	}
	return nil
}

// release puts out what was kept, white space as one space.
func (b *bodyForm) release() {
	for ; b.lines > 0; b.lines-- {
		b.put(crlf)
	}
	if b.space {
		b.put(oneSpace)
	}
	if b.cr {
		b.put(crlf[:1])
	}
	b.space, b.cr = false, false
}

var (
	crlf     = []byte("\r\n")
	oneSpace = []byte(" ")
)

// put hands octets to the hash, short ones together.
func (b *bodyForm) put(p []byte) {
	if len(p) == 0 {
		return
	}
	b.started = true
	if b.n+len(p) > len(b.out) {
		b.hash.Write(b.out[:b.n])
		b.n = 0
	}
	if len(p) >= len(b.out)/2 {
		b.hash.Write(b.out[:b.n])
		b.hash.Write(p)
		b.n = 0
		return
	}
	b.n += copy(b.out[b.n:], p)
}

// end drops what is trailing, ends the last line, and gives the hash. An empty
// body is one CRLF in the simple form and nothing in the relaxed form.
func (b *bodyForm) end(sum *[sha256.Size]byte) {
	if b.cr {
		b.release() // a CR alone is no line end
	}
	if b.started || !b.relaxed {
		b.put(crlf)
	}
	b.hash.Write(b.out[:b.n])
	b.hash.Sum(sum[:0])
}

// plainRun is the number of octets at the front of p that the relaxed form
// leaves as they are: up to a tab, or to a space that is followed by white
// space, by a control character, or by the end of p. It looks at eight octets
// at a time.
func plainRun(p []byte) int {
	i := 0
	for ; i+9 <= len(p); i += 8 {
		here := binary.LittleEndian.Uint64(p[i:])
		if upToSpace(here) == 0 {
			continue // most words of base64
		}
		next := binary.LittleEndian.Uint64(p[i+1:])
		if stop := equalBytes(here, ' ')&upToSpace(next) | equalBytes(here, '\t'); stop != 0 {
			return i + bits.TrailingZeros64(stop)/8
		}
	}
	for ; i < len(p); i++ {
		if p[i] == '\t' || p[i] == ' ' && (i+1 == len(p) || p[i+1] <= ' ') {
			return i
		}
	}
	return i
}

// Each octet of a word is asked at once; the answer is its highest bit.
const (
	ones  = 0x0101010101010101
	low7  = 0x7f * ones
	high1 = 0x80 * ones
)

// equalBytes marks the octets of w that are c.
func equalBytes(w uint64, c byte) uint64 {
	x := w ^ ones*uint64(c)
	return ^((x&low7 + low7) | x | low7)
}

// upToSpace marks the octets of w that are at most ' '.
func upToSpace(w uint64) uint64 {
	return ^((w & low7) + (0x7f-' ')*ones | w) & high1
}

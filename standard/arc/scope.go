package arc

import (
	"crypto/sha256"
	"hash"

	"anechoic/mail"
	"anechoic/standard/dkim"
)

// scope is what a seal covers, as it is hashed: whole sets, oldest first, each as
// results, message signature and seal, in relaxed form (RFC 8617 section 5.1.1).
type scope struct {
	hash hash.Cloner
	b    []byte // to write in
}

func newScope() *scope {
	return &scope{hash: sha256.New().(hash.Cloner), b: make([]byte, 0, 2048)}
}

// add covers one field.
func (s *scope) add(f mail.Field) {
	s.b = dkim.AppendField(s.b[:0], f, dkim.Relaxed)
	s.hash.Write(s.b)
}

// addOthers covers the fields of a set that its seal comes behind.
func (s *scope) addOthers(set *set) {
	s.b = set.appendOthers(s.b[:0])
	s.hash.Write(s.b)
}

// appendOthers appends the fields of a set that its seal comes behind.
func (s *set) appendOthers(dst []byte) []byte {
	dst = dkim.AppendField(dst, s.results.field, dkim.Relaxed)
	return dkim.AppendField(dst, s.message.field, dkim.Relaxed)
}

// digest is what the seal signs that comes next: what was covered so far, then
// the seal itself without its b=. The scope stays as it is.
func (s *scope) digest(seal mail.Field) (digest [sha256.Size]byte) {
	h, err := s.hash.Clone()
	if err != nil {
		return digest // nothing verifies with it
	}
	s.b = dkim.AppendUnsigned(s.b[:0], seal, dkim.Relaxed)
	h.Write(s.b)
	h.Sum(digest[:0])
	return digest
}

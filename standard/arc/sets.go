package arc

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"

	"anechoic/mail"
	"anechoic/standard/dkim"
)

// maxFields is how many ARC fields a chain can have; more are not read.
const maxFields = 3 * MaxInstances

// set is the fields that bear one number.
type set struct {
	results, message, seal part
}

// part is the place of one field in a set.
type part struct {
	field mail.Field // the topmost, if there are several
	count int        // fields that claim the place
	tags  dkim.Tags  // of a message signature or a seal
	text  []byte     // of results: what follows "i=N;"
}

// sets is the ARC fields of a header in their places.
type sets struct {
	list   []set // set 1 first; the last has at least one field
	fields int   // ARC fields that were seen
	err    error // the first reason why this is no whole sequence
}

// readSets finds the sets of a header (RFC 8617 section 5.2 steps 1 and 3A, 3B).
func readSets(header mail.Header) sets {
	var s sets
	for _, f := range header.Fields {
		if !isARC(f) {
			continue
		}
		if s.fields++; s.fields > maxFields {
			s.fail(fmt.Errorf("more than %d ARC fields", maxFields))
			return s
		}
		if err := s.add(f); err != nil {
			s.fail(err)
		}
	}
	s.checkWhole()
	return s
}

func isARC(f mail.Field) bool {
	return f.HasPrefix("ARC-") && (f.Is(SealField) || f.Is(MessageField) || f.Is(ResultsField))
}

// fail keeps the first reason.
func (s *sets) fail(err error) {
	if s.err == nil {
		s.err = err
	}
}

// add puts a field in its place.
func (s *sets) add(f mail.Field) error {
	p := part{field: f}
	var number int
	var err error
	if f.Is(ResultsField) {
		number, p.text, err = cutInstance(f.RawValue())
	} else {
		p.tags, number, err = readTags(f.RawValue())
	}
	if err != nil {
		return fmt.Errorf("%s: %w", f.Name(), err)
	}
	for len(s.list) < number {
		s.list = append(s.list, set{})
	}
	place := s.list[number-1].place(f)
	if place.count++; place.count > 1 {
		return fmt.Errorf("set %d has %s twice", number, f.Name())
	}
	p.count = 1
	*place = p
	return nil
}

func (s *set) place(f mail.Field) *part {
	switch {
	case f.Is(SealField):
		return &s.seal
	case f.Is(MessageField):
		return &s.message
	}
	return &s.results
}

// checkWhole asks for exactly one of each field in every set (RFC 8617 section 5.2
// step 3A and 3B). Fields that stand twice were told already.
func (s *sets) checkWhole() {
	for i, set := range s.list {
		switch {
		case set.seal.count == 0:
			s.fail(fmt.Errorf("set %d has no %s", i+1, SealField))
		case set.message.count == 0:
			s.fail(fmt.Errorf("set %d has no %s", i+1, MessageField))
		case set.results.count == 0:
			s.fail(fmt.Errorf("set %d has no %s", i+1, ResultsField))
		}
	}
}

// whole says that each field of the set stands once.
func (s *set) whole() bool {
	return s.results.count == 1 && s.message.count == 1 && s.seal.count == 1
}

// readTags reads a tag list and its i=.
func readTags(value []byte) (dkim.Tags, int, error) {
	tags, err := dkim.ParseTags(value)
	if err != nil {
		return tags, 0, err
	}
	i, ok := tags.Get("i")
	if !ok {
		return tags, 0, errors.New("tag i= is missing")
	}
	number, err := parseInstance(i)
	return tags, number, err
}

// parseInstance reads the number of a set: one or two digits, 1 to 50 (RFC 8617
// sections 3.9 and 4.2.1).
func parseInstance(v string) (int, error) {
	n := 0
	for i := 0; i < len(v); i++ {
		if v[i] < '0' || v[i] > '9' || len(v) > 2 {
			return 0, fmt.Errorf("tag i=: %.20q is no number of a set", v)
		}
		n = 10*n + int(v[i]-'0')
	}
	if n < 1 || n > MaxInstances {
		return 0, fmt.Errorf("tag i=: %.20q is not within 1 to %d", v, MaxInstances)
	}
	return n, nil
}

// errNoInstance is why an ARC-Authentication-Results field belongs to no set.
var errNoInstance = errors.New(`it does not begin with "i=", the number of a set and a semicolon`)

// cutInstance reads the front of an ARC-Authentication-Results value, in which
// comments may stand (RFC 8617 section 4.1.1), and gives the rest.
func cutInstance(value []byte) (number int, rest []byte, err error) {
	rest = skipComments(value)
	for _, c := range []byte("i=") {
		if len(rest) == 0 || rest[0] != c {
			return 0, nil, errNoInstance
		}
		rest = skipComments(rest[1:])
	}
	digits := 0
	for digits < len(rest) && rest[digits] >= '0' && rest[digits] <= '9' {
		digits++
	}
	if number, err = parseInstance(string(rest[:digits])); err != nil {
		return 0, nil, err
	}
	rest = skipComments(rest[digits:])
	if len(rest) == 0 || rest[0] != ';' {
		return 0, nil, errNoInstance
	}
	return number, rest[1:], nil
}

// skipComments takes white space and comments off the front: [CFWS] of RFC 5322
// section 3.2.2. Of a comment that does not end it leaves nothing.
func skipComments(b []byte) []byte {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case c == '(':
			depth++
		case depth == 0 && c != ' ' && c != '\t' && c != '\r' && c != '\n':
			return b[i:]
		case c == ')':
			depth--
		case c == '\\':
			i++
		}
	}
	return nil
}

// unfold takes line ends out and white space off.
func unfold(text []byte) string {
	return string(bytes.Trim(bytes.ReplaceAll(text, []byte("\r\n"), nil), " \t"))
}

// fingerprint tells chains apart: zero for no ARC field at all.
func fingerprint(header mail.Header) (sum [sha256.Size]byte) {
	h := sha256.New()
	found := false
	for _, f := range header.Fields {
		if isARC(f) {
			found = true
			h.Write(f.Raw())
		}
	}
	if found {
		h.Sum(sum[:0])
	}
	return sum
}

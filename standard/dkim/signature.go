package dkim

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"anechoic/mail"
)

// Signature is a DKIM-Signature field that was read (RFC 6376 section 3.5). It
// is a claim: nothing of it is proven.
type Signature struct {
	Domain       mail.Domain      // d=
	Selector     string           // s=, in lower case
	Algorithm    Algorithm        // a=
	Header, Body Canonicalization // c=
	Identity     string           // i=, decoded; "@d" if absent
	SignedFields []string         // h=, in lower case
	Signed       time.Time        // t=, zero if absent
	Expires      time.Time        // x=, zero if absent or beyond any calendar
	BodyHash     []byte           // bh=
	Signature    []byte           // b=
	HasLength    bool             // l= is there: only part of the body is signed

	identityDomain mail.Domain
}

// KeyName is where the key is published (RFC 6376 section 3.6.2.1); empty if
// domain or selector could not be read.
func (s Signature) KeyName() string {
	if s.Domain.IsZero() || s.Selector == "" {
		return ""
	}
	return KeyName(s.Selector, s.Domain)
}

// tagReader reads one tag of a signature.
type tagReader struct {
	name     string
	required bool
	read     func(*Signature, string) error
}

// signatureTags reads each tag of a DKIM-Signature. Domain and selector come
// first, so that a broken signature still says whose it claims to be.
var signatureTags = []tagReader{
	{"d", true, (*Signature).readDomain},
	{"s", true, (*Signature).readSelector},
	{"v", true, (*Signature).readVersion},
	{"a", true, (*Signature).readAlgorithm},
	{"c", false, (*Signature).readCanonicalization},
	{"h", true, (*Signature).readSignedFields},
	{"bh", true, (*Signature).readBodyHash},
	{"b", true, (*Signature).readSignature},
	{"i", false, (*Signature).readIdentity},
	{"q", false, (*Signature).readQuery},
	{"t", false, (*Signature).readSigned},
	{"x", false, (*Signature).readExpires},
	{"l", false, (*Signature).readLength},
}

// ParseSignature reads the value of a DKIM-Signature field, folded or not.
// Unknown tags are ignored. With an error it gives what it had read.
func ParseSignature(value []byte) (Signature, error) {
	tags, err := ParseTags(value)
	if err != nil {
		return Signature{}, err
	}
	var s Signature
	if err := s.read(tags, signatureTags); err != nil {
		return s, err
	}
	return s, s.finish()
}

// read takes the tags that readers name, in their order.
func (s *Signature) read(tags Tags, readers []tagReader) error {
	for _, t := range readers {
		v, ok := tags.Get(t.name)
		if !ok && t.required {
			return fmt.Errorf("tag %s= is missing", t.name)
		}
		if !ok {
			continue
		}
		if err := t.read(s, v); err != nil {
			return fmt.Errorf("tag %s=: %w", t.name, err)
		}
	}
	return nil
}

// messageSignatureTags are those of an ARC-Message-Signature: v= is ignored, and
// i= is the number of the set, which is not read here (RFC 8617 section 4.1.2).
var messageSignatureTags = []tagReader{
	{"d", true, (*Signature).readDomain},
	{"s", true, (*Signature).readSelector},
	{"a", true, (*Signature).readAlgorithm},
	{"c", false, (*Signature).readCanonicalization},
	{"h", true, (*Signature).readSignedFieldsWithGaps},
	{"bh", true, (*Signature).readBodyHash},
	{"b", true, (*Signature).readSignature},
	{"q", false, (*Signature).readQuery},
	{"t", false, (*Signature).readSigned},
	{"x", false, (*Signature).readExpires},
	{"l", false, (*Signature).readLength},
}

// sealTags are those of an ARC-Seal (RFC 8617 section 4.1.3); i= and cv= are
// not read here.
var sealTags = []tagReader{
	{"d", true, (*Signature).readDomain},
	{"s", true, (*Signature).readSelector},
	{"a", true, (*Signature).readAlgorithm},
	{"b", true, (*Signature).readSignature},
	{"t", false, (*Signature).readSigned},
}

// ParseMessageSignature reads the tags of an ARC-Message-Signature field, but for
// i=. Without c= both forms are relaxed: RFC 8617 names no other default than that
// of DKIM, but the test suite of its authors and most validators do. With an error it gives what it had read.
func ParseMessageSignature(tags Tags) (Signature, error) {
	s := Signature{Header: Relaxed, Body: Relaxed}
	err := s.read(tags, messageSignatureTags)
	if err == nil {
		err = s.checkTimes()
	}
	return s, err
}

// ParseSeal reads the tags of an ARC-Seal field, but for i= and cv=. Its header
// form is always relaxed. With an error it gives what it had read.
func ParseSeal(tags Tags) (Signature, error) {
	s := Signature{Header: Relaxed}
	err := s.read(tags, sealTags)
	return s, err
}

// finish sets what defaults to other tags and compares tags with each other.
func (s *Signature) finish() error {
	if s.Identity == "" {
		s.Identity, s.identityDomain = "@"+s.Domain.String(), s.Domain
	}
	if !s.identityDomain.Within(s.Domain) {
		return fmt.Errorf("tag i=: %s is not within d=%s", s.identityDomain, s.Domain) // RFC 6376 section 6.1.1
	}
	return s.checkTimes()
}

// checkTimes compares x= with t= (RFC 6376 section 3.5).
func (s *Signature) checkTimes() error {
	if !s.Expires.IsZero() && !s.Signed.IsZero() && !s.Expires.After(s.Signed) {
		return errors.New("tag x=: it is not later than t=")
	}
	return nil
}

func (s *Signature) readVersion(v string) error {
	if v != "1" {
		return fmt.Errorf("version %.20q is not known", v)
	}
	return nil
}

func (s *Signature) readDomain(v string) (err error) {
	s.Domain, err = mail.ParseDomain(v)
	return err
}

func (s *Signature) readSelector(v string) (err error) {
	s.Selector, err = ParseSelector(v)
	return err
}

func (s *Signature) readAlgorithm(v string) (err error) {
	s.Algorithm, err = ParseAlgorithm(v)
	return err
}

func (s *Signature) readCanonicalization(v string) (err error) {
	s.Header, s.Body, err = ParseCanonicalization(v)
	return err
}

func (s *Signature) readSignedFields(v string) (err error) {
	s.SignedFields, err = ParseFieldNames(v)
	return err
}

// readSignedFieldsWithGaps also takes an h= list with empty names, which select
// nothing: chains have them.
func (s *Signature) readSignedFieldsWithGaps(v string) (err error) {
	names := slices.DeleteFunc(splitColons(v), func(name string) bool { return name == "" })
	if len(names) == 0 {
		return errors.New("it names no field")
	}
	s.SignedFields, err = lowerNames(names)
	return err
}

func (s *Signature) readBodyHash(v string) (err error) {
	if s.BodyHash, err = DecodeBase64(v); err != nil {
		return err
	}
	if s.Algorithm != RSASHA1 && len(s.BodyHash) != sha256.Size {
		return fmt.Errorf("%d octets are no SHA-256 hash", len(s.BodyHash))
	}
	return nil
}

func (s *Signature) readSignature(v string) (err error) {
	if s.Signature, err = DecodeBase64(v); err == nil && len(s.Signature) == 0 {
		err = errors.New("it is empty")
	}
	return err
}

// readIdentity reads an address whose local part may be empty and quoted
// (RFC 6376 section 3.5).
func (s *Signature) readIdentity(v string) error {
	decoded, err := decodeQuoted(stripSpace(v))
	if err != nil {
		return err
	}
	at := strings.LastIndexByte(decoded, '@')
	if at < 0 {
		return fmt.Errorf("%.60q has no @", decoded)
	}
	s.Identity = decoded
	s.identityDomain, err = mail.ParseDomain(decoded[at+1:])
	return err
}

func (s *Signature) readQuery(v string) error {
	for _, method := range splitColons(v) {
		if method == "dns/txt" {
			return nil
		}
	}
	return fmt.Errorf("query method %.40q is not known", v)
}

func (s *Signature) readSigned(v string) (err error) {
	s.Signed, err = ParseSeconds(v)
	return err
}

func (s *Signature) readExpires(v string) (err error) {
	s.Expires, err = ParseSeconds(v)
	return err
}

// readLength only notes that l= is there: such a signature is refused, so what
// it counts does not matter.
func (s *Signature) readLength(v string) error {
	if !allDigits(v) {
		return fmt.Errorf("%.20q is no number", v)
	}
	s.HasLength = true
	return nil
}

// maxSeconds is the last time that counts: 12 digits, as RFC 6376 section 3.5
// wants accepted at least. What is later is as good as never.
const maxSeconds = 999_999_999_999

// ParseSeconds reads seconds since 1970; later than maxSeconds gives the zero
// time.
func ParseSeconds(v string) (time.Time, error) {
	if !allDigits(v) {
		return time.Time{}, fmt.Errorf("%.20q is no number of seconds", v)
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n > maxSeconds {
		return time.Time{}, nil
	}
	return time.Unix(n, 0).UTC(), nil
}

func allDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// ParseFieldNames reads an h= tag into lower case.
func ParseFieldNames(v string) ([]string, error) {
	names := splitColons(v)
	if slices.Contains(names, "") {
		return nil, errors.New("it names an empty field")
	}
	return lowerNames(names)
}

// lowerNames checks field names and gives them in lower case, in place.
func lowerNames(names []string) ([]string, error) {
	for i, name := range names {
		for j := 0; j < len(name); j++ {
			if name[j] <= ' ' || name[j] >= 0x7f {
				return nil, fmt.Errorf("%.40q is no field name", name)
			}
		}
		names[i] = strings.ToLower(name)
	}
	return names, nil
}

// ParseSelector reads one or more labels into lower case. Underscores are
// taken, which RFC 6376 section 3.1 does not know but which are in use.
func ParseSelector(v string) (string, error) {
	for i := 0; i < len(v); i++ {
		if v[i] >= 0x80 { // RFC 8616 section 4: U-labels, looked up as A-labels
			d, err := mail.ParseDomain(v)
			return d.String(), err
		}
	}
	v = strings.ToLower(v)
	for label := range strings.SplitSeq(v, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789_-") != "" {
			return "", fmt.Errorf("%.70q is no selector", v)
		}
	}
	return v, nil
}

// decodeQuoted decodes dkim-quoted-printable (RFC 6376 section 2.11): "=" and
// two upper-case hexadecimal digits.
func decodeQuoted(s string) (string, error) {
	if !strings.Contains(s, "=") {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '=' {
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", errors.New("it ends inside a quoted octet")
		}
		c, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
		if err != nil || strings.ToUpper(s[i+1:i+3]) != s[i+1:i+3] {
			return "", fmt.Errorf("%q is no quoted octet", s[i:i+3])
		}
		b.WriteByte(byte(c))
		i += 2
	}
	return b.String(), nil
}

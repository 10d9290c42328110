// Package authres writes and reads Authentication-Results, in which a receiver
// tells the programs behind it what its checks of a message gave (RFC 8601).
//
// Three things are done with such a field:
//
//  1. Field and String write Results. Whatever a value holds, the field has as
//     many results as were given, and reads back with the same words.
//  2. Parse reads a field, or what follows "i=N;" of an ARC-Authentication-Results
//     (RFC 8617 section 4.1.1), into the same type.
//  3. Ours says whether a field of a stranger could be taken for one of this
//     server's. Such fields are removed on entry (RFC 8601 section 5).
//
// The same is done for Received-SPF (RFC 7208 section 9.1), the older field that
// tells of SPF alone.
//
// What is promised: a name, an address or an explanation that an attacker chose
// cannot end its own place: no quote, parenthesis, semicolon, line end, NUL,
// encoded word or invisible character makes a second result, a second field or
// another value. What is written is bounded: MaxLength octets, lines of at most
// 998, folded at 78 where that can be helped.
//
// What it is not for: a field that was read is worth what its writer is. The
// package knows no border and no seal.
package authres

import (
	"errors"
	"slices"
	"strings"

	"anechoic/mail"
)

// FieldName is the name of the field (RFC 8601 section 2.2).
const FieldName = "Authentication-Results"

// Bounds of our own on what is read and written.
const (
	MaxLength     = 32 << 10 // octets of a value
	MaxResults    = 100      // results in a field
	MaxProperties = 32       // properties of a result
	MaxValue      = 320      // octets of a value that is written: 64 for a local part, "@", 255 for a domain
	maxKeyword    = 64       // octets of a name that is written
	maxVersion    = 9999     // RFC 8601 knows version 1
)

// ErrSyntax says that a text is no content of an Authentication-Results field.
var ErrSyntax = errors.New("not authentication results")

// Results is the content of one field. No Methods means that nothing was checked,
// written "none".
type Results struct {
	ID      string // authserv-id: who says so
	Version int    // 0 if it is absent, which means 1
	Methods []Result

	// UTF8 allows text outside ASCII in values: the message is one for SMTPUTF8
	// (RFC 8601 sections 2.2 and 2.3). Without it such text is written as question marks.
	UTF8 bool
}

// Result is what one method gave.
type Result struct {
	Method     string // "spf", "dkim"…; in lower case when read
	Version    int    // of the method; 0 if it is absent
	Value      string // "pass", "fail"…; in lower case when read
	Reason     string // why, for programs
	Comment    string // why, for people; stands behind the result
	Properties []Property
}

// Property is one thing the method looked at: Type "smtp", Name "mailfrom". Type
// is empty where the writer left it out, as Microsoft does with "action=none".
type Property struct {
	Type, Name, Value string
}

// With gives a result with one more property.
func (r Result) With(ptype, name, value string) Result {
	r.Properties = append(slices.Clip(r.Properties), Property{ptype, name, value})
	return r
}

// Get is the value of the first property of that name, and whether it is there.
// The names are given in lower case.
func (r Result) Get(ptype, name string) (value string, ok bool) {
	for _, p := range r.Properties {
		if p.Type == ptype && p.Name == name {
			return p.Value, true
		}
	}
	return "", false
}

// Of gives the results of one method, in order. The name is given in lower case.
func (r Results) Of(method string) []Result {
	var found []Result
	for _, m := range r.Methods {
		if m.Method == method {
			found = append(found, m)
		}
	}
	return found
}

// Field is the whole Authentication-Results field.
func (r Results) Field() mail.Field { return mail.NewField(FieldName, r.String()) }

// String is the value of an Authentication-Results field, folded.
func (r Results) String() string {
	return string(r.Append(nil, len(FieldName)+len(": ")))
}

// keyword says that s is a Keyword (RFC 8601 section 2.2, by RFC 5321: letters,
// digits, inner hyphens), in lower case. Underscores are no part of it but of
// names in use.
func keyword(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; !isKeyword(c) || c >= 'A' && c <= 'Z' {
			return false
		}
	}
	return s != "" && s[0] != '-' && s[len(s)-1] != '-'
}

func isKeyword(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_'
}

// encodedWord begins an encoded word (RFC 2047 section 2). Nothing of the kind
// belongs into quotes, and there are programs that decode it all the same.
const encodedWord = "=?"

func breakEncodedWords(s string) string { return strings.ReplaceAll(s, encodedWord, "=_") }

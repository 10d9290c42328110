// Package jsonobject writes JSON objects by hand: facts and the records of the
// queue, of which every message has several. encoding/json takes as long for one of
// them as all else that keeping a message takes.
//
// It only writes, and leaves out what is empty; encoding/json reads it. It is for
// flat objects whose fields are known where they are written, and whose names need
// no escaping; whoever uses it tests that encoding/json reads the same value back.
package jsonobject

import (
	"encoding/base64"
	"encoding/json"
	"strconv"
	"time"
)

// Object is an object in the making, behind what was in the slice before.
type Object struct {
	b     []byte
	begun bool
}

// Begin opens an object at the end of b.
func Begin(b []byte) Object { return Object{b: append(b, '{')} }

// End closes the object and gives all that was written.
func (o *Object) End() []byte { return append(o.b, '}') }

func (o *Object) name(name string) {
	if o.begun {
		o.b = append(o.b, ',')
	}
	o.begun = true
	o.b = append(append(append(o.b, '"'), name...), `":`...)
}

// Text writes a string.
func (o *Object) Text(name, s string) {
	if s != "" {
		o.name(name)
		o.b = appendString(o.b, s)
	}
}

// Texts writes an array of strings.
func (o *Object) Texts(name string, list []string) {
	for i, s := range list {
		if i == 0 {
			o.name(name)
			o.b = append(o.b, '[')
		} else {
			o.b = append(o.b, ',')
		}
		o.b = appendString(o.b, s)
	}
	if len(list) > 0 {
		o.b = append(o.b, ']')
	}
}

// Octets writes a string in base64, as encoding/json does for a []byte.
func (o *Object) Octets(name string, octets []byte) {
	if len(octets) > 0 {
		o.name(name)
		o.b = append(base64.StdEncoding.AppendEncode(append(o.b, '"'), octets), '"')
	}
}

// Number writes an integer.
func (o *Object) Number(name string, n int64) {
	if n != 0 {
		o.name(name)
		o.b = strconv.AppendInt(o.b, n, 10)
	}
}

// Unsigned writes an integer.
func (o *Object) Unsigned(name string, n uint64) {
	if n != 0 {
		o.name(name)
		o.b = strconv.AppendUint(o.b, n, 10)
	}
}

// True writes true.
func (o *Object) True(name string, is bool) {
	if is {
		o.name(name)
		o.b = append(o.b, "true"...)
	}
}

// Time writes a time of a year that has four digits, as encoding/json does.
func (o *Object) Time(name string, t time.Time) {
	o.name(name)
	o.b = append(t.AppendFormat(append(o.b, '"'), time.RFC3339Nano), '"')
}

// Inner writes an object, which write fills in.
func (o *Object) Inner(name string, write func(*Object)) {
	o.name(name)
	inner := Begin(o.b)
	write(&inner)
	o.b = inner.End()
}

// Value writes what encoding/json makes of v: for what is rare.
func (o *Object) Value(name string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	o.name(name)
	o.b = append(o.b, text...)
	return nil
}

// appendString appends a JSON string (RFC 8259 section 7).
func appendString(b []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			escaped, err := json.Marshal(s) // never fails for a string
			if err == nil {
				return append(b, escaped...)
			}
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

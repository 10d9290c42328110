// Package report takes reports of mail systems apart (RFC 6522): a message into
// its parts, a part into its fields.
//
// Reports come from programs of every age, so the reading is lenient where a
// strict one would lose what is told: parts of any nesting are listed in order,
// a closing boundary may be missing, line ends may be of any kind, a line that is
// no field is passed over. It is bounded all the same: in octets, parts, depth
// and fields; what is past a bound is not looked at.
//
// Nothing that is read here may be believed, or shown before it was made
// printable: it is a stranger's text. The package decides nothing.
package report

import (
	"bytes"
	"encoding/base64"
	"io"
	"mime"
	"mime/quotedprintable"
	"strings"
)

// Bounds of what is looked at in one report. They are ours: a report with a whole
// message in it is cut, and nothing that matters stands behind so much.
const (
	MaxOctets = 512 << 10
	maxParts  = 64
	maxDepth  = 8
	maxFields = 1000
)

// Part is one part that holds no others, or the whole of a message that has none.
type Part struct {
	Type   string            // media type in lower case; text/plain where none is given
	Params map[string]string // of the media type; names in lower case
	Fields Fields            // its header
	Body   []byte            // decoded, cut to MaxOctets in all
}

// Read lists the parts of a message in order. Multiparts are taken apart; a
// message in the message is one part.
func Read(header Fields, body []byte) []Part {
	r := reader{}
	r.part(header, body[:min(len(body), MaxOctets)], 0)
	return r.parts
}

type reader struct{ parts []Part }

// part adds a part, or those it holds.
func (r *reader) part(header Fields, body []byte, depth int) {
	if len(r.parts) >= maxParts {
		return
	}
	kind, params := mediaType(header.Get("Content-Type"))
	if boundary := params["boundary"]; strings.HasPrefix(kind, "multipart/") && boundary != "" && depth < maxDepth {
		inner := split(body, boundary)
		for _, part := range inner {
			fields, content := Message(part)
			r.part(fields, content, depth+1)
		}
		if len(inner) > 0 {
			return
		}
		kind = "text/plain" // its boundary never comes
	}
	r.parts = append(r.parts, Part{Type: kind, Params: params, Fields: header, Body: decode(header.Get("Content-Transfer-Encoding"), body)})
}

// mediaType reads a Content-Type (RFC 2045 section 5.1). What cannot be read
// whole is read as far as it can be: up to the first semicolon.
func mediaType(value string) (string, map[string]string) {
	if strings.TrimSpace(value) == "" {
		return "text/plain", nil
	}
	kind, params, err := mime.ParseMediaType(value)
	if err == nil {
		return kind, params
	}
	kind, rest, _ := strings.Cut(value, ";")
	params = map[string]string{}
	for parameter := range strings.SplitSeq(rest, ";") {
		if name, v, ok := strings.Cut(parameter, "="); ok {
			params[strings.ToLower(strings.TrimSpace(name))] = strings.Trim(strings.TrimSpace(v), `"`)
		}
	}
	return strings.ToLower(strings.TrimSpace(kind)), params
}

// split cuts a multipart's body at its boundary lines (RFC 2046 section 5.1.1).
// The preamble goes; without a closing boundary the last part reaches to the end.
func split(body []byte, boundary string) (parts [][]byte) {
	delimiter := []byte("--" + boundary)
	start := -1
	for at := 0; at < len(body) && len(parts) < maxParts; {
		end := len(body)
		if i := bytes.IndexByte(body[at:], '\n'); i >= 0 {
			end = at + i + 1
		}
		if line := bytes.TrimRight(body[at:end], " \t\r\n"); bytes.HasPrefix(line, delimiter) {
			switch rest := string(line[len(delimiter):]); rest {
			case "", "--":
				if start >= 0 {
					parts = append(parts, body[start:at])
				}
				if start = end; rest == "--" {
					return parts
				}
			}
		}
		at = end
	}
	if start >= 0 && start < len(body) && len(parts) < maxParts {
		parts = append(parts, body[start:])
	}
	return parts
}

// decode undoes a transfer encoding (RFC 2045 section 6); what is broken is given
// as far as it could be read.
func decode(encoding string, body []byte) []byte {
	var from io.Reader
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "base64":
		from = base64.NewDecoder(base64.StdEncoding, bytes.NewReader(body))
	case "quoted-printable":
		from = quotedprintable.NewReader(bytes.NewReader(body))
	default:
		return body
	}
	decoded, _ := io.ReadAll(io.LimitReader(from, MaxOctets))
	return decoded
}

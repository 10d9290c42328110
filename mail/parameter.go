package mail

import "bytes"

// maxParameters bounds how many parameters of one field are read. Real fields
// have under ten; a long file name in pieces (RFC 2231 section 3) has some more.
const maxParameters = 100

// Parameter is one name=value of a structured field, as it was written: names in
// lower case, values without quotes. Values in pieces or with percent signs (RFC
// 2231) are not put together.
type Parameter struct{ Name, Value string }

// ReadParameters reads a Content-Type or a Content-Disposition as forgivingly as
// mail programs do: the word in front in lower case (a media type, "attachment"),
// and the parameters in their order, repeated ones too. It never fails: what
// cannot be read is not there. Of very long fields it reads the first octets. It
// is for finding content, never for identity.
func ReadParameters(value []byte) (word string, parameters []Parameter) {
	value = value[:min(len(value), maxContentType)]
	word = mediaType(value)
	_, rest, _ := bytes.Cut(withoutComments(value), []byte{';'})
	for len(rest) > 0 && len(parameters) < maxParameters {
		var p Parameter
		if p.Name, p.Value, rest = cutParameter(rest); p.Name != "" {
			parameters = append(parameters, p)
		}
	}
	return word, parameters
}

package content

import (
	"slices"
	"strings"

	"anechoic/mail"
)

// maxPeople bounds how many addresses of one field are read.
const maxPeople = 50

// people reads whom the header names.
func (w *walk) people(h mail.Header) {
	if from := h.All("From"); len(from) == 1 {
		if m, err := mail.ParseMailboxUTF8(from[0].RawValue()); err == nil {
			w.content.From = Person{decodeWords(m.Name), m.Address}
		}
	}
	for _, f := range h.All("Reply-To") {
		for _, piece := range splitList(f.Value()) {
			if m, err := mail.ParseMailboxUTF8([]byte(piece)); err == nil && len(w.content.ReplyTo) < maxPeople {
				w.content.ReplyTo = append(w.content.ReplyTo, Person{decodeWords(m.Name), m.Address})
			}
		}
	}
}

// splitList splits a list of mailboxes at the commas that are not in quotes.
func splitList(s string) (pieces []string) {
	quoted, begin := false, 0
	for i := 0; i < len(s) && len(pieces) < maxPeople; i++ {
		switch {
		case s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == ',' && !quoted:
			pieces = append(pieces, s[begin:i])
			begin = i + 1
		}
	}
	return append(pieces, s[begin:])
}

// wideSigns are forms of the signs of an address.
var wideSigns = strings.NewReplacer("＠", "@", "﹫", "@", "．", ".")

// addressesIn finds what a reader takes for addresses in a name: words around an @,
// wide or small forms of it too.
func addressesIn(name string) (found []mail.Address) {
	name = clip(name, maxName)
	if !isASCII(name) {
		name = wideSigns.Replace(name)
	} else if strings.IndexByte(name, '@') < 0 {
		return nil
	}
	words := strings.FieldsFunc(name, func(r rune) bool {
		return r <= ' ' || strings.ContainsRune(`<>()[]{},;:"'|\/`+"“”‘’«»", r)
	})
	for _, word := range words {
		a, err := mail.ParseAddressUTF8(strings.Trim(word, ".=*~"))
		if err == nil && strings.Contains(a.Domain().String(), ".") && !slices.Contains(found, a) {
			found = append(found, a)
		}
	}
	return found
}

// People are the names of persons whom nobody outside may claim to be: the heads of
// an organisation, say. The zero value is nobody.
type People struct{ names map[string]string }

// NewPeople takes names as they are shown. Order, capitals, accents and look-alike
// letters make no difference later; a name of one word is left out, because too many
// people have it.
func NewPeople(names []string) People {
	p := People{names: map[string]string{}}
	for _, n := range names {
		if key := personKey(n); strings.Contains(key, " ") {
			p.names[key] = n
		}
	}
	return p
}

// Find gives the person whom a display name shows; what stands in brackets does not
// count.
func (p People) Find(display string) (name string, ok bool) {
	if len(p.names) == 0 {
		return "", false
	}
	if name, ok = p.names[personKey(display)]; ok {
		return name, true
	}
	short, _, found := strings.Cut(display, "(")
	if !found {
		short, _, _ = strings.Cut(display, "[")
	}
	name, ok = p.names[personKey(short)]
	return name, ok
}

// personKey is the likeness of each word, in order of the alphabet.
func personKey(name string) string {
	words := strings.FieldsFunc(clip(name, maxName), func(r rune) bool { return r <= ' ' || strings.ContainsRune(",.;\"'_\u00a0", r) })
	for i, word := range words {
		words[i] = likeness(word)
	}
	words = slices.DeleteFunc(words, func(w string) bool { return w == "" })
	slices.Sort(words)
	return strings.Join(words, " ")
}

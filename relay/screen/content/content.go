// Package content looks at what a message holds, for the relay's own checks. It
// does two things, apart:
//
//  1. Read goes once over the parts of a message and collects facts: files and
//     what they are by their first octets, what is packed into archives, links,
//     invitations, and whom the header names. It streams: of a big file it keeps
//     the first octets, of an archive as much as Limits allow.
//  2. Judge applies rules to the facts and gives findings: a code that is
//     documented in docs/screening.md, a severity, a place, and a sentence that is
//     safe to print.
//
// Both are functions of their arguments. Time and memory are bounded whatever the
// message is: what a bound cut off is itself a finding. Reading is forgiving, as
// mail programs are; where they differ it takes the reading that shows more.
//
// A finding is no verdict: the stage that asks decides what becomes of the message,
// and no answer of this package is part of any proof. It opens no executable, runs
// nothing, looks nothing up, and knows no signatures of malware.
package content

import (
	"anechoic/mail"
)

// Limits bounds what Read does for one message. Zero fields are those of
// DefaultLimits.
type Limits struct {
	Depth         int   // parts in parts
	Parts         int   // parts of the message
	PartHeader    int   // octets of one part's header
	Text          int   // octets of text that are read, of the whole message
	KeptText      int   // octets of shown text that Content keeps; zero: none
	Links         int   // links kept
	Files         int   // files in archives
	ArchiveDepth  int   // archives in archives
	ArchiveMemory int64 // octets of archives held at one time
	Unpacked      int64 // octets that archives are unpacked to, one after the other
	Ratio         int64 // how many times its size a file may unpack to, past BombFloor
}

// BombFloor is how much any archive may unpack to before its ratio counts: a file
// of zeros is no weapon while it is small.
const BombFloor = 16 << 20

// DefaultLimits are bounds that real mail seldom meets, and with which a message
// takes under a second and under 100 MiB at worst.
func DefaultLimits() Limits {
	return Limits{
		Depth:         mail.DefaultMaxMIMEDepth,
		Parts:         1000,
		PartHeader:    64 << 10,
		Text:          4 << 20,
		Links:         500,
		Files:         2000,
		ArchiveDepth:  4,
		ArchiveMemory: 24 << 20,
		Unpacked:      64 << 20,
		Ratio:         200,
	}
}

// Content is what a message holds.
type Content struct {
	From    Person   // zero: there is not exactly one From that can be read
	ReplyTo []Person // of Reply-To
	Files   []File
	Links   []Link
	Invites []Invite
	Texts   []Text // what programs show as the message, in order; none unless Limits.KeptText says so

	// Cut names the bounds that ended the reading of something, each once.
	Cut []string
	// Ambiguous says what programs may read in different ways, each once.
	Ambiguous []string
	// Incomplete says that the message calls itself a fragment of another one
	// (RFC 2046 section 5.2.2): the whole is never seen here.
	Incomplete bool
}

// Person is a mailbox as a reader sees it.
type Person struct {
	Name    string // decoded (RFC 2047)
	Address mail.Address
}

// File is a part of the message, or a file packed in one.
type File struct {
	Place     string   // "part 1.2", or "part 2, invoice.zip" for what is in it
	Names     []string // each name that the header or the archive gives, decoded, the first the one most programs show
	Type      string   // the declared media type, in lower case; empty: none
	Size      int64    // octets, decoded and as far as they were read
	Kind      Kind     // by its first octets
	Packed    bool     // it is in an archive
	Shown     bool     // a text or picture that programs show as the message itself
	Encrypted bool     // it, or something in it, needs a password
	Macros    bool     // an office document with a program in it
	Remote    bool     // an office document that loads its template from elsewhere
	Script    bool     // HTML or SVG with a script in it
	Form      bool     // HTML with a form
	Bomb      bool     // it unpacks to far too much, or holds archives without end
	Unopened  string   // why an archive was not looked into; empty: it was, or it is none
	BadPath   bool     // its name in the archive leads out of the folder
}

// Name is the name most programs show; empty: it has none.
func (f File) Name() string {
	if len(f.Names) == 0 {
		return ""
	}
	return f.Names[0]
}

// Read collects what m holds. An error is one of reading the body, never one of
// what the message is.
func Read(m mail.Message, limits Limits) (Content, error) {
	w := walk{limits: limits.orDefault()}
	w.budget = budget{files: w.limits.Files, memory: w.limits.ArchiveMemory, unpacked: w.limits.Unpacked, text: w.limits.Text}
	w.people(m.Header)
	err := w.message(m)
	return w.content, err
}

func (l Limits) orDefault() Limits {
	d := DefaultLimits()
	for _, p := range []struct{ own, otherwise *int }{
		{&l.Depth, &d.Depth}, {&l.Parts, &d.Parts}, {&l.PartHeader, &d.PartHeader}, {&l.Text, &d.Text},
		{&l.Links, &d.Links}, {&l.Files, &d.Files}, {&l.ArchiveDepth, &d.ArchiveDepth},
	} {
		if *p.own <= 0 {
			*p.own = *p.otherwise
		}
	}
	for _, p := range []struct{ own, otherwise *int64 }{
		{&l.ArchiveMemory, &d.ArchiveMemory}, {&l.Unpacked, &d.Unpacked}, {&l.Ratio, &d.Ratio},
	} {
		if *p.own <= 0 {
			*p.own = *p.otherwise
		}
	}
	return l
}

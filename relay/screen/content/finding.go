package content

import (
	"cmp"
	"slices"

	"anechoic/mail"
)

// Severity is how bad a finding is, for a stage that decides by it alone.
type Severity int

// The severities.
const (
	Note       Severity = iota + 1 // worth showing beside others; often innocent
	Suspicious                     // seldom innocent: mark or hold
	Dangerous                      // does not belong into mail: hold or refuse
)

// String gives the word that stands in documents and the ledger.
func (s Severity) String() string {
	switch s {
	case Note:
		return "note"
	case Suspicious:
		return "suspicious"
	case Dangerous:
		return "dangerous"
	}
	return "none"
}

// Code is the stable word for what was found. docs/screening.md has a section for
// each. The set is closed: Codes lists it.
type Code string

// The codes.
const (
	FileBlocked      Code = "file-blocked"      // on the list of extensions that are not taken
	FileProgram      Code = "file-program"      // a program
	FileScript       Code = "file-script"       // a script, a shortcut, or what else runs when it is opened
	FileMacros       Code = "file-macros"       // an office document with macros
	FileRemote       Code = "file-remote"       // an office document that loads parts from elsewhere
	FilePage         Code = "file-page"         // an HTML or SVG file with a script or a form
	FileDisk         Code = "file-disk-image"   // a disk image
	FileContradicts  Code = "file-contradicts"  // it is not what its name or type says
	FileTwoEndings   Code = "file-two-endings"  // invoice.pdf.exe
	FileHiddenName   Code = "file-hidden-name"  // characters that hide the end of the name
	FileTwoNames     Code = "file-two-names"    // names of different kinds for one file
	FileEncrypted    Code = "file-encrypted"    // needs a password
	FileUnopened     Code = "file-unopened"     // an archive that was not looked into
	FileBomb         Code = "file-bomb"         // unpacks to far too much
	FilePath         Code = "file-path"         // leads out of the folder it is unpacked in
	MessageFragment  Code = "message-fragment"  // a piece of a message
	MessageAmbiguous Code = "message-ambiguous" // programs read its parts in different ways
	MessageCut       Code = "message-cut"       // too much to be looked at
	LinkOtherText    Code = "link-other-text"   // shows one domain and leads to another
	LinkScript       Code = "link-script"       // runs a script or holds a page
	LinkLocal        Code = "link-local"        // opens a file or a program of the reader's system
	LinkUserInfo     Code = "link-user-info"    // a name before the host
	LinkDisguised    Code = "link-disguised"    // a host that is written so that nobody can read it
	LinkAddress      Code = "link-address"      // an IP address in the place of a name
	LinkLookAlike    Code = "link-look-alike"   // looks like a protected domain
	LinkLetters      Code = "link-letters"      // letters of several scripts
	LinkRefresh      Code = "link-refresh"      // a page that leads elsewhere by itself
	NameIsAddress    Code = "name-is-address"   // the shown name is an address of another domain
	NameIsProtected  Code = "name-is-protected" // the shown name is a protected person's
	SenderLookAlike  Code = "sender-look-alike" // From looks like a protected domain
	SenderLetters    Code = "sender-letters"    // From has letters of several scripts
	ReplyLookAlike   Code = "reply-look-alike"  // Reply-To looks like From, or a protected domain
	InviteOther      Code = "invite-other"      // an invitation in another's name than From
	InviteProtected  Code = "invite-protected"  // an invitation in a protected domain's name
)

// Codes lists the whole set, in the order above.
func Codes() []Code {
	return []Code{
		FileBlocked, FileProgram, FileScript, FileMacros, FileRemote, FilePage, FileDisk, FileContradicts, FileTwoEndings,
		FileHiddenName, FileTwoNames, FileEncrypted, FileUnopened, FileBomb, FilePath, MessageFragment, MessageAmbiguous, MessageCut,
		LinkOtherText, LinkScript, LinkLocal, LinkUserInfo, LinkDisguised, LinkAddress, LinkLookAlike, LinkLetters, LinkRefresh,
		NameIsAddress, NameIsProtected, SenderLookAlike, SenderLetters, ReplyLookAlike, InviteOther, InviteProtected,
	}
}

// Finding is one thing that a rule found. All of its text is safe to print: what
// strangers wrote is in quotes, escaped and short.
type Finding struct {
	Code     Code
	Severity Severity
	Place    string // "From", "part 2", "part 2, \"invoice.zip\""
	Text     string // a sentence
}

// Rules is what differs between organisations. The zero value applies the rules
// that need no list.
type Rules struct {
	Blocked   []string      // extensions without dot that are not taken; nil: none
	Protected *Protected    // domains that nobody may imitate
	People    People        // persons whom only Own may claim to be
	Own       []mail.Domain // the organisation's domains
}

// DefaultBlocked are extensions that no honest sender mails: what Windows runs when
// it is opened.
func DefaultBlocked() []string {
	return []string{
		"ade", "adp", "appref-ms", "appx", "bat", "chm", "cmd", "com", "cpl", "diagcab", "dll", "exe", "gadget", "hlp", "hta", "ins", "isp",
		"jar", "jnlp", "jse", "js", "library-ms", "lnk", "mde", "msc", "msi", "msix", "msp", "mst", "pif", "ps1", "psc1", "psm1", "reg",
		"scf", "scr", "sct", "search-ms", "settingcontent-ms", "shb", "sys", "vb", "vbe", "vbs", "vhd", "vhdx", "wsc", "wsf", "wsh", "xll",
	}
}

// maxFindings bounds the findings of one message.
const maxFindings = 100

// Judge applies the rules to the facts. The findings come the worst first; of one
// code each place is named once.
func Judge(c Content, r Rules) []Finding {
	var j judge
	j.sender(c, r)
	for _, f := range c.Files {
		j.file(f, r)
	}
	for i := range c.Links {
		j.link(&c.Links[i], &r)
	}
	for _, v := range c.Invites {
		j.invite(v, c.From, r)
	}
	j.whole(c)
	slices.SortStableFunc(j.found, func(a, b Finding) int { return cmp.Compare(b.Severity, a.Severity) })
	return j.found[:min(len(j.found), maxFindings)]
}

// Worst is the severity of the worst finding; zero: there is none.
func Worst(findings []Finding) (worst Severity) {
	for _, f := range findings {
		worst = max(worst, f.Severity)
	}
	return worst
}

// own says that an address belongs to the organisation.
func (r Rules) own(a mail.Address) bool {
	return slices.ContainsFunc(r.Own, func(d mail.Domain) bool { return a.Domain().Within(d) })
}

// ofOwn says that an address belongs to the organisation or to a protected domain.
func (r Rules) ofOwn(a mail.Address) bool { return r.own(a) || r.Protected.Has(a.Domain()) }

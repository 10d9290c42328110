package content

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/net/publicsuffix"

	"anechoic/mail"
)

// judge collects findings.
type judge struct {
	found []Finding
	seen  map[[2]string]bool // code and place
	hosts map[mail.Domain]imitation
}

// maxCollected bounds what is collected before the worst are chosen.
const maxCollected = 10 * maxFindings

func (j *judge) add(code Code, s Severity, place, format string, args ...any) {
	key := [2]string{string(code), place}
	if j.seen[key] || len(j.found) >= maxCollected {
		return
	}
	if j.seen == nil {
		j.seen = map[[2]string]bool{}
	}
	j.seen[key] = true
	j.found = append(j.found, Finding{code, s, place, fmt.Sprintf(format, args...)})
}

// whole judges what concerns the message as such.
func (j *judge) whole(c Content) {
	if c.Incomplete {
		j.add(MessageFragment, Suspicious, "the message", "The message is a piece of another one, which is put together where nobody screens it.")
	}
	if len(c.Ambiguous) > 0 {
		j.add(MessageAmbiguous, Suspicious, "the message", "Programs read the message in different ways: %s.", strings.Join(c.Ambiguous, ", "))
	}
	if len(c.Cut) > 0 {
		j.add(MessageCut, Note, "the message", "There is more than is looked at: %s.", strings.Join(c.Cut, ", "))
	}
}

// sender judges From and Reply-To.
func (j *judge) sender(c Content, r Rules) {
	from := c.From
	if from.Address.IsZero() {
		return
	}
	j.shownName(from, r)
	d := from.Address.Domain()
	if like, trick := r.Protected.LookAlike(d); trick != TrickNone {
		j.add(SenderLookAlike, trick.severity(), "From", "The sender's domain %s imitates %s: %s.", shown(displayed(d.String())), like, trick.words())
	}
	if label, mixed, whole := disguised(d); mixed || whole {
		j.add(SenderLetters, Suspicious, "From", "The sender's domain has a part %s %s.", shown(label), lettersWords(mixed))
	}
	for _, reply := range c.ReplyTo {
		j.replyTo(reply.Address.Domain(), d, r)
	}
}

// shownName judges the name that stands beside the address.
func (j *judge) shownName(from Person, r Rules) {
	for _, a := range addressesIn(from.Name) {
		if d := organisational(a.Domain()); d != organisational(from.Address.Domain()) && !d.IsPublicSuffix() && !(r.own(a) && r.own(from.Address)) {
			s := Suspicious
			if r.ofOwn(a) {
				s = Dangerous
			}
			j.add(NameIsAddress, s, "From", "The sender's name shows the address %s, and the mail is from %s.", shown(a.String()), shown(from.Address.String()))
		}
	}
	if name, ok := r.People.Find(from.Name); ok && !r.ofOwn(from.Address) {
		j.add(NameIsProtected, Suspicious, "From", "The sender is called as %s, and the mail is from %s, outside the organisation.", shown(name), shown(from.Address.String()))
	}
}

// replyTo judges where answers go, if that is another domain than From.
func (j *judge) replyTo(d, from mail.Domain, r Rules) {
	if organisational(d) == organisational(from) {
		return
	}
	like, trick := r.Protected.LookAlike(d)
	if trick == TrickNone {
		like, trick = LookAlike(d, []mail.Domain{from})
	}
	if trick == TrickLetters || trick == TrickSubdomain || trick == TrickHyphen {
		j.add(ReplyLookAlike, Suspicious, "Reply-To", "Answers go to %s, which imitates %s: %s.", shown(displayed(d.String())), like, trick.words())
	}
}

func (t Trick) severity() Severity {
	switch t {
	case TrickLetters, TrickSubdomain:
		return Dangerous
	case TrickHyphen:
		return Suspicious
	}
	return Note
}

func (t Trick) words() string {
	switch t {
	case TrickLetters:
		return "its letters look the same"
	case TrickSubdomain:
		return "the name stands in front of another domain"
	case TrickHyphen:
		return "only hyphens differ"
	case TrickEnding:
		return "only the ending differs"
	}
	return "it is the same name with a word more"
}

func lettersWords(mixed bool) string {
	if mixed {
		return "that mixes letters of several scripts"
	}
	return "whose letters all look like those of another script"
}

// file judges one file by its names and by what it is.
func (j *judge) file(f File, r Rules) {
	place := f.Place
	if f.Name() != "" {
		place += " (" + shown(f.Name()) + ")"
	}
	for _, name := range f.Names {
		j.fileName(name, place, r)
	}
	j.fileNames(f, place)
	j.fileKind(f, place)
	j.archive(f, place)
}

// fileName judges one name.
func (j *judge) fileName(name, place string, r Rules) {
	last, before := extensions(name)
	c := classes[last]
	if last != "" && slices.Contains(r.Blocked, last) {
		j.add(FileBlocked, Dangerous, place, "Files that end in .%s are not taken.", last)
	}
	switch c {
	case classProgram:
		j.add(FileProgram, Dangerous, place, "The file is a program by its name: it ends in .%s.", last)
	case classScript:
		j.add(FileScript, Dangerous, place, "The file runs when it is opened: it ends in .%s.", last)
	case classSource:
		j.add(FileScript, Note, place, "The file is the source of a program: it ends in .%s.", last)
	case classDisk:
		j.add(FileDisk, Suspicious, place, "The file is a disk image: what is in it runs without a warning.")
	}
	if b := classes[before]; (c.active() || c == classSource || c == classPage || c == classDisk) && b.harmless() {
		j.add(FileTwoEndings, Dangerous, place, "The file's name ends as .%s, and before that as .%s.", last, before)
	}
	switch hidden(name) {
	case hidesDirection:
		j.add(FileHiddenName, Dangerous, place, "The file's name has characters that turn the direction of writing, so that its end is shown elsewhere.")
	case hidesInvisible:
		j.add(FileHiddenName, Suspicious, place, "The file's name has characters that nobody can see.")
	case hidesSpace:
		j.add(FileHiddenName, Suspicious, place, "The file's name has so much space that its end is out of sight.")
	}
}

// fileNames judges whether the names of one file agree: not in letters, which old
// and new forms of a name may differ in, but in what they say the file is.
func (j *judge) fileNames(f File, place string) {
	if len(f.Names) < 2 {
		return
	}
	first, _ := extensions(f.Names[0])
	for _, name := range f.Names[1:] {
		if other, _ := extensions(name); other != first && classes[other] != classes[first] {
			j.add(FileTwoNames, Suspicious, place, "The file has two names, and they differ in what it is: %s and %s.", shown(f.Names[0]), shown(name))
			return
		}
	}
}

// fileKind judges a file by its first octets and what is in it.
func (j *judge) fileKind(f File, place string) {
	switch {
	case f.Kind == KindShortcut, f.Kind == KindHelp:
		j.add(FileScript, Dangerous, place, "The file is %s.", f.Kind)
	case f.Kind == KindShell && len(f.Names) > 0:
		j.add(FileScript, Note, place, "The file is %s.", f.Kind)
	case f.Kind == KindOneNote:
		j.add(FileScript, Suspicious, place, "The file is %s: it can hold programs that run when they are clicked.", f.Kind)
	case f.Kind.isProgram():
		j.add(FileProgram, Dangerous, place, "The file is %s.", f.Kind)
	case f.Kind == KindDisk:
		j.add(FileDisk, Suspicious, place, "The file is a disk image: what is in it runs without a warning.")
	}
	if !f.Shown && (f.Kind == KindHTML || f.Kind == KindSVG) && (f.Script || f.Form) {
		j.add(FilePage, Suspicious, place, "The file is %s with %s: it opens in a browser, outside of all checks.", f.Kind, scriptWords(f))
	}
	j.contradiction(f, place)
	if f.Macros || classes[extension(f.Name())] == classMacros {
		j.add(FileMacros, Suspicious, place, "The file is an office document with macros, or may hold some.")
	}
	if f.Remote {
		j.add(FileRemote, Suspicious, place, "The file loads parts of itself from elsewhere when it is opened.")
	}
}

func extension(name string) string {
	last, _ := extensions(name)
	return last
}

func scriptWords(f File) string {
	if f.Script {
		return "a script"
	}
	return "a form"
}

// contradiction judges whether the file is what its name and its type say.
func (j *judge) contradiction(f File, place string) {
	s := Suspicious
	if f.Kind.isProgram() {
		s = Dangerous
	}
	for _, name := range f.Names {
		if last := extension(name); classes[last].contradicts(f.Kind) {
			j.add(FileContradicts, s, place, "The file is named .%s and is %s.", last, f.Kind)
			return
		}
	}
	if contradictsType(f.Type, f.Kind) {
		j.add(FileContradicts, s, place, "The file is said to be %s and is %s.", shown(f.Type), f.Kind)
	}
}

// archive judges what came of unpacking.
func (j *judge) archive(f File, place string) {
	if f.Encrypted && !f.Packed {
		j.add(FileEncrypted, Suspicious, place, "The file, or something in it, opens with a password only: nobody can look into it.")
	}
	if f.Bomb {
		j.add(FileBomb, Dangerous, place, "The archive unpacks to far more than its size: it is made to fill disks.")
	}
	if f.Unopened != "" {
		j.add(FileUnopened, Note, place, "The archive was not looked into: %s.", f.Unopened)
	}
	if f.BadPath {
		j.add(FilePath, Dangerous, place, "The archive holds a file that leads out of the folder it is unpacked in.")
	}
}

// link judges where a link leads, and how it is written.
func (j *judge) link(l *Link, r *Rules) {
	j.linkScheme(l)
	if l.UserInfo {
		j.addLink(l, LinkUserInfo, Suspicious, "A link has a name before its host, which readers take for the host: %s.", shown(l.URL))
	}
	if l.Encoded || l.OddForm {
		j.addLink(l, LinkDisguised, Suspicious, "The host of a link is written so that nobody can read it: %s.", shown(l.URL))
	} else if l.Address.IsValid() && l.Where != "src" && l.Where != "background" {
		j.addLink(l, LinkAddress, Note, "A link leads to an address without a name.")
	}
	if like, trick := j.lookAlike(l.Domain, r); trick != TrickNone {
		s := trick.severity()
		if trick == TrickSubdomain { // translation services name hosts so
			s = Suspicious
		}
		j.addLink(l, LinkLookAlike, s, "The host of a link imitates %s: %s.", like, trick.words())
	}
	if label, mixed, whole := disguised(l.Domain); mixed || whole {
		j.addLink(l, LinkLetters, Suspicious, "The host of a link has a part %s %s.", shown(label), lettersWords(mixed))
	}
	if l.Where == "refresh" {
		j.addLink(l, LinkRefresh, Suspicious, "The page leads elsewhere by itself.")
	}
	j.linkText(l, r)
}

// addLink adds a finding of a link.
func (j *judge) addLink(l *Link, code Code, s Severity, format string, args ...any) {
	place := l.Place
	if l.Host != "" {
		place += " (" + shown(l.Host) + ")"
	}
	j.add(code, s, place, format, args...)
}

// imitation is whom a domain imitates, and how.
type imitation struct {
	whom  mail.Domain
	trick Trick
}

// lookAlike is Protected.LookAlike, asked once for all links to a host.
func (j *judge) lookAlike(d mail.Domain, r *Rules) (mail.Domain, Trick) {
	known, ok := j.hosts[d]
	if !ok {
		known.whom, known.trick = r.Protected.LookAlike(d)
		if j.hosts == nil {
			j.hosts = map[mail.Domain]imitation{}
		}
		j.hosts[d] = known
	}
	return known.whom, known.trick
}

// linkScheme judges links that do not lead to another host.
func (j *judge) linkScheme(l *Link) {
	switch l.Scheme {
	case "javascript", "vbscript", "livescript", "mocha":
		j.addLink(l, LinkScript, Suspicious, "A link runs a script.")
	case "data":
		kind, _, _ := strings.Cut(strings.ToLower(strings.TrimPrefix(l.URL, "data:")), ",")
		if l.Where == "href" || l.Where == "refresh" || l.Where == "action" || strings.Contains(kind, "html") || strings.Contains(kind, "script") {
			j.addLink(l, LinkScript, Suspicious, "A link holds a page of its own.")
		}
	case "file", "smb", "search-ms", "search", "ms-msdt", "ms-officecmd", "ms-appinstaller", "shell", "ms-word", "ms-excel", "ms-powerpoint", "ms-settings":
		j.addLink(l, LinkLocal, Suspicious, "A link opens a file or a program of the reader's system: it begins with %s.", shown(l.Scheme+":"))
	}
}

// linkText judges whether what a reader sees in the place of a link is another
// domain than the link's.
func (j *judge) linkText(l *Link, r *Rules) {
	if l.Where != "href" || l.Host == "" {
		return
	}
	seen := domainShown(l.Text)
	if seen.IsZero() || organisational(seen) == organisational(l.Domain) {
		return
	}
	s := Note // addresses that count clicks look the same
	if r.Protected.Has(seen) || l.Address.IsValid() {
		s = Suspicious
	}
	j.addLink(l, LinkOtherText, s, "A link shows %s and leads to %s.", shown(seen.String()), shown(l.Host))
}

// domainShown is the domain that a text as a whole shows, as an address of a page
// or alone; zero: it shows none.
func domainShown(text string) mail.Domain {
	text = strings.Trim(text, " <>()[]\"'.,;:!»«→")
	if text == "" || strings.IndexByte(text, ' ') >= 0 || strings.IndexByte(text, '@') >= 0 {
		return mail.Domain{}
	}
	if l, ok := parseLink(text, nil); ok && (l.Scheme == "http" || l.Scheme == "https") {
		return l.Domain
	}
	if i := strings.IndexAny(text, "/?#"); i >= 0 {
		text = text[:i]
	}
	d, err := mail.ParseDomain(strings.ToLower(text))
	if err != nil || !strings.Contains(d.String(), ".") {
		return mail.Domain{}
	}
	if _, known := publicsuffix.PublicSuffix(d.String()); known {
		return d
	}
	return mail.Domain{}
}

// invite judges in whose name an invitation speaks. An answer is the attendee's, all
// else the organizer's (RFC 5546 section 1.4).
func (j *judge) invite(v Invite, from Person, r Rules) {
	if from.Address.IsZero() || v.Method == "REPLY" || v.Method == "REFRESH" || v.Method == "COUNTER" {
		return
	}
	own := organisational(from.Address.Domain())
	sameDomain := func(a mail.Address) bool { return organisational(a.Domain()) == own }
	for _, o := range v.Organizers {
		switch {
		case sameDomain(o.Address), r.own(o.Address) && r.own(from.Address):
		case r.ofOwn(o.Address):
			j.add(InviteProtected, Dangerous, v.Place, "The invitation is from %s by its organizer, and the mail is from %s.", shown(o.Address.String()), shown(from.Address.String()))
		case slices.ContainsFunc(v.SentBy, sameDomain):
			j.add(InviteOther, Note, v.Place, "The invitation is from %s, and says that %s may send it.", shown(o.Address.String()), shown(from.Address.String()))
		default:
			j.add(InviteOther, Suspicious, v.Place, "The invitation is from %s by its organizer, and the mail is from %s.", shown(o.Address.String()), shown(from.Address.String()))
		}
	}
}

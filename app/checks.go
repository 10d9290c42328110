package app

import (
	"strings"
	"sync"
	"sync/atomic"

	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/screen"
	"anechoic/relay/screen/content"
)

// checkRules makes the rules of our own checks out of the Directory: once for each
// that is in force, and of it only what is asked for.
type checkRules struct {
	made atomic.Pointer[snapshotRules]
}

// snapshotRules is the rules of one Directory.
type snapshotRules struct {
	dir       *org.Directory
	protected func() *content.Protected // every registered domain
	organised sync.Map                  // org.ID to *content.Rules
}

// checking is what our own checks do with a message of an organisation.
func (c *checkRules) checking(dir *org.Directory, o *org.Organisation, way *org.ScreeningWay) screen.Checking {
	if way.Off || way.Checks == "" || way.Checks == org.ScreeningOff {
		return screen.Checking{}
	}
	rules := *c.of(dir).rules(o)
	if rules.Blocked = way.Blocked; way.Blocked == nil {
		rules.Blocked = usuallyBlocked()
	}
	k := screen.Checking{Rules: &rules, Dangerous: screen.Hold}
	switch way.Checks {
	case org.ScreeningMark:
		k.Dangerous = screen.Mark
	case org.ScreeningRefuse:
		k.Dangerous = screen.Refuse
	}
	return k
}

// usuallyBlocked is the list of extensions where an organisation has none.
var usuallyBlocked = sync.OnceValue(content.DefaultBlocked)

// of gives the rules of a Directory, or of a newer one if that came into force
// meanwhile: what was there before a reload must not undo what it made. Two messages
// that come first may both make them; one of the two is kept.
func (c *checkRules) of(dir *org.Directory) *snapshotRules {
	made := c.made.Load()
	if made == nil || made.dir.Generation() < dir.Generation() {
		made = &snapshotRules{dir: dir, protected: sync.OnceValue(func() *content.Protected { return content.Protect(registered(dir)) })}
		c.made.Store(made)
	}
	return made
}

// rules are those of one organisation, as the Directory has it.
func (s *snapshotRules) rules(o *org.Organisation) *content.Rules {
	if known, ok := s.organised.Load(o.ID); ok {
		return known.(*content.Rules)
	}
	if own, ok := s.dir.Organisation(o.ID); ok {
		o = own
	}
	known, _ := s.organised.LoadOrStore(o.ID, &content.Rules{
		Protected: s.protected().And(o.Screening.Domains), People: content.NewPeople(o.Screening.People), Own: ownDomains(o),
	})
	return known.(*content.Rules)
}

// registered lists the domains of all organisations.
func registered(dir *org.Directory) (list []mail.Domain) {
	for d := range dir.Domains() {
		list = append(list, d.Name)
	}
	return list
}

// ownDomains are the names in which an organisation's own people write, those that
// its provider gave it among them.
func ownDomains(o *org.Organisation) (list []mail.Domain) {
	for _, d := range o.Domains {
		list = append(list, d.Name)
	}
	for _, s := range o.Sources {
		list = append(list, s.ProviderDomains...)
	}
	return list
}

// alarm tells that an organisation's own source sent what it should hear of: to the
// log, to the ledger, and so to the counter of facts. What became of the message is
// a fact of its own.
func (in *intake) alarm(fact *ledger.Fact, v screen.Verdict) {
	codes := strings.Join(v.Alarms(), ", ")
	if codes == "" {
		return
	}
	told := *fact
	told.Event, told.Identity, told.Detail = ledger.ContentAlarm, ledger.Proven, codes+"; the message was to: "+v.Action.String()
	in.log.Warn("content alarm", "id", string(fact.ID), "org", fact.Org, "source", fact.Source, "findings", codes, "action", v.Action.String())
	in.recorder.alarmed(told)
}

package probe

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"anechoic/mail"
	"anechoic/org"
	"anechoic/standard/dkim"
	"anechoic/standard/dmarc"
)

// This file compares records with what they should be. It asks nobody.

// ProofRecord is the TXT record that lets an organisation send as a domain.
func ProofRecord(d *org.Domain) string {
	record := "v=anechoic1; org=" + string(d.Organisation)
	if d.Subdomains {
		record += "; sub=yes"
	}
	return record
}

// JudgeProof compares the records at _anechoic.<domain> with the organisation.
func JudgeProof(records []string, d *org.Domain, relay mail.Domain) Verdict {
	add := "publish the line; nothing is sent as the domain before"
	switch v := org.Judge(records, d.Organisation, relay); {
	case v == org.AgreesSub, v == org.Agrees && !d.Subdomains:
		return ok("it names %s", d.Organisation)
	case v == org.Agrees:
		return Verdict{Warning, fmt.Sprintf("it names %s, but does not cover sub-domains", d.Organisation), "add sub=yes, or take subdomains out of the registry"}
	case v == org.Contrary:
		return Verdict{Problem, "it names another organisation: " + strings.Join(records, " | "), "let it name " + string(d.Organisation) + ", if the domain is theirs"}
	case len(records) == 0:
		return Verdict{Problem, "no record", add}
	}
	return Verdict{Problem, "no record that counts here: " + strings.Join(records, " | "), add}
}

// JudgeKey compares the records at a selector with the one the key needs.
func JudgeKey(records []string, wanted string) Verdict {
	const publish = "publish the line; until then the key does not sign"
	want, err := dkim.ParseRecord(wanted)
	switch {
	case err != nil:
		return Verdict{Warning, "the relay's own key cannot be read", "anechoic key list says why"}
	case len(records) == 0:
		return Verdict{Problem, "no record", publish}
	case len(records) > 1:
		return Verdict{Problem, fmt.Sprintf("%d records, there must be one", len(records)), "take out all but the one that is wanted"}
	}
	have, err := dkim.ParseRecord(records[0])
	switch {
	case isCut(records[0], wanted):
		return Verdict{Problem, fmt.Sprintf("the record is cut short: %d of the key's %d characters", len(keyText(records[0])), len(keyText(wanted))), "some consoles take no more than 255 characters in one string: paste the line as it is, in several strings"}
	case err != nil:
		return Verdict{Problem, "the record cannot be used: " + err.Error(), publish}
	case have.Revoked():
		return Verdict{Problem, "the record says that the key was taken back (empty p=)", "make a new key (anechoic key rotate), or publish the line if that was a mistake"}
	}
	if err := dkim.CheckPublished(records[0], want.Key); err != nil {
		return Verdict{Problem, err.Error(), "publish the line in its place, unless another machine signs by this selector: then make a key with another one (anechoic key add)"}
	}
	if have.Testing {
		return Verdict{Warning, "the key, with t=y: receivers may take the mail as unsigned", "take t=y out"}
	}
	return ok("this key")
}

// JudgeRevoked compares the records at the selector of a key that was taken back.
func JudgeRevoked(records []string) Verdict {
	for _, txt := range records {
		if r, err := dkim.ParseRecord(txt); err == nil && !r.Revoked() {
			return Verdict{Problem, "DNS still publishes a key here", "publish the line in its place: who has the key can sign as the domain"}
		}
	}
	return ok("taken back")
}

// JudgeWithdrawn compares the records at the selector of a key of a domain that is
// killed.
func JudgeWithdrawn(records []string) Verdict {
	for _, txt := range records {
		if r, err := dkim.ParseRecord(txt); err == nil && !r.Revoked() {
			return Verdict{Problem, "DNS publishes the key of a domain that is killed", "withdraw the record: signatures that were made already are believed while it is there. When the kill ends (anechoic response end), publish it again as it was"}
		}
	}
	return ok("withdrawn, while the domain is killed")
}

// keyText is the value of p=, without white space.
func keyText(record string) string {
	for tag := range strings.SplitSeq(record, ";") {
		if name, value, found := strings.Cut(tag, "="); found && strings.TrimSpace(name) == "p" {
			return strings.Join(strings.Fields(value), "")
		}
	}
	return ""
}

// isCut says that a record holds the beginning of the key, and not all of it.
func isCut(record, wanted string) bool {
	have, want := strings.TrimRight(keyText(record), "="), keyText(wanted)
	return have != "" && len(have) < len(strings.TrimRight(want, "=")) && strings.HasPrefix(want, have)
}

// DMARCRecord is a record to begin with.
func DMARCRecord(name mail.Domain, reports mail.Address) string {
	record := "v=DMARC1; p=none"
	if !reports.IsZero() {
		record += "; rua=mailto:" + reports.String()
	}
	return record
}

// JudgeDMARC compares the records at _dmarc.<domain>. inherited says that a record of
// a domain above applies where there is none here.
func JudgeDMARC(records []string, inherited string) Verdict {
	var found []dmarc.Record
	var broken error
	for _, txt := range records {
		r, err := dmarc.Parse(txt)
		switch {
		case err == nil && r.Applies():
			found = append(found, r)
		case strings.HasPrefix(txt, "v=DMARC1"):
			broken = err
		}
	}
	switch {
	case len(found) > 1: // RFC 9989 section 4.7: none of them counts
		return Verdict{Problem, fmt.Sprintf("%d records: receivers use none of them", len(found)), "leave one"}
	case len(found) == 1:
		return judgePolicy(&found[0])
	case broken != nil:
		return Verdict{Problem, "the record does not count: " + broken.Error(), "write it as the line has it"}
	case inherited != "":
		return ok("none of its own; that of %s applies", inherited)
	}
	return Verdict{Problem, "no record: receivers may believe anybody who writes this domain into From", "publish the line, read the reports for some weeks, then go to p=quarantine and p=reject"}
}

func judgePolicy(r *dmarc.Record) Verdict {
	reports := "; reports go to " + strings.Join(r.AggregateURIs, ", ")
	advice := ""
	if len(r.AggregateURIs) == 0 {
		reports, advice = "; nobody gets reports", "add rua=mailto:… to hear who sends as the domain"
	}
	seen := "p=" + r.Policy.String() + reports
	switch {
	case r.Policy == dmarc.NoPolicy || r.Policy.String() == "none":
		return Verdict{Warning, seen + ": mail of others in its name is delivered", "when the reports show nothing of your own that fails: p=quarantine, then p=reject"}
	case advice != "":
		return Verdict{Warning, seen, advice}
	}
	return ok("%s", seen)
}

// JudgeMX compares MX records ("10 mx.example") of a domain that takes its mail
// through this relay. here says which hosts are this relay.
func JudgeMX(records []string, here func(host string) bool) Verdict {
	var ours, others []string
	for _, text := range records {
		_, host, _ := strings.Cut(text, " ")
		if here(host) {
			ours = append(ours, host)
			continue
		}
		others = append(others, host)
	}
	switch {
	case len(records) == 0:
		return Verdict{Problem, "no MX record", "publish the line"}
	case len(ours) == 0:
		return Verdict{Problem, "none leads here, but to " + strings.Join(others, ", "), "publish the line in their place: mail goes around this relay"}
	case len(others) > 0:
		return Verdict{Problem, "some lead around this relay: " + strings.Join(others, ", "), "take them out: senders may use any of them"}
	}
	return ok("%s", strings.Join(ours, ", "))
}

// SuggestSPF adds addresses to an SPF record, before what ends it. Without a record
// it makes one.
func SuggestSPF(record string, missing []netip.Addr) string {
	terms := strings.Fields(record)
	if len(terms) == 0 {
		terms = []string{"v=spf1", "~all"}
	}
	var added []string
	for _, a := range missing {
		kind := "ip4:"
		if a.Is6() {
			kind = "ip6:"
		}
		added = append(added, kind+a.String())
	}
	return strings.Join(slices.Insert(terms, 1, added...), " ")
}

// spfRecords picks those that are SPF (RFC 7208 section 4.5).
func spfRecords(records []string) (list []string) {
	for _, txt := range records {
		lower := strings.ToLower(txt)
		if lower == "v=spf1" || strings.HasPrefix(lower, "v=spf1 ") {
			list = append(list, txt)
		}
	}
	return list
}

// JudgeSPFText compares the SPF records that servers have: there is one, and it is
// the same everywhere. Whether it passes is another question.
func JudgeSPFText(records []string) Verdict {
	switch list := spfRecords(records); len(list) {
	case 0:
		return Verdict{Problem, "no SPF record", "publish the line"}
	case 1:
		return ok("%s", list[0])
	default:
		return Verdict{Problem, fmt.Sprintf("%d SPF records: receivers use none of them (RFC 7208 section 4.5)", len(list)), "make one of them"}
	}
}

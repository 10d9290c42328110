package org

// The values of quarantine_digest.
const (
	digestDaily = "daily"
	digestOff   = "off"
)

// held checks what becomes of an organisation's held mail, and whether mail in its
// name is held that would be refused. Learning is a finding as long as it lasts:
// senders are told 250 for mail that goes nowhere by itself.
func (b *builder) held(i int) {
	e, o, where := &b.reg.Organisations[i], b.dir.organisations[i], b.below("organisation", i)
	o.Learning, o.Digest = e.Learning, e.Digest != digestOff
	if e.Digest != "" && e.Digest != digestDaily && e.Digest != digestOff {
		b.refuse(where+".quarantine_digest", `"daily" or "off"`, "%q is no rhythm of a digest", e.Digest)
	}
	if o.Learning {
		b.findings = append(b.findings, Finding{Organisation: o.ID, Text: "it is still learning: mail in its name from unknown sources is held instead of refused; add the sources that are its own, then take learning out"})
	}
}

package detect

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// snapshotHead begins every snapshot; the number is the version of what follows.
// A snapshot of another version is not read: the state is made again from the ledger.
const snapshotHead = "anechoic detect 2\n"

// maxWords of state texts that are longer than a stranger's: our own sentences.
const maxSentence = 4096

// Snapshot is the whole state, for Restore. Its length is about that of the state
// in memory at most.
func (d *Detector) Snapshot() []byte {
	c := &codec{out: []byte(snapshotHead)}
	c.detector(d)
	return binary.LittleEndian.AppendUint32(c.out, crc32.ChecksumIEEE(c.out))
}

// Restore replaces the state by what Snapshot gave. Options are not part of it: what
// does not fit them is forgotten, the least used first. On an error nothing is changed.
func (d *Detector) Restore(state []byte) error {
	body, ok := bytes.CutPrefix(state, []byte(snapshotHead))
	if !ok || len(body) < crc32.Size {
		return fmt.Errorf("detect: restore: not a snapshot of this version, or cut: read the ledger again from 14 days ago instead")
	}
	body = body[:len(body)-crc32.Size]
	if crc32.ChecksumIEEE(state[:len(state)-crc32.Size]) != binary.LittleEndian.Uint32(state[len(state)-crc32.Size:]) {
		return fmt.Errorf("detect: restore: the checksum is wrong: read the ledger again from 14 days ago instead")
	}
	fresh := New(d.o)
	c := &codec{in: body, reading: true}
	c.detector(fresh)
	if c.err != nil || len(c.in) != 0 {
		return fmt.Errorf("detect: restore: %w: read the ledger again from 14 days ago instead", errState)
	}
	fresh.left.words = fresh.o.Memory / 8
	fresh.principals.each(func(_ Scope, p *principal) {
		for _, k := range []*known{&p.rcpts, &p.senders} {
			fresh.left.words -= len(k.newer) + len(k.older)
		}
	})
	*d = *fresh
	d.principals.gone = d.forgotten
	return nil
}

func (c *codec) detector(d *Detector) {
	c.time(&d.now)
	number(c, &d.looked)
	entries(c, d.principals, c.scope, c.principal)
	c.contents(d.contents)
	entries(c, d.claims, c.scope, c.claim)
	entries(c, d.open, func(a *about) { c.kind(&a.Kind); c.scope(&a.Scope) }, c.open)
	entries(c, d.busy, func(s *string) { c.text(s, maxText) }, func(v *int64) { number(c, v) })
}

func (c *codec) scope(s *Scope) {
	c.text(&s.Org, maxText)
	c.text(&s.Source, maxText)
	c.text(&s.Domain, maxText)
}

func (c *codec) kind(k *Kind) {
	s := string(*k)
	c.text(&s, maxText)
	*k = Kind(s)
	if _, ok := signals[*k]; c.reading && !ok {
		c.fail()
	}
}

func (c *codec) principal(p *principal) {
	c.baseline(&p.base)
	windows := p.hour != nil
	c.flag(&windows)
	if windows {
		if c.reading {
			p.hour, p.day = &hourWindow{}, &dayWindow{}
		}
		number(c, &p.hour.step)
		number(c, &p.day.step)
		if c.reading && (p.hour.step < 0 || p.day.step < 0) {
			c.fail()
		}
		for i := range p.hour.slots {
			c.counts(&p.hour.slots[i])
		}
		for i := range p.day.slots {
			c.counts(&p.day.slots[i])
		}
	}
	list(c, &p.places, maxPlaces, c.place)
	list(c, &p.idHosts, maxPlaces, c.place)
	list(c, (*[]family)(&p.names), maxFamilies, c.family)
	c.known(&p.rcpts)
	c.known(&p.senders)
	concentrated := p.writers != nil
	if c.flag(&concentrated); concentrated {
		if c.reading {
			p.concentrate()
		}
		c.concentration(p.writers)
		c.concentration(p.pairs)
	}
	number(c, &p.domains)
	number(c, &p.slept)
	number(c, &p.woke)
}

func (c *codec) counts(v *counts) {
	for _, n := range []*uint32{
		&v.Messages, &v.Left, &v.Rcpts, &v.Free, &v.First, &v.Strangers, &v.Names, &v.Mismatch, &v.IDHost, &v.Drift, &v.Odd,
		&v.WrongFrom, &v.Bounced, &v.Complained, &v.Strong, &v.Kilobytes,
	} {
		number(c, n)
	}
}

func (c *codec) baseline(b *baseline) {
	number(c, &b.first)
	number(c, &b.last)
	number(c, &b.hour)
	number(c, &b.inHour)
	number(c, &b.dayPeak)
	c.counts(&b.day)
	for _, logs := range [][]uint16{b.season[:], b.days[:], b.weekPeaks[:]} {
		for i := range logs {
			number(c, &logs[i])
		}
	}
	for i := range b.totals {
		number(c, &b.totals[i])
		number(c, &b.strangers[i])
	}
	for i := range b.weeks {
		c.float(&b.weeks[i])
		c.float(&b.weekStrange[i])
	}
	u := &b.usual
	for _, v := range []*float32{&u.Free, &u.First, &u.Mismatch, &u.IDHost, &u.Bounce, &u.Complaint, &u.Names, &u.Odd} {
		c.float(v)
	}
	number(c, &b.seenDays)
	if c.reading && (b.first < 0 || b.last < 0 || b.hour < 0) {
		c.fail()
	}
}

func (c *codec) place(p *place) {
	c.fixed(&p.Sum)
	number(c, &p.First)
	number(c, &p.Last)
	number(c, &p.Messages)
}

func (c *codec) family(f *family) {
	c.text(&f.Stem, maxText)
	number(c, &f.Names)
	number(c, &f.Suffixes)
	number(c, &f.Digits)
	number(c, &f.First)
	number(c, &f.Last)
	for i := range f.letters {
		number(c, &f.letters[i])
	}
}

func (c *codec) known(k *known) {
	word := func(w *uint64) { c.fixed(w) }
	list(c, &k.newer, knownLargest, word)
	list(c, &k.older, knownLargest, word)
	number(c, &k.members)
}

func (c *codec) concentration(v *concentration) {
	list(c, &v.heaviest, maxHeaviest, func(h *heavy) {
		c.fixed(&h.Sum)
		number(c, &h.First)
		number(c, &h.Step)
		c.flag(&h.New)
		for i := range h.Slots {
			number(c, &h.Slots[i].Weight)
			number(c, &h.Slots[i].Of)
		}
		if c.reading && (h.First < 0 || h.Step < 0) {
			c.fail()
		}
	})
	number(c, &v.day)
	for i := range v.tops {
		number(c, &v.tops[i])
	}
	if c.reading && v.day < 0 {
		c.fail()
	}
}

func (c *codec) contents(t *contents) {
	number(c, &t.begun)
	entries(c, t.texts, func(sum *uint64) { c.fixed(sum); c.bands(t, *sum) }, c.spread)
	entries(c, t.hosts, func(s *string) { c.text(s, maxText) }, c.spread)
	entries(c, t.signatures, c.fixed, c.signature)
}

// bands is which quarters of a text's sum lead to it.
func (c *codec) bands(t *contents, sum uint64) {
	var owned uint8
	for i := range uint64(4) {
		if known, ok := t.bands[band(sum, i)]; ok && known == sum {
			owned |= 1 << i
		}
	}
	number(c, &owned)
	for i := range uint64(4) {
		if c.reading && owned&(1<<i) != 0 {
			t.bands[band(sum, i)] = sum
		}
	}
}

func (c *codec) spread(s *spread) {
	number(c, &s.First)
	number(c, &s.Last)
	number(c, &s.Sent)
	number(c, &s.Left)
	number(c, &s.Refused)
	c.texts(&s.Orgs, maxSpread)
	c.texts(&s.Domains, maxSpread)
	c.texts(&s.RefusedNames, maxSpread)
}

func (c *codec) signature(s *signature) {
	number(c, &s.First)
	number(c, &s.Last)
	c.text(&s.Org, maxText)
	c.text(&s.Source, maxText)
	c.fixed(&s.Origin)
	number(c, &s.Copies)
	number(c, &s.Left)
	number(c, &s.Others)
}

func (c *codec) claim(v *claim) {
	list(c, &v.tenants, maxTenants, c.place)
	for i := range v.counted {
		t := &v.counted[i]
		number(c, &t.Step)
		for j := range t.Slots {
			number(c, &t.Slots[j])
		}
		if c.reading && t.Step < 0 {
			c.fail()
		}
	}
}

func (c *codec) open(f *open) {
	c.text(&f.ID, maxText)
	c.kind(&f.Kind)
	c.scope(&f.Scope)
	c.double(&f.Score)
	c.time(&f.First)
	c.time(&f.Last)
	number(c, &f.Messages)
	number(c, &f.Left)
	list(c, &f.Evidence, 64, func(v *Value) {
		c.text(&v.Name, maxText)
		c.text(&v.Seen, 4*maxText)
		c.text(&v.Usual, 4*maxText)
	})
	c.text(&f.Sentence, maxSentence)
	number(c, &f.Propose.Step)
	c.scope(&f.Propose.Scope)
	number(c, &f.Propose.For)
	number(c, &f.Propose.Rate)
	c.texts(&f.Shares, maxShares)
	c.texts(&f.IDs, maxIDs)
	number(c, &f.Rank)
	c.text(&f.Domain, maxText)
	number(c, &f.Told)
	c.double(&f.ToldScore)
	number(c, &f.ToldStep)
}

package org

// Screening is what an organisation wants of scanners, each way. The zero value is
// what the node's configuration says.
type Screening struct {
	Inbound, Outbound ScreeningWay
}

// ScreeningWay is one of them.
type ScreeningWay struct {
	Off      bool   // scanners are not asked
	OnLoss   string // ScreeningDefer or ScreeningHold; empty: the node's on_loss
	HoldAt   int    // a score from which a message is held; 0: as the scanner says
	RefuseAt int    // from which it is refused; 0: as the scanner says
}

// The values of ScreeningWay.OnLoss.
const (
	ScreeningDefer = "defer"
	ScreeningHold  = "hold"
)

// maxScore bounds scores that can be configured: those of scanners are in the tens.
const maxScore = 1000

// ScreeningEntry is [organisation.screening].
type ScreeningEntry struct {
	Inbound  ScreeningWayEntry `toml:"inbound"`
	Outbound ScreeningWayEntry `toml:"outbound"`
}

// ScreeningWayEntry is one of its tables.
type ScreeningWayEntry struct {
	Off      bool   `toml:"off"`
	OnLoss   string `toml:"on_loss"`
	HoldAt   int    `toml:"hold_at"`
	RefuseAt int    `toml:"refuse_at"`
}

// screening checks what an organisation wants of scanners.
func (b *builder) screening(i int) {
	e := b.reg.Organisations[i].Screening
	if e == nil {
		return
	}
	where := b.below("organisation", i) + ".screening"
	b.dir.organisations[i].Screening = Screening{
		Inbound:  b.screeningWay(where+".inbound", e.Inbound),
		Outbound: b.screeningWay(where+".outbound", e.Outbound),
	}
}

func (b *builder) screeningWay(where string, e ScreeningWayEntry) ScreeningWay {
	if e.OnLoss != "" && e.OnLoss != ScreeningDefer && e.OnLoss != ScreeningHold {
		b.refuse(where+".on_loss", `"defer" or "hold"`, "%q is none of the choices", e.OnLoss)
	}
	for _, score := range []struct {
		key   string
		value int
	}{{".hold_at", e.HoldAt}, {".refuse_at", e.RefuseAt}} {
		if score.value < 0 || score.value > maxScore {
			b.refuse(where+score.key, "a score of rspamd, from 1 to 1000; 0 for none", "%d is out of bounds", score.value)
		}
	}
	if e.HoldAt > 0 && e.RefuseAt > 0 && e.HoldAt >= e.RefuseAt {
		b.refuse(where+".hold_at", "hold at a lower score than refuse_at", "what would be held from %d is refused from %d already", e.HoldAt, e.RefuseAt)
	}
	if e.Off && e != (ScreeningWayEntry{Off: true}) {
		b.refuse(where+".off", "take out off, or the rest", "scanners are not asked, and it is said what to do with their answers")
	}
	return ScreeningWay(e)
}

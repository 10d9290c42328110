package delivery

import (
	"time"

	"anechoic/mail"
)

// UnderWay says where recipients of a message at a domain stand that are leased:
// site is empty while the next hop is being looked up, began is zero while no attempt
// has begun. It looks at every lease: it is for a person's question.
func (d *Dispatcher) UnderWay(id mail.ID, domain mail.Domain) (site string, began time.Time) {
	d.board.mu.Lock()
	defer d.board.mu.Unlock()
	for l, t := range d.board.going {
		if l.ID == id && l.Domain == domain {
			return t.route.Site, t.began
		}
	}
	for _, s := range d.board.sites {
		for _, lane := range s.byOrg {
			for _, t := range lane.tasks {
				if t.lease.ID == id && t.lease.Domain == domain {
					return s.name, time.Time{}
				}
			}
		}
	}
	return "", time.Time{}
}

package ledger

import "anechoic/mail/jsonobject"

// Every message leaves three facts or more, so their JSON is written by hand. A test
// compares what is read back.

func appendPublic(b []byte, f *Fact) []byte {
	o := jsonobject.Begin(b)
	o.Time("time", f.Time.UTC())
	o.Text("id", string(f.ID))
	o.Text("event", string(f.Event))
	o.Text("org", f.Org)
	o.Text("claimed_org", f.ClaimedOrg)
	o.Text("source", f.Source)
	o.Text("direction", f.Direction)
	if f.Peer.IsValid() {
		o.Text("peer", f.Peer.String())
	}
	o.Text("helo", f.Helo)
	o.Number("size", f.Size)
	o.Text("disposition", string(f.Disposition))
	o.Text("identity", string(f.Identity))
	o.Text("reason", string(f.Reason))
	o.Text("class", f.Class)
	o.Texts("proofs", f.Proofs)
	o.Text("origin", f.Origin)
	o.Text("results", f.Results)
	o.Text("tenant", f.Tenant)
	o.Text("originator", f.Originator)
	o.Text("connecting_ip", f.ConnectingIP)
	o.Unsigned("generation", f.Generation)
	o.Text("site", f.Site)
	o.Number("attempt", int64(f.Attempt))
	o.Text("egress", f.Egress)
	o.Text("tls", f.TLS)
	o.Number("count", int64(f.Count))
	return o.End()
}

func appendPersonal(b []byte, f *Fact) []byte {
	o := jsonobject.Begin(b)
	o.Text("mail_from", f.MailFrom)
	o.Text("from", f.From)
	o.Texts("rcpt", f.Rcpt)
	o.Text("reply", f.Reply)
	o.Text("detail", f.Detail)
	o.Text("message_id", f.MessageID)
	o.Text("print", f.Print.String())
	return o.End()
}

package acceptance

import (
	"crypto"
	"crypto/tls"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"anechoic/lab"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/standard/dkim"
)

// domains are the registered ones, with their organisations.
var domains = map[string]string{
	"acme.test": "acme", "acme-sub.test": "acme", "xn--bcher-kva.test": "acme", "globex.test": "globex", "umbrella.test": "umbrella",
	"wonka.test": "wonka", "a-b.test": "wonka", "oompa.test": "oompa", "a.b.test": "oompa", "hooli.test": "hooli",
	"initech.test": "initech", "legitimate.com": "legitimate", "attack.com": "attacker",
}

// Secrets that never may be seen again: every test's output is searched for them.
var (
	acmeSecret, acmeNextSecret = org.NewSecret(), org.NewSecret() // one is being replaced by the other
	initechSecret              = org.NewSecret()
	deviceSecret               = org.NewSecret()
	hooliSecret                = org.NewSecret()
	wonkaSecret, oompaSecret   = org.NewSecret(), org.NewSecret()
	passwords                  = map[string]string{
		"billing@acme": "billing-" + org.NewSecret()[5:], "app@acme": "app-" + org.NewSecret()[5:], "server@acme": "server-" + org.NewSecret()[5:],
		"limited@acme": "limited-" + org.NewSecret()[5:], "app@globex": "globex-" + org.NewSecret()[5:], "app@attacker": "attacker-" + org.NewSecret()[5:],
	}
)

// Tenants of the provider. Only the first five are sources here.
var (
	acme     = lab.Tenant{GUID: "11111111-1111-4111-8111-111111111111", Originator: "acme.test", SecretName: "X-Acme-Relay-Key", Secret: acmeSecret}
	globex   = lab.Tenant{GUID: "22222222-2222-4222-8222-222222222222", Originator: "globex.test"}
	umbrella = lab.Tenant{GUID: "33333333-3333-4333-8333-333333333333", Originator: "umbrella.test"}
	initech  = lab.Tenant{GUID: "44444444-4444-4444-8444-444444444444", Originator: "initech.test", SecretName: "X-Initech-Relay-Key", Secret: initechSecret}
	hooli    = lab.Tenant{GUID: "77777777-1111-4777-8777-777777777777", Originator: "hooli.test", SecretName: "X-Hooli-Relay-Key", Secret: hooliSecret}
	attacker = lab.Tenant{GUID: "66666666-6666-4666-8666-666666666666", Originator: "evil123.onmicrosoft.com"}
	consumer = lab.Tenant{GUID: "84df9e7f-e9f6-40af-b435-aaaaaaaaaaaa", Originator: "sct-15-20-7719-20-msonline-outlook-448bf.templateTenant"}
)

// hashes makes the passwords' hashes once: each takes a while.
var hashes = sync.OnceValue(func() map[string]string {
	made := map[string]string{}
	for user, password := range passwords {
		made[user] = org.HashPassword([]byte(password))
	}
	return made
})

// digest is a secret as the registry has it.
func digest(secret string) string {
	sum, ok := org.HashSecret(secret)
	if !ok {
		panic("no secret: " + secret)
	}
	return fmt.Sprintf("%x", sum)
}

// registry writes the registry of the matrix.
func registry() string {
	var b strings.Builder
	organisation := func(id string, names ...string) {
		fmt.Fprintf(&b, "[[organisation]]\nid = %q\nname = %q\nsecurity_contact = \"security@%s\"\n", id, id, names[0])
		for _, name := range names {
			rsa := ""
			if name == "acme.test" {
				rsa = fmt.Sprintf(`{ selector = "an1", algorithm = "rsa-2048", key_file = %q }, `, keyFile(name+"/an1"))
			}
			fmt.Fprintf(&b, "[[organisation.domain]]\nname = %q\nsubdomains = %v\ndkim = [ %s{ selector = \"an1e\", algorithm = \"ed25519\", key_file = %q } ]\n",
				name, name == "acme-sub.test", rsa, keyFile(name+"/an1e"))
		}
	}
	tenant := func(t lab.Tenant, more string) {
		fmt.Fprintf(&b, "[[organisation.source]]\nid = \"m365\"\nkind = \"microsoft365\"\ntenant_ids = [%q]\n%s\n", t.GUID, more)
	}
	credential := func(user, more string) {
		id, _, _ := strings.Cut(user, "@")
		fmt.Fprintf(&b, "[[organisation.source]]\nid = %q\nkind = \"credential\"\nusername = %q\npassword = { argon2id = %q }\n%s\n", id, user, hashes()[user], more)
	}
	organisation("acme", "acme.test", "acme-sub.test", "xn--bcher-kva.test")
	tenant(acme, fmt.Sprintf(`originator_orgs = ["acme.test", "acme.onmicrosoft.com"]
provider_domains = ["acme.onmicrosoft.com"]
hybrid_addresses = ["198.51.100.7/32"]
internal = ["10.0.0.0/8"]
secret_header = { name = %q, sha256 = [%q, %q] }`, acme.SecretName, digest(acmeSecret), digest(acmeNextSecret)))
	credential("billing@acme", `role = "application"
from = ["billing@acme.test", "noreply@acme.test"]
addresses = ["192.0.2.0/24"]`)
	credential("app@acme", `role = "application"
from = ["*@acme.test", "*@acme-sub.test", "*@xn--bcher-kva.test"]`)
	credential("server@acme", `role = "server"
internal = ["10.0.0.0/8"]
from = ["*@acme.test"]`)
	source := func(id, kind, more string) {
		fmt.Fprintf(&b, "[[organisation.source]]\nid = %q\nkind = %q\n%s\n", id, kind, more)
	}
	source("onprem", "address", `role = "server"
internal = ["10.0.0.0/8"]
addresses = ["203.0.113.10/32"]
from = ["*@acme.test"]`)
	source("printer", "address", `addresses = ["203.0.113.11/32", "2001:db8:ac::/64"]
from = ["*@acme.test"]`)
	source("gateway", "certificate", fmt.Sprintf(`role = "server"
internal = ["10.0.0.0/8"]
spki_sha256 = [%q]
from = ["*@acme.test"]`, spki("gateway")))
	source("scanner", "certificate", fmt.Sprintf(`spki_sha256 = [%q]
from = ["scanner@acme.test", "ann@acme.test"]`, spki("scanner")))
	credential("limited@acme", `from = ["*@acme.test"]
limits = { messages_per_hour = 3, recipients_per_day = 5 }`)
	organisation("globex", "globex.test")
	tenant(globex, `originator_orgs = ["globex.test"]
provider_domains = ["globex.onmicrosoft.com"]
require_dkim = true`)
	credential("app@globex", `from = ["*@globex.test"]`)
	organisation("umbrella", "umbrella.test")
	tenant(umbrella, `originator_orgs = ["umbrella.test"]
single_proof_until = 2099-12-31`)
	organisation("initech", "initech.test")
	tenant(initech, fmt.Sprintf(`originator_orgs = ["initech.test"]
secret_header = { name = %q, sha256 = [%q] }`, initech.SecretName, digest(initechSecret)))
	source("device", "certificate", fmt.Sprintf(`spki_sha256 = [%q]
from = ["*@initech.test"]
secret_header = { name = "X-Initech-Device-Relay-Key", sha256 = [%q] }`, spki("device"), digest(deviceSecret)))
	organisation("hooli", "hooli.test")
	tenant(hooli, fmt.Sprintf(`originator_orgs = ["hooli.test"]
forwarded = "hold"
secret_header = { name = %q, sha256 = [%q] }`, hooli.SecretName, digest(hooliSecret)))
	source("mail", "address", `role = "server"
forwarded = "hold"
internal = ["10.0.0.0/8"]
addresses = ["203.0.113.30/32"]
from = ["*@hooli.test"]`)
	google := func(w workspace, identities string) {
		source("workspace", "google", fmt.Sprintf("dkim = [%s]\nsecret_header = { name = %q, sha256 = [%q] }", identities, w.secretName, digest(w.secret)))
	}
	organisation("wonka", "wonka.test", "a-b.test")
	google(wonka, `{ domain = "wonka.test", selectors = ["google", "weak", "testing", "revoked", "reports"] }, { domain = "a-b.test", selectors = ["google"] }`)
	organisation("oompa", "oompa.test", "a.b.test")
	google(oompa, `{ domain = "oompa.test", selectors = ["google"] }, { domain = "a.b.test", selectors = ["google"] }`)
	organisation("legitimate", "legitimate.com")
	organisation("attacker", "attack.com")
	credential("app@attacker", `from = ["*@attack.com"]`)
	return b.String()
}

// drafts numbers messages, so that each is known again at the receiver.
var drafts atomic.Uint32

// draft is a message whose body has lines that begin with dots, 8-bit octets and
// an end of several empty lines.
func draft(from string, extra ...string) lab.Draft {
	return lab.Draft{
		From: from, To: "victim@" + mailbox, Subject: "your invoice", MessageID: fmt.Sprintf("<m%d@matrix.test>", drafts.Add(1)), Extra: extra,
		Body: "Hello,\r\n.a dot\r\n..two\r\ncaf\xc3\xa9  \r\n\r\nbye\r\n\r\n",
	}
}

// nobody is the server that a message of a mailbox came through.
var nobody netip.Addr

// mailFromMicrosoft is a message as Microsoft 365 hands it over for a tenant.
func mailFromMicrosoft(t lab.Tenant, from string, extra ...string) letter {
	return letter{peer: eop, from: address(from), data: string(t.Stamp(lab.Cloud, draft(from, extra...), nobody))}
}

// mailThrough is a message that came to the tenant by another route.
func mailThrough(t lab.Tenant, route lab.Route, server, from string, extra ...string) letter {
	return letter{peer: eop, from: address(from), data: string(t.Stamp(route, draft(from, extra...), netip.MustParseAddr(server)))}
}

// mailFromUser is a message as a client with a credential sends it.
func mailFromUser(user, from string, extra ...string) letter {
	return letter{peer: office, user: user, from: address(from), data: string(draft(from, extra...).Plain())}
}

// mailFromNobody is a message of a client that shows no proof.
func mailFromNobody(peer, from string, extra ...string) letter {
	return letter{peer: peer, from: address(from), data: string(draft(from, extra...).Plain())}
}

// address takes the address out of a From value; the matrix's odd ones give the
// honest user's.
func address(from string) string {
	from = strings.TrimSuffix(from[strings.LastIndexByte(from, '<')+1:], ">")
	if a, err := mail.ParseAddress(from); err == nil {
		return a.String()
	}
	return "user@acme.test"
}

// edited replaces what must be there, once.
func (l letter) edited(old, new string) letter {
	if strings.Count(l.data, old) != 1 {
		panic(fmt.Sprintf("%q stands %d times in %q", old, strings.Count(l.data, old), l.data))
	}
	l.data = strings.Replace(l.data, old, new, 1)
	return l
}

// topped puts header lines before the others.
func (l letter) topped(lines ...string) letter {
	for _, line := range slices.Backward(lines) {
		l.data = line + "\r\n" + l.data
	}
	return l
}

// ended puts header lines after the others.
func (l letter) ended(lines ...string) letter {
	l.data = strings.Replace(l.data, "\r\n\r\n", "\r\n"+strings.Join(lines, "\r\n")+"\r\n\r\n", 1)
	return l
}

// headless takes a header field off.
func (l letter) headless(name string) letter {
	head, body, _ := strings.Cut(l.data, "\r\n\r\n")
	var kept []string
	dropped := 0
	for line := range strings.SplitSeq(head, "\r\n") {
		if strings.HasPrefix(strings.ToLower(line), strings.ToLower(name)+":") {
			dropped++
			continue
		}
		kept = append(kept, line)
	}
	if dropped == 0 {
		panic("there is no " + name)
	}
	l.data = strings.Join(kept, "\r\n") + "\r\n\r\n" + body
	return l
}

func (l letter) sender(from string) letter         { l.from = from; return l }
func (l letter) peerIs(peer string) letter         { l.peer = peer; return l }
func (l letter) recipients(to ...string) letter    { l.to = to; return l }
func (l letter) inPlainText() letter               { l.plain = true; return l }
func (l letter) inChunks(of int) letter            { l.chunk = of; return l }
func (l letter) withUTF8() letter                  { l.utf8 = true; return l }
func (l letter) showing(c *tls.Certificate) letter { l.cert = c; return l }
func (l letter) with(user, password string) letter { l.user, l.password = user, password; return l }
func (l letter) through(d door) letter             { l.door = d; return l }
func (l letter) authenticated(user string) letter  { l.user = user; return l }
func (l letter) body(b string) letter {
	l.data = l.data[:strings.Index(l.data, "\r\n\r\n")+4] + b
	return l
}

// signed adds a DKIM signature by another signer, as Microsoft or a stranger
// would.
func (l letter) signed(domain, selector string, key crypto.Signer) letter {
	head, body, _ := strings.Cut(l.data, "\r\n\r\n")
	header, err := mail.ParseHeader([]byte(head+"\r\n"), mail.HeaderLimits{})
	if err != nil {
		panic(err)
	}
	hasher := dkim.NewBodyHasher(header)
	hasher.Write([]byte(body))
	d, err := mail.ParseDomain(domain)
	if err != nil {
		panic(err)
	}
	fields, err := dkim.Sign(header, hasher.Sum(), []dkim.Signer{{Domain: d, Selector: selector, Key: key}}, time.Now(), 24*time.Hour)
	if err != nil {
		panic(err)
	}
	l.data = string(fields[0].Raw()) + l.data
	return l
}

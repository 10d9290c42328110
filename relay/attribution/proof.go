package attribution

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"anechoic/mail"
	"anechoic/org"
)

// Origin is how a message came to be at the source that proved it (the truth
// table of origin classes). Only what the organisation wrote itself, or handed
// over through its own listed servers, may be signed.
type Origin string

// The origin classes.
const (
	Hosted    Origin = "hosted"    // written at the source itself
	Hybrid    Origin = "hybrid"    // handed to the provider by a listed server of the organisation
	Forwarded Origin = "forwarded" // everything else: the organisation handled it, but did not write it
)

// Methods is the set of things that proved the organisation.
type Methods uint8

// The methods a Proof can rest on.
const (
	ByTenant       Methods = 1 << iota // the provider's tenant id
	ByOriginator                       // the provider's originator organisation
	BySecretHeader                     // the organisation's secret header
	ByDKIM                             // a DKIM signature by the provider for this organisation
	ByCredential                       // SMTP AUTH inside TLS
	ByCertificate                      // the key of a TLS client certificate
	ByAddress                          // an address that is the organisation's alone
)

var methodNames = []string{"tenant", "originator", "secret-header", "dkim", "credential", "certificate", "address"}

// Names lists the methods of the set, in a fixed order.
func (m Methods) Names() []string {
	var names []string
	for i, name := range methodNames {
		if m&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return names
}

// ErrForged says that stored bytes are no proof that Seal wrote.
var ErrForged = errors.New("stored proof does not verify")

// Proof says which organisation, through which source, a message is from. Only
// Attribute makes one, and Open out of what Seal wrote. The zero Proof proves
// nothing; every consumer refuses it.
type Proof struct {
	c content
}

// content is what a Proof holds; its JSON form is what Seal writes.
type content struct {
	Organisation org.ID  `json:"org"`
	Source       string  `json:"source"`
	Username     string  `json:"username,omitempty"` // of a credential
	Origin       Origin  `json:"origin"`
	Methods      Methods `json:"methods"`
	Tenant       string  `json:"tenant,omitempty"`
	Originator   string  `json:"originator,omitempty"`
	Address      string  `json:"address,omitempty"` // of an address source's server, or of a hybrid one
	ClientKey    string  `json:"spki,omitempty"`    // of a certificate: SHA-256 in hexadecimal
	Generation   uint64  `json:"generation"`

	// What the second proof was; versions before these were written left them out.
	Secret   Digest      `json:"secret,omitzero"`
	Signer   mail.Domain `json:"signer,omitzero"`
	Selector string      `json:"selector,omitempty"`
}

// Digest is the SHA-256 of a secret header's value, as the registry lists it. The
// zero Digest is none.
type Digest [sha256.Size]byte

// MarshalText writes a Digest in hexadecimal, UnmarshalText reads that and nothing
// else.
func (d Digest) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, d[:]), nil }

func (d *Digest) UnmarshalText(text []byte) error {
	if n, err := hex.Decode(d[:], text[:min(len(text), 2*len(d))]); err != nil || n != len(d) || len(text) != 2*len(d) {
		return fmt.Errorf("%d characters are no SHA-256", len(text))
	}
	return nil
}

// IsZero says that p proves nothing.
func (p Proof) IsZero() bool { return p.c.Organisation == "" || p.c.Source == "" }

// Organisation is whose the message is; Source is the way it came in.
func (p Proof) Organisation() org.ID { return p.c.Organisation }
func (p Proof) Source() string       { return p.c.Source }

// Principal is what limits count: "credential:<username>", "tenant:<guid>", or
// the source by its name.
func (p Proof) Principal() string {
	switch {
	case p.c.Username != "":
		return "credential:" + p.c.Username
	case p.c.Tenant != "":
		return "tenant:" + p.c.Tenant
	}
	return "source:" + string(p.c.Organisation) + "/" + p.c.Source
}

// Username is the credential's, empty for other sources.
func (p Proof) Username() string { return p.c.Username }

// Origin is the origin class.
func (p Proof) Origin() Origin { return p.c.Origin }

// Methods is what proved the organisation.
func (p Proof) Methods() Methods { return p.c.Methods }

// Address is the server's: of an address source, or the one that handed hybrid
// mail to its provider. ClientKey the SHA-256 of a
// certificate's key in hexadecimal; empty for other sources.
func (p Proof) Address() string   { return p.c.Address }
func (p Proof) ClientKey() string { return p.c.ClientKey }

// Tenant and Originator are the provider's words, empty for other sources.
func (p Proof) Tenant() string     { return p.c.Tenant }
func (p Proof) Originator() string { return p.c.Originator }

// Secret is the digest of the secret header that was there, Signature the domain
// and selector of the DKIM signature: zero where Methods does not have them, and in
// proofs that versions before wrote, which did not record them.
func (p Proof) Secret() Digest                   { return p.c.Secret }
func (p Proof) Signature() (mail.Domain, string) { return p.c.Signer, p.c.Selector }

// Generation is of the Directory that attributed the message.
func (p Proof) Generation() uint64 { return p.c.Generation }

// Seal writes a proof for storage: an HMAC-SHA256 with key over the content and
// over context, then the content. The context says what the proof is for
// (custody id, envelope, header and body hash). The zero Proof is not sealed.
func Seal(key []byte, p Proof, context []byte) ([]byte, error) {
	if p.IsZero() {
		return nil, fmt.Errorf("attribution: seal: %w: it is the zero proof", ErrForged)
	}
	text, err := json.Marshal(p.c)
	if err != nil {
		return nil, fmt.Errorf("attribution: seal: %w", err)
	}
	return append(authenticate(key, text, context), text...), nil
}

// Open reads what Seal wrote with the same key and context; anything else is
// ErrForged. A stored proof says what was true then: policy is asked again.
func Open(key, sealed, context []byte) (Proof, error) {
	if len(sealed) < sha256.Size || !hmac.Equal(sealed[:sha256.Size], authenticate(key, sealed[sha256.Size:], context)) {
		return Proof{}, ErrForged
	}
	var c content
	if err := json.Unmarshal(sealed[sha256.Size:], &c); err != nil {
		return Proof{}, fmt.Errorf("%w: its content is not readable", ErrForged)
	}
	if p := (Proof{c}); !p.IsZero() {
		return p, nil
	}
	return Proof{}, fmt.Errorf("%w: it is the zero proof", ErrForged)
}

// authenticate binds content and context; the length of the content keeps the
// border between them.
func authenticate(key, text, context []byte) []byte {
	h := hmac.New(sha256.New, key)
	var length [8]byte
	binary.LittleEndian.PutUint64(length[:], uint64(len(text)))
	h.Write(length[:])
	h.Write(text)
	h.Write(context)
	return h.Sum(nil)
}

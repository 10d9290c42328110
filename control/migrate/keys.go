package migrate

import (
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"anechoic/mail"
	"anechoic/org"
)

// keyFile is a private key to write, in the one form that the relay takes.
type keyFile struct {
	name string // in the written folder
	pem  []byte
}

// newSelector is under which a domain gets a key that has none which can be used here.
const newSelector = "an1"

// keys takes over DKIM keys: selector and key stay, so that DNS need not change.
func (d *drafting) keys() {
	if d.DKIM != nil {
		for _, k := range d.DKIM.Keys {
			for _, domain := range d.signsFor(k) {
				d.key(k, domain)
			}
		}
	}
	for _, o := range d.plan.Organisations {
		for _, domain := range o.Domains {
			if len(domain.Keys) == 0 {
				domain.Keys = []Key{{Selector: d.freeSelector(domain.Name), Algorithm: string(org.RSA2048)}}
			}
		}
	}
}

// freeSelector is one that no old key of the domain has: its record may still stand.
func (d *drafting) freeSelector(name mail.Domain) string {
	return free(newSelector, func(selector string) bool {
		return d.DKIM != nil && slices.ContainsFunc(d.DKIM.Keys, func(k DKIMKey) bool {
			return strings.EqualFold(k.Selector, selector) && (k.Domain == "%" || strings.EqualFold(k.Domain, name.String()))
		})
	})
}

// signsFor lists the domains that a key signs as: its own, or with % those of the
// entries that use it.
func (d *drafting) signsFor(k DKIMKey) (domains []mail.Domain) {
	if k.Domain != "%" {
		if name, ok := ownable(k.Domain); ok {
			return []mail.Domain{name}
		}
		d.left(rankKey, k.At, "DKIM key "+k.Name, "it signs as "+quoted(k.Domain)+", which no organisation can prove as its own", "nothing, or name the domain it is for in KeyTable")
		return nil
	}
	for _, e := range d.DKIM.Signing {
		if used, _, _ := strings.Cut(e.Value, ":"); used != k.Name {
			continue
		}
		if name, ok := ownable(signed(e, d.DKIM.Wildcard)); ok && !slices.Contains(domains, name) {
			domains = append(domains, name)
		}
	}
	return domains
}

// key takes over one key for one domain.
func (d *drafting) key(k DKIMKey, name mail.Domain) {
	domain := d.domain(name)
	selector := strings.ToLower(k.Selector)
	if domain == nil || slices.ContainsFunc(domain.Keys, func(have Key) bool { return have.Selector == selector }) {
		return
	}
	if !org.ValidSelector(selector) {
		d.left(rankKey, k.At, "DKIM key "+k.Name+" for "+name.String(), quoted(k.Selector)+" is no selector", "publish the new key instead")
		return
	}
	text, err := d.keyText(k, name)
	if err != nil {
		return // it is among what could not be read
	}
	made, algorithm, err := convertKey(text)
	if err != nil {
		d.left(rankKey, k.At, "DKIM key "+k.Name+" for "+name.String()+" (selector "+selector+")", err.Error(), "publish the new key that the relay makes (anechoic key list) before mail goes through it; leave the old record until the old mail has arrived")
		return
	}
	file := "keys/" + name.String() + "-" + selector + ".pem"
	d.plan.keyFiles = append(d.plan.keyFiles, keyFile{file, made})
	domain.Keys = append(domain.Keys, Key{Selector: selector, Algorithm: algorithm, File: file, At: k.At})
}

func (d *drafting) domain(name mail.Domain) *Domain {
	o := d.byDomain[name]
	if o == nil {
		return nil
	}
	for _, domain := range o.Domains {
		if domain.Name == name {
			return domain
		}
	}
	return nil
}

// keyText gives what a key's file holds, or the key that stands in KeyTable itself.
func (d *drafting) keyText(k DKIMKey, name mail.Domain) ([]byte, error) {
	if k.File == "" {
		return []byte(k.Material), nil
	}
	file := strings.ReplaceAll(k.File, "%", name.String())
	data, err := readRegular(d.files.path(file), org.MaxKeyFile)
	if err != nil {
		d.files.unread = append(d.files.unread, Unread{At: k.At, What: printable(file), Why: printable(err.Error())})
	}
	return data, err
}

// Why a key cannot be used. None of them shows what was read.
var (
	errNoKey  = errors.New("it holds no private key in PEM or base64")
	errLocked = errors.New("it is encrypted")
)

// convertKey reads PKCS #1 or PKCS #8, in PEM or base64, and writes PKCS #8 in PEM.
func convertKey(text []byte) (made []byte, algorithm string, err error) {
	block, _ := pem.Decode(text)
	var der []byte
	switch {
	case block != nil && (block.Headers["DEK-Info"] != "" || block.Type == "ENCRYPTED PRIVATE KEY"):
		return nil, "", errLocked
	case block != nil:
		der = block.Bytes
	default:
		if der, err = base64.StdEncoding.DecodeString(strings.Join(strings.Fields(string(text)), "")); err != nil {
			return nil, "", errNoKey
		}
	}
	defer clear(der)
	key, err := parseDER(der)
	if err != nil {
		return nil, "", err
	}
	switch k := key.(type) {
	case *rsa.PrivateKey:
		if k.N.BitLen() != org.RSABits || len(k.Primes) != 2 {
			return nil, "", fmt.Errorf("it is an RSA key of %d bits; keys of exactly %d are used", k.N.BitLen(), org.RSABits)
		}
		algorithm = string(org.RSA2048)
	case ed25519.PrivateKey:
		algorithm = string(org.Ed25519)
	default:
		return nil, "", fmt.Errorf("it is a %T; DKIM has RSA and Ed25519", key)
	}
	out, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, "", errNoKey
	}
	return pem.EncodeToMemory(&pem.Block{Type: org.KeyPEM, Bytes: out}), algorithm, nil
}

func parseDER(der []byte) (any, error) {
	if key, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return key, nil
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errNoKey
	}
	return key, nil
}

func quoted(s string) string { return `"` + shown(s) + `"` }

package org

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/pelletier/go-toml/v2"

	"anechoic/org/document"
)

// Problem is one fault of a configuration file, with its place and what to do.
type Problem = document.Problem

// Registry is what a person wrote: every value as it stands in the file, checked
// by Build only. A Registry made by a program needs no file; its problems then
// have no line.
type Registry struct {
	Organisations []OrganisationEntry `toml:"organisation"`

	text   *document.Document // nil: not from a file
	folder string             // what relative paths are relative to
	faults []Problem          // of form, and of files it names: Build tells them too
	keys   *KeyFiles          // nil: no key file was looked at
	digest [sha256.Size]byte  // of the text; zero: not from a file
}

// maxRegistry bounds the file: a million domains with everything take a tenth.
const maxRegistry = 2 << 30

// ReadRegistry reads a registry file and the key files it names, each once:
// KeyFiles gives the keys. The problems are those of form and of key files; Build
// adds those of content, and makes no Directory while there is one of either.
func ReadRegistry(path string) (Registry, []Problem) {
	data, err := readBounded(path, maxRegistry)
	if err != nil {
		return unreadable(path, err)
	}
	return ReadRegistryText(path, data)
}

// ReadRegistryText is ReadRegistry for a text that is to become the file at path.
func ReadRegistryText(path string, data []byte) (Registry, []Problem) {
	reg, _ := ParseRegistry(path, data)
	reg.digest = sha256.Sum256(data)
	reg.faults = append(reg.faults, reg.text.Place(reg.readKeyFiles())...)
	document.Sort(reg.faults)
	return reg, reg.faults
}

// Digest is the SHA-256 of the text that was read; zero if it was not read from a
// file. Key files are no part of it.
func (r *Registry) Digest() [sha256.Size]byte { return r.digest }

func unreadable(path string, err error) (Registry, []Problem) {
	hint := "check `registry` in the configuration and who may read the file"
	if errors.Is(err, fs.ErrNotExist) {
		hint = "check `registry` in the configuration, or make the file: an empty one is a relay of no organisation yet"
	}
	faults := []Problem{{File: path, Message: "the registry cannot be read: " + err.Error(), Hint: hint}}
	return Registry{faults: faults}, faults
}

// ParseRegistry reads a registry's text. Key files are relative to the folder of
// file, and are not looked at.
func ParseRegistry(file string, data []byte) (Registry, []Problem) {
	var reg Registry
	reg.text, reg.faults = document.Decode(file, data, &reg)
	if whole, err := filepath.Abs(file); err == nil {
		reg.folder = filepath.Dir(whole)
	}
	return reg, reg.faults
}

// keyFile is where a key's file is; empty if the key has none.
func (r *Registry) keyFile(e *KeyEntry) string { return document.Path(r.folder, e.KeyFile) }

// Place gives problems about the registry their line and column.
func (r *Registry) Place(problems []Problem) []Problem {
	if r.text == nil {
		return problems
	}
	return r.text.Place(problems)
}

func readBounded(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", path)
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("%s has %d octets, the limit is %d: it is the wrong file", path, info.Size(), limit)
	}
	return os.ReadFile(path)
}

// OrganisationEntry is one [[organisation]].
type OrganisationEntry struct {
	ID              string             `toml:"id"`
	Name            string             `toml:"name"`
	SecurityContact string             `toml:"security_contact"`
	ReturnPath      string             `toml:"return_path"`
	Egress          string             `toml:"egress"`
	Suppression     *SuppressionEntry  `toml:"suppression"`
	Screening       *ScreeningEntry    `toml:"screening"`
	Learning        bool               `toml:"learning"`
	Digest          string             `toml:"quarantine_digest"`
	Response        *ResponseEntry     `toml:"response"`
	Trust           string             `toml:"trust"`
	Limits          *SharedLimitsEntry `toml:"limits"`
	Domains         []DomainEntry      `toml:"domain"`
	Sources         []SourceEntry      `toml:"source"`
	Inbound         []InboundEntry     `toml:"inbound"`
	Webhooks        []WebhookEntry     `toml:"webhook"`
}

// SuppressionEntry switches an organisation's suppression list on; what is zero is
// as in DefaultSuppression.
type SuppressionEntry struct {
	HardBounces   int `toml:"hard_bounces"`
	BounceDays    int `toml:"bounce_days"`
	ComplaintDays int `toml:"complaint_days"`
}

// DomainEntry is one [[organisation.domain]].
type DomainEntry struct {
	Name       string             `toml:"name"`
	Subdomains bool               `toml:"subdomains"`
	DKIM       []KeyEntry         `toml:"dkim"`
	Limits     *SharedLimitsEntry `toml:"limits"`
}

// KeyEntry is one signing key of a domain.
type KeyEntry struct {
	Selector  string `toml:"selector"`
	Algorithm string `toml:"algorithm"`
	KeyFile   string `toml:"key_file"`
}

// SourceEntry is one [[organisation.source]]. Which keys may stand depends on
// Kind.
type SourceEntry struct {
	ID        string       `toml:"id"`
	Kind      string       `toml:"kind"`
	Role      string       `toml:"role"`
	Forwarded string       `toml:"forwarded"`
	From      []string     `toml:"from"`
	Internal  []string     `toml:"internal"`
	Addresses []string     `toml:"addresses"`
	Limits    *LimitsEntry `toml:"limits"`
	Trust     string       `toml:"trust"`

	TenantIDs        []string           `toml:"tenant_ids"`
	OriginatorOrgs   []string           `toml:"originator_orgs"`
	ProviderDomains  []string           `toml:"provider_domains"`
	HybridAddresses  []string           `toml:"hybrid_addresses"`
	RequireDKIM      bool               `toml:"require_dkim"`
	SingleProofUntil *toml.LocalDate    `toml:"single_proof_until"`
	SecretHeader     *SecretHeaderEntry `toml:"secret_header"`

	DKIM []IdentityEntry `toml:"dkim"`

	Username string         `toml:"username"`
	Password *PasswordEntry `toml:"password"`

	SPKI []string `toml:"spki_sha256"`
}

// SecretHeaderEntry names a header field and the SHA-256 of its secrets, in hex.
type SecretHeaderEntry struct {
	Name   string   `toml:"name"`
	SHA256 []string `toml:"sha256"`
}

// IdentityEntry is a DKIM identity an organisation has at a provider.
type IdentityEntry struct {
	Domain    string   `toml:"domain"`
	Selectors []string `toml:"selectors"`
}

// PasswordEntry holds the PHC string of an argon2id hash.
type PasswordEntry struct {
	Argon2id string `toml:"argon2id"`
}

package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"anechoic/org"
)

// Loaded is what one reading of relay.toml, and of the files it names, gave. Each
// file is read once: what is numbered, built and signed with is the same text.
type Loaded struct {
	Config    Config
	Directory *org.Directory // nil while there is a problem, and where no registry is named
	KeyFiles  *org.KeyFiles  // those the registry names
	Findings  []org.Finding
}

// Validate reads a configuration and its registry and tells everything that is
// wrong with either. Findings load, but are a risk.
func Validate(path string) (Config, *org.Directory, []org.Problem, []org.Finding) {
	l, problems := Reload(path, feedOrFile, func(string) uint64 { return 1 }, time.Now())
	return l.Config, l.Directory, problems, l.Findings
}

// Reload is Validate for a server: providers have the ranges that feeds gives, and
// the Directory has the generation that number gives for what the files hold, by
// their SHA-256.
func Reload(path string, feeds Feeds, number func(files string) uint64, now time.Time) (l Loaded, problems []org.Problem) {
	return reload(path, feeds, number, now, org.ReadRegistry)
}

// Propose is Validate for a registry whose file would hold another text.
func Propose(path string, registry []byte) (Config, *org.Directory, []org.Problem, []org.Finding) {
	l, problems := reload(path, feedOrFile, func(string) uint64 { return 1 }, time.Now(), func(file string) (org.Registry, []org.Problem) {
		return org.ReadRegistryText(file, registry)
	})
	return l.Config, l.Directory, problems, l.Findings
}

func reload(path string, feeds Feeds, number func(files string) uint64, now time.Time, registry func(file string) (org.Registry, []org.Problem)) (l Loaded, problems []org.Problem) {
	data, problems := read(path)
	if len(problems) > 0 {
		return Loaded{}, problems
	}
	c, text, problems := parse(path, data)
	atRisk := c.applyFeeds(feeds)
	if c.Registry == "" {
		return Loaded{Config: c}, problems
	}
	reg, _ := registry(c.Registry) // its problems are among Build's
	dir, more, findings := org.Build(reg, c.OrgProviders(), c.Egress(), number(digest(data, &reg, c.Providers)), now)
	problems = append(append(problems, more...), reg.Place(append(c.unknownPools(&reg), c.webhooks(&reg, dir)...))...)
	if dir != nil {
		problems = append(problems, text.Place(slices.Concat(c.inboundEgress(dir), c.disownedApart(dir), c.postmasterInside(dir)))...)
		findings = append(append(findings, c.findings(dir)...), atRisk...)
	}
	if len(problems) > 0 {
		dir = nil
	}
	return Loaded{Config: c, Directory: dir, KeyFiles: reg.KeyFiles(), Findings: findings}, problems
}

// digest is the SHA-256, in hex, of what makes a Directory: the text of relay.toml
// and of the registry as they were read, and the providers' ranges in use, which
// feeds may have brought.
func digest(relay []byte, reg *org.Registry, p Providers) string {
	sum := sha256.New()
	fmt.Fprintf(sum, "%x\n%x\n", sha256.Sum256(relay), reg.Digest())
	for _, provider := range []Provider{p.Microsoft365, p.Google} {
		fmt.Fprintf(sum, "%d %v\n", len(provider.Ranges), provider.Ranges)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

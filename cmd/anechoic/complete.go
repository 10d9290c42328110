package main

import (
	"context"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"anechoic/control/api"
	"anechoic/control/config"
	"anechoic/docs"
	"anechoic/mail"
	"anechoic/org"
)

// completionTime bounds what a shell waits for at a press of the tab key.
const completionTime = 500 * time.Millisecond

// maxCompletions bounds how many ids are offered.
const maxCompletions = 50

// values gives what can stand somewhere. Where it cannot be found out, there is
// nothing: completion never complains.
type values func(sh *shell, args []string) []string

// flagValues are flags with values that can be completed, wherever they are.
var flagValues = map[string]values{
	"org":    organisationIDs,
	"source": sourceIDs,
	"domain": domainNames,
	"reason": reasonWords,
	"event":  eventWords,
	"color":  fixed(colourAuto, colourAlways, colourNever),
	"format": fixed("roff", "markdown"),
	"state":  fixed("queued", "leased", "held"),
}

// argumentValues are arguments with values that can be completed, by the word that
// stands for them in a command's usage.
var argumentValues = map[string]values{
	"ORG": organisationIDs, "DOMAIN": domainNames, "SOURCE": sourceIDs, "ORG/SOURCE": wholeSourceIDs,
	"SELECTOR": selectorNames, "{organisation|source|domain|site}": fixed("organisation", "source", "domain", "site"),
	"{ID|REASON|EVENT|OPTION|METRIC}": manualNames, "[relay|registry]": fixed("relay", "registry"),
}

// complete has every command below c offer values for its flags and arguments.
func (sh *shell) complete(c *cobra.Command) {
	for name, list := range flagValues {
		if c.Flags().Lookup(name) != nil || c.PersistentFlags().Lookup(name) != nil {
			_ = c.RegisterFlagCompletionFunc(name, sh.offered(list)) // fails only where somebody offers other values already
		}
	}
	if words := argumentWords(c.Use); len(words) > 0 && c.ValidArgsFunction == nil {
		c.ValidArgsFunction = func(c *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
			word := words[min(len(args), len(words)-1)]
			if list := valuesOf(c, word); list != nil {
				return sh.offered(list)(c, args, begun)
			}
			return nil, cobra.ShellCompDirectiveDefault
		}
	}
	for _, below := range c.Commands() {
		sh.complete(below)
	}
}

// argumentWords are the words of a usage line that stand for arguments.
func argumentWords(use string) (words []string) {
	for _, w := range strings.Fields(use)[1:] {
		if strings.HasPrefix(w, "[--") || strings.HasPrefix(w, "--") {
			break
		}
		words = append(words, strings.TrimSuffix(w, "…"))
	}
	return words
}

// valuesOf finds what can stand for a word of the usage; an ID is one of what the
// command is about.
func valuesOf(c *cobra.Command, word string) values {
	if list, ok := argumentValues[word]; ok {
		return list
	}
	word = strings.TrimSuffix(strings.Trim(word, "[]"), "…")
	if list, ok := argumentValues[word]; ok {
		return list
	}
	if word != "ID" || !c.HasParent() {
		return nil
	}
	switch c.Parent().Name() {
	case "org":
		return organisationIDs
	case "queue":
		return queueIDs
	case "quarantine":
		return quarantineIDs
	}
	return nil
}

// offered makes cobra's function of a list: what begins like the word that was begun.
func (sh *shell) offered(list values) func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return func(_ *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		found := list(sh, args)
		found = slices.DeleteFunc(found, func(s string) bool { return !strings.HasPrefix(s, begun) || printable(s) != s })
		slices.Sort(found)
		return slices.Compact(found), cobra.ShellCompDirectiveNoFileComp
	}
}

func fixed(words ...string) values {
	return func(*shell, []string) []string { return slices.Clone(words) }
}

// registered reads the registry of the configuration as it is written: what is not
// right elsewhere in it does not matter here.
func (sh *shell) registered() (reg org.Registry) {
	file, err := sh.configFile()
	if err != nil {
		return reg
	}
	cfg, _ := config.Load(file)
	if cfg.Registry == "" || larger(cfg.Registry, maxCompletionFile) {
		return reg
	}
	text, err := os.ReadFile(cfg.Registry)
	if err != nil {
		return reg
	}
	reg, _ = org.ParseRegistry(cfg.Registry, text)
	return reg
}

func larger(file string, limit int64) bool {
	info, err := os.Stat(file)
	return err != nil || info.Size() > limit
}

// maxCompletionFile bounds the registry that is read for a press of the tab key.
const maxCompletionFile = 8 << 20

func organisationIDs(sh *shell, _ []string) (ids []string) {
	for _, o := range sh.registered().Organisations {
		ids = append(ids, o.ID)
	}
	return ids
}

// sourceIDs are those of the organisation that was named before, or all.
func sourceIDs(sh *shell, args []string) (ids []string) {
	for _, o := range sh.registered().Organisations {
		for _, s := range o.Sources {
			if len(args) == 0 || args[0] == o.ID {
				ids = append(ids, s.ID)
			}
		}
	}
	return ids
}

func wholeSourceIDs(sh *shell, _ []string) (ids []string) {
	for _, o := range sh.registered().Organisations {
		for _, s := range o.Sources {
			ids = append(ids, o.ID+"/"+s.ID)
		}
	}
	return ids
}

func domainNames(sh *shell, _ []string) (names []string) {
	for _, o := range sh.registered().Organisations {
		for _, d := range o.Domains {
			names = append(names, d.Name)
		}
	}
	return names
}

// selectorNames are those of the domain that was named before.
func selectorNames(sh *shell, args []string) (names []string) {
	for _, o := range sh.registered().Organisations {
		for _, d := range o.Domains {
			for _, k := range d.DKIM {
				if slices.Contains(args, d.Name) {
					names = append(names, k.Selector)
				}
			}
		}
	}
	return names
}

func reasonWords(*shell, []string) (words []string) {
	for _, r := range mail.Reasons() {
		words = append(words, string(r))
	}
	return words
}

func eventWords(*shell, []string) (words []string) {
	for _, e := range api.Events() {
		words = append(words, string(e))
	}
	return words
}

func manualNames(*shell, []string) (names []string) {
	for _, e := range docs.Entries() {
		names = append(names, e.Name)
	}
	return names
}

// queueIDs asks the relay, if one runs and answers at once.
func queueIDs(sh *shell, _ []string) (ids []string) {
	client, err := sh.client()
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), completionTime)
	defer cancel()
	page, err := client.Queue(ctx, url.Values{"limit": {strconv.Itoa(maxCompletions)}})
	if err != nil {
		return nil
	}
	for _, m := range page.Messages {
		ids = append(ids, string(m.ID))
	}
	return ids
}

func quarantineIDs(sh *shell, _ []string) (ids []string) {
	client, err := sh.client()
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), completionTime)
	defer cancel()
	page, err := client.Quarantine(ctx, url.Values{"limit": {strconv.Itoa(maxCompletions)}})
	if err != nil {
		return nil
	}
	for _, m := range page.Messages {
		ids = append(ids, string(m.ID))
	}
	return ids
}

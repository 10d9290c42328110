package backup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// fileKeys are the keys of relay.toml and the registry that name a file, beside
// those that end in one of fileEndings.
var fileKeys = map[string]bool{"registry": true, "feed": true, "shaping": true}

var fileEndings = []string{"_file", "_cert", "_key"}

// named is a file that a configuration names.
type named struct{ key, path string }

// namedFiles finds them in a text. Faults of the text do not matter as long as it is
// TOML: what is broken is worth keeping too.
func namedFiles(file string, text []byte) ([]named, error) {
	var tree map[string]any
	if err := toml.Unmarshal(text, &tree); err != nil {
		return nil, fmt.Errorf("%s is no TOML: %w", file, err)
	}
	var found []named
	flatten("", tree, func(key string, value any) {
		text, ok := value.(string)
		if !ok || text == "" || !namesFile(key) {
			return
		}
		if !filepath.IsAbs(text) {
			text = filepath.Join(filepath.Dir(file), text)
		}
		found = append(found, named{key, text})
	})
	slices.SortFunc(found, func(a, b named) int { return strings.Compare(a.key, b.key) })
	return found, nil
}

func namesFile(key string) bool {
	last := key[strings.LastIndexByte(key, '.')+1:]
	return fileKeys[last] || slices.ContainsFunc(fileEndings, func(end string) bool { return strings.HasSuffix(last, end) })
}

// flatten visits every value of a tree with its path: "smtp.listen",
// "organisation[0].domain[1].name".
func flatten(at string, value any, visit func(key string, value any)) {
	switch v := value.(type) {
	case map[string]any:
		for name, below := range v {
			flatten(strings.TrimPrefix(at+"."+name, "."), below, visit)
		}
	case []any:
		for i, below := range v {
			if _, table := below.(map[string]any); !table {
				visit(at, v)
				return
			}
			flatten(at+"["+strconv.Itoa(i)+"]", below, visit)
		}
	default:
		visit(at, v)
	}
}

// listConfig finds relay.toml, the registry and what they name. What they name and
// is not there is noted: a backup without it is better than none.
func (p *packer) listConfig() error {
	file, err := filepath.Abs(p.source.ConfigFile)
	if err != nil {
		return err
	}
	if err := p.addConfig(file, filepath.Dir(file), "relay.toml"); err != nil {
		return err
	}
	found, err := namesIn(file)
	if err != nil {
		return err
	}
	for i := 0; i < len(found); i++ {
		n := found[i]
		err := p.addConfig(n.path, filepath.Dir(file), n.key)
		if err != nil {
			p.manifest.Missing = append(p.manifest.Missing, fmt.Sprintf("%s: %v", n.key, err))
			continue
		}
		if n.key != "registry" {
			continue
		}
		more, err := namesIn(n.path)
		if err != nil {
			p.manifest.Missing = append(p.manifest.Missing, "what the registry names: "+err.Error())
		}
		found = append(found, more...)
	}
	return nil
}

func namesIn(file string) ([]named, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return namedFiles(file, text)
}

// addConfig adds one file, unless it is there already.
func (p *packer) addConfig(path, folder, key string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no regular file: %w", path, errors.ErrUnsupported)
	}
	name := configName(path, folder)
	if p.have[path] {
		return nil
	}
	file, err := os.Open(path) // that it cannot be read is to be known before its header is written
	if err != nil {
		return err
	}
	if err := errors.Join(file.Close(), p.add(name, path)); err != nil {
		return err
	}
	p.manifest.Config = append(p.manifest.Config, ConfigFile{Name: name, Path: path, Key: key})
	return nil
}

// configName is where a file stands in the archive: as it lies beside relay.toml, or
// by its whole path.
func configName(path, folder string) string {
	if rel, err := filepath.Rel(folder, path); err == nil && fs.ValidPath(filepath.ToSlash(rel)) {
		return configPrefix + filepath.ToSlash(rel)
	}
	return outside + strings.TrimPrefix(filepath.ToSlash(path), "/")
}

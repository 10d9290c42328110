// Command debian makes a Debian package of a description for nfpm: `debian
// packaging/nfpm.yaml dist`. nfpm's own command would do the same, and fetches
// modules for other formats which nobody needs here.
//
// Variables in the description come from the environment, and one that is not set is
// an error. The times of all files are SOURCE_DATE_EPOCH.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/deb"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: debian DESCRIPTION FOLDER")
		os.Exit(2)
	}
	name, err := pack(os.Args[1], os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, "debian:", err)
		os.Exit(1)
	}
	fmt.Println(name)
}

// pack writes the package and gives its name.
func pack(description, folder string) (name string, err error) {
	var missing []string
	config, err := nfpm.ParseFileWithEnvMapping(description, func(variable string) string {
		value, ok := os.LookupEnv(variable)
		if !ok && !strings.HasPrefix(variable, "NFPM_") {
			missing = append(missing, variable)
		}
		return value
	})
	if len(missing) > 0 {
		return "", fmt.Errorf("%s: not in the environment: %s", description, strings.Join(missing, ", "))
	}
	if err != nil {
		return "", err
	}
	info, err := config.Get("deb")
	if err != nil {
		return "", err
	}
	info = nfpm.WithDefaults(info)
	packager, err := nfpm.Get("deb")
	if err != nil {
		return "", err
	}
	name = filepath.Join(folder, packager.ConventionalFileName(info))
	file, err := os.Create(name)
	if err != nil {
		return "", err
	}
	if err := errors.Join(packager.Package(info, file), file.Close()); err != nil {
		return "", errors.Join(err, os.Remove(name))
	}
	return name, nil
}

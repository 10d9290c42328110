package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"anechoic/control/api"
	"anechoic/control/config"
)

// systemConfig is where a package puts the configuration.
const systemConfig = "/etc/anechoic/relay.toml"

// configFiles are looked for in this order without --config.
var configFiles = []string{"anechoic.toml", "relay.toml", systemConfig}

// configFile is the configuration this command is about.
func (sh *shell) configFile() (string, error) {
	if sh.config != "" {
		if _, err := os.Stat(sh.config); errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("configuration: %w: name a file that is there with --config, or write one (docs/configuration.md has a complete example)", err)
		} else if err != nil {
			return "", fmt.Errorf("configuration: %w", err)
		}
		return sh.config, nil
	}
	for _, name := range configFiles {
		if _, err := os.Stat(name); err == nil {
			return name, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("configuration: %w", err)
		}
	}
	return "", usagef("there is no anechoic.toml or relay.toml here and no %s: name one with --config FILE, or write one (docs/first-configuration.md begins with it; anechoic demo needs none)", systemConfig)
}

// dataDir is the data directory of the configuration. A file that has faults
// elsewhere still says where that is: the relay may run with an older one.
func (sh *shell) dataDir() (string, error) {
	file, err := sh.configFile()
	if err != nil {
		return "", err
	}
	cfg, problems := config.Load(file)
	if cfg.DataDir == "" {
		return "", sh.invalid(file, problems)
	}
	return cfg.DataDir, nil
}

// client speaks to the relay of the configuration.
func (sh *shell) client() (*api.Client, error) {
	dir, err := sh.dataDir()
	if err != nil {
		return nil, err
	}
	return api.NewClient(dir), nil
}

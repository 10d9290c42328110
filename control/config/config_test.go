package config

import (
	"os"
	"path/filepath"
	"testing"
)

// contract finds the configuration that every version must load as it stands.
func contract(t testing.TB) string {
	t.Helper()
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
			break
		}
		root = filepath.Dir(root)
	}
	path := filepath.Join(root, "..", "shared", "contract", "relay.toml")
	if _, err := os.Stat(path); err != nil {
		t.Skip("the contract's examples are not here: set them beside the project, in ../shared/contract")
	}
	return path
}

func TestContractLoadsAsItStands(t *testing.T) {
	c, dir, problems, findings := Validate(contract(t))
	for _, p := range problems {
		t.Error(p)
	}
	t.Log(c.Show())
	t.Log(dir, findings)
}

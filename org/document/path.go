package document

import (
	"cmp"
	"os"
	"path/filepath"
	"strings"
)

// CredentialsVariable begins a path in a configuration that means a file systemd
// handed to the service: "${CREDENTIALS_DIRECTORY}/tls.key" (systemd.exec(5),
// LoadCredential=). No other variable is replaced anywhere.
const CredentialsVariable = "${CREDENTIALS_DIRECTORY}/"

// credentialsFolder is where systemd keeps them for the unit that this project ships:
// what commands beside the service look at, which have no such variable.
const credentialsFolder = "/run/credentials/anechoic.service"

// Path is where the file is that a configuration names: relative paths start from
// folder, the configuration's own. An empty path stays so.
func Path(folder, path string) string {
	if name, ok := strings.CutPrefix(path, CredentialsVariable); ok {
		return filepath.Join(cmp.Or(os.Getenv("CREDENTIALS_DIRECTORY"), credentialsFolder), name)
	}
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(folder, path)
}

//go:build !libcrypto || !linux

package signing

// openLibrary: this build has none, Go signs.
func openLibrary() (*rsaLibrary, error) { return nil, nil }

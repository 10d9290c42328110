package org

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
)

// maxKeyFile is far above any PEM file of one key.
const maxKeyFile = 64 << 10

// ReadKeyFile reads a private key from a PKCS#8 PEM file and checks that it is
// one of the algorithm: rsa-2048 means a modulus of exactly 2,048 bits.
func ReadKeyFile(path string, a Algorithm) (crypto.Signer, error) {
	data, err := readBounded(path, maxKeyFile)
	if err != nil {
		return nil, fmt.Errorf("the key file cannot be read: %w", err)
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, fmt.Errorf("%s holds no PEM block PRIVATE KEY (convert it with openssl pkcs8 -topk8 -nocrypt)", path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s holds no PKCS#8 key: %w", path, err)
	}
	switch key := key.(type) {
	case *rsa.PrivateKey:
		if bits := key.N.BitLen(); a == RSA2048 && bits != 2048 {
			return nil, fmt.Errorf("%s holds an RSA key of %d bits, not the 2048 of %s", path, bits, a)
		}
		if a == RSA2048 {
			return key, nil
		}
	case ed25519.PrivateKey:
		if a == Ed25519 {
			return key, nil
		}
	}
	return nil, fmt.Errorf("%s holds a key of another algorithm than %s", path, a)
}

package app

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"anechoic/control/config"
)

// sealKeySize is the size of the key that seals warrants in the store.
const sealKeySize = 32

// sealKey reads the key that binds stored warrants, or makes it.
func sealKey(dataDir string) ([]byte, error) {
	path := filepath.Join(dataDir, "seal.key")
	key, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		key = make([]byte, sealKeySize)
		rand.Read(key) // never fails (its documentation)
		return key, writeSecret(path, key)
	case err != nil:
		return nil, fmt.Errorf("seal key: %w", err)
	case len(key) != sealKeySize:
		return nil, fmt.Errorf("seal key: %s has %d octets instead of %d: restore it from the backup; without it what is queued cannot be sent", path, len(key), sealKeySize)
	}
	return key, nil
}

// writeSecret makes a file that only the relay's user reads, durable before it
// has its name.
func writeSecret(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // mode 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(f.Name()))
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// certificate is the relay's TLS certificate, which a reload may exchange.
type certificate struct {
	cert, key string
	current   atomic.Pointer[tls.Certificate]
}

// openCertificate reads the configured certificate. Without one a self-signed
// certificate is made in the data directory, once.
func openCertificate(c config.Config) (*certificate, error) {
	pair := &certificate{cert: c.SMTP.TLSCert, key: c.SMTP.TLSKey}
	if pair.cert == "" {
		pair.cert = filepath.Join(c.DataDir, "self-signed.crt")
		pair.key = filepath.Join(c.DataDir, "self-signed.key")
		if err := makeSelfSigned(c.Hostname.String(), pair.cert, pair.key, time.Now()); err != nil {
			return nil, err
		}
	}
	return pair, pair.reload()
}

// reload reads the files again.
func (c *certificate) reload() error {
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return fmt.Errorf("TLS certificate %s: %w", c.cert, err)
	}
	c.current.Store(&pair)
	return nil
}

// config is the server's side. Client certificates are asked for, never required,
// and judged by their key alone.
func (c *certificate) config(request bool) *tls.Config {
	t := &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current.Load(), nil },
	}
	if request {
		t.ClientAuth, t.SessionTicketsDisabled = tls.RequestClientCert, true
	}
	return t
}

// selfSignedFor is how long a self-signed certificate holds: peers that look at
// it at all pin its key.
const selfSignedFor = 10 * 365 * 24 * time.Hour

// makeSelfSigned makes certificate and key unless both are there.
func makeSelfSigned(hostname, certFile, keyFile string, now time.Time) error {
	if _, err := tls.LoadX509KeyPair(certFile, keyFile); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: hostname}, DNSNames: []string{hostname},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(selfSignedFor),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return fmt.Errorf("make a self-signed certificate: %w", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := writeSecret(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})); err != nil {
		return err
	}
	return writeSecret(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}
